"""`lamina ps`."""

from __future__ import annotations

from lamina.cli.ages import age, local
from lamina.cli.flags import Arguments
from lamina.cli.output import filters, print_rows
from lamina.cli.session import Session
from lamina.cli.units import human_size
from lamina.client.containers import Containers

_HEADERS = {
    "ID": "CONTAINER ID",
    "RunningFor": "CREATED",
    "CreatedAt": "CREATED AT",
    "LocalVolumes": "LOCAL VOLUMES",
}
_COLUMNS = ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"]


def ps(session: Session, arguments: Arguments) -> int:
    """List containers."""
    form, last = arguments.text("format"), arguments.number("last", -1)
    last = 1 if arguments.on("latest") else last
    size = arguments.on("size") or (".Size" in form and not arguments.on("quiet"))
    pairs = [("all", "1")] if arguments.on("all") or last > 0 else []
    pairs += [("limit", str(last))] if last > 0 else []
    pairs += [("size", "1")] if size else []
    found = Containers(session.engine).list(pairs + filters(arguments.many("filter")))
    whole = arguments.on("no-trunc")
    rows = [_row(fact, whole=whole) for fact in found]
    if arguments.on("quiet"):
        for row in rows:
            session.print(str(row["ID"]))
        return 0
    print_rows(session, form, rows, [*_COLUMNS, "Size"] if size else _COLUMNS, _HEADERS)
    return 0


def _row(fact: dict[str, object], *, whole: bool) -> dict[str, object]:
    labels, names = _mapping(fact.get("Labels")), fact.get("Names")
    command = str(fact.get("Command", ""))
    mounts = [mount for mount in _list(fact.get("Mounts")) if isinstance(mount, dict)]
    return {
        "ID": str(fact.get("Id", ""))[: None if whole else 12],
        "Image": _image(str(fact.get("Image", "")), str(fact.get("ImageID", "")), whole=whole) or "<no image>",
        "Command": f'"{command if whole else _shorter(command, 20)}"',
        "CreatedAt": local(fact.get("Created")),
        "RunningFor": age(fact.get("Created")),
        "Status": fact.get("Status", ""),
        "State": fact.get("State", ""),
        "Ports": ports(_list(fact.get("Ports"))),
        "Names": ",".join(name.lstrip("/") for name in map(str, _list(names)) if "/" not in name[1:]),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        "Mounts": ",".join(_shorter(str(mount.get("Name") or mount.get("Source", "")), 15) for mount in mounts),
        "Networks": ",".join(sorted(_mapping(_mapping(fact.get("NetworkSettings")).get("Networks")))),
        "LocalVolumes": str(sum(mount.get("Driver") == "local" for mount in mounts)),
        "Size": _size(fact),
        "Platform": "",
    }


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


def _shorter(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def ports(found: list[object]) -> str:
    """`0.0.0.0:80->80/tcp, 443/tcp`."""
    rows = []
    for port in found:
        fact = _mapping(port)
        inside = f"{fact.get('PrivatePort')}/{fact.get('Type', 'tcp')}"
        address = str(fact.get("IP") or "")
        address = f"[{address}]" if ":" in address else address
        rows.append(f"{address}:{fact['PublicPort']}->{inside}" if fact.get("PublicPort") else inside)
    return ", ".join(sorted(set(rows)))
