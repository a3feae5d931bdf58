"""image find: which images show a path that matches, and which layer gives it to them: a job for workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lamina.explore.levels import DIRECTORY, SYMLINK, WORDS
from lamina.explore.paths import OPAQUE, PathList, path_list
from lamina.explore.patterns import Pattern
from lamina.explore.wording import Sink, printable, quoted
from lamina.linux.channel import encode
from lamina.spec.width import shortened
from lamina.worker import Report

_GONE, _DIRECTORY = ord("0"), ord(str(DIRECTORY))
_MARKS = {_DIRECTORY: b"/", OPAQUE: b"/", ord(str(SYMLINK)): b"@"}
_NAMES = 72
_INSTRUCTION = 76

Visible = dict[bytes, tuple[int, int]]
"""By path, the node that gives it and its letter."""

Row = tuple[bytes, int, int, tuple[int, ...]]
"""Path, letter, node, images."""


def job(params: dict[str, Any], fds: list[int], report: Report) -> dict[str, Any]:  # noqa: ARG001
    """`pattern` with `regex` and `fold`; `nodes`, parents first, each a layer on its `parent` (-1: none) with what `open_levels` takes
    as `level`, its `id` and `instruction`, and the `images` that end there; `images` with `id` and `names`; `paths` is where lists lie.
    """
    make = Pattern.regex if params["regex"] else Pattern.glob
    pattern = make(params["pattern"], fold=params["fold"])
    rows = found(params["nodes"], pattern, params["paths"])
    sink = Sink(fds[0])
    (_write_json if params["form"] == "json" else _write_text)(rows, params, sink)
    sink.flush()
    return {}


def found(nodes: Sequence[dict[str, Any]], pattern: Pattern, directory: str) -> list[Row]:
    """Every visible path that matches, once for each layer that gives it, by path."""
    known: dict[str, tuple[PathList, dict[bytes, int]]] = {}
    seen: list[Visible] = []
    images: dict[tuple[bytes, int, int], list[int]] = {}
    for number, node in enumerate(nodes):
        name = node["level"]["name"]
        if name not in known:
            paths = path_list(node["level"], directory)
            known[name] = (paths, paths.matching(pattern))
        below = seen[node["parent"]] if node["parent"] >= 0 else {}
        seen.append(_above(below, number, *known[name]))
        for image in node["images"]:
            for path, (giver, letter) in seen[-1].items():
                images.setdefault((path, letter, giver), []).append(image)
    return [(path, letter, giver, tuple(owners)) for (path, letter, giver), owners in sorted(images.items())]


def _above(below: Visible, number: int, paths: PathList, matching: dict[bytes, int]) -> Visible:
    """What is visible once a layer lies on what was visible before."""
    if not matching and not below:
        return below
    hidden = tuple(_hidden(below, paths))
    visible = {path: each for path, each in below.items() if not path.startswith(hidden)} if hidden else dict(below)
    for path, letter in matching.items():
        if letter == _GONE:
            visible.pop(path, None)
        else:
            visible[path] = (number, letter)
    return visible


def _hidden(below: Visible, paths: PathList) -> Iterator[bytes]:
    """The directories whose former content a layer hides. What it does not have, it has nothing in either."""
    around = {b"/"}
    for path in below:
        while (path := path[: path.rfind(b"/")]) and path not in around:
            around.add(path)
    absent = b"\0"
    for directory in sorted(around, key=lambda each: each + b"/"):
        if directory.startswith(absent):
            continue
        letter = paths.kind(directory)
        if not letter:
            absent = directory + b"/"
        elif letter != _DIRECTORY:
            yield directory if directory == b"/" else directory + b"/"


def _write_json(rows: Sequence[Row], params: dict[str, Any], sink: Sink) -> None:
    layers = [{"id": node["id"], "instruction": node["instruction"]} for node in params["nodes"]]
    used = {number: at for at, number in enumerate(sorted({row[2] for row in rows}))}
    head = encode({"pattern": params["pattern"], "images": params["images"], "layers": [layers[number] for number in used]})
    sink.write(head[:-1] + b',"found":[')
    for number, (path, letter, giver, owners) in enumerate(rows):
        kind = WORDS[DIRECTORY if letter == OPAQUE else letter - 48].encode()
        row = b'{"path":%b,"type":"%b","layer":%d,"images":%b}' % (quoted(path), kind, used[giver], encode(list(owners)))
        sink.write((b"," if number else b"") + row)
    sink.write(b"]}\n")


def _write_text(rows: Sequence[Row], params: dict[str, Any], sink: Sink) -> None:
    """Paths below the layer that gives them and the images that show them."""
    groups: dict[tuple[int, tuple[int, ...]], list[bytes]] = {}
    for path, letter, giver, owners in rows:
        groups.setdefault((giver, owners), []).append(b"    " + printable(path) + _MARKS.get(letter, b"") + b"\n")
    for number, ((giver, owners), lines) in enumerate(groups.items()):
        node = params["nodes"][giver]
        text = " ".join(str(node["instruction"]).split())
        said = text if params["whole"] else shortened(text, _INSTRUCTION)
        head = f"{_named(owners, params)}\n  layer {node['id'].removeprefix('sha256:')[:12]}  {said}"
        sink.write((b"\n" if number else b"") + b"\n".join(map(printable, head.encode("utf-8", "replace").split(b"\n"))) + b"\n")
        sink.write(b"".join(lines))


def _named(owners: Sequence[int], params: dict[str, Any]) -> str:
    """The images' names, as many as a line has room for."""
    names = [(params["images"][owner]["names"] or [params["images"][owner]["id"].removeprefix("sha256:")[:12]])[0] for owner in owners]
    shown = ", ".join(names)
    if params["whole"] or len(shown) <= _NAMES:
        return shown
    few = [name for at, name in enumerate(names) if len(", ".join(names[: at + 1])) <= _NAMES - 16] or names[:1]
    return f"{', '.join(few)} and {len(names) - len(few)} more" if len(few) < len(names) else shown
