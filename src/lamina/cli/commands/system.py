"""info, events and inspect."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from lamina import __version__
from lamina.cli.commands.contents import moment
from lamina.cli.flags import Arguments
from lamina.cli.leftout import CONTAINER, IMAGE, INFO, NETWORK, VOLUME, typed, typed_event
from lamina.cli.output import filters, pretty, show
from lamina.cli.references import platform_json
from lamina.cli.session import Session
from lamina.client.containers import Containers
from lamina.client.images import Images
from lamina.client.system import System
from lamina.errors import LaminaError, NotFound

TABLE = {
    "inspect": (
        1,
        -1,
        True,
        "NAME|ID [NAME|ID...]",
        """\
f format string|Format output as "json" or by a Go template
s size bool|Display total file sizes if the type is container
- type string|Only inspect objects of the given type
""",
    ),
    "image inspect": (
        1,
        -1,
        True,
        "IMAGE [IMAGE...]",
        """\
f format string|Format output as "json" or by a Go template
- platform string|Inspect a specific platform of the multi-platform image.
""",
    ),
    "container inspect": (
        1,
        -1,
        True,
        "CONTAINER [CONTAINER...]",
        """\
f format string|Format output as "json" or by a Go template
s size bool|Display total file sizes
""",
    ),
    "info": (
        0,
        0,
        True,
        "",
        """\
f format string|Format output as "json" or by a Go template
""",
    ),
    "events": (
        0,
        0,
        True,
        "",
        """\
f filter filter|Filter output based on conditions provided
- format string|Format output as "json" or by a Go template
- since string|Show all events created since timestamp
- until string|Stream events until this timestamp
""",
    ),
    "system check": (
        0,
        0,
        True,
        "",
        """\
- format string|Format output as "json" or by a Go template
- repair bool|Restore what can be restored, and delete what belongs to nothing
""",
    ),
    "volume inspect": (
        1,
        -1,
        True,
        "VOLUME [VOLUME...]",
        """\
f format string|Format output as "json" or by a Go template
""",
    ),
    "network inspect": (
        1,
        -1,
        True,
        "NETWORK [NETWORK...]",
        """\
