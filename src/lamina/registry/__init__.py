"""A registry: the distribution specification over a storage of its own, in a process of its own."""
