"""A registry server over the content store's formats."""
