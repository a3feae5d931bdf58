"""image diff, as JSON or as people read it: a job for workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from lamina.explore import packages
from lamina.explore.compare import Change, Side, differences
from lamina.explore.levels import DIRECTORY, FILE, WORDS, open_levels
from lamina.explore.stack import Stack, uncollected
from lamina.explore.textdiff import unified
from lamina.explore.wording import Sink, human, mode, printable, quoted
from lamina.layer.errors import PathNotFound
from lamina.linux.channel import encode
from lamina.worker import Report

TEXT_LIMIT = 1 << 20
"""Longer files are not compared line by line."""

_HEAD = 8192
_FOLDED = 10
_KINDS = {"A": "added", "M": "modified", "D": "deleted"}


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that differs. `texts` are unified differences, one a change in order, empty where there is none."""

    config: dict[str, dict[str, Any]]
    packages: dict[str, packages.Changed]
    changes: Sequence[Change]
    texts: Sequence[bytes]


def job(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:  # noqa: ARG001
    """`a` and `b` as `levels.open_levels` takes them, `config` with what differs in the configurations; `path` limits it to a place.

    `form` is `text` or `json`; `whole`: nothing is folded; `contents`: differences of texts too; `new`: also the texts of files that
    only one has.
    """
    with ExitStack() as closing:
        a, b = (Stack(open_levels(params[side], closing)) for side in ("a", "b"))
        path = params["path"].strip("/").encode("utf-8", "surrogateescape")
        path = (b if b.find(b.resolve(path, last=False)) else a).resolve(path, last=False)
        if a.find(path) is None and b.find(path) is None:
            raise PathNotFound(f"no such path: {params['path'][:300]}")
        with uncollected():
            changes = list(differences(a, b, path))
        texts = [_text(change, new=params["new"]) if params["contents"] else b"" for change in changes]
        found = Found({} if path else params["config"], {} if path else _packages(a, b, changes), changes, texts)
        sink = Sink(fds[0])
        (_write_json if params["form"] == "json" else _write_text)(found, sink, params)
        sink.flush()
    return {}


def _packages(a: Stack, b: Stack, changes: Iterable[Change]) -> dict[str, packages.Changed]:
    found = packages.changed(a, b)
    sides = [[change.path for change in changes if change.kind == kind] for kind in "DA"]
    if python := packages.python(*sides):
        found["python"] = python
    return found


def _text(change: Change, *, new: bool) -> bytes:
    """How a file's text differs; empty where it is not text, is too long, or is not to be shown."""
    sides = (change.a, change.b)
    files = [side for side in sides if side is not None and side.entry.kind == FILE]
    wanted = "content" in change.what if change.kind == "M" else new
    if not wanted or not files or any(side.size > TEXT_LIMIT for side in files):
        return b""
    old, new_text = (side.content(TEXT_LIMIT) if side is not None and side.entry.kind == FILE else b"" for side in sides)
    if b"\0" in old[:_HEAD] or b"\0" in new_text[:_HEAD]:
        return b""
    shown = printable(change.path)
    names = (b"a/" + shown if change.kind != "A" else b"/dev/null", b"b/" + shown if change.kind != "D" else b"/dev/null")
    return unified(old, new_text, names)


# -- for programs


def _write_json(found: Found, sink: Sink, params: dict[str, Any]) -> None:
    told = {
        tool: [{"name": name, "a": pair[0], "b": pair[1]} for name, pair in changed.items()] for tool, changed in found.packages.items()
    }
    head = encode({"a": params["names"][0], "b": params["names"][1], "config": found.config, "packages": told})
    sink.write(head[:-1] + b',"changes":[')
    for number, (change, text) in enumerate(zip(found.changes, found.texts, strict=True)):
        pieces = [b'{"path":', quoted(b"/" + change.path), b',"kind":"', change.kind.encode(), b'","what":', encode(list(change.what))]
        pieces += [b',"a":', _side_json(change.a), b',"b":', _side_json(change.b)]
        if text:
            pieces += [b',"diff":', quoted(text)]
        sink.write((b"," if number else b"") + b"".join(pieces) + b"}")
    sink.write(b"]}\n")


def _side_json(side: Side | None) -> bytes:
    if side is None:
        return b"null"
    status = side.status
    return b'{"type":"%b","mode":%d,"uid":%d,"gid":%d,"size":%d,"mtime_ns":%d,"target":%b,"layer":%d}' % (
        WORDS[side.entry.kind].encode(),
        status[0],
        *status[1:5],
        quoted(side.target),
        side.entry.level,
    )


# -- for people


def _write_text(found: Found, sink: Sink, params: dict[str, Any]) -> None:
    parts = [_config_lines(found.config), *(_package_lines(tool, changed) for tool, changed in found.packages.items())]
    parts.append(_file_lines(found, whole=params["whole"]))
    texts = [text for text in found.texts if text]
    if texts:
        parts.append([b"Contents\n", *(_safe(text) for text in texts)])
    sink.write(b"\n".join(b"".join(lines) for lines in parts if lines))


def _config_lines(config: dict[str, dict[str, Any]]) -> list[bytes]:
    if not config:
        return []
    width = max(map(len, config)) + 2
    rows = [(name, encode(pair["a"]).decode(), encode(pair["b"]).decode()) for name, pair in sorted(config.items())]
    return [b"Configuration\n", *(f"  {name:<{width}}{old} -> {new}\n".encode() for name, old, new in rows)]


def _package_lines(tool: str, changed: packages.Changed) -> list[bytes]:
    width = max(map(len, changed)) + 2
    marks = {name: "+" if not old else "-" if not new else "~" for name, (old, new) in changed.items()}
    counts = [(word, sum(mark == sign for mark in marks.values())) for word, sign in (("added", "+"), ("changed", "~"), ("removed", "-"))]
    head = f"Packages of {tool}: {', '.join(f'{count} {word}' for word, count in counts if count)}\n"
    rows = [f"  {marks[name]} {name:<{width}}{' -> '.join(filter(None, pair))}\n" for name, pair in changed.items()]
    return [printable_lines(text) for text in (head, *rows)]


def printable_lines(text: str) -> bytes:
    """A line that ends as a line, whatever is in it."""
    return printable(text.rstrip("\n").encode("utf-8", "surrogateescape")) + b"\n"


def _safe(text: bytes) -> bytes:
    """A text's own control characters escaped, but tabs and line feeds."""
    return b"\n".join(b"\t".join(map(printable, line.split(b"\t"))) for line in text.split(b"\n"))


def _file_lines(found: Found, *, whole: bool) -> list[bytes]:
    timely = [change.what == ("time",) for change in found.changes]
    shown = [(change, text) for change, text, hide in zip(found.changes, found.texts, timely, strict=True) if whole or not hide]
    rows = _rows(shown, whole=whole)
    if not found.changes:
        return []
    counts = {word: sum(change.kind == kind for change in found.changes) for kind, word in _KINDS.items()}
    title = f"Files: {', '.join(f'{count} {word}' for word, count in counts.items() if count)}"
    hidden = 0 if whole else sum(timely)
    note = f" ({hidden} of them in time only, not shown)" if hidden else ""
    width = min(max((len(row[0]) for row in rows), default=0), 64)
    return [f"{title}{note}\n".encode(), *(b"  ".join([row[0].ljust(width), row[1]]).rstrip() + b"\n" for row in rows)]


def _rows(shown: Sequence[tuple[Change, bytes]], *, whole: bool) -> list[tuple[bytes, bytes]]:
    """Kind and path, and what there is to say; a directory that only one has stands for all in it, where that is much."""
    rows: list[tuple[bytes, bytes]] = []
    at = 0
    while at < len(shown):
        change, text = shown[at]
        end = at + 1
        side = change.a or change.b
        if change.kind in "AD" and side is not None and side.entry.kind == DIRECTORY and not whole:
            inside = change.path + b"/"
            while end < len(shown) and shown[end][0].path.startswith(inside):
                end += 1
        if end - at > _FOLDED:
            size = sum(each.size for other, _ in shown[at:end] for each in (other.a or other.b,) if each and each.entry.kind == FILE)
            rows.append((_named(change), f"{end - at - 1} entries, {human(size)}".encode()))
            at = end
            continue
        rows.append((_named(change), _said(change, text)))
        at += 1
    return rows


def _named(change: Change) -> bytes:
    side = change.b or change.a
    mark = b"/" if side is not None and side.entry.kind == DIRECTORY else b""
    return change.kind.encode() + b" /" + printable(change.path) + mark


def _said(change: Change, text: bytes) -> bytes:
    """What there is to say of a change: of what only one has, where a link leads or how large a file is; else what differs."""
    if change.a is not None and change.b is not None:
        return ", ".join(_differing(change.a, change.b, change.what, text) or ["time"]).encode()
    side = change.a or change.b
    if side is not None and side.target:
        return b"-> " + printable(side.target)
    return human(side.size).encode() if side is not None and side.entry.kind == FILE else b""


def _differing(old: Side, new: Side, differs: Sequence[str], text: bytes) -> list[str]:
    """The words for each of `Change.what` but time, old and new where they are short; `text` is how the contents differ, if it is shown."""
    words: list[str] = []
    for what in differs:
        if what == "content":
            plus, minus = (sum(line.startswith(sign) for line in text.split(b"\n")[2:]) for sign in (b"+", b"-"))
            words.append(f"+{plus} -{minus} lines" if text else f"{human(old.size)} -> {human(new.size)}")
        elif what == "type":
            words.append(f"{WORDS[old.entry.kind]} -> {WORDS[new.entry.kind]}")
        elif what == "mode":
            words.append(f"{mode(old.status[0])} -> {mode(new.status[0])}")
        elif what == "owner":
            words.append(f"{old.status[1]}:{old.status[2]} -> {new.status[1]}:{new.status[2]}")
        elif what == "target":
            words.append(f"-> {printable(new.target).decode('utf-8', 'replace')}")
        elif what != "time":
            words.append(what)
    return words
