"""Platforms (image-spec image-index.md "platform"), written `os/architecture[/variant]`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lamina.errors import InvalidArgument

_PART = re.compile(r"[A-Za-z0-9_.-]+\Z")
_ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386", "armv7l": "arm"}
_VARIANTS = {"armhf": ("arm", "v7"), "armel": ("arm", "v6")}
_USUAL = {("arm64", "v8"), ("arm64", "8"), ("amd64", "v1")}
_KNOWN_SYSTEMS = frozenset(
    "aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris wasip1 windows zos".split()
)
_KNOWN_ARCHITECTURES = frozenset(
    "386 amd64 amd64p32 arm arm64 arm64be armbe loong64 mips mips64 mips64le mips64p32 mips64p32le mipsle ppc ppc64 ppc64le riscv riscv64"
    " s390 s390x sparc sparc64 wasm".split()
)
"""Go's (internal/syslist): of what stands alone, they tell which of the two it is."""


class InvalidPlatform(InvalidArgument):
    """The text is not a platform."""


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
            InvalidPlatform: it has more than three parts, or an empty one, or is one that is neither system nor architecture.
        """
        parts = text.lower().split("/")
        if len(parts) > 3 or not all(_PART.match(part) for part in parts):
            raise InvalidPlatform(f"invalid platform: {text[:100]!r}", hint="write it as linux/amd64")
        if len(parts) == 1:
            [alone] = parts
            if alone in _KNOWN_SYSTEMS:
                return cls(alone, "amd64")
            if cls("linux", alone).plain.architecture not in _KNOWN_ARCHITECTURES:
                raise InvalidPlatform(
                    f"invalid platform: {text[:100]!r} is not a known operating system or architecture", hint="write it as linux/amd64"
                )
            parts = ["linux", alone]
        return cls(*parts).plain

    @property
    def plain(self) -> Platform:
        """The same in Go's words, where other ones were used (`x86_64`, `aarch64`), and without a variant that is the usual one."""
        architecture, variant = _VARIANTS.get(self.architecture, (_ARCHITECTURES.get(self.architecture, self.architecture), self.variant))
        return Platform(self.os, architecture, "" if (architecture, variant) in _USUAL else variant)

    def matches(self, wanted: Platform) -> bool:
        """Whether an image for this platform serves where `wanted` is asked for: also one that does not say for which variant it is, as many
        configurations do not."""
        own, wanted = self.plain, wanted.plain
        return (own.os, own.architecture) == (wanted.os, wanted.architecture) and (
            not wanted.variant or own.variant in ("", wanted.variant)
        )

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)
