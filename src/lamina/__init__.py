"""Lamina: a container engine whose heart is images and layers.

`lamina.Engine.open(root)` gives the engine in this process; everything else is reached through it.
Importing this package loads nothing else: programs on the hot path rely on that.
"""

__version__ = "0.1.0"
__all__ = ["Engine", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Engine":
        from lamina.daemon.engine import Engine

        return Engine
    raise AttributeError(f"module 'lamina' has no attribute {name!r}")
