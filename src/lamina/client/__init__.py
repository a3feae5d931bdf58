"""The client of the Engine API."""
