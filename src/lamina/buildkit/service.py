"""The services on /grpc, moby.buildkit.v1.Control and moby.buildkit.v1.frontend.LLBBridge: which call does what."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from lamina.builder.build import Builder
from lamina.buildkit import usage
from lamina.buildkit.asked import Asked
from lamina.buildkit.attendant import Attendants, Attended
from lamina.buildkit.exporting import Exports
from lamina.buildkit.failure import FAILED_PRECONDITION, UNIMPLEMENTED, Refused
from lamina.buildkit.fetching import stands_for
from lamina.buildkit.http2 import Stream, Transport
from lamina.buildkit.messages import (
    APICap,
    BuildkitVersion,
    BytesMessage,
    Definition,
    DiskUsageRequest,
    DiskUsageResponse,
    Empty,
    GatewaySolveRequest,
    GatewaySolveResponse,
    InfoResponse,
    ListWorkersResponse,
    Platform,
    PongResponse,
    PruneRequest,
    Ref,
    Result,
    ReturnRequest,
    SolveRequest,
    SolveResponse,
    StatusRequest,
    StatusResponse,
    UsageRecord,
    WorkerRecord,
)
from lamina.buildkit.sessions import Sessions
from lamina.buildkit.solving import Frontend, Solve, Solves
from lamina.buildkit.usage import System
from lamina.buildkit.wire import decode, encode
from lamina.errors import LaminaError

_log = logging.getLogger("lamina.buildkit")
_PIECE = 1 << 18
_BUILD_ID = "buildkit-controlapi-buildid"
_CONTROL, _BRIDGE = "/moby.buildkit.v1.Control/", "/moby.buildkit.v1.frontend.LLBBridge/"
_FRONTEND_CAPS = (
    "solve.base",
    "readfile",
    "return",
    "returnmap",
    "proto.refarray",
    "reference.output",
    "frontend.inputs",
    "gateway.solve.metadata",
    "frontend.caps",
    "gateway.evaluate",
)
_LLB_CAPS = (
    "source.image",
    "source.local",
    "source.local.sessionid",
    "source.local.followpaths",
    "source.local.excludepatterns",
    "platform",
)
VERSION = BuildkitVersion("github.com/moby/buildkit", "v0.25.0", "lamina")
"""The BuildKit whose Dockerfile language and calls are served: clients decide by it what they may ask for."""
Message = TypeVar("Message")


class Call:
    """One call as its handler sees it."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    @property
    def build(self) -> str:
        """The ref of the solve that a gateway's call belongs to."""
        return self.stream.headers.get(_BUILD_ID, "")

    def request(self, kind: type[Message]) -> Message:
        """The call's message."""
        return decode(kind, self.stream.receive() or b"")


Handler = Callable[[Call], Iterator[Any]]
"""Gives the answers to a call, one or many."""


