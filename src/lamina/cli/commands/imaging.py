"""tag, history and rmi."""

from __future__ import annotations

from lamina.cli.ages import age, stamp
from lamina.cli.flags import Arguments
from lamina.cli.output import print_rows
from lamina.cli.references import platform_json, split_name
from lamina.cli.session import Session
from lamina.cli.table import cut
from lamina.cli.units import human_size
from lamina.client.images import Images
from lamina.errors import LaminaError, NotFound

TABLE = {
    "tag": (2, 2, True, "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", ""),
    "history": (
        1,
        1,
        True,
        "IMAGE",
        """\
- format string|Format output as "table", "json" or by a Go template
H human bool|Print sizes and dates in human readable format (default true)
- no-trunc bool|Don't truncate output
- platform string|Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
q quiet bool|Only show image IDs
""",
    ),
    "rmi": (
        1,
        -1,
        True,
        "IMAGE [IMAGE...]",
        """\
f force bool|Force removal of the image
- no-prune bool|Do not delete untagged parents
- platform strings|Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
""",
    ),
}

_HISTORY_HEADERS = {"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedBy": "CREATED BY", "CreatedAt": "CREATED AT"}


def tag(session: Session, arguments: Arguments) -> int:
    """Give an image another name."""
    image, name = arguments.words
    repository, new = split_name(name)
    if "@" in name:
        raise LaminaError("refusing to create a tag with a digest reference")
    Images(session.engine).tag(image, repository, new)
    return 0


def history(session: Session, arguments: Arguments) -> int:
    """Show how an image was made, newest first."""
    whole, human = arguments.on("no-trunc"), arguments.on("human", default=True)
    platform = platform_json(arguments.text("platform"))
    rows = [_history_row(fact, whole=whole, human=human) for fact in Images(session.engine).history(arguments.words[0], platform)]
    if arguments.on("quiet") and arguments.text("format") in ("", "table"):
        for row in rows:
            session.print(str(row["ID"]))
        return 0
    columns = ["ID", "CreatedSince", "CreatedBy", "Size", "Comment"]
    headers = _HISTORY_HEADERS if human else {**_HISTORY_HEADERS, "CreatedSince": "CREATED AT"}
    print_rows(session, arguments.text("format"), rows, columns, headers)
    return 0


def _history_row(fact: dict[str, object], *, whole: bool, human: bool) -> dict[str, object]:
    image_id, size = str(fact.get("Id") or ""), fact.get("Size")
    text = str(fact.get("CreatedBy") or "").replace("\t", " ")
    number = size if isinstance(size, int) else 0
    return {
        "ID": image_id if whole else image_id.removeprefix("sha256:")[:12],
        "CreatedSince": age(fact.get("Created")) if human else stamp(fact.get("Created")),
        "CreatedAt": stamp(fact.get("Created")),
        "CreatedBy": text if whole else cut(text, 45),
        "Size": human_size(number) if human else str(number),
        "Comment": fact.get("Comment", ""),
    }


def rmi(session: Session, arguments: Arguments) -> int:
    """Remove names of images, and images without any."""
    images, force, code = Images(session.engine), arguments.on("force"), 0
    pairs = [("force", "1")] if force else []
    pairs += [("noprune", "1")] if arguments.on("no-prune") else []
    pairs += [("platforms", platform_json(text)) for word in arguments.many("platform") for text in word.split(",")]
    for name in arguments.words:
        try:
            _report(session, images.remove(name, pairs))
        except LaminaError as error:
            session.note(f"lamina: {error}")
            code = 0 if force and isinstance(error, NotFound) and not code else 1
    return code


def _report(session: Session, rows: list[dict[str, object]]) -> None:
    for row in rows:
        for kind, name in row.items():
            session.print(f"{kind}: {name}")
