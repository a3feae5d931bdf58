"""system df and what gives space back: system prune, builder prune, image prune; each with --dry-run."""

from __future__ import annotations

from collections.abc import Callable

from lamina.cli.ages import age, parse_time, precise
from lamina.cli.commands.images import image_rows
from lamina.cli.commands.ps import container_row
from lamina.cli.commands.volumes import volume_row
from lamina.cli.flags import Arguments, read_value
from lamina.cli.output import filters, print_raw, print_rows, show
from lamina.cli.prompt import agreed
from lamina.cli.session import Session
from lamina.cli.units import human_size, parse_size
from lamina.client.system import System
from lamina.errors import LaminaError, NotFound, Unsupported

TABLE = {
    "image prune": (
        0,
        0,
        True,
        "",
        """\
a all bool|Remove all unused images, not just dangling ones
- dry-run bool|Only say what would be removed
- filter filter|Provide filter values (e.g. "until=<timestamp>")
f force bool|Do not prompt for confirmation
""",
    ),
    "builder prune": (
        0,
        0,
        True,
        "",
        """\
a all bool|Remove all unused build cache, not just dangling ones
- dry-run bool|Only say what would be removed
- filter filter|Provide filter values (e.g. "until=24h")
f force bool|Do not prompt for confirmation
- keep-storage bytes|Amount of disk space to keep for cache
""",
    ),
    "system df": (
        0,
        0,
        True,
        "",
        """\
- format string|Format output as "table", "json" or by a Go template
v verbose bool|Show detailed information on space usage
""",
    ),
    "system prune": (
        0,
        0,
        True,
        "",
        """\
a all bool|Remove all unused images not just dangling ones
- dry-run bool|Only say what would be removed
- filter filter|Provide filter values (e.g. "label=<key>=<value>")
f force bool|Do not prompt for confirmation
- volumes bool|Prune anonymous volumes
""",
    ),
}

Item = dict[str, object]
_CACHE_HEADERS = {
    "ID": "CACHE ID",
    "CacheType": "CACHE TYPE",
    "CreatedSince": "CREATED",
    "LastUsedSince": "LAST USED",
    "UsageCount": "USAGE",
}
_IMAGE_HEADERS = {"ID": "IMAGE ID", "CreatedSince": "CREATED", "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE"}
_CONTAINER_HEADERS = {"ID": "CONTAINER ID", "LocalVolumes": "LOCAL VOLUMES", "RunningFor": "CREATED"}


def system_df(session: Session, arguments: Arguments) -> int:
    """Show disk use."""
    system = System(session.engine)
    facts = system.df()
    if arguments.on("verbose"):
        _details(session, facts, arguments.text("format"))
        return 0
    images = _usage("Images", facts, "Images", _image_in_use, size=_number(facts.get("LayersSize")))
    rows = [
        images | _exactly(system, images),
        _usage("Containers", facts, "Containers", _running),
        _usage("Local Volumes", facts, "Volumes", _referenced),
        _usage("Build Cache", facts, "BuildCache", lambda item: bool(item.get("InUse")), unshared=True),
    ]
    if arguments.text("format") == "raw":
        return print_raw(session, rows, "type=Type total=TotalCount active=Active size=Size reclaimable=Reclaimable")
    print_rows(
        session,
        arguments.text("format"),
        [{key: row[key] for key in row if key != "Bytes"} for row in rows],
        ["Type", "TotalCount", "Active", "Size", "Reclaimable"],
        {"TotalCount": "TOTAL"},
        ["Type", "TotalCount", "Active", "Size", "Reclaimable"],
    )
    return 0


def _usage(title: str, facts: Item, key: str, active: Callable[[Item], bool], *, size: int = 0, unshared: bool = False) -> Item:
    items = [item for item in _items(facts, key) if not (unshared and item.get("Shared"))]
    whole = size or sum(_size(item) for item in items)
    busy = sum(_size(item) - (_number(item.get("SharedSize")) if size else 0) for item in items if active(item))
    return {
        "Type": title,
        "TotalCount": str(len(_items(facts, key))),
        "Active": str(sum(map(active, _items(facts, key)))),
        "Size": human_size(whole, 4),
        "Reclaimable": _share(max(whole - busy, 0), whole, percent=key != "BuildCache"),
        "Bytes": whole,
    }


