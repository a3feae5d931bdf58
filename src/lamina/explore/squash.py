"""image squash: one layer that does to a base what a stack's upper layers do together: a job for workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from lamina.explore.compare import Change, Side, differences
from lamina.explore.levels import DIRECTORY, FILE, SOCKET, Key, open_levels
from lamina.explore.stack import Stack
from lamina.explore.wording import Sink
from lamina.layer import tarwrite
from lamina.layer.tar.member import HARDLINK, Member
from lamina.spec import whiteout
from lamina.worker import Report


def job(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:  # noqa: ARG001
    """`a` and `b` as `levels.open_levels` takes them. Writes the tar of a layer that makes `b` out of `a`.

    Equal stacks give equal bytes. Of a directory that both have, only owner, mode and attributes are compared, not its time.
    """
    with ExitStack() as closing:
        a, b = (Stack(open_levels(params[side], closing)) for side in ("a", "b"))
        sink = Sink(fds[0])
        for piece in tar(a, b):
            sink.write(piece)
        sink.flush()
    return {}


def tar(a: Stack, b: Stack) -> Iterator[bytes]:
    """See `job`."""
    linked: dict[tuple[int, Key], bytes] = {}
    gone = b"\0"
    top = b.find(b"")
    if not a.levels and top is not None:
        yield tarwrite.header(_member(Side.of(b, top, b"."), b"."))
    for change in differences(a, b):
        if change.b is not None:
            yield from _entry(change.b, linked)
        elif not change.path.startswith(gone):
            gone = change.path + b"/"
            yield from _removal(b, change)
    yield tarwrite.END


def _removal(b: Stack, change: Change) -> Iterator[bytes]:
    """A whiteout, unless what replaced the directory around it hides it already."""
    head, _, name = change.path.rpartition(b"/")
    around = b.find(head)
    if around is not None and around.kind == DIRECTORY:
        status = b.levels[around.level].status(around.key)
        marker = whiteout.whiteout(name)
        yield tarwrite.header(Member(head + b"/" + marker if head else marker, 0o100000, 0, 0, 0, status[4] // 10**9 * 10**9))


def _entry(side: Side, linked: dict[tuple[int, Key], bytes]) -> Iterator[bytes]:
    entry = side.entry
    if entry.kind == SOCKET:
        return
    if entry.kind != DIRECTORY and side.status[5] > 1:
        first = linked.setdefault((entry.level, entry.key), side.path)
        if first is not side.path:
            yield tarwrite.header(Member(side.path, HARDLINK, 0, 0, 0, 0, link=first))
            return
    member = _member(side, side.path)
    if entry.kind == FILE:
        yield from _file(side, member)
    else:
        yield tarwrite.header(member)


def _file(side: Side, member: Member) -> Iterator[bytes]:
    """A file's headers and bytes; of one that is mostly holes, what is stored."""
    level = side.stack.levels[side.entry.level]
    sparse = level.sparse(side.entry.key, side.path)
    if sparse is None or 2 * sum(length for _, length in sparse[0]) >= member.size:
        yield tarwrite.header(member)
        yield from level.pieces(side.entry.key, side.path)
        yield tarwrite.padding(member.size)
        return
    runs, pieces = sparse
    end = sum(runs[-1]) if runs else 0
    header, stored = tarwrite.sparse_header(member, runs if end == member.size else [*runs, (member.size, 0)])
    yield header
    yield from pieces
    yield tarwrite.padding(stored)


def _member(side: Side, path: bytes) -> Member:
    mode, uid, gid, size, mtime, _ = side.status
    device, xattrs = side.stack.levels[side.entry.level].more(side.entry.key)
    return Member(path, mode, uid, gid, size if side.entry.kind == FILE else 0, mtime, 0, side.target, *device, tuple(sorted(xattrs)))