f format string|Format output as "json" or by a Go template
v verbose bool|Verbose output for diagnostics
""",
    ),
}


def info(session: Session, arguments: Arguments) -> int:
    """Show what the engine is, and what it stands on."""
    system = System(session.engine)
    facts = system.info()
    try:
        own = system.details()
    except LaminaError:
        own = {}  # an engine that is not Lamina
    if form := arguments.text("format"):
        show(session, form, typed({**facts, "Lamina": own, "ClientInfo": {"Version": __version__}}, INFO))
        return 0
    session.print(f"Client: Lamina\n Version:    {__version__}\n\nServer:")
    for line in _info_lines(facts, own):
        session.print(f" {line}")
    warnings = facts.get("Warnings")
    for warning in warnings if isinstance(warnings, list) else []:
        session.note(str(warning))
    return 0


def _info_lines(facts: dict[str, object], own: dict[str, object]) -> list[str]:
    lines = [f"Containers: {facts.get('Containers', 0)}"]
    lines += [
        f" {name.removeprefix('Containers')}: {facts.get(name, 0)}"
        for name in ("ContainersRunning", "ContainersPaused", "ContainersStopped")
    ]
    lines += [
        f"Images: {facts.get('Images', 0)}",
        f"Server Version: {facts.get('ServerVersion', '')}",
        f"Storage Driver: {facts.get('Driver', '')}",
    ]
    status = facts.get("DriverStatus")
    lines += [f" {row[0]}: {row[1]}" for row in status if len(row) == 2] if isinstance(status, list) else []
    if own.get("driver_reason") and not any(line.startswith(" Reason:") for line in lines):
        lines.append(f" Reason: {own['driver_reason']}")
    names = (
        ("LoggingDriver", "Logging Driver"),
        ("CgroupDriver", "Cgroup Driver"),
        ("CgroupVersion", "Cgroup Version"),
        ("DefaultRuntime", "Default Runtime"),
        ("KernelVersion", "Kernel Version"),
        ("OperatingSystem", "Operating System"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
        ("NCPU", "CPUs"),
    )
    lines += [f"{label}: {facts[name]}" for name, label in names if facts.get(name) not in (None, "")]
    memory = facts.get("MemTotal")
    if isinstance(memory, int):
        lines.append(f"Total Memory: {memory / (1 << 30):.4g}GiB")
    return lines + [
        f"{label}: {facts[name]}" for name, label in (("Name", "Name"), ("ID", "ID"), ("DockerRootDir", "Root Dir")) if facts.get(name)
    ]


def events(session: Session, arguments: Arguments) -> int:
    """Show what happens, as it happens."""
    pairs = [(key, moment(arguments.text(key))) for key in ("since", "until") if arguments.text(key)] + filters(arguments.many("filter"))
    form = arguments.text("format")
    for event in System(session.engine).events(pairs):
        if form:
            show(session, form, typed_event(event))
        else:
            session.print(_event(event))
        sys.stdout.flush()
    return 0


def _event(event: dict[str, object]) -> str:
    actor = event.get("Actor")
    actor = actor if isinstance(actor, dict) else {}
    attributes = actor.get("Attributes") or {}
    nanoseconds = event.get("timeNano")
    whole, rest = divmod(nanoseconds if isinstance(nanoseconds, int) else 0, 10**9)
    zone = time.strftime("%z", time.localtime(whole))
    when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(whole))}.{rest:09}{'Z' if zone == '+0000' else zone[:3] + ':' + zone[3:]}"
    words = ", ".join(f"{key}={value}" for key, value in sorted(attributes.items()))
    return f"{when} {event.get('Type')} {event.get('Action')} {actor.get('ID', '')}{f' ({words})' if words else ''}"


Look = Callable[[str], dict[str, object]]
_NO_TEMPLATE = 64


def _looks(session: Session, *, size: bool = False, platform: str = "") -> dict[str, Look]:
    containers, images, system = Containers(session.engine), Images(session.engine), System(session.engine)
    return {
        "container": lambda name: typed(containers.inspect(name, size=size), CONTAINER),
        "image": lambda name: typed(images.inspect(name, platform), IMAGE),
        "network": lambda name: typed(system.inspect("networks", name), NETWORK),
        "volume": lambda name: typed(system.inspect("volumes", name), VOLUME),
    }


def inspect(session: Session, arguments: Arguments) -> int:
    """Show everything known of containers, images, networks and volumes."""
    looks, kind = _looks(session, size=arguments.on("size")), arguments.text("type")
    if kind and kind not in looks:
        raise LaminaError(f"unknown type: {kind!r}: must be one of {', '.join(looks)}")
    return _inspect(session, arguments, [looks[kind]] if kind else list(looks.values()), kind or "object")


def container_inspect(session: Session, arguments: Arguments) -> int:
    """Show everything known of containers."""
    return _inspect(session, arguments, [_looks(session, size=arguments.on("size"))["container"]], "container")


def image_inspect(session: Session, arguments: Arguments) -> int:
    """Show everything known of images."""
    platform = platform_json(arguments.text("platform"))
    return _inspect(session, arguments, [_looks(session, platform=platform)["image"]], "image")


def volume_inspect(session: Session, arguments: Arguments) -> int:
    """Show everything known of volumes."""
    return _inspect(session, arguments, [_looks(session)["volume"]], "volume")


def network_inspect(session: Session, arguments: Arguments) -> int:
    """Show everything known of networks."""
    return _inspect(session, arguments, [_looks(session)["network"]], "network")


def _inspect(session: Session, arguments: Arguments, looks: list[Look], kind: str) -> int:
    form = arguments.text("format")
    if form not in ("", "json"):
        _check_template(form)
    found, failed = [], []
    for name in arguments.words:
        try:
            found.append(_first(looks, name, kind))
        except LaminaError as error:
            failed.append(error)
    if form in ("", "json"):
        session.print(pretty(found) if not form else _compact(found))
    else:
        for one in found:
            show(session, form, one)
    for failure in failed:
        session.note(f"lamina: {failure}")
    return 1 if failed else 0


def _check_template(form: str) -> None:
    """Before anything is asked, as docker's inspect does it, with its exit code."""
    from lamina.cli.template import Template, TemplateError

    try:
        Template(form)
    except TemplateError as error:
        error.exit_code = _NO_TEMPLATE
        raise


def _compact(value: object) -> str:
    import json

    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _first(looks: list[Look], name: str, kind: str) -> dict[str, object]:
    if len(looks) == 1:
        return looks[0](name)
    for look in looks:
        try:
            return look(name)
        except NotFound:
            continue
    raise NotFound(f"no such {kind}: {name}")


def system_check(session: Session, arguments: Arguments) -> int:
    """Look at every byte the engine keeps: a line for what is wrong. 0: all is sound now, 1: --repair would mend it, 2: bytes are lost."""
    repair, code, count = arguments.on("repair"), 0, 0
    form = arguments.text("format")
    for finding in System(session.engine).check(repair=repair):
        count += 1
        code = max(code, {"repaired": 0, "repairable": 1}.get(str(finding.get("state")), 2))
        if form:
            show(session, form, finding)
        else:
            session.print(str(finding.get("line", "")))
        sys.stdout.flush()
    if not count and not form:
        session.print("everything is sound")
    return code
