"""The client's half of the distribution specification."""
