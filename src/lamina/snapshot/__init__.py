"""Drivers that make layers mountable, behind one protocol."""
