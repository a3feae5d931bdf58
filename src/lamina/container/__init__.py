"""Containers: model, life cycle, exec, attach, logs, archive."""
