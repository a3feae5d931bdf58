"""/grpc and /session, BuildKit's protocol: it is not spoken here, and whoever tries is told what to do instead."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from lamina.api import http2
from lamina.api.backend import Backend
from lamina.api.message import Hijacked, Request, Response
from lamina.api.router import Route
from lamina.errors import Unsupported

NO_BUILDKIT = "Lamina has the classic builder, not BuildKit: set DOCKER_BUILDKIT=0, or build with lamina build"


class NoBuildKit(Unsupported):
    """BuildKit's protocol was asked for."""


def grpc(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """POST /grpc: accepted, and every call refused. A plain refusal would make buildx start a privileged BuildKit of its own instead."""
    if request.headers.get("upgrade", "").lower() != "h2c":
        raise NoBuildKit(NO_BUILDKIT)

    def take(fd: int, pending: bytes, accept: Callable[[], None]) -> None:
        accept()
        http2.refuse(fd, pending, NO_BUILDKIT)

    return Hijacked(take, content_type="")


def session(engine: Backend, request: Request) -> Response:  # noqa: ARG001
    """POST /session: accepted and left in silence. Docker's clients before buildx open one first; their POST /build is then refused with the sentence."""
    if request.headers.get("upgrade", "").lower() != "h2c":
        raise NoBuildKit(NO_BUILDKIT)

    def take(fd: int, pending: bytes, accept: Callable[[], None]) -> None:  # noqa: ARG001
        accept()
        with contextlib.suppress(OSError):
            while os.read(fd, 1 << 16):
                pass

    return Hijacked(take, content_type="")


ROUTES: tuple[Route[Backend], ...] = (
    Route("POST", "/grpc", grpc),
    Route("POST", "/session", session),
)
