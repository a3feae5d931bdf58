"""What makes layers visible: who touched a file, what a layer wastes, how two images differ, where a file lies.

Everything is answered from the layers' metadata images; nothing is mounted. The loops are jobs for workers.
"""