def _exactly(system: System, row: Item) -> Item:
    """What a prune of all images would free, from an engine that can tell; Docker's formula counts shared layers as free."""
    try:
        plan = system.plan_prune([("kind", "images"), ("all", "1")])
    except (NotFound, Unsupported):
        return {}
    return {"Reclaimable": _share(_number(plan.get("SpaceReclaimed")), _number(row["Bytes"]), percent=True)}


def _share(free: int, whole: int, *, percent: bool) -> str:
    return human_size(free, 4) + (f" ({100 * free // whole}%)" if percent and whole > 0 else "")


def _items(facts: Item, key: str) -> list[Item]:
    listed = facts.get(key)
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []


def _number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _size(item: Item) -> int:
    usage = item.get("UsageData")
    if isinstance(usage, dict):
        return _number(usage.get("Size"))
    return _number(item.get("SizeRw")) if "SizeRw" in item or "SizeRootFs" in item else _number(item.get("Size"))


def _image_in_use(item: Item) -> bool:
    return _number(item.get("Containers")) > 0


def _running(item: Item) -> bool:
    return item.get("State") in ("running", "paused", "restarting")


def _referenced(item: Item) -> bool:
    usage = item.get("UsageData")
    return isinstance(usage, dict) and _number(usage.get("RefCount")) > 0


def _details(session: Session, facts: Item, form: str) -> None:
    whole = bool(form)  # as docker's: only its own table is cut short
    images = [row for item in _items(facts, "Images") for row in _image_rows(item, whole=whole)]
    containers = [
        container_row(item, whole=whole) | {"Size": human_size(_number(item.get("SizeRw")))} for item in _items(facts, "Containers")
    ]
    volumes = [volume_row(item) for item in _items(facts, "Volumes")]
    cache: list[Item] = [_cache_row(item, whole=whole) for item in _items(facts, "BuildCache")]
    if form:
        show(session, form, {"Images": images, "Containers": containers, "Volumes": volumes, "BuildCache": cache})
        return
    session.print("Images space usage:\n")
    print_rows(
        session, "", images, ["Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"], _IMAGE_HEADERS
    )
    session.print("\nContainers space usage:\n")
    columns = ["ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"]
    print_rows(session, "", containers, columns, _CONTAINER_HEADERS)
    session.print("\nLocal Volumes space usage:\n")
    print_rows(session, "", volumes, ["Name", "Links", "Size"], {"Name": "VOLUME NAME"})
    total = sum(_size(item) for item in _items(facts, "BuildCache") if not item.get("Shared"))
    session.print(f"\nBuild cache usage: {human_size(total, 4)}\n")
    print_rows(session, "", cache, ["ID", "CacheType", "Size", "CreatedSince", "LastUsedSince", "UsageCount", "Shared"], _CACHE_HEADERS)


def _image_rows(item: Item, *, whole: bool) -> list[Item]:
    shared = _number(item.get("SharedSize"))
    sizes: Item = {"SharedSize": human_size(shared, 4), "UniqueSize": human_size(_size(item) - shared, 4)}
    return [row | sizes for row in image_rows(item, whole=whole, with_digests=False)]


def _cache_row(item: Item, *, whole: bool) -> Item:
    parents = item.get("Parents")
    made, used = str(item.get("CreatedAt") or ""), str(item.get("LastUsedAt") or "")
    return {
        "ID": str(item.get("ID", ""))[: None if whole else 12],
        "Parents": ",".join(map(str, parents)) if isinstance(parents, list) else "",
        "CacheType": str(item.get("Type", "")),
        "Description": str(item.get("Description", "")),
        "Size": human_size(_size(item), 3),
        "CreatedAt": precise(made),
        "CreatedSince": age(parse_time(made)),
        "LastUsedAt": precise(used),
        "LastUsedSince": age(parse_time(used)),
        "UsageCount": str(item.get("UsageCount", 0)),
        "InUse": str(bool(item.get("InUse"))).lower(),
        "Shared": str(bool(item.get("Shared"))).lower(),
    }


