"""Docker's Engine API over HTTP, and Lamina's own routes."""
