"""The build cache as `docker buildx du` and `prune` see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from lamina.buildkit.failure import INVALID, Refused
from lamina.buildkit.messages import PruneRequest, Timestamp, UsageRecord

Document = dict[str, Any]


class System(Protocol):
    """What is said of the build cache, in the words of Docker's API."""

    def disk_usage(self, kinds: Sequence[str] = ()) -> Document: ...

    def prune_build_cache(self, filters: Mapping[str, Sequence[str]], *, all: bool = False, keep: int = 0) -> Document: ...


def records(system: System) -> list[UsageRecord]:
    """What the build cache holds."""
    return [_record(entry) for entry in system.disk_usage(("build-cache",))["BuildCache"]]


def prune(system: System, asked: PruneRequest) -> Iterator[UsageRecord]:
    """Remove what nothing stands on, with `all` also what images stand on; what went.

    Raises:
        Refused: filters are given, which are not known here.
    """
    if asked.filter:
        raise Refused(f"the filter {asked.filter[0][:100]} is not known here", code=INVALID)
    before = {record.id: record for record in records(system)}
    gone = system.prune_build_cache({}, all=asked.all, keep=asked.reserved_space)["CachesDeleted"] or []
    yield from (before.get(name, UsageRecord(id=name)) for name in gone)


def _record(entry: Document) -> UsageRecord:
    return UsageRecord(
        id=entry["ID"],
        mutable=entry["Type"] == "exec.cachemount",
        in_use=entry["InUse"],
        size=entry["Size"],
        created=_time(entry["CreatedAt"]),
        last_used=_time(entry["LastUsedAt"]),
        usage_count=entry["UsageCount"],
        description=entry["Description"],
        record_type=entry["Type"],
        shared=entry["Shared"],
    )


def _time(text: str) -> Timestamp | None:
    """A time of RFC 3339, None for one before 1970."""
    head, dot, fraction = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{head}+00:00").timestamp())
    return Timestamp(seconds, int(f"{fraction:0<9}"[:9]) if dot else 0) if seconds > 0 else None
