"""A registry as its client sees it: resolve, fetch, upload, for one repository with one set of credentials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from lamina.distribution.auth import Auth
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.reference import Reference


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """dockerd's settings of the same names. `insecure` holds host[:port] or CIDR texts; loopback is always insecure."""

    insecure: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    connect_timeout: float = 15.0
    read_timeout: float = 60.0
    retries: int = 5
    certificates: str = ""
    """Directory with HOST[:PORT]/ca.crt, client.cert, client.key (dockerd's /etc/docker/certs.d); empty: none."""


class Registries:
    """All registries elsewhere: connection pools and tokens, shared by every operation. Thread-safe."""

    def __init__(self, options: RegistryOptions | None = None, *, user_agent: str = "lamina") -> None:
        raise NotImplementedError

    def repository(self, reference: Reference, auth: Auth | None = None, *, push: bool = False) -> RegistryClient:
        """A client for the repository that `reference` names; contacts nobody yet."""
        raise NotImplementedError

    def close(self) -> None:
        """Close idle connections."""


class RegistryClient:
    """One repository at one registry."""

    def resolve(self, reference: Reference) -> tuple[Descriptor, bytes]:
        """The manifest or index that a tag or digest names, and its verified bytes."""
        raise NotImplementedError

    def fetch(self, descriptor: Descriptor, offset: int = 0) -> BlobStream:
        """The blob's bytes from `offset` on, not verified."""
        raise NotImplementedError

    def exists(self, digest: Digest) -> int | None:
        """The blob's size in bytes where the repository has it."""
        raise NotImplementedError

    def mount(self, digest: Digest, source: str) -> bool:
        """Take the blob from the repository path `source` of the same registry; False where the registry will not."""
        raise NotImplementedError

    def upload(self, descriptor: Descriptor, blob: BinaryIO, chunk: int = 0) -> None:
        """Send the blob; in pieces of `chunk` bytes where that is not 0."""
        raise NotImplementedError

    def put_manifest(self, media_type: str, data: bytes, target: str) -> Digest:
        """Store a manifest under a tag or digest."""
        raise NotImplementedError

    def tags(self) -> Iterator[str]:
        """Every tag, in the registry's order, page by page."""
        raise NotImplementedError

    def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """What refers to the manifest `digest` by its subject field."""
        raise NotImplementedError


class BlobStream:
    """Bytes of one blob as they arrive. The caller closes it."""

    def read(self, size: int) -> bytes:
        """At most `size` bytes, as soon as some are here; empty at the end."""
        raise NotImplementedError

    def close(self) -> None:
        """Give the connection back, or drop it where bytes are left."""