def image_prune(session: Session, arguments: Arguments) -> int:
    """Remove images that have no name, or with -a all that no container uses."""
    every, system = arguments.on("all"), System(session.engine)
    what = "images without at least one container associated to them" if every else "dangling images"
    own = filters([*arguments.many("filter"), f"dangling={'false' if every else 'true'}"])
    if arguments.on("dry-run"):
        return _told(session, system, [("kind", "images"), *own])
    if not arguments.on("force") and not agreed(f"WARNING! This will remove all {what}."):
        return 0
    return _total(session, _removed(session, system.prune("images", own)))


def system_prune(session: Session, arguments: Arguments) -> int:
    """Remove what is unused: stopped containers, networks, images, build cache, with --volumes volumes."""
    every, volumes, system = arguments.on("all"), arguments.on("volumes"), System(session.engine)
    if volumes and any(word.partition("=")[0].strip().lower() == "until" for word in arguments.many("filter")):
        raise LaminaError('the "until" filter is not supported with "--volumes"')  # told before anything is gone
    if arguments.on("dry-run"):
        kinds = ["containers", "networks", *(["volumes"] if volumes else []), "images", "build"]
        return _told(session, system, [("kind", kind) for kind in kinds] + filters(arguments.many("filter")) + _all(arguments))
    what = ["all stopped containers", "all networks not used by at least one container"]
    what += ["all anonymous volumes not used by at least one container"] if volumes else []
    what += ["all images without at least one container associated to them" if every else "all dangling images", "unused build cache"]
    warning = "WARNING! This will remove:\n" + "\n".join(f"  - {line}" for line in what) + "\n"
    words, freed = arguments.many("filter"), 0
    if not arguments.on("force") and not agreed(warning):
        return 0
    for kind in ("containers", "networks", *(["volumes"] if volumes else []), "images", "build"):
        own = [f"dangling={'false' if every else 'true'}"] if kind == "images" else []
        freed += _removed(session, system.prune(kind, filters([*words, *own]) + (_all(arguments) if kind == "build" else [])))
    return _total(session, freed)


def builder_prune(session: Session, arguments: Arguments) -> int:
    """Remove the build cache."""
    every, system = arguments.on("all"), System(session.engine)
    pairs = filters(arguments.many("filter")) + _all(arguments) + _kept(arguments)
    if arguments.on("dry-run"):
        return _told(session, system, [("kind", "build"), *pairs])
    if not arguments.on("force") and not agreed(f"WARNING! This will remove all {'' if every else 'dangling '}build cache."):
        return 0
    return _total(session, _removed(session, system.prune("build", pairs)))


def _kept(arguments: Arguments) -> list[tuple[str, str]]:
    name = "keep-storage"
    return [(name, str(read_value(name, arguments.text(name), parse_size)))] if arguments.given(name) else []


def _all(arguments: Arguments) -> list[tuple[str, str]]:
    return [("all", "1")] if arguments.on("all") else []


def _told(session: Session, system: System, pairs: list[tuple[str, str]]) -> int:
    """Say what would be removed; from a route that only Lamina has, so that no other engine takes it for an order."""
    freed = _removed(session, system.plan_prune(pairs), word="Would delete")
    session.print(f"Would reclaim: {human_size(freed, 4)}")
    return 0


def _total(session: Session, freed: int) -> int:
    session.print(f"Total reclaimed space: {human_size(freed, 4)}")
    return 0


_TITLES = {"CachesDeleted": "build cache objects", "ContainersDeleted": "Containers", "NetworksDeleted": "Networks"}


def _removed(session: Session, found: Item, word: str = "Deleted") -> int:
    for key, names in found.items():
        if isinstance(names, list) and names:
            session.print(f"{word} {_TITLES.get(key) or key.removesuffix('Deleted')}:")
            for name in names:
                session.print("\n".join(f"{kind.lower()}: {text}" for kind, text in name.items()) if isinstance(name, dict) else str(name))
            session.print("")
    return _number(found.get("SpaceReclaimed"))
