"""volume ls, create, rm and prune; and network ls, whose list is printed in the same way."""

from __future__ import annotations

from lamina.cli.ages import precise
from lamina.cli.flags import Arguments, UsageError
from lamina.cli.output import filters, form_of, labelled, print_raw, print_rows
from lamina.cli.prompt import agreed
from lamina.cli.session import Session
from lamina.cli.units import human_size
from lamina.client.system import System

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from lamina.cli.output import Row

TABLE = {
    "volume ls": (
        0,
        0,
        True,
        "",
        """\
- cluster bool|Display only cluster volumes, and use cluster volume list formatting
f filter filter|Provide filter values (e.g. "dangling=true")
- format string|Format output as "table", "json" or by a Go template
q quiet bool|Only display volume names
""",
    ),
    "volume create": (
        0,
        1,
        True,
        "[VOLUME]",
        """\
- availability string|Cluster Volume availability ("active", "pause", "drain") (default "active")
d driver string|Specify volume driver name (default "local")
- group string|Cluster Volume group (cluster volumes)
- label list|Set metadata for a volume
- limit-bytes bytes|Minimum size of the Cluster Volume in bytes
o opt map|Set driver specific options
- required-bytes bytes|Maximum size of the Cluster Volume in bytes
- scope string|Cluster Volume access scope ("single", "multi") (default "single")
- secret map|Cluster Volume secrets
- sharing string|Cluster Volume access sharing ("none", "readonly", "onewriter", "all") (default "none")
- topology-preferred list|A topology that the Cluster Volume would be preferred in
- topology-required list|A topology that the Cluster Volume must be accessible from
- type string|Cluster Volume access type ("mount", "block") (default "block")
""",
    ),
    "volume rm": (
        1,
        -1,
        True,
        "VOLUME [VOLUME...]",
        """\
f force bool|Force the removal of one or more volumes
""",
    ),
    "volume prune": (
        0,
        0,
        True,
        "",
        """\
a all bool|Remove all unused volumes, not just anonymous ones
- filter filter|Provide filter values (e.g. "label=<label>")
f force bool|Do not prompt for confirmation
""",
    ),
    "network ls": (
        0,
        0,
        True,
        "",
        """\
f filter filter|Provide filter values (e.g. "driver=bridge")
- format string|Format output as "table", "json" or by a Go template
- no-trunc bool|Do not truncate the output
q quiet bool|Only display network IDs
""",
    ),
}

_VOLUME_HEADERS = {"Name": "VOLUME NAME"}
_CLUSTER = (
    "availability",
    "group",
    "limit-bytes",
    "required-bytes",
    "scope",
    "secret",
    "sharing",
    "topology-preferred",
    "topology-required",
    "type",
)
"""What only volumes of a cluster have."""
_NETWORK_HEADERS = {"ID": "NETWORK ID"}


def _words(value: object) -> str:
    return ",".join(f"{key}={text}" for key, text in sorted(value.items())) if isinstance(value, dict) else ""


def _print(session: Session, arguments: Arguments, rows: list[Row], key: str, columns: list[str], headers: dict[str, str]) -> int:
    form = form_of(session, arguments, "volumes" if key == "Name" else "networks")
    if form == "raw":
        lines = "name=Name driver=Driver" if key == "Name" else "network_id=ID name=Name driver=Driver scope=Scope"
        return print_raw(session, rows, lines.split()[0] if arguments.on("quiet") else lines)
    if arguments.on("quiet") and form in ("", "table"):
        for row in rows:
            session.print(str(row[key]))
        return 0
    print_rows(session, form, rows, columns, headers)
    return 0


def volume_row(fact: dict[str, object]) -> Row:
    """A volume of the API's as a row with all fields."""
    usage = fact.get("UsageData")
    size, links = (usage.get("Size"), usage.get("RefCount")) if isinstance(usage, dict) else (None, None)
    row = {name: fact.get(name, "") for name in ("Name", "Driver", "Scope", "Mountpoint")}
    row |= {"Size": human_size(size, 4) if isinstance(size, int) else "N/A", "Links": "N/A" if links is None else str(links)}
    row |= {"Labels": _words(fact.get("Labels")), **dict.fromkeys(("Availability", "Group", "Status"), "N/A")}
    return labelled(row, fact.get("Labels"))


def volume_ls(session: Session, arguments: Arguments) -> int:
    """List volumes."""
    found = System(session.engine).volumes(filters(arguments.many("filter")))
    rows = [volume_row(fact) for fact in sorted(found, key=lambda fact: str(fact.get("Name")))]
    return _print(session, arguments, rows, "Name", ["Driver", "Name"], _VOLUME_HEADERS)


def volume_create(session: Session, arguments: Arguments) -> int:
    """Create a volume."""
    if arguments.words and arguments.given("name"):
        raise UsageError("conflicting options: cannot specify a volume name through both --name and as a positional arg")
    pairs = {
        key: dict(word.partition("=")[::2] for word in arguments.many(name)) for key, name in (("DriverOpts", "opt"), ("Labels", "label"))
    }
    options: dict[str, object] = {
        "Name": arguments.words[0] if arguments.words else arguments.text("name"),
        "Driver": arguments.text("driver", "local"),
    }
    if any(arguments.given(name) for name in _CLUSTER):
        options["ClusterVolumeSpec"] = {}  # the engine, which is in no cluster, refuses it
    session.print(System(session.engine).create_volume({**options, **pairs}))
    return 0


def volume_rm(session: Session, arguments: Arguments) -> int:
    """Remove volumes."""
    system, force = System(session.engine), arguments.on("force")
    return session.each(arguments.words, lambda name: system.remove_volume(name, force=force))


def volume_prune(session: Session, arguments: Arguments) -> int:
    """Remove volumes that no container uses."""
    every = arguments.on("all")
    what = "local volumes" if every else "anonymous local volumes"
    pairs = filters([*arguments.many("filter"), *(["all=true"] if every else [])])
    if not arguments.on("force") and not agreed(f"WARNING! This will remove {what} not used by at least one container."):
        return 0
    found = System(session.engine).prune("volumes", pairs)
    removed, freed = found.get("VolumesDeleted"), found.get("SpaceReclaimed")
    if isinstance(removed, list) and removed:
        session.print("\n".join(["Deleted Volumes:", *map(str, removed), ""]))
    session.print(f"Total reclaimed space: {human_size(freed if isinstance(freed, int) else 0, 4)}")
    return 0


def network_ls(session: Session, arguments: Arguments) -> int:
    """List networks."""
    whole = arguments.on("no-trunc")
    rows: list[Row] = []
    for fact in sorted(System(session.engine).networks(filters(arguments.many("filter"))), key=lambda fact: str(fact.get("Name"))):
        row = {name: fact.get(name, "") for name in ("Name", "Driver", "Scope")}
        on = {"IPv4": fact.get("EnableIPv4", True), "IPv6": fact.get("EnableIPv6"), "Internal": fact.get("Internal")}
        row |= {name: str(bool(value)).lower() for name, value in on.items()}
        row |= {"ID": str(fact.get("Id", ""))[: None if whole else 12], "Labels": _words(fact.get("Labels"))}
        row["CreatedAt"] = precise(str(fact.get("Created", "")))
        rows.append(labelled(row, fact.get("Labels")))
    return _print(session, arguments, rows, "ID", ["ID", "Name", "Driver", "Scope"], _NETWORK_HEADERS)
