"""The build cache as `docker buildx du` and `prune` see it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from lamina.buildkit.failure import INVALID, Refused
from lamina.buildkit.messages import DiskUsageRequest, PruneRequest, Timestamp, UsageRecord

Document = dict[str, Any]

_SECOND = 10**9
_TERM = re.compile(r"(?P<no>!?)(?P<key>[a-z]+)(?:(?P<operator>==|=|~=)(?P<value>.*))?")
_FLAGS = frozenset(("inuse", "shared", "private"))
_COMPARED = frozenset(
    {("id", "~="), ("id", "=="), ("description", "~="), ("type", "=="), *((name, "==") for name in ("inuse", "shared", "private"))}
)


class System(Protocol):
    """What is said of the build cache, in the words of Docker's API."""

    def disk_usage(self, kinds: Sequence[str] = ()) -> Document: ...

    def prune_build_cache(
        self, filters: Mapping[str, Sequence[str]], *, all: bool = False, keep: int = 0, most: int = 0, free: int = 0
    ) -> Document: ...


def records(system: System) -> list[UsageRecord]:
    """What the build cache holds."""
    return [_record(entry) for entry in system.disk_usage(("build-cache",))["BuildCache"]]


def asked_for(system: System, asked: DiskUsageRequest, now: float) -> list[UsageRecord]:
    """What the build cache holds and the request's filters let through; `now` is in seconds since 1970.

    Raises:
        Refused: a filter is not known here.
    """
    wanted = filters(asked.filter)
    limit = now - asked.age_limit / _SECOND
    return [
        record
        for record in records(system)
        if _passes(record, wanted) and not (asked.age_limit and record.last_used and record.last_used.seconds > limit)
    ]


def prune(system: System, asked: PruneRequest) -> Iterator[UsageRecord]:
    """Remove what nothing stands on, with `all` also what images stand on; what went.

    Raises:
        Refused: a filter is not known here.
    """
    wanted: dict[str, Sequence[str]] = dict(filters(asked.filter))
    if asked.keep_duration:
        wanted["until"] = [f"{asked.keep_duration // _SECOND}s"]
    before = {record.id: record for record in records(system)}
    space = {"keep": asked.reserved_space, "most": asked.max_used_space, "free": asked.min_free_space}
    gone = system.prune_build_cache(wanted, all=asked.all, **space)["CachesDeleted"] or []
    names = [name.removeprefix("sha256:") for name in gone]
    yield from (before[name] for name in names if name in before)  # layers go too, which are not records


def filters(texts: Sequence[str]) -> dict[str, list[str]]:
    """BuildKit's filters (`id~=4f,type==regular,!shared`; buildx sends an empty one for none) in the words of Docker's API.

    Raises:
        Refused: one is not known here.
    """
    found: dict[str, list[str]] = {}
    terms = [term for text in texts for term in text.split(",") if term]
    for term in terms:
        match = _TERM.fullmatch(term)
        key, operator, value = match.group("key", "operator", "value") if match else ("", "", "")
        if match and not operator and key in _FLAGS:
            found[key] = ["false" if match["no"] else "true"]
        elif match and not match["no"] and (key, operator) in _COMPARED:
            found[key] = [value]
        else:
            raise Refused(f"unknown filter: {term[:100]}", code=INVALID)
    return found


def _passes(record: UsageRecord, wanted: Mapping[str, Sequence[str]]) -> bool:
    facts = {"type": record.record_type, "inuse": record.in_use, "shared": record.shared, "private": not record.shared}
    for key, (value,) in wanted.items():
        if key == "id":
            passes = record.id.startswith(value.removeprefix("sha256:"))
        elif key == "description":
            passes = value in record.description
        else:
            passes = str(facts[key]).lower() == value.lower()
        if not passes:
            return False
    return True


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
