"""layers, which, ls and cat: an image's files without mounting it."""

from __future__ import annotations

import time

from lamina.cli.ages import age, calendar, parse_time
from lamina.cli.flags import Arguments, UsageError
from lamina.cli.output import print_rows, show_listed, told_form
from lamina.cli.screen import Screen, columns
from lamina.cli.session import Session
from lamina.cli.table import aligned, printable, width
from lamina.cli.units import human_size
from lamina.client.images import Images

TABLE = {
    "layers": (
        1,
        1,
        True,
        "IMAGE|CONTAINER",
        """\
- no-trunc bool|Don't truncate output; show where each layer's bytes lie on the host
q quiet bool|Only show layer IDs
- format string|Format output as "table", "json" or by a Go template
""",
    ),
    "which": (
        1,
        2,
        True,
        "IMAGE|CONTAINER PATH | IMAGE:/PATH",
        """\
- format string|Format output as "table", "json" or by a Go template
""",
    ),
    "ls": (
        1,
        1,
        True,
        "IMAGE[:/PATH]",
        """\
l long bool|Show type, mode, owner, size and layer
- format string|Format output as "table", "json" or by a Go template
""",
    ),
    "cat": (1, -1, True, "IMAGE:/PATH [IMAGE:/PATH...]", ""),
}

_LAYER_HEADERS = {"Index": "#", "ID": "LAYER", "CreatedSince": "AGE", "DiffID": "DIFF ID"}
_NUMBERS = frozenset((0, 3, 4))
_LETTERS = {"directory": "d", "dir": "d", "symlink": "l", "link": "l", "char": "c", "block": "b", "fifo": "p", "socket": "s"}


def _place(words: list[str]) -> tuple[str, str]:
    """Image and path of `IMAGE PATH` or `IMAGE:/path`; a colon before no slash is a tag's.

    Raises:
        UsageError: one word without a path.
    """
    if len(words) == 2:
        return words[0], words[1]
    image, colon, path = words[0].partition(":/")
    if not colon:
        raise UsageError(f"no path in {words[0]!r}: write IMAGE:/path")
    return image, f"/{path}"


def layers(session: Session, arguments: Arguments) -> int:
    """List the layers of an image or a container, base first."""
    whole = arguments.on("no-trunc")
    found = Images(session.engine).layers(arguments.words[0]).get("layers")
    facts = [fact for fact in found if isinstance(fact, dict)] if isinstance(found, list) else []
    rows = [_layer_row(fact, whole=whole) for fact in facts]
    form = arguments.text("format")
    if arguments.on("quiet"):
        for row in rows:
            session.print(str(row["ID"]))
    elif form not in ("", "table"):
        print_rows(session, form, rows, [], _LAYER_HEADERS)
    else:
        _print_layers(session, rows, facts, whole=whole)
    return 0


def _print_layers(session: Session, rows: list[dict[str, object]], facts: list[dict[str, object]], *, whole: bool) -> None:
    screen = Screen(session.environment)
    names = ["Index", "ID", "CreatedSince", "Size", "Hidden", "Changes", *(["Path"] if whole else []), "Instruction"]
    lines = columns(
        [[_LAYER_HEADERS.get(name, name.upper()) for name in names], *([str(row[name]) for name in names] for row in rows)], _NUMBERS
    )
    for number, cells in enumerate(lines):
        room = screen.width - sum(width(cell) + 2 for cell in cells[:-1])
        text = cells[-1] if whole else _shortened(cells[-1], max(room, 20))
        if not number:
            session.print(screen.bold("  ".join([*cells[:-1], text])))
            continue
        session.print("  ".join([screen.layer(number - 1, f"{cells[0]}  {cells[1]}"), *cells[2:-1], screen.layer(number - 1, text)]))
    if screen.terminal and facts:
        session.print(screen.dim(_total(facts)))


def _shortened(text: str, most: int) -> str:
    if width(text) <= most:
        return text
    from lamina.spec.width import shortened

    return shortened(text, most)


def _total(facts: list[dict[str, object]]) -> str:
    """What all layers take, and how much of it nobody sees."""
    size, hidden = (sum(_number(fact.get(name)) for fact in facts) for name in ("size", "hidden"))
    wasted = f", {human_size(hidden)} of it ({100 * hidden // size} %) hidden by later layers" if hidden and size else ""
    return f"{len(facts)} layer{'s' * (len(facts) > 1)}, {human_size(size)}{wasted}"


