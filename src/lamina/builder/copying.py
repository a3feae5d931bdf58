"""COPY, ADD and WORKDIR: what the files are (a digest), and the layer they make, written as a tar without a container."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from lamina.builder import manifest
from lamina.builder.archives import is_archive, opened_archive
from lamina.builder.context import Heartbeat, IgnoringFiles, opened
from lamina.builder.files import Files, Item, resolve
from lamina.builder.owner import InvalidOwner, Owner, directory_mode, parse_mode, resolve_owner
from lamina.builder.placement import Placement
from lamina.dockerfile.ignore import Ignore, InvalidPattern, path_regex
from lamina.errors import InvalidArgument
from lamina.layer.errors import shown
from lamina.layer.tree import PATH_LIMIT
from lamina.worker.workers import Report

_WILD = re.compile(rb"[*?\[\\]")
_WILDCARD = re.compile(rb"(?:\\.|[^\\*?\[])*[*?\[]", re.DOTALL)
"""Matches what has one; a backslash alone is none, and stands for itself."""
_STARS = re.compile(r"(\\.)|\*+", re.DOTALL)


class CopyFailed(InvalidArgument):
    """COPY or ADD cannot do what it says; the build adds the line."""


@dataclass(frozen=True, slots=True)
class Found:
    """One source after wildcards and links: `name` is what the target gets, `path` where it lies.

    With --parents (`kept`), `name` is a path, and `above` are the directories on it: their path in the target, and what they look like.
    An archive is unpacked where `unpack` says so.
    """

    files: Files
    name: bytes
    path: bytes
    item: Item
    above: tuple[tuple[bytes, Item], ...] = ()
    kept: bool = False
    unpack: bool = False


def digest_job(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:  # noqa: ARG001
    """Worker: the digest of everything the sources name: names, modes, content, links; not times, and owners only where they are kept.

    `manifest` says what each path came to, for those who want to know what changed; "" where there are too many, or all is as
    `known`, a digest of before.
    """
    with ExitStack() as stack:
        whole, beat = hashlib.sha256(), Heartbeat(report)
        sources = list(_found(params, stack))
        lines: list[tuple[bytes, bytes]] = []
        for found in sources:
            for name, record in _records(found, beat, owners=params.get("owners", False)):
                whole.update(record)
                if len(lines) <= manifest.LIMIT:
                    lines.append((name, record))
    digest = f"sha256:{whole.hexdigest()}"
    directory = len(sources) == 1 and sources[0].item.is_directory
    kept = "" if digest == params.get("known") else manifest.packed(lines)
    return {"digest": digest, "sources": len(sources), "directory": directory, "manifest": kept}


def write_job(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:  # noqa: ARG001
    """Worker: write the layer to `path`. `entries` is 0 where nothing would change, and then nothing is written."""
    with ExitStack() as stack:
        root = stack.enter_context(opened(params["root"]))
        owner = resolve_owner(root, params["chown"]) if params["chown"] else _user(root, params.get("user", ""))
        newest, link = params.get("newest"), params.get("link", False)
        placement = Placement(
            root,
            params["time"],
            owner,
            parse_mode(params["chmod"]),
            bare=link,
            newest=newest,
            directory_mode=directory_mode(params["chmod"]),
            owners_kept=params.get("owners", False),
        )
        target = os.fsencode(params["target"])
        if len(target) > PATH_LIMIT:
            raise CopyFailed(f"{params['keyword']} failed: the target is longer than {PATH_LIMIT} bytes: {shown(target)}")
        if not params["sources"] or (params.get("parents") and target.endswith(b"/")):
            placement.directory(resolve(placement, target))
        for found in _found(params, stack):
            _place(found, placement, target, params, stack)
        return {"entries": placement.write(params["path"], Heartbeat(report))}


def _user(root: Files, text: str) -> Owner:
    """Whose the directory of a WORKDIR is: USER's, or root's where the image does not know them, as with BuildKit."""
    try:
        return resolve_owner(root, text) if text else Owner(0, 0)
    except InvalidOwner:
        return Owner(0, 0)


def _found(params: Mapping[str, Any], stack: ExitStack) -> Iterator[Found]:
    """All sources in the order written. Several need a directory as the target, and several matches of a wildcard too, but to BuildKit
    (`by_word`).

    A wildcard may match nothing where another source is there, or where none has to be (`may_be_empty`).
    """
    found: list[Found] = []
    empty: list[str] = []
    exclude = Ignore.of(params.get("exclude", ()))
    for source in params["sources"]:
        files = stack.enter_context(opened(source["files"]))
        for text in source["paths"]:
            matches = _named(files, text, params, exact=source.get("exact", False))
            empty += [] if matches else [text]
            kept = [each for match in matches if (each := _kept(match, exclude)) is not None]
            found += [replace(each, unpack=source.get("unpack", params.get("unpack", False))) for each in kept]
    if (
        params["sources"]
        and len(empty) == sum(len(source["paths"]) for source in params["sources"])
        and not (params.get("may_be_empty") or params.get("parents"))
    ):
        hint = f"nothing in the build context matches {', '.join(empty)}"
        raise CopyFailed(f"{params['keyword']} failed: no source files were specified", hint=hint)
    several = params.get("several") or (len(found) > 1 and not params.get("by_word"))
    if several and params["target"] and not params["target"].endswith("/"):
        raise CopyFailed(
            f"when using {params['keyword']} with more than one source file, the destination must be a directory and end with a /"
        )
    yield from found


def _named(files: Files, text: str, params: Mapping[str, Any], *, exact: bool) -> list[Found]:
    """What one source names; an `exact` one has no wildcards."""
    if params.get("parents"):
        return _with_parents(files, text, params["keyword"])
    return _exactly(files, text, params["keyword"]) if exact else _matches(files, text, params["keyword"])


def _exactly(files: Files, text: str, keyword: str) -> list[Found]:
    resolved = resolve(files, os.fsencode(text))
    item = files.lookup(resolved)
    if item is None:
        raise _absent(keyword, text)
    parts = _parts(os.fsencode(text))
    return [Found(files, parts[-1] if parts else b"", resolved, item)]


def _absent(keyword: str, path: str) -> CopyFailed:
    return CopyFailed(f"{keyword} failed: file not found in build context or excluded by .dockerignore: stat {path}: file does not exist")


def _kept(found: Found, exclude: Ignore) -> Found | None:
    """A source without what --exclude leaves out: patterns are of paths inside of a folder, or of a file's own name."""
    if not exclude.patterns:
        return found
    if found.item.is_directory:
        return replace(found, files=IgnoringFiles(found.files, exclude, found.path))
    return None if exclude.excludes(os.fsdecode(found.name)) else found


