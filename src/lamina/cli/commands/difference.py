"""`lamina image diff`: what differs between two images."""

from __future__ import annotations

from lamina.cli.flags import Arguments
from lamina.cli.output import pass_on, told_form
from lamina.cli.screen import Screen
from lamina.cli.session import Session
from lamina.client.images import Images

TABLE = {
    "image diff": (
        2,
        3,
        True,
        "IMAGE|CONTAINER IMAGE|CONTAINER [PATH]",
        """\
N new-file bool|Show the contents of files that only one of them has
- no-contents bool|Don't show how the texts of files differ
- no-trunc bool|List everything in directories that only one of them has, and what differs in time only
- format string|Format output as "table", "json" or by a Go template
""",
    ),
}


def image_diff(session: Session, arguments: Arguments) -> int:
    """Show files, contents, packages and configuration that differ."""
    a, b, *rest = arguments.words
    return compare(session, arguments, a, b, rest[0] if rest else "/")


def compare(session: Session, arguments: Arguments, a: str, b: str, path: str) -> int:
    """Show what differs at a path and below."""
    form, screen = told_form(arguments), Screen(session.environment)
    flags = {"whole": arguments.on("no-trunc"), "contents": not arguments.on("no-contents"), "new": arguments.on("new-file")}
    pairs = [("a", a), ("b", b), ("path", path), ("form", "json" if form else "text")]
    answer = Images(session.engine).diff([*pairs, *((name, str(int(on))) for name, on in flags.items())])
    contents = False

    def painted(line: str) -> str:
        nonlocal contents
        contents = contents or line == "Contents"
        return _coloured(screen, line, contents=contents)

    pass_on(session, form, answer, painted if screen.colours else None, rows="changes")
    return 0


def _coloured(screen: Screen, line: str, *, contents: bool) -> str:
    """A line as git colours differences: added green, gone red, places blue."""
    sign = line[:1] if contents else line.lstrip()[:1]
    if (contents and line.startswith(("--- ", "+++ "))) or (line[:1].isupper() and line[1:2] != " "):
        return screen.bold(line)
    if contents and line.startswith("@@"):
        return screen.place(line)
    if sign == "+" or (not contents and line.startswith("A ")):
        return screen.added(line)
    if sign == "-" or (not contents and line.startswith("D ")):
        return screen.gone(line)
    if not contents and (sign == "~" or line.startswith("M ")):
        return screen.changed(line)
    return line
