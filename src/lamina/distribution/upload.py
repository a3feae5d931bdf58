"""Taking blobs to a registry: whole, in pieces, or as a stream whose digest is known when it has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Protocol

from lamina.distribution.auth import TokenRefused
from lamina.distribution.piped import PIECE, Piped
from lamina.distribution.protocol import received, scope, upload_path, with_digest
from lamina.distribution.session import Session
from lamina.distribution.transport import RegistryFailed, RegistryUnreachable, Response, discard, failure, resolved
from lamina.errors import LaminaError
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest, DigestMismatch
from lamina.spec.reference import Reference

_TYPE = {"Content-Type": "application/octet-stream"}
Sent = Callable[[int], object]


class Outgoing(Protocol):
    """Bytes that are made while they are sent."""

    def piped(self) -> AbstractContextManager[Piped]:
        """All of them in order, made anew at each call; left early where they are not wanted any more."""

    def descriptor(self) -> Descriptor:
        """What they were, when the pipe has ended."""


@dataclass(slots=True)
class Uploads:
    """The uploads of one repository. Thread-safe."""

    session: Session
    repository: Reference

    def whole(self, descriptor: Descriptor, blob: BinaryIO, sent: Sent) -> None:
        """Send the seekable `blob` in one request; a lost connection is taken up again from the start."""

        def attempt() -> None:
            body = partial(_pieces, blob, 0, descriptor.size, sent)
            self._finish(self._begin(), descriptor, body, descriptor.size)

        self._tried(attempt)

    def pieces(self, descriptor: Descriptor, blob: BinaryIO, chunk: int, sent: Sent) -> None:
        """Send the seekable `blob`, `chunk` bytes a request; a lost connection is taken up from what the registry has."""

        def attempt() -> None:
            location = self._begin()
            self._finish(self._send_pieces(location, descriptor, blob, chunk, sent), descriptor)

        self._tried(attempt)

    def stream(self, outgoing: Outgoing) -> Descriptor:
        """Send bytes while they are made, in one chunked request as Docker does; returns what they were.

        A lost connection begins anew. What `outgoing` raises passes through, and the registry keeps nothing.
        """
        found: list[Descriptor] = []

        def attempt() -> None:
            with outgoing.piped() as made:
                # Whoever makes them may first have to wait: the registry is not asked to wait along.
                made.wait()
                location = self._begin()
                try:
                    location = self._patch(location, lambda: made)
                    found[:] = [outgoing.descriptor()]
                except RegistryUnreachable:
                    raise
                except BaseException:
                    self._abandon(location)
                    raise
            self._finish(location, found[0])

        self._tried(attempt)
        return found[0]

    def mount(self, digest: Digest, source: str) -> bool:
        """Take the blob from the repository path `source` of the same registry; False where the registry will not."""
        path = upload_path(self.repository.path, mount=digest, source=source)
        try:
            response = self.session.request("POST", path, {"Content-Length": "0"}, also=(scope(source),))
        except TokenRefused:  # of both repositories at once: these credentials may be good for this one alone
            return False
        discard(response)
        if response.status == 202:
            self._abandon(response.headers.get("Location", ""))
        return response.status == 201

    def _abandon(self, location: str) -> None:
        """Give an upload up; the registry clears it away itself in time where it does not hear of that."""
        if not location:
            return
        try:
            discard(self.session.request("DELETE", location))
        except LaminaError:
            pass

    def _tried(self, attempt: Callable[[], None]) -> None:
        retries = self.session.transport.options.retries
        for number in range(retries):
            try:
                attempt()
                return
            except RegistryUnreachable:
                if number + 1 == retries:
                    raise
                self.session.transport.pause(number)

    def _begin(self) -> str:
        response = self.session.request("POST", upload_path(self.repository.path), {"Content-Length": "0"})
        if response.status != 202:
            raise self.refused(response)
        discard(response)
        return self._location(response)

    def _patch(self, location: str, body: Callable[[], Iterable[bytes]]) -> str:
        response = self.session.request("PATCH", location, _TYPE, body)
        if response.status not in (202, 204):
            raise self.refused(response)
        discard(response)
        return self._location(response)

    def _finish(self, location: str, descriptor: Descriptor, body: Callable[[], Iterator[bytes]] | None = None, length: int = 0) -> None:
        headers = {"Content-Length": str(length), **_TYPE}
        response = self.session.request("PUT", with_digest(location, descriptor.digest), headers, body)
        if response.status not in (201, 204):
            raise self.refused(response)
        discard(response)

    def _send_pieces(self, location: str, descriptor: Descriptor, blob: BinaryIO, chunk: int, sent: Sent) -> str:
        offset, failures, retries = 0, 0, self.session.transport.options.retries
        while offset < descriptor.size:
            end = min(offset + chunk, descriptor.size)
            headers = {"Content-Length": str(end - offset), "Content-Range": f"{offset}-{end - 1}", **_TYPE}
            try:
                response = self.session.request("PATCH", location, headers, partial(_pieces, blob, offset, end, sent))
            except RegistryUnreachable:
                failures += 1
                if failures >= retries:
                    raise
                self.session.transport.pause(failures - 1)
                location, offset = self._progress(location)
                continue
            if response.status == 416:
                discard(response)
                location, offset = self._progress(location)
                failures += 1
                if failures >= retries:
                    raise RegistryFailed(f"registry {self.session.name} does not accept the pieces of {descriptor.digest}")
                continue
            if response.status not in (202, 204):
                raise self.refused(response)
            discard(response)
            location, offset, failures = self._location(response), end, 0
        return location

    def _progress(self, location: str) -> tuple[str, int]:
        """Where an interrupted upload goes on ("Pushing a blob in chunks"): location and bytes that are there."""
        response = self.session.request("GET", location)
        if response.status != 204:
            raise self.refused(response)
        discard(response)
        new = self._location(response) if response.headers.get("Location") else location
        return new, received(response.headers.get("Range", ""))

    def _location(self, response: Response) -> str:
        location = response.headers.get("Location", "")
        if not location:
            raise RegistryFailed(f"registry {self.session.name} began an upload without saying where")
        return resolved(self.session.endpoints.find(self.session.host).base + "/", location)

    def refused(self, response: Response) -> LaminaError:
        """The error that an answer to a request of a push means; the answer is read and closed."""
        error = failure(response, self.session.name, f"repository {self.repository.familiar_name}")
        if response.status in (401, 403):
            return type(error)(
                f"push access denied for {self.repository.familiar_name}: {error.message}", hint=f"lamina login {self.repository.domain}"
            )
        return error


def _pieces(blob: BinaryIO, start: int, stop: int, sent: Sent) -> Iterator[bytes]:
    blob.seek(start)
    while start < stop:
        piece = blob.read(min(PIECE, stop - start))
        if not piece:
            raise DigestMismatch("blob ended before its size")
        yield piece
        start += len(piece)
        sent(start)
