"""stop, kill, restart, pause, unpause, rename, wait, rm, top, port and container prune."""

from __future__ import annotations

from lamina.cli.flags import Arguments
from lamina.cli.output import filters
from lamina.cli.prompt import agreed
from lamina.cli.session import Session
from lamina.cli.table import aligned, printable
from lamina.cli.units import human_size
from lamina.client.containers import Containers, Pairs
from lamina.errors import LaminaError, NotFound, NotModified

TABLE = {
    "stop": (
        1,
        -1,
        True,
        "CONTAINER [CONTAINER...]",
        """\
s signal string|Signal to send to the container
t timeout int|Seconds to wait before killing the container
""",
    ),
    "kill": (
        1,
        -1,
        True,
        "CONTAINER [CONTAINER...]",
        """\
s signal string|Signal to send to the container
""",
    ),
    "restart": (
        1,
        -1,
        True,
        "CONTAINER [CONTAINER...]",
        """\
s signal string|Signal to send to the container
t timeout int|Seconds to wait before killing the container
""",
    ),
    "pause": (1, -1, True, "CONTAINER [CONTAINER...]", ""),
    "unpause": (1, -1, True, "CONTAINER [CONTAINER...]", ""),
    "rename": (2, 2, True, "CONTAINER NEW_NAME", ""),
    "wait": (1, -1, True, "CONTAINER [CONTAINER...]", ""),
    "rm": (
        1,
        -1,
        True,
        "CONTAINER [CONTAINER...]",
        """\
f force bool|Force the removal of a running container (uses SIGKILL)
l link bool|Remove the specified link
v volumes bool|Remove anonymous volumes associated with the container
""",
    ),
    "top": (1, -1, False, "CONTAINER [ps OPTIONS]", ""),
    "port": (1, 2, True, "CONTAINER [PRIVATE_PORT[/PROTO]]", ""),
    "container prune": (
        0,
        0,
        True,
        "",
        """\
- filter filter|Provide filter values (e.g. "until=<timestamp>")
f force bool|Do not prompt for confirmation
""",
    ),
}


def _stopping(arguments: Arguments) -> Pairs:
    seconds = arguments.text("timeout") or arguments.text("time")
    pairs = [("t", seconds)] if seconds else []
    return pairs + ([("signal", arguments.text("signal"))] if arguments.given("signal") else [])


def _act(session: Session, arguments: Arguments, action: str, pairs: Pairs) -> int:
    containers = Containers(session.engine)

    def one(name: str) -> None:
        try:
            containers.act(name, action, pairs)
        except NotModified:
            pass  # it is already so, which is what was asked for

    return session.each(arguments.words, one)


def stop(session: Session, arguments: Arguments) -> int:
    """Stop containers."""
    return _act(session, arguments, "stop", _stopping(arguments))


def restart(session: Session, arguments: Arguments) -> int:
    """Restart containers."""
    return _act(session, arguments, "restart", _stopping(arguments))


def kill(session: Session, arguments: Arguments) -> int:
    """Send containers a signal."""
    return _act(session, arguments, "kill", [("signal", arguments.text("signal"))] if arguments.given("signal") else [])


def pause(session: Session, arguments: Arguments) -> int:
    """Freeze containers."""
    return _act(session, arguments, "pause", [])


def unpause(session: Session, arguments: Arguments) -> int:
    """Let frozen containers go on."""
    return _act(session, arguments, "unpause", [])


def rename(session: Session, arguments: Arguments) -> int:
    """Give a container another name."""
    old, new = arguments.words
    Containers(session.engine).act(old, "rename", [("name", new)])
    return 0


def wait(session: Session, arguments: Arguments) -> int:
    """Wait until containers have stopped; prints their exit codes."""
    containers = Containers(session.engine)

    def one(name: str) -> None:
        answer = containers.waiting(name).json()
        session.print(str(answer.get("StatusCode") if isinstance(answer, dict) else ""))

    return session.each(arguments.words, one, echo=False)


def rm(session: Session, arguments: Arguments) -> int:
    """Remove containers."""
    containers, force = Containers(session.engine), arguments.on("force")
    pairs = [(key, "1") for key, name in (("v", "volumes"), ("link", "link"), ("force", "force")) if arguments.on(name)]

    def one(name: str) -> None:
        try:
            containers.remove(name.strip("/"), pairs)
        except NotFound:
            if not force:
                raise
            raise _Absent(f"No such container: {name}") from None

    code = 0
    for name in arguments.words:
        # with --force an absent container is told of, but no failure
        try:
            one(name)
        except _Absent as error:
            session.note(f"lamina: {error}")
        except LaminaError as error:
            session.note(f"lamina: {error}")
            code = 1
        else:
            session.print(name)
    return code


class _Absent(LaminaError):
    """There was nothing to remove."""


def top(session: Session, arguments: Arguments) -> int:
    """Show a container's processes."""
    name, *options = arguments.words
    found = Containers(session.engine).get(name, "top", [("ps_args", " ".join(options))] if options else [])
    if isinstance(found, dict):
        for line in aligned([found.get("Titles") or [], *(found.get("Processes") or [])], least=20):
            session.print(printable(line))
    return 0


def port(session: Session, arguments: Arguments) -> int:
    """Show a container's published ports."""
    facts = Containers(session.engine).inspect(arguments.words[0])
    settings = facts.get("NetworkSettings")
    published = settings.get("Ports") if isinstance(settings, dict) else {}
    wanted = arguments.words[1] if len(arguments.words) > 1 else ""
    wanted = wanted if "/" in wanted or not wanted else f"{wanted}/tcp"
    rows = []
    for inside, bindings in sorted((published or {}).items()):
        for binding in bindings or []:
            address = f"[{binding['HostIp']}]" if ":" in binding["HostIp"] else binding["HostIp"]
            rows.append((inside, f"{address}:{binding['HostPort']}"))
    if wanted and wanted not in [inside for inside, _ in rows]:
        raise LaminaError(f"no public port {wanted!r} published for {arguments.words[0]}")
    for inside, outside in rows:
        if not wanted or wanted == inside:
            session.print(outside if wanted else f"{inside} -> {outside}")
    return 0


def container_prune(session: Session, arguments: Arguments) -> int:
    """Remove all stopped containers."""
    pairs = filters(arguments.many("filter"))
    if not arguments.on("force") and not agreed("WARNING! This will remove all stopped containers."):
        return 0
    found = Containers(session.engine).prune(pairs)
    removed, freed = found.get("ContainersDeleted"), found.get("SpaceReclaimed")
    if isinstance(removed, list) and removed:
        session.print("\n".join(["Deleted Containers:", *map(str, removed), ""]))
    session.print(f"Total reclaimed space: {human_size(freed if isinstance(freed, int) else 0, 4)}")
    return 0
