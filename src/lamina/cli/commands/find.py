"""`lamina image find`: where a file is, in all images."""

from __future__ import annotations

from lamina.cli.flags import Arguments
from lamina.cli.output import show_listed, told_form
from lamina.cli.screen import Screen
from lamina.cli.session import Session
from lamina.client.images import Images
from lamina.client.text import document

TABLE = {
    "image find": (
        1,
        1,
        True,
        "PATTERN",
        """\
E regex bool|Take PATTERN as a regular expression that may match anywhere in a path
i ignore-case bool|Ignore the difference between upper and lower case
q quiet bool|Only show paths
- no-trunc bool|Don't truncate output
- format string|Format output as "table", "json" or by a Go template
""",
    ),
}


_NONE = b'"found":[]}\n'


def image_find(session: Session, arguments: Arguments) -> int:
    """Find files by name in all images; 1 where there is none."""
    form, screen = told_form(arguments), Screen(session.environment)
    flags = {"regex": arguments.on("regex"), "fold": arguments.on("ignore-case"), "whole": arguments.on("no-trunc")}
    pairs = [("pattern", arguments.words[0]), ("form", "json" if form else "text"), *((name, str(int(on))) for name, on in flags.items())]
    answer = Images(session.engine).find(pairs)
    data = answer.read()
    if form == "json":
        session.write(data)  # as it came: it may be long
        return 1 if data.endswith(_NONE) else 0
    if form:
        told = document(data)
        show_listed(session, form, told, "found")
        return 0 if told.get("found") else 1
    if arguments.on("quiet"):
        lines = {line[4:].rstrip("@/") for line in data.decode("utf-8", "surrogateescape").split("\n") if line.startswith("    ")}
        for line in sorted(lines):
            session.print(line)
    elif screen.colours:
        for line in data.decode("utf-8", "surrogateescape").split("\n")[:-1]:
            session.print(line if line.startswith("    ") else screen.dim(line) if line.startswith("  ") else screen.bold(line))
    else:
        session.write(data)
    return 0 if data else 1
