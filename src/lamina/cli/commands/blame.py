"""`lamina blame`: who touched which file last."""

from __future__ import annotations

from lamina.cli.flags import Arguments, UsageError
from lamina.cli.output import pass_on, told_form
from lamina.cli.screen import Screen
from lamina.cli.session import Session
from lamina.client.images import Images

TABLE = {
    "blame": (
        1,
        2,
        True,
        "IMAGE|CONTAINER [PATH]",
        """\
L depth int|How many levels of directories to show (default all)
- no-trunc bool|Don't truncate output
- format string|Format output as "table", "json" or by a Go template
""",
    ),
}

_DRAWN = "─│├└ "


def blame(session: Session, arguments: Arguments) -> int:
    """Show every entry with the layer that last touched it."""
    path = arguments.words[1] if len(arguments.words) > 1 else "/"
    form, screen = told_form(arguments), Screen(session.environment)
    depth = arguments.number("depth")
    if arguments.given("depth") and depth < 1:
        raise UsageError(f"invalid argument '{depth}' for --depth: it takes a number above 0")
    pairs = [("path", path), ("depth", str(depth)), ("form", "json" if form else "text")]
    answer = Images(session.engine).blame(arguments.words[0], [*pairs, ("whole", str(int(arguments.on("no-trunc"))))])
    pass_on(session, form, answer, (lambda line: _coloured(screen, line)) if screen.colours else None, rows="entries")
    return 0


def _coloured(screen: Screen, line: str) -> str:
    """A line of the tree: its layer in that layer's colour, what is drawn dim, directories bold."""
    index = line.split(maxsplit=1)[0]
    at = line.rfind("── ") + 3 if "── " in line else len(line) - len(line.rsplit("  ", 1)[-1])
    head, name = line[:at], line[at:]
    drawn = len(head.rstrip(_DRAWN))
    return screen.layer(int(index), head[:drawn]) + screen.dim(head[drawn:]) + (screen.bold(name) if name.endswith("/") else name)
