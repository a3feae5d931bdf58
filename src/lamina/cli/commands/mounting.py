"""image mount, unmount and squash."""

from __future__ import annotations

from lamina.cli.flags import Arguments, UsageError
from lamina.cli.output import print_rows, show
from lamina.cli.session import Session
from lamina.client.images import Images
from lamina.errors import NotFound

TABLE = {
    "image mount": (
        0,
        2,
        True,
        "[IMAGE|LAYER DIRECTORY]",
        """\
- format string|Format output as "table", "json" or by a Go template
""",
    ),
    "image unmount": (
        1,
        -1,
        True,
        "DIRECTORY|IMAGE|LAYER [DIRECTORY...]",
        """\
f force bool|Unmount even what is in use
""",
    ),
    "image squash": (
        1,
        1,
        True,
        "IMAGE",
        """\
t tag list|Name and optionally a tag of the new image
- base string|Keep the layers of this image, squash those above it
- format string|Format output as "json" or by a Go template
""",
    ),
}


def image_mount(session: Session, arguments: Arguments) -> int:
    """Mount an image or a layer on the host, or list what is mounted."""
    if arguments.words:
        import os

        if len(arguments.words) != 2:
            raise UsageError("image mount takes an image or a layer and a directory")
        session.print(str(Images(session.engine).mount(arguments.words[0], os.path.abspath(arguments.words[1])).get("target")))
        return 0
    found = Images(session.engine).mounts().get("mounts")
    facts = [fact for fact in found if isinstance(fact, dict)] if isinstance(found, list) else []
    rows = [
        {
            "Target": fact.get("target"),
            "Reference": fact.get("reference"),
            "Kind": fact.get("kind"),
            "ID": str(fact.get("id")).removeprefix("sha256:")[:12],
        }
        for fact in facts
    ]
    print_rows(session, arguments.text("format"), rows, ["Target", "Reference", "Kind", "ID"], {})
    return 0


def image_unmount(session: Session, arguments: Arguments) -> int:
    """Unmount directories, or images and layers wherever they are mounted."""
    import os

    client = Images(session.engine)

    def undo(word: str) -> None:
        try:
            # also where there is no such directory any more
            client.unmount(os.path.abspath(word), force=arguments.on("force"))
        except NotFound:
            client.unmount(word, force=arguments.on("force"))

    return session.each(arguments.words, undo)


def image_squash(session: Session, arguments: Arguments) -> int:
    """Make an image of one layer, or of one above a base."""
    base = arguments.text("base")
    pairs = [("t", name) for name in arguments.many("tag")] + ([("base", base)] if base else [])
    made = Images(session.engine).squash(arguments.words[0], pairs)
    if form := arguments.text("format"):
        show(session, form, {"Id": made})
    else:
        session.print(made)
    return 0
