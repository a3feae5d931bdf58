"""Which packages a stack has, by the databases of dpkg, apk and rpm in it, and by the folders that Python's installers leave."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from lamina.explore.levels import DIRECTORY, FILE
from lamina.explore.stack import Seen, Stack

_LIMIT = 512 << 20
_RPM = (
    "rpmdb.sqlite",
    "Packages.db",
    "Packages",
)
_PLACES: Mapping[str, tuple[bytes, ...]] = {
    "dpkg": (b"var/lib/dpkg/status",),
    "apk": (b"lib/apk/db/installed", b"usr/lib/apk/db/installed"),
    "rpm": tuple(f"{folder}/{name}".encode() for folder in ("usr/lib/sysimage/rpm", "var/lib/rpm") for name in _RPM),
}
_DISTROLESS = b"var/lib/dpkg/status.d"

Packages = dict[str, str]
"""Versions by name."""

Changed = dict[str, tuple[str, str]]
"""Versions before and after by name; empty where there is none."""


def dpkg(text: bytes) -> Packages:
    """Installed packages of a status file; where a name is there for several architectures, each with its own."""
    found: dict[str, dict[str, str]] = {}
    for fields in _paragraphs(text, b": ", (b"Package", b"Version", b"Architecture", b"Status")):
        if fields.get("Package") and not fields.get("Status", "installed").endswith(("not-installed", "config-files")):
            found.setdefault(fields["Package"], {})[fields.get("Architecture", "")] = fields.get("Version", "")
    return {
        (f"{name}:{architecture}" if len(versions) > 1 else name): version
        for name, versions in found.items()
        for architecture, version in versions.items()
    }


def apk(text: bytes) -> Packages:
    """Installed packages of apk's database."""
    return {fields["P"]: fields.get("V", "") for fields in _paragraphs(text, b":", (b"P", b"V")) if fields.get("P")}


def _rpm(database: bytes) -> Packages:
    from lamina.explore.rpm import packages  # sqlite3 is loaded where it is needed only

    return packages(database)


_READERS: Mapping[str, Callable[[bytes], Packages]] = {"dpkg": dpkg, "apk": apk, "rpm": _rpm}


def changed(a: Stack, b: Stack) -> dict[str, Changed]:
    """What the databases say differently, by the tool they belong to."""
    found: dict[str, Changed] = {}
    for tool, places in _PLACES.items():
        old, new = _database(a, places), _database(b, places)
        if old is None and new is None:
            continue
        if old is not None and new is not None and _same(a, old[0], b, new[0]):
            continue
        read = _READERS[tool]
        found[tool] = compared(read(_content(a, old)), read(_content(b, new)))
    parts = compared(_distroless(a), _distroless(b))
    if parts:
        found["dpkg"] = found.get("dpkg", {}) | parts
    return {tool: changes for tool, changes in found.items() if changes}


def python(gone: Iterable[bytes], come: Iterable[bytes]) -> Changed:
    """What the folders that installers leave (`name-version.dist-info`) say, of paths only in a, and only in b."""
    return compared(dict(filter(None, map(_python, gone))), dict(filter(None, map(_python, come))))


def compared(old: Packages, new: Packages) -> Changed:
    """What differs, by name."""
    pairs = {name: (old.get(name, ""), new.get(name, "")) for name in sorted(old.keys() | new.keys())}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _python(path: bytes) -> tuple[str, str] | None:
    name = path.rpartition(b"/")[2]
    for ending in (b".dist-info", b".egg-info"):
        stem = name.removesuffix(ending)
        if stem != name and b"-" in stem:
            package, version = os.fsdecode(stem).split("-", 2)[:2]
            return package, version
    return None


def _database(stack: Stack, places: Iterable[bytes]) -> tuple[Seen, bytes] | None:
    """The first database that is there, and its path."""
    for place in places:
        path = stack.resolve(place, last=True)
        found = stack.find(path)
        if found is not None and found.kind == FILE:
            return found, path
    return None


def _same(a: Stack, old: Seen, b: Stack, new: Seen) -> bool:
    where = a.levels[old.level].where(old.key)
    return where is not None and where == b.levels[new.level].where(new.key)


def _content(stack: Stack, found: tuple[Seen, bytes] | None) -> bytes:
    return stack.levels[found[0].level].content(found[0].key, found[1], _LIMIT) if found else b""


def _distroless(stack: Stack) -> Packages:
    """Images without dpkg itself have a file a package."""
    folder = stack.find(_DISTROLESS)
    found: Packages = {}
    for entry in stack.listing(folder.members) if folder is not None and folder.kind == DIRECTORY else ():
        if entry.kind == FILE and not entry.name.endswith(b".md5sums"):
            found |= dpkg(_content(stack, (entry, _DISTROLESS + b"/" + entry.name)))
    return found


def _paragraphs(text: bytes, colon: bytes, wanted: tuple[bytes, ...]) -> Iterable[dict[str, str]]:
    for paragraph in text.split(b"\n\n"):
        fields: dict[str, str] = {}
        for line in paragraph.split(b"\n"):
            name, found, value = line.partition(colon)
            if found and name in wanted:
                fields[name.decode()] = value.strip().decode("utf-8", "replace")
        yield fields
