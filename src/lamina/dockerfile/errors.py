"""What is wrong with a Dockerfile, and on which line."""

from __future__ import annotations

from lamina.errors import InvalidArgument


class DockerfileError(InvalidArgument):
    """The Dockerfile is malformed. The message begins with `NAME:LINE: ` where a line is to blame."""

    def __init__(self, message: str, *, line: int = 0, name: str = "Dockerfile", hint: str = "") -> None:
        super().__init__(f"{name}:{line}: {message}" if line else message, hint=hint)
        self.line = line
        self.reason = message
