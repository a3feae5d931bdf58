"""Digests (image-spec descriptor.md "Digests"): `algorithm:encoded`, checked once, at the door."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from lamina.errors import Corrupt, InvalidArgument

_KNOWN = re.compile(r"(sha256):([a-f0-9]{64})\Z|(sha512):([a-f0-9]{128})\Z")
_GRAMMAR = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+\Z")


class InvalidDigest(InvalidArgument):
    """The text is not a digest of an algorithm known here."""


class DigestMismatch(Corrupt):
    """Bytes do not have the digest or size they were promised to have."""


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A checked digest. `str()` gives `sha256:…` back."""

    algorithm: str
    encoded: str

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read `algorithm:encoded`.

        Raises:
            InvalidDigest: it is malformed, or of an algorithm other than sha256 and sha512.
        """
        found = _KNOWN.match(text)
        if found is None:
            raise _refused(text)
        algorithm, encoded = found.groups()[:2] if found[1] else found.groups()[2:]
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Digest:
        """The digest of `data`."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    @property
    def short(self) -> str:
        """The first 12 characters of the encoded part, as listings show them."""
        return self.encoded[:12]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"


def _refused(text: str) -> InvalidDigest:
    """Why it is not a digest."""
    if _GRAMMAR.match(text) and text.partition(":")[0] not in ("sha256", "sha512"):
        return InvalidDigest(f"unsupported digest algorithm: {text[:100]}")
    return InvalidDigest(f"invalid digest: {text[:200]!r}")
