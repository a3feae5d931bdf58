"""`lamina ps`."""

from __future__ import annotations

from lamina.cli.ages import age, local
from lamina.cli.flags import Arguments
from lamina.cli.output import filters, form_of, labelled, print_raw, print_rows
from lamina.cli.session import Session
from lamina.cli.table import cut, quoted
from lamina.cli.units import human_size
from lamina.client.containers import Containers

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from typing import Protocol

    Fact = dict[str, object]

    class Field(Protocol):
        """Puts one field of a container into words."""

        def __call__(self, fact: Fact, *, whole: bool) -> object: ...


TABLE = {
    "ps": (
        0,
        0,
        True,
        "",
        """\
a all bool|Show all containers (default shows just running)
f filter filter|Filter output based on conditions provided
- format string|Format output as "table", "json" or by a Go template
n last int|Show n last created containers (includes all states) (default -1)
l latest bool|Show the latest created container (includes all states)
- no-trunc bool|Don't truncate output
q quiet bool|Only display container IDs
s size bool|Display total file sizes
""",
    ),
}


_HEADERS = {
    "ID": "CONTAINER ID",
    "RunningFor": "CREATED",
    "CreatedAt": "CREATED AT",
    "LocalVolumes": "LOCAL VOLUMES",
}
_COLUMNS = ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"]
_RAW = "container_id=ID image=Image command=Command created_at=CreatedAt state=State status=Status names=Names labels=Labels ports=Ports"


def ps(session: Session, arguments: Arguments) -> int:
    """List containers."""
    form, last = form_of(session, arguments, "ps"), arguments.number("last", -1)
    last = 1 if arguments.on("latest") else last
    asked = ".Size" in form or "{{json .}}" in form
    size = arguments.on("size") or (asked and not arguments.on("quiet"))
    pairs = [("all", "1")] if arguments.on("all") or last > 0 else []
    pairs += [("limit", str(last))] if last > 0 else []
    pairs += [("size", "1")] if size else []
    whole, tabular = arguments.on("no-trunc"), form in ("", "table")
    # what a container has of networks is most of what is said of it, and no column of the table
    pairs += [("networks", "0")] if tabular or arguments.on("quiet") else []
    found = Containers(session.engine).list(pairs + filters(arguments.many("filter")))
    if arguments.on("quiet") and form != "raw":
        for fact in found:
            session.print(str(_id(fact, whole=whole)))
        return 0
    columns = [*_COLUMNS, "Size"] if size else _COLUMNS
    # of thousands of containers only what is shown is put into words; a template may ask for anything
    fields = [(name, _FIELDS[name]) for name in (columns if tabular else _FIELDS)]
    rows: list[dict[str, object]] = [{name: field(fact, whole=whole) for name, field in fields} for fact in found]
    if form == "raw":
        return print_raw(session, rows, "container_id=ID" if arguments.on("quiet") else _RAW + (" size=Size" if size else ""))
    shown = rows if tabular else [labelled(row, fact.get("Labels")) for row, fact in zip(rows, found, strict=True)]
    print_rows(session, form, shown, columns, _HEADERS, tuple(_FIELDS))
    return 0


def _id(fact: Fact, *, whole: bool) -> object:
    return str(fact.get("Id", ""))[: None if whole else 12]


def _image_shown(fact: Fact, *, whole: bool) -> object:
    return _image(str(fact.get("Image", "")), str(fact.get("ImageID", "")), whole=whole) or "<no image>"


def _command(fact: Fact, *, whole: bool) -> object:
    command = str(fact.get("Command", ""))
    return quoted(command if whole else cut(command, 20))


def _names(fact: Fact, *, whole: bool) -> object:
    del whole
    return ",".join(name.lstrip("/") for name in map(str, _list(fact.get("Names"))) if "/" not in name[1:])


def _labels(fact: Fact, *, whole: bool) -> object:
    del whole
    return ",".join(f"{key}={value}" for key, value in sorted(_mapping(fact.get("Labels")).items()))


def _mounted(fact: Fact) -> list[dict[str, object]]:
    return [mount for mount in _list(fact.get("Mounts")) if isinstance(mount, dict)]


def _mounts(fact: Fact, *, whole: bool) -> object:
    del whole
    return ",".join(cut(str(mount.get("Name") or mount.get("Source", "")), 15) for mount in _mounted(fact))


def _networks(fact: Fact, *, whole: bool) -> object:
    del whole
    return ",".join(sorted(_mapping(_mapping(fact.get("NetworkSettings")).get("Networks"))))


_FIELDS: dict[str, Field] = {
    "ID": _id,
    "Image": _image_shown,
    "Command": _command,
    "CreatedAt": lambda fact, whole: local(fact.get("Created")),
    "RunningFor": lambda fact, whole: age(fact.get("Created")),
    "Status": lambda fact, whole: fact.get("Status", ""),
    "State": lambda fact, whole: fact.get("State", ""),
    "Ports": lambda fact, whole: ports(_list(fact.get("Ports"))),
    "Names": _names,
    "Labels": _labels,
    "Mounts": _mounts,
    "Networks": _networks,
    "LocalVolumes": lambda fact, whole: str(sum(mount.get("Driver") == "local" for mount in _mounted(fact))),
    "Size": lambda fact, whole: _size(fact),
    "Platform": lambda fact, whole: None,  # what listings do not say is null to docker, too
}
"""What a row has, in Docker's names; `whole` is --no-trunc."""


def _size(fact: dict[str, object]) -> str:
    own, root = fact.get("SizeRw") or 0, fact.get("SizeRootFs") or 0
    text = human_size(own) if isinstance(own, int) else "0B"
    return f"{text} (virtual {human_size(root)})" if isinstance(root, int) and root > 0 else text


def _image(name: str, image_id: str, *, whole: bool) -> str:
    if whole or not name:
        return name
    if name == image_id or name.startswith("sha256:"):
        return name.removeprefix("sha256:")[:12]
    return name.split("@")[0] or name


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def ports(found: list[object]) -> str:
    """`0.0.0.0:80->80/tcp, 443/tcp`."""
    if not found:
        return ""
    rows = []
    for port in found:
        fact = _mapping(port)
        inside = f"{fact.get('PrivatePort')}/{fact.get('Type', 'tcp')}"
        address = str(fact.get("IP") or "")
        address = f"[{address}]" if ":" in address else address
        rows.append(f"{address}:{fact['PublicPort']}->{inside}" if fact.get("PublicPort") else inside)
    return ", ".join(sorted(set(rows)))


def container_row(fact: Fact, *, whole: bool) -> dict[str, object]:
    """A container of the API's as a row with all fields."""
    return {name: field(fact, whole=whole) for name, field in _FIELDS.items()}