def _layer_row(fact: dict[str, object], *, whole: bool) -> dict[str, object]:
    short = None if whole else 12
    counts = [(sign, fact.get(key)) for sign, key in (("+", "added"), ("~", "modified"), ("-", "deleted"))]
    hidden = _number(fact.get("hidden"))
    return {
        "Index": fact.get("index"),
        "ID": str(fact.get("id", "")).removeprefix("sha256:")[:short],
        "DiffID": str(fact.get("diff_id", "")).removeprefix("sha256:")[:short],
        "Parent": str(fact.get("parent") or "").removeprefix("sha256:")[:short],
        "Created": fact.get("created") or "",
        "CreatedSince": age(parse_time(str(fact.get("created") or ""))).removesuffix(" ago"),
        "Size": human_size(_number(fact.get("size"))),
        "Bytes": _number(fact.get("size")),
        "Hidden": human_size(hidden) if hidden else "",
        "HiddenBytes": hidden,
        "Added": fact.get("added"),
        "Modified": fact.get("modified"),
        "Deleted": fact.get("deleted"),
        "Changes": " ".join(f"{sign}{count}" for sign, count in counts if count),
        "Instruction": printable(" ".join(str(fact.get("instruction") or fact.get("created_by") or "").split())),
        "Writable": bool(fact.get("writable")),
        "Path": fact.get("path") or "",
    }


def which(session: Session, arguments: Arguments) -> int:
    """Show which layer and instruction a file comes from."""
    image, path = _place(arguments.words)
    found = Images(session.engine).which(image, path)
    if form := told_form(arguments):
        show_listed(session, form, found if not form.startswith("table") else {"rows": [_which_row(found)]}, "rows")
        return 0 if found.get("found") else 1
    gone, listed = found.get("deleted_by"), found.get("older")
    older = listed if isinstance(listed, list) else []
    if not found.get("found"):
        by = f": deleted by {_layer(gone)}" if isinstance(gone, dict) else ""
        session.note(f"lamina: no {path} in {image}{by}")
        return 1
    session.print(f"{printable(str(found.get('path', path)))}  {found.get('type', '')}  {human_size(_number(found.get('size')))}")
    session.print(f"  from {_layer(found.get('layer'))}")
    _print_older(session, older)
    return 0


def _which_row(found: dict[str, object]) -> dict[str, object]:
    """The answer as one row of a table: of the layer what it is known by."""
    layer = found.get("layer")
    fact = layer if isinstance(layer, dict) else {}
    plain = {name: value for name, value in found.items() if not isinstance(value, (dict, list))}
    return plain | {"layer": fact.get("index", ""), "id": fact.get("id", ""), "instruction": fact.get("instruction", "")}


def _print_older(session: Session, layers: list[object]) -> None:
    for layer in layers:
        size = layer.get("size") if isinstance(layer, dict) and layer.get("type") == "file" else None
        session.print(f"  hides {_layer(layer)}{f'  ({human_size(size)})' if isinstance(size, int) else ''}")


def _layer(value: object) -> str:
    fact = value if isinstance(value, dict) else {}
    text = printable(" ".join(str(fact.get("instruction") or fact.get("created_by") or "").split()))
    index = fact.get("index")
    return (
        f"layer {index if index is not None else '?'} {str(fact.get('id', '')).removeprefix('sha256:')[:12]}{f'  {text}' if text else ''}"
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def ls(session: Session, arguments: Arguments) -> int:
    """List a directory of an image."""
    image, path = _place(arguments.words) if ":/" in arguments.words[0] else (arguments.words[0], "/")
    found = Images(session.engine).ls(image, path or "/")
    if form := told_form(arguments):
        show_listed(session, form, found, "entries")
        return 0
    listed = found.get("entries")
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    if not arguments.on("long"):
        for entry in entries:
            session.print(printable(str(entry.get("name"))))
        return 0
    for line in aligned([_long(entry) for entry in entries]):
        session.print(line)
    return 0


def _long(entry: dict[str, object]) -> list[str]:
    mode, moment = _number(entry.get("mode")), entry.get("mtime")
    letters = "".join(letter if mode & 1 << 8 - at else "-" for at, letter in enumerate("rwxrwxrwx"))
    target = f" -> {entry['target']}" if entry.get("target") else ""
    when = calendar("%Y-%m-%d %H:%M", time.localtime(moment)) if isinstance(moment, (int, float)) else str(moment or "")
    return [
        _LETTERS.get(str(entry.get("type")), "-") + letters,
        f"{entry.get('uid', 0)}:{entry.get('gid', 0)}",
        human_size(_number(entry.get("size"))),
        when,
        f"layer {entry.get('layer')}",
        printable(f"{entry.get('name')}{target}"),
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
