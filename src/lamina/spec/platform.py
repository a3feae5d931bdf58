"""Platforms (image-spec image-index.md "platform"), written `os/architecture[/variant]`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lamina.errors import InvalidArgument

_PART = re.compile(r"[A-Za-z0-9_.-]+\Z")
_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386", "armhf": "arm", "armv7l": "arm"}


class InvalidPlatform(InvalidArgument):
    """The text is no platform."""


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """An operating system and architecture in Go's words (`linux`, `amd64`)."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read `os/arch[/variant]`, or one of the two alone.

        Raises:
            InvalidPlatform: it has more than three parts, or an empty one.
        """
        parts = text.lower().split("/")
        if len(parts) > 3 or not all(_PART.match(part) for part in parts):
            raise InvalidPlatform(f"invalid platform: {text[:100]!r}", hint="write it as linux/amd64")
        if len(parts) == 1:
            if parts[0] in ("linux", "windows", "darwin", "freebsd"):
                return cls(parts[0], "amd64")
            parts = ["linux", parts[0]]
        architecture = _ARCHITECTURES.get(parts[1], parts[1])
        variant = parts[2] if len(parts) == 3 else ""
        return cls(parts[0], architecture, "" if (architecture, variant) == ("arm64", "v8") else variant)

    def matches(self, wanted: Platform) -> bool:
        """Whether an image for this platform serves where `wanted` is asked for."""
        return (self.os, self.architecture) == (wanted.os, wanted.architecture) and (not wanted.variant or wanted.variant == self.variant)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)