class BuildKit:
    """Serves connections to /grpc and /session."""

    def __init__(self, builder: Builder, system: System, gateway: Callable[[], str]) -> None:
        """`gateway` gives the address that `host-gateway` stands for."""
        self._builder, self._system, self._gateway = builder, system, gateway
        self._exports = Exports(builder)
        self._sessions, self._solves, self._attendants = Sessions(), Solves(), Attendants()
        self._frontend = Frontend(builder, self._sessions)
        self._handlers: Mapping[str, Handler] = {
            f"{_CONTROL}ListWorkers": self._list_workers,
            f"{_CONTROL}Info": self._info,
            f"{_CONTROL}Solve": self._solve,
            f"{_CONTROL}Status": self._status,
            f"{_CONTROL}Session": self._session,
            f"{_CONTROL}DiskUsage": self._disk_usage,
            f"{_CONTROL}Prune": self._prune,
            f"{_BRIDGE}Ping": self._ping,
            f"{_BRIDGE}Solve": self._gateway_solve,
            f"{_BRIDGE}Return": self._return,
            f"{_BRIDGE}Evaluate": self._evaluated,
            f"{_BRIDGE}Warn": self._evaluated,
        }

    def serve(self, sock: socket.socket, pending: bytes = b"") -> None:
        """Serve a client's connection to /grpc until it ends."""
        Transport(sock, self._answer).run(pending)

    def hold(self, name: str, sock: socket.socket, pending: bytes = b"") -> None:
        """Have a client's session at hand until its connection ends."""
        session = Attended()
        with self._sessions.opened(name, session):
            self._attendants.attend(session, sock, pending)

    def _answer(self, stream: Stream) -> None:
        path = stream.headers.get(":path", "")
        handler = self._handlers.get(path)
        try:
            if handler is None:
                service, _, method = path.lstrip("/").rpartition("/")
                raise Refused(f"unknown method {method[:100]} for service {service[:100]}", code=UNIMPLEMENTED)
            stream.headers_once()
            for answer in handler(Call(stream)):
                stream.send(encode(answer))
            stream.trailers([("grpc-status", "0")])
        except (LaminaError, ValueError) as error:
            stream.trailers(Refused.of(error).trailers())
        except Exception as error:
            _log.exception("a call of %s failed", path[:100])
            stream.trailers(Refused.of(error).trailers())

    def _list_workers(self, call: Call) -> Iterator[ListWorkersResponse]:
        call.request(Empty)
        yield ListWorkersResponse((self._worker(),))

    def _worker(self) -> WorkerRecord:
        host = self._builder.host
        platform = Platform(host.architecture, host.os, host.variant or "")
        labels = {
            "org.mobyproject.buildkit.worker.executor": "lamina",
            "org.mobyproject.buildkit.worker.moby.host-gateway-ip": self._gateway(),
        }
        return WorkerRecord("lamina", labels, (platform,), VERSION)

    def _info(self, call: Call) -> Iterator[InfoResponse]:
        call.request(Empty)
        yield InfoResponse(VERSION)

    def _ping(self, call: Call) -> Iterator[PongResponse]:
        call.request(Empty)
        yield PongResponse(
            tuple(APICap(cap, True) for cap in _FRONTEND_CAPS), tuple(APICap(cap, True) for cap in _LLB_CAPS), (self._worker(),)
        )

    def _solve(self, call: Call) -> Iterator[SolveResponse]:
        """Control.Solve: with a frontend the whole build; without, the export of what the gateway's calls bring about meanwhile."""
        asked = call.request(SolveRequest)
        _refuse(asked.definition)
        with self._builder.held(), self._solves.begun(asked.ref, asked.session) as solve:
            _ends_with(call, solve)
            if asked.frontend:
                solve.result = self._frontend.build(solve, Asked.of(asked.frontend, asked.frontend_attrs, asked.session), asked.inputs)[1]
            else:
                solve.result = solve.outcome()
            yield SolveResponse(self._exports.carry_out(asked, solve.result, solve.log, self._sessions))

    def _disk_usage(self, call: Call) -> Iterator[DiskUsageResponse]:
        yield DiskUsageResponse(tuple(usage.asked_for(self._system, call.request(DiskUsageRequest), time.time())))

    def _prune(self, call: Call) -> Iterator[UsageRecord]:
        yield from usage.prune(self._system, call.request(PruneRequest))

    def _status(self, call: Call) -> Iterator[StatusResponse]:
        yield from self._solves.log(call.request(StatusRequest).ref).follow()

    def _session(self, call: Call) -> Iterator[BytesMessage]:
        """Control.Session: a session's connection inside of a call."""
        near, far = socket.socketpair()
        name = call.stream.headers.get("x-docker-expose-session-uuid", "")
        threading.Thread(target=_outwards, args=(call.stream, far), name="session", daemon=True).start()
        threading.Thread(target=self._held, args=(name, near), name="session", daemon=True).start()
        with far:
            while data := far.recv(_PIECE):
                yield BytesMessage(data)

    def _held(self, name: str, sock: socket.socket) -> None:
        with sock:
            self.hold(name, sock)

    def _gateway_solve(self, call: Call) -> Iterator[GatewaySolveResponse]:
        asked = call.request(GatewaySolveRequest)
        if not asked.frontend:
            _refuse(asked.definition)
            yield GatewaySolveResponse(Result(Ref()))
            return
        solve = self._solves.get(call.build)
        _ends_with(call, solve)
        ref, image = self._frontend.build(solve, Asked.of(asked.frontend, asked.options, solve.session), asked.inputs)
        yield GatewaySolveResponse(Result(Ref(ref, stands_for(str(image.id))), {"containerimage.config": image.config_bytes}))

    def _return(self, call: Call) -> Iterator[Empty]:
        asked = call.request(ReturnRequest)
        ref = asked.result.ref.id if asked.result and asked.result.ref else ""
        self._solves.get(call.build).give(ref, asked.error)
        yield Empty()

    def _evaluated(self, call: Call) -> Iterator[Empty]:
        """Results are images that are built already."""
        call.request(Empty)
        yield Empty()


def _outwards(stream: Stream, sock: socket.socket) -> None:
    """Pass on what a tunnel's client sends."""
    with contextlib.suppress(OSError, Refused):
        while (raw := stream.receive()) is not None:
            sock.sendall(decode(BytesMessage, raw).data)
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _refuse(definition: Definition | None) -> None:
    if definition is not None and definition.operations:
        raise Refused("graphs of build operations (LLB) are not supported: only Dockerfiles are built", code=FAILED_PRECONDITION)


def _ends_with(call: Call, solve: Solve) -> None:
    """A client that gives the call up stops the build."""

    def given_up() -> None:
        solve.cancellation.cancel()
        solve.returned.set()

    call.stream.on_gone(given_up)
