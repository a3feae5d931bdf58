"""`lamina images` and the tree of layers."""

from __future__ import annotations

from lamina.cli.ages import age, local
from lamina.cli.flags import Arguments, UsageError
from lamina.cli.output import filters, form_of, print_raw, print_rows, show_listed, told_form
from lamina.cli.session import Session, is_terminal
from lamina.cli.table import cut, printable
from lamina.cli.units import human_size
from lamina.client.images import Images

TABLE = {
    "images": (
        0,
        1,
        True,
        "[REPOSITORY[:TAG]]",
        """\
a all bool|Show all images (default hides intermediate images)
- digests bool|Show digests
f filter filter|Filter output based on conditions provided
- format string|Format output as "table", "json" or by a Go template
i input string|With --tree: show the layers of this archive, which is not loaded ("-": standard input)
- no-trunc bool|Don't truncate output
q quiet bool|Only show image IDs
- tree bool|Show the tree of layers across images, base at the root
""",
    ),
    "image tree": (
        0,
        0,
        True,
        "",
        """\
i input string|Show the layers of this archive, which is not loaded ("-": standard input)
- no-trunc bool|Don't truncate output
- format string|Format output as "table", "json" or by a Go template
""",
    ),
}

_HEADERS = {
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "UniqueSize": "UNIQUE SIZE",
    "SharedSize": "SHARED SIZE",
}
_FIELDS = (
    "Containers",
    "CreatedAt",
    "CreatedSince",
    "Digest",
    "ID",
    "Repository",
    "SharedSize",
    "Size",
    "Tag",
    "UniqueSize",
    "VirtualSize",
)
_RAW = "repository=Repository tag=Tag {} image_id=ID created_at=CreatedAt virtual_size=Size"
_NONE = "<none>"


def images(session: Session, arguments: Arguments) -> int:
    """List images."""
    if arguments.on("tree"):
        return image_tree(session, arguments)
    if arguments.given("input"):
        raise UsageError("--input goes with --tree")
    words = arguments.many("filter") + [f"reference={word}" for word in arguments.words if word]
    found = Images(session.engine).list(([("all", "1")] if arguments.on("all") else []) + filters(words))
    whole, form = arguments.on("no-trunc"), form_of(session, arguments, "images")
    with_digests = arguments.on("digests") or ".Digest" in form
    rows = [row for fact in found for row in image_rows(fact, whole=whole, with_digests=with_digests)]
    if form == "raw":
        digest = "digest=Digest" if arguments.on("digests") else ""
        return print_raw(session, rows, "image_id=ID" if arguments.on("quiet") else _RAW.format(digest))
    if arguments.on("quiet") and form in ("", "table"):
        for row in rows:
            session.print(str(row["ID"]))
        return 0
    columns = ["Repository", "Tag", *(["Digest"] if arguments.on("digests") else []), "ID", "CreatedSince", "Size"]
    print_rows(session, form, rows, columns, _HEADERS, _FIELDS)
    return 0


def image_rows(fact: dict[str, object], *, whole: bool, with_digests: bool) -> list[dict[str, object]]:
    """A row for each name of an image of the API's."""
    image_id, created, size = str(fact.get("Id", "")), fact.get("Created"), fact.get("Size")
    common: dict[str, object] = {
        "ID": image_id if whole else image_id.removeprefix("sha256:")[:12],
        "CreatedSince": age(created),
        "CreatedAt": local(created),
        "Size": human_size(size if isinstance(size, int) else 0),
        "VirtualSize": human_size(size if isinstance(size, int) else 0, 4),
        "SharedSize": _or_none(fact.get("SharedSize")),
        "UniqueSize": _or_none(None),
        "Containers": "N/A" if fact.get("Containers") in (None, -1) else str(fact.get("Containers")),
    }
    return [{"Repository": name, "Tag": tag, "Digest": digest} | common for name, tag, digest in _names(fact, with_digests=with_digests)]


def _or_none(size: object) -> str:
    return human_size(size) if isinstance(size, int) and size >= 0 else "N/A"


def _names(fact: dict[str, object], *, with_digests: bool) -> list[tuple[str, str, str]]:
    tags = [text.rpartition(":")[::2] for text in map(str, _list(fact.get("RepoTags"))) if not text.startswith(_NONE)]
    digests = [text.partition("@")[::2] for text in map(str, _list(fact.get("RepoDigests"))) if not text.startswith(_NONE)]
    found = []
    for repository in dict.fromkeys([name for name, _ in tags] + [name for name, _ in digests]):
        its_tags = [tag for name, tag in tags if name == repository]
        its_digests = [digest for name, digest in digests if name == repository]
        if with_digests:
            found += [(repository, tag, digest) for tag in its_tags or [_NONE] for digest in its_digests or [_NONE]]
        else:
            found += [(repository, tag, _NONE) for tag in its_tags or [_NONE]]
    return found or [(_NONE, _NONE, _NONE)]


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def image_tree(session: Session, arguments: Arguments) -> int:
    """Draw the tree of layers across images, or with --input across those of an archive."""
    if arguments.on("quiet") or arguments.many("filter") or arguments.words:
        raise UsageError("--tree shows all images: it goes with no other choice of them")
    found = _outlined(session, arguments.text("input")) if arguments.given("input") else Images(session.engine).tree()
    if form := told_form(arguments):
        show_listed(session, form, found, "layers")
        return 0
    session.print("LAYER          SIZE     OWN      SHARED  IMAGES AND INSTRUCTIONS")
    whole = arguments.on("no-trunc")
    _draw(session, [node for node in _list(found.get("layers")) if isinstance(node, dict)], whole=whole)
    return 0


def _outlined(session: Session, path: str) -> dict[str, object]:
    # archives and their progress are no business of a listing, which has to start fast
    from lamina.cli.commands.archive import archived
    from lamina.cli.progress import metered

    if path == "-" and is_terminal(0):
        raise UsageError("--input - reads an archive from standard input, which is a terminal")
    pieces, length = archived(path)
    return Images(session.engine).outline(metered(pieces, length, "Reading"), length)


def _draw(session: Session, nodes: list[dict[str, object]], *, whole: bool) -> None:
    above: dict[object, list[dict[str, object]]] = {}
    for node in nodes:
        above.setdefault(node.get("parent"), []).append(node)
    # a stack of its own: 127 layers and more are deeper than Python likes to recurse
    rest = [(root, "", "") for root in reversed(above.get(None, []))]
    while rest:
        node, lead, branch = rest.pop()
        _draw_one(session, node, lead + branch, whole=whole)
        below = lead + ("│ " if branch == "├─" else "  " if branch else "")
        children = above.get(node.get("layer"), [])
        # an only child continues straight down: a stack of layers stays a column
        marks = [""] if len(children) == 1 else ["├─"] * (len(children) - 1) + ["└─"]
        rest += reversed([(child, below, mark) for child, mark in zip(children, marks, strict=True)] if children else [])


def _draw_one(session: Session, node: dict[str, object], lead: str, *, whole: bool) -> None:
    layer = str(node.get("layer", "")).removeprefix("sha256:")
    names = " ".join(f"[{name}]" for name in map(str, _list(node.get("images"))))
    text = printable(" ".join(str(node.get("instruction") or node.get("created_by") or "").split()))
    if not whole:
        text = cut(text, 60)
    shared = node.get("shared_by")
    facts = f"{_or_none(node.get('size')):<8} {_or_none(node.get('own')):<8} {shared if shared is not None else '':<7}"
    session.print(f"{layer if whole else layer[:12]}   {facts} {lead}{names}{' ' if names and text else ''}{text}".rstrip())
