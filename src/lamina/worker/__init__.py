"""Processes for whatever loops in Python over entries or bytes."""
