"""The messages of BuildKit's services, as far as they are read or written here. Names and numbers are those of its public .proto files."""

# ruff: noqa: RUF009  what is called makes dataclass fields

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lamina.buildkit.wire import data, flag, integer, mapping, one, several, text


@dataclass(frozen=True, slots=True)
class Empty:
    """A message without fields, or one whose fields do not matter."""


@dataclass(frozen=True, slots=True)
class Timestamp:
    """google.protobuf.Timestamp: since 1970."""

    seconds: int = integer(1)
    nanos: int = integer(2)

    @classmethod
    def of(cls, nanoseconds: int) -> Timestamp:
        """A time in nanoseconds since 1970."""
        return cls(*divmod(nanoseconds, 10**9))


@dataclass(frozen=True, slots=True)
class Any_:
    """google.protobuf.Any."""

    type_url: str = text(1)
    value: bytes = data(2)


@dataclass(frozen=True, slots=True)
class Status:
    """google.rpc.Status."""

    code: int = integer(1)
    message: str = text(2)
    details: tuple[Any_, ...] = several(3, Any_)


@dataclass(frozen=True, slots=True)
class Platform:
    architecture: str = text(1)
    os: str = text(2)
    variant: str = text(3)


@dataclass(frozen=True, slots=True)
class BuildkitVersion:
    package: str = text(1)
    version: str = text(2)
    revision: str = text(3)


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    id: str = text(1)
    labels: Mapping[str, str] = mapping(2)
    platforms: tuple[Platform, ...] = several(3, Platform)
    version: BuildkitVersion | None = one(5, BuildkitVersion)


@dataclass(frozen=True, slots=True)
class ListWorkersResponse:
    record: tuple[WorkerRecord, ...] = several(1, WorkerRecord)


@dataclass(frozen=True, slots=True)
class InfoResponse:
    version: BuildkitVersion | None = one(1, BuildkitVersion)


@dataclass(frozen=True, slots=True)
class SourceOp:
    """pb.SourceOp."""

    identifier: str = text(1)
    attrs: Mapping[str, str] = mapping(2)


@dataclass(frozen=True, slots=True)
class Input:
    """pb.Input."""

    digest: str = text(1)
    index: int = integer(2)


@dataclass(frozen=True, slots=True)
class Op:
    """pb.Op, of whose kinds only the source is known here."""

    inputs: tuple[Input, ...] = several(1, Input)
    source: SourceOp | None = one(3, SourceOp)


@dataclass(frozen=True, slots=True)
class Definition:
    """pb.Definition: the operations, and something on each by its digest, without which clients take it for none."""

    operations: tuple[bytes, ...] = several(1, "bytes")
    metadata: Mapping[str, Empty] = mapping(2, Empty)


@dataclass(frozen=True, slots=True)
class Exporter:
    type: str = text(1)
    attrs: Mapping[str, str] = mapping(2)


@dataclass(frozen=True, slots=True)
class CacheEntry:
    type: str = text(1)
    attrs: Mapping[str, str] = mapping(2)


@dataclass(frozen=True, slots=True)
class CacheOptions:
    exports: tuple[CacheEntry, ...] = several(4, CacheEntry)
    imports: tuple[CacheEntry, ...] = several(5, CacheEntry)


@dataclass(frozen=True, slots=True)
class SolveRequest:
    """moby.buildkit.v1.SolveRequest."""

    ref: str = text(1)
    definition: Definition | None = one(2, Definition)
    exporter: str = text(3)
    exporter_attrs: Mapping[str, str] = mapping(4)
    session: str = text(5)
    frontend: str = text(6)
    frontend_attrs: Mapping[str, str] = mapping(7)
    cache: CacheOptions | None = one(8, CacheOptions)
    entitlements: tuple[str, ...] = several(9)
    inputs: Mapping[str, Definition] = mapping(10, Definition)
    internal: bool = flag(11)
    exporters: tuple[Exporter, ...] = several(13, Exporter)
    policy_session: str = text(15)


@dataclass(frozen=True, slots=True)
class SolveResponse:
    exporter_response: Mapping[str, str] = mapping(1)


@dataclass(frozen=True, slots=True)
class StatusRequest:
    ref: str = text(1)


@dataclass(frozen=True, slots=True)
class Vertex:
    digest: str = text(1)
    inputs: tuple[str, ...] = several(2)
    name: str = text(3)
    cached: bool = flag(4)
    started: Timestamp | None = one(5, Timestamp)
    completed: Timestamp | None = one(6, Timestamp)
    error: str = text(7)


@dataclass(frozen=True, slots=True)
class VertexStatus:
    id: str = text(1)
    vertex: str = text(2)
    name: str = text(3)
    current: int = integer(4)
    total: int = integer(5)
    timestamp: Timestamp | None = one(6, Timestamp)
    started: Timestamp | None = one(7, Timestamp)
    completed: Timestamp | None = one(8, Timestamp)


