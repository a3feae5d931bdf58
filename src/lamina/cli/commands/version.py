"""`lamina version`."""

from __future__ import annotations

from lamina import __version__
from lamina.cli.flags import Arguments
from lamina.cli.session import Session
from lamina.client.system import System
from lamina.client.transport import EngineUnreachable

TABLE = {
    "version": (
        0,
        0,
        True,
        "",
        """\
f format string|Format output as "json" or by a Go template
""",
    ),
}


def version(session: Session, arguments: Arguments) -> int:
    """Print the versions of client and engine."""
    client = {"Version": __version__, "ApiVersion": "1.51", "Os": "linux"}
    unreachable = None
    server: dict[str, object] = {}
    try:
        server = System(session.engine).version()
    except EngineUnreachable as error:
        unreachable = error
    if arguments.text("format"):
        from lamina.cli.leftout import ENGINE, typed
        from lamina.cli.output import show

        show(session, arguments.text("format"), {"Client": client, "Server": typed(server, ENGINE) if server else None})
    else:
        session.print(f"Client: Lamina\n Version:           {__version__}\n API version:       {client['ApiVersion']}")
        if server:
            session.print(_server(server))
    if unreachable:
        raise unreachable
    return 0


def _server(facts: dict[str, object]) -> str:
    platform = facts.get("Platform")
    name = platform.get("Name") if isinstance(platform, dict) else ""
    rows = [
        ("Version", facts.get("Version", "")),
        ("API version", f"{facts.get('ApiVersion', '')} (minimum version {facts.get('MinAPIVersion', '')})"),
        ("Git commit", facts.get("GitCommit", "")),
        ("Built", facts.get("BuildTime", "")),
        ("OS/Arch", f"{facts.get('Os', '')}/{facts.get('Arch', '')}"),
        ("Kernel", facts.get("KernelVersion", "")),
    ]
    return "\n".join([f"\nServer: {name or 'Engine'}", *(f" {key + ':':<18} {value}" for key, value in rows if value)])
