"""How calls fail: gRPC's codes, and what goes with them for BuildKit's clients."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from urllib.parse import quote

from lamina.buildkit.messages import Any_, Status
from lamina.buildkit.wire import encode
from lamina.errors import Cancelled, InvalidArgument, LaminaError, NotFound, Unsupported
from lamina.spec.strict import readable

CANCELLED, UNKNOWN, INVALID, NOT_FOUND, FAILED_PRECONDITION, UNIMPLEMENTED, UNAVAILABLE = 1, 2, 3, 5, 9, 12, 14
"""Codes of https://grpc.github.io/grpc/core/md_doc_statuscodes.html."""
_SAFE = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
_CODES: tuple[tuple[type[LaminaError], int], ...] = (
    (Cancelled, CANCELLED),
    (NotFound, NOT_FOUND),
    (InvalidArgument, INVALID),
    (Unsupported, FAILED_PRECONDITION),
)


class Refused(LaminaError):
    """A call that ends with an error. `number` is gRPC's code, `details` what the client shows beside the message."""

    def __init__(self, message: str, *, code: int = UNKNOWN, details: Sequence[Any_] = ()) -> None:
        super().__init__(message)
        self.number, self.details = code, tuple(details)

    @classmethod
    def of(cls, error: Exception) -> Refused:
        """What any failure comes to."""
        if isinstance(error, Refused):
            return error
        code = next((code for kind, code in _CODES if isinstance(error, kind)), UNKNOWN)
        return cls(str(error), code=code)

    def trailers(self) -> list[tuple[str, str]]:
        """The headers that end a call so."""
        message = readable(self.message)
        status = encode(Status(self.number, message, self.details))
        found = [("grpc-status", str(self.number)), ("grpc-message", quote(message, safe=_SAFE))]
        if self.details:
            found.append(("grpc-status-details-bin", base64.b64encode(status).decode().rstrip("=")))
        return found


def blamed_lines(filename: str, text: bytes, first: int, last: int) -> Any_:
    """The detail by which clients show lines of a Dockerfile under an error."""
    ranges = [{"start": {"line": first}, "end": {"line": last}}]
    info = {"filename": filename, "data": base64.b64encode(text).decode(), "language": "Dockerfile"}
    return Any_("github.com/moby/buildkit/errdefs.Source+json", json.dumps({"info": info, "ranges": ranges}).encode())


def failed_vertex(digest: str) -> Any_:
    """The detail that names the step whose output clients repeat."""
    return Any_("github.com/moby/buildkit/errdefs.Vertex+json", json.dumps({"digest": digest}).encode())
