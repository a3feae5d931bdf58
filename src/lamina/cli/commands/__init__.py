"""The commands: a module per group of them, a function per command, each taking a Session and the Arguments and giving the exit code."""
