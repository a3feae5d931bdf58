"""`lamina watch`."""

from __future__ import annotations

import sys

from lamina.cli.flags import Arguments
from lamina.cli.output import show
from lamina.cli.screen import Screen
from lamina.cli.session import Session
from lamina.cli.table import printable
from lamina.client.snapshots import Snapshots

TABLE = {
    "watch": (
        1,
        1,
        True,
        "CONTAINER",
        """\
a all bool|Begin with what it has changed already
- format string|Format output as "json" or by a Go template
""",
    ),
}


def watch(session: Session, arguments: Arguments) -> int:
    """Show what a container changes, until it is removed."""
    form, screen = arguments.text("format"), Screen(session.environment)
    for seen in Snapshots(session.engine).watch(arguments.words[0], existing=arguments.on("all")):
        if form:
            show(session, form, seen)
        else:
            session.print(_line(screen, seen))
        sys.stdout.flush()
    return 0


def _line(screen: Screen, seen: dict[str, object]) -> str:
    kind, path = str(seen.get("Kind")), printable(str(seen.get("Path")))
    paint = {"A": screen.added, "D": screen.gone}.get(kind, screen.changed)
    below = seen.get("Layer")
    if not isinstance(below, dict):
        return paint(f"{kind} {path}")
    words = "copied up from" if seen.get("CopiedUp") else "hides that of" if kind == "D" else "over that of"
    place = screen.place(f"{words} layer {below.get('Index')}")
    return f"{paint(f'{kind} {path}')}  {place} {printable(str(below.get('Instruction')))}".rstrip()