def _with_parents(files: Files, text: str, keyword: str) -> list[Found]:
    """What a source of COPY --parents names, with the folders above it, up to the pivot `/./`."""
    if escapes(text):
        raise CopyFailed(f"{keyword} failed: forbidden path outside the build context: {text}")
    head, pivot, tail = os.fsencode(text).partition(b"/./")
    bases = [resolve(files, match) for match in _glob(files, b"", _parts(head))] if pivot else [b""]
    parts = _parts(tail if pivot else head)
    found = [each for base in dict.fromkeys(bases) for each in _below(files, base, parts)]
    if not found and not _WILD.search(os.fsencode(text)):
        raise _absent(keyword, text)
    return found


def _parts(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]


def _below(files: Files, base: bytes, parts: list[bytes]) -> Iterator[Found]:
    """What matches below a folder, with the folders between."""
    for match in dict.fromkeys(_deep_glob(files, base, parts, set())):
        item = files.lookup(match)
        if item is None:
            continue
        name = match[len(base) :].lstrip(b"/")
        steps = [name[:at] for at, character in enumerate(name) if character == ord("/")]
        above = tuple((step, files.lookup(base + b"/" + step if base else step) or item) for step in steps)
        yield Found(files, name, match, item, above, kept=True)


def _deep_glob(files: Files, base: bytes, parts: list[bytes], seen: set[tuple[bytes, int]]) -> Iterator[bytes]:
    """`_glob` where a part `**` is any number of folders; nothing is looked at twice, and no link is followed."""
    if (base, len(parts)) in seen:
        return
    seen.add((base, len(parts)))
    if not parts:
        yield base
        return
    part, rest = parts[0], parts[1:]
    prefix = base + b"/" if base else b""
    if part == b"**":
        yield from _deep_glob(files, base, rest, seen) if rest else ()
    pattern = _pattern(part) if part != b"**" and _WILD.search(part) else None
    for name in files.names(base) if part == b"**" or pattern else [part]:
        item = files.lookup(prefix + name)
        if item is None or (pattern is not None and not pattern.match(os.fsdecode(name))):
            continue
        if part != b"**":
            yield from _deep_glob(files, prefix + name, rest, seen)
        elif item.is_directory:
            yield from _deep_glob(files, prefix + name, parts, seen)
        elif not rest:
            yield prefix + name


def _pattern(part: bytes) -> re.Pattern[str]:
    single = _STARS.sub(lambda found: found[1] or "*", os.fsdecode(part))  # two are one, but for --parents where they stand alone
    try:
        return re.compile(path_regex(single), re.DOTALL)
    except (re.error, InvalidPattern):
        raise CopyFailed(f"syntax error in pattern: {os.fsdecode(part)}") from None


