"""Container networks."""