@dataclass(frozen=True, slots=True)
class VertexLog:
    vertex: str = text(1)
    timestamp: Timestamp | None = one(2, Timestamp)
    stream: int = integer(3)
    msg: bytes = data(4)


@dataclass(frozen=True, slots=True)
class Position:
    line: int = integer(1)
    character: int = integer(2)


@dataclass(frozen=True, slots=True)
class Range:
    start: Position | None = one(1, Position)
    end: Position | None = one(2, Position)


@dataclass(frozen=True, slots=True)
class SourceInfo:
    filename: str = text(1)
    data: bytes = data(2)
    language: str = text(4)


@dataclass(frozen=True, slots=True)
class VertexWarning:
    vertex: str = text(1)
    level: int = integer(2)
    short: bytes = data(3)
    detail: tuple[bytes, ...] = several(4, "bytes")
    url: str = text(5)
    info: SourceInfo | None = one(6, SourceInfo)
    ranges: tuple[Range, ...] = several(7, Range)


@dataclass(frozen=True, slots=True)
class StatusResponse:
    vertexes: tuple[Vertex, ...] = several(1, Vertex)
    statuses: tuple[VertexStatus, ...] = several(2, VertexStatus)
    logs: tuple[VertexLog, ...] = several(3, VertexLog)
    warnings: tuple[VertexWarning, ...] = several(4, VertexWarning)


@dataclass(frozen=True, slots=True)
class UsageRecord:
    id: str = text(1)
    mutable: bool = flag(2)
    in_use: bool = flag(3)
    size: int = integer(4)
    created: Timestamp | None = one(6, Timestamp)
    last_used: Timestamp | None = one(7, Timestamp)
    usage_count: int = integer(8)
    description: str = text(9)
    record_type: str = text(10)
    shared: bool = flag(11)


@dataclass(frozen=True, slots=True)
class DiskUsageRequest:
    filter: tuple[str, ...] = several(1)
    age_limit: int = integer(2)
    """Nanoseconds: what was used within them is not told."""


@dataclass(frozen=True, slots=True)
class DiskUsageResponse:
    record: tuple[UsageRecord, ...] = several(1, UsageRecord)


@dataclass(frozen=True, slots=True)
class PruneRequest:
    filter: tuple[str, ...] = several(1)
    all: bool = flag(2)
    keep_duration: int = integer(3)
    """Nanoseconds: what was used within them stays."""
    reserved_space: int = integer(4)
    max_used_space: int = integer(5)
    min_free_space: int = integer(6)


@dataclass(frozen=True, slots=True)
class APICap:
    id: str = text(1)
    enabled: bool = flag(2)


@dataclass(frozen=True, slots=True)
class PongResponse:
    frontend: tuple[APICap, ...] = several(1, APICap)
    llb: tuple[APICap, ...] = several(2, APICap)
    workers: tuple[WorkerRecord, ...] = several(3, WorkerRecord)


@dataclass(frozen=True, slots=True)
class Ref:
    id: str = text(1)
    definition: Definition | None = one(2, Definition)


@dataclass(frozen=True, slots=True)
class Result:
    """moby.buildkit.v1.frontend.Result."""

    ref: Ref | None = one(3, Ref)
    metadata: Mapping[str, bytes] = mapping(10, "bytes")


@dataclass(frozen=True, slots=True)
class GatewaySolveRequest:
    """moby.buildkit.v1.frontend.SolveRequest."""

    definition: Definition | None = one(1, Definition)
    frontend: str = text(2)
    options: Mapping[str, str] = mapping(3)
    inputs: Mapping[str, Definition] = mapping(13, Definition)


@dataclass(frozen=True, slots=True)
class GatewaySolveResponse:
    result: Result | None = one(3, Result)


@dataclass(frozen=True, slots=True)
class ReturnRequest:
    result: Result | None = one(1, Result)
    error: Status | None = one(2, Status)


@dataclass(frozen=True, slots=True)
class BytesMessage:
    """What FileSend, SSH and Upload move."""

    data: bytes = data(1)


@dataclass(frozen=True, slots=True)
class Stat:
    """fsutil.types.Stat: an entry of a file tree. `mode` is Go's os.FileMode, times are nanoseconds."""

    path: str = text(1)
    mode: int = integer(2)
    uid: int = integer(3)
    gid: int = integer(4)
    size: int = integer(5)
    mtime: int = integer(6)
    linkname: str = text(7)
    devmajor: int = integer(8)
    devminor: int = integer(9)
    xattrs: Mapping[str, bytes] = mapping(10, "bytes")


@dataclass(frozen=True, slots=True)
class Packet:
    """fsutil.types.Packet."""

    type: int = integer(1)
    stat: Stat | None = one(2, Stat)
    id: int = integer(3)
    data: bytes = data(4)


@dataclass(frozen=True, slots=True)
class SecretRequest:
    id: str = text(1)


@dataclass(frozen=True, slots=True)
class CredentialsRequest:
    host: str = text(1)


@dataclass(frozen=True, slots=True)
class CredentialsResponse:
    username: str = text(1)
    secret: str = text(2)
