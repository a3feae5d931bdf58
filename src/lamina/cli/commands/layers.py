"""layers, which, ls, cat and image diff: an image's files without mounting it."""

from __future__ import annotations

import time

from lamina.cli.ages import age, parse_time
from lamina.cli.flags import Arguments, UsageError
from lamina.cli.output import print_rows, show
from lamina.cli.session import Session
from lamina.cli.table import aligned
from lamina.cli.units import human_size
from lamina.client.images import Images
from lamina.client.text import encode

_LAYER_HEADERS = {"ID": "LAYER", "CreatedSince": "CREATED", "DiffID": "DIFF ID"}
_LETTERS = {"directory": "d", "dir": "d", "symlink": "l", "link": "l", "char": "c", "block": "b", "fifo": "p", "socket": "s"}


def _place(words: list[str]) -> tuple[str, str]:
    """Image and path of `IMAGE PATH` or `IMAGE:/path`; a colon before no slash is a tag's."""
    if len(words) == 2:
        return words[0], words[1]
    image, colon, path = words[0].partition(":/")
    if not colon:
        image, colon, path = words[0].rpartition(":")
        if not colon:
            raise UsageError(f"no path in {words[0]!r}: write IMAGE:/path")
        return image, path
    return image, f"/{path}"


def layers(session: Session, arguments: Arguments) -> int:
    """List an image's layers, base first."""
    whole = arguments.on("no-trunc")
    found = Images(session.engine).layers(arguments.words[0]).get("layers")
    rows = [_layer_row(fact, whole=whole) for fact in found] if isinstance(found, list) else []
    if arguments.on("quiet"):
        for row in rows:
            session.print(str(row["ID"]))
        return 0
    columns = ["ID", "CreatedSince", "Size", "Changes", "Instruction"]
    print_rows(session, arguments.text("format"), rows, columns, _LAYER_HEADERS)
    return 0


def _layer_row(fact: dict[str, object], *, whole: bool) -> dict[str, object]:
    short = None if whole else 12
    created = parse_time(str(fact.get("created") or ""))
    text = " ".join(str(fact.get("instruction") or fact.get("created_by") or "").split())
    counts = [(sign, fact.get(key)) for sign, key in (("+", "added"), ("~", "modified"), ("-", "deleted"))]
    size = fact.get("size")
    return {
        "ID": str(fact.get("id", "")).removeprefix("sha256:")[:short],
        "DiffID": str(fact.get("diff_id", "")).removeprefix("sha256:")[:short],
        "Parent": str(fact.get("parent") or "").removeprefix("sha256:")[:short],
        "CreatedSince": age(created),
        "Size": human_size(size) if isinstance(size, int) else "N/A",
        "Changes": " ".join(f"{sign}{count}" for sign, count in counts if count),
        "Instruction": text if whole or len(text) <= 60 else text[:59] + "…",
        "Path": fact.get("path") or "",
    }


def which(session: Session, arguments: Arguments) -> int:
    """Show which layer and instruction a file comes from."""
    image, path = _place(arguments.words)
    found = Images(session.engine).which(image, path)
    if form := arguments.text("format"):
        show(session, form, found)
        return 0
    gone, listed = found.get("deleted_by"), found.get("older")
    older = listed if isinstance(listed, list) else []
    if not found.get("found"):
        by = f": deleted by {_layer(gone)}" if isinstance(gone, dict) else ""
        session.note(f"lamina: no {path} in {image}{by}")
        return 1
    session.print(f"{found.get('path', path)}  {found.get('type', '')}  {human_size(_number(found.get('size')))}")
    session.print(f"  from {_layer(found.get('layer'))}")
    _print_older(session, older)
    return 0


def _print_older(session: Session, layers: list[object]) -> None:
    for layer in layers:
        session.print(f"  hides {_layer(layer)}")


def _layer(value: object) -> str:
    fact = value if isinstance(value, dict) else {}
    text = " ".join(str(fact.get("instruction") or fact.get("created_by") or "").split())
    index = fact.get("index")
    return (
        f"layer {index if index is not None else '?'} {str(fact.get('id', '')).removeprefix('sha256:')[:12]}{f'  {text}' if text else ''}"
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def ls(session: Session, arguments: Arguments) -> int:
    """List a directory of an image."""
    image, path = _place(arguments.words) if ":" in arguments.words[0] else (arguments.words[0], "/")
    found = Images(session.engine).ls(image, path or "/")
    if form := arguments.text("format"):
        show(session, form, found)
        return 0
    listed = found.get("entries")
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    if not arguments.on("long"):
        for entry in entries:
            session.print(str(entry.get("name")))
        return 0
    for line in aligned([_long(entry) for entry in entries]):
        session.print(line)
    return 0


def _long(entry: dict[str, object]) -> list[str]:
    mode, moment = _number(entry.get("mode")), entry.get("mtime")
    letters = "".join(letter if mode & 1 << 8 - at else "-" for at, letter in enumerate("rwxrwxrwx"))
    target = f" -> {entry['target']}" if entry.get("target") else ""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(moment)) if isinstance(moment, (int, float)) else str(moment or "")
    return [
        _LETTERS.get(str(entry.get("type")), "-") + letters,
        f"{entry.get('uid', 0)}:{entry.get('gid', 0)}",
        human_size(_number(entry.get("size"))),
        when,
        f"layer {entry.get('layer')}",
        f"{entry.get('name')}{target}",
    ]


def cat(session: Session, arguments: Arguments) -> int:
    """Write files of an image to standard output."""
    places = (
        [tuple(arguments.words)] if len(arguments.words) == 2 and ":" not in arguments.words[1] else [(word,) for word in arguments.words]
    )
    for words in places:
        image, path = _place(list(words))
        for piece in Images(session.engine).cat(image, path).pieces(1 << 20):
            session.write(piece)
    return 0


def image_diff(session: Session, arguments: Arguments) -> int:
    """Show the files that differ from one image to another."""
    found = Images(session.engine).diff(*arguments.words[:2])
    if form := arguments.text("format"):
        show(session, form, found)
        return 0
    changes = found.get("changes")
    for change in changes if isinstance(changes, list) else []:
        session.print(f"{change.get('kind')} {change.get('path')}")
    config = found.get("config")
    for key, pair in sorted(config.items()) if isinstance(config, dict) else []:
        sides = [encode(pair.get(side)).decode() for side in ("a", "b")]
        session.print(f"config {key}: {sides[0]} -> {sides[1]}")
    return 0
