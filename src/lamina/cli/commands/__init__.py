"""The commands: a module a group of them, a function a command, each taking a Session and the Arguments and giving the exit code."""
