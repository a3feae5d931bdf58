"""snapshot create, ls, diff and rm; rollback."""

from __future__ import annotations

from lamina.cli.ages import age, parse_time
from lamina.cli.flags import Arguments
from lamina.cli.output import print_rows, show
from lamina.cli.session import Session
from lamina.client.snapshots import Snapshots

TABLE = {
    "snapshot create": (
        1,
        2,
        True,
        "CONTAINER [NAME]",
        """\
- format string|Format output as "json" or by a Go template
""",
    ),
    "snapshot ls": (
        1,
        1,
        True,
        "CONTAINER",
        """\
- format string|Format output as "table", "json" or by a Go template
- no-trunc bool|Don't truncate output
q quiet bool|Only display names
""",
    ),
    "snapshot diff": (
        2,
        3,
        True,
        "CONTAINER SNAPSHOT [SNAPSHOT]",
        """\
N new-file bool|Show the contents of files that only one of them has
- no-contents bool|Don't show how the texts of files differ
- no-trunc bool|List everything in directories that only one of them has, and what differs in time only
- format string|Format output as "table", "json" or by a Go template
""",
    ),
    "snapshot rm": (2, -1, True, "CONTAINER SNAPSHOT [SNAPSHOT...]", ""),
    "rollback": (2, 2, True, "CONTAINER SNAPSHOT", ""),
}

_COLUMNS = ["Name", "ID", "Parent", "CreatedSince", "InUse"]
_HEADERS = {"ID": "SNAPSHOT ID", "CreatedSince": "CREATED", "InUse": "IN USE"}


def snapshot_create(session: Session, arguments: Arguments) -> int:
    """Keep what a container wrote until now."""
    container, *name = arguments.words
    made = Snapshots(session.engine).create(container, name[0] if name else "")
    if form := arguments.text("format"):
        show(session, form, made)
    else:
        session.print(str(made.get("Name")))
    return 0


def snapshot_ls(session: Session, arguments: Arguments) -> int:
    """List the snapshots of a container."""
    whole = arguments.on("no-trunc")
    rows = [_row(fact, whole=whole) for fact in Snapshots(session.engine).list(arguments.words[0])]
    if arguments.on("quiet"):
        for row in rows:
            session.print(str(row["Name"]))
        return 0
    print_rows(session, arguments.text("format"), rows, _COLUMNS, _HEADERS)
    return 0


def _row(fact: dict[str, object], *, whole: bool) -> dict[str, object]:
    identity, parent = str(fact.get("Id")), str(fact.get("Parent")).removeprefix("sha256:")
    return {
        **fact,
        "ID": identity if whole else identity[:12],
        "Parent": parent if whole else parent[:12],
        "CreatedSince": age(parse_time(str(fact.get("Created")))),
        "InUse": "yes" if fact.get("InUse") else "no",
    }


def snapshot_diff(session: Session, arguments: Arguments) -> int:
    """Show what differs between two snapshots, or from one to now."""
    from lamina.cli.commands.difference import compare

    container, first, *second = arguments.words
    return compare(session, arguments, f"{container}@{first}", f"{container}@{second[0]}" if second else container, "/")


def snapshot_rm(session: Session, arguments: Arguments) -> int:
    """Forget snapshots of a container."""
    container, *names = arguments.words
    client = Snapshots(session.engine)
    return session.each(names, lambda name: client.remove(container, name))


def rollback(session: Session, arguments: Arguments) -> int:
    """Return a container to a snapshot."""
    Snapshots(session.engine).rollback(*arguments.words)
    session.print(arguments.words[0])
    return 0
