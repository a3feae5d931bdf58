"""System calls, one family a file."""