def _matches(files: Files, text: str, keyword: str) -> list[Found]:
    path = os.fsencode(text)
    if escapes(text):
        raise CopyFailed(f"{keyword} failed: forbidden path outside the build context: {text}")
    parts = _parts(path)
    if not _WILDCARD.match(path):
        return _exactly(files, text, keyword)
    found: list[Found] = []
    for match in _glob(files, b"", parts):
        resolved = resolve(files, match)
        item = files.lookup(resolved)
        if item is None:
            raise _absent(keyword, os.fsdecode(match))
        found.append(Found(files, match.rpartition(b"/")[2], resolved, item))
    return found


def escapes(path: str) -> bool:
    """Whether a path, `..` taken literally, leads above where it starts."""
    depth = 0
    for part in path.split("/"):
        depth += {"..": -1, "": 0, ".": 0}.get(part, 1)
        if depth < 0:
            return True
    return False


def _glob(files: Files, base: bytes, parts: list[bytes]) -> Iterator[bytes]:
    """Paths that match, one part of the pattern after the other, in byte order."""
    if not parts:
        yield base
        return
    part, rest = parts[0], parts[1:]
    prefix = base + b"/" if base else b""
    if not _WILD.search(part):
        if files.lookup(resolve(files, prefix + part)) is not None:
            yield from _glob(files, prefix + part, rest)
        return
    pattern = _pattern(part)
    for name in files.names(resolve(files, base)):
        if pattern.match(os.fsdecode(name)):
            yield from _glob(files, prefix + name, rest)


def _records(found: Found, beat: Heartbeat, *, owners: bool) -> Iterator[tuple[bytes, bytes]]:
    """What counts of a source and all below it: a name to show and one record an entry; with --parents the folders above it, too."""
    for name, above in found.above:
        yield name, _record(b"above", name, b"%o" % above.mode, *((b"%d:%d" % (above.uid, above.gid),) if owners else ()))
    for relative, path, item in walk(found.files, found.path, found.item):
        name = relative if found.item.is_directory else found.name
        if found.kept:
            name = found.name + b"/" + relative if relative else found.name
        content = hashlib.sha256()
        if item.is_file:
            for chunk in found.files.read(path, item):
                content.update(chunk)
                beat()
        parts = (
            name,
            b"%o" % item.mode,
            item.link,
            b"%d:%d" % item.rdev,
            content.digest(),
            *((b"%d:%d" % (item.uid, item.gid),) if owners else ()),
            *(part for pair in item.xattrs for part in pair),
        )
        yield path, _record(*parts)


def _record(*parts: bytes) -> bytes:
    return b"".join(b"%d:%s" % (len(part), part) for part in parts)


def walk(files: Files, path: bytes, item: Item) -> Iterator[tuple[bytes, bytes, Item]]:
    """A source and all below it: path relative to it, path in `files`, item; parents first, names in byte order."""
    stack = [(b"", path, item)]
    while stack:
        relative, here, current = stack.pop()
        yield relative, here, current
        if not current.is_directory:
            continue
        for name in reversed(files.names(here)):
            below = here + b"/" + name if here else name
            child = files.lookup(below)
            if child is not None and not stat.S_ISSOCK(child.mode):
                stack.append((relative + b"/" + name if relative else name, below, child))


def _place(found: Found, placement: Placement, target: bytes, params: Mapping[str, Any], stack: ExitStack) -> None:
    into = resolve(placement, target)
    if found.kept:
        _place_with_parents(found, placement, into)
        return
    if found.unpack and found.item.is_file and is_archive(found.files, found.path, found.item):
        archive = stack.enter_context(opened_archive(found.files, found.path, found.item, params["scratch"]))
        placement.tree(archive, b"", into, own=not params["chown"], modes_kept=True)
        return
    if found.item.is_directory:
        placement.tree(found.files, found.path, into, own=False, kinds_kept=params.get("kinds_kept", False))
        return
    existing = placement.lookup(into)
    # the root is a directory, also where nothing is in it yet
    if not into or target.endswith(b"/") or (existing is not None and existing.is_directory):
        into = into + b"/" + found.name if into else found.name  # a link of that name there is replaced, not followed
    placement.file(found.files, found.path, found.item, into)


def _place_with_parents(found: Found, placement: Placement, target: bytes) -> None:
    base = target + b"/" if target else b""
    placement.directory(target)
    for path, item in found.above:
        placement.directory_like(base + path, item)
    if not found.item.is_directory:
        placement.file(found.files, found.path, found.item, base + found.name)
        return
    if found.name:
        placement.directory_like(base + found.name, found.item)
    placement.tree(found.files, found.path, base + found.name if found.name else target, own=False)
