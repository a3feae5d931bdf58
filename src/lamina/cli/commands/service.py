"""registry serve and system service: other programs of Lamina, started by exec."""

from __future__ import annotations

import os
import sys

from lamina.cli.autostart import program
from lamina.cli.flags import Arguments, UsageError
from lamina.cli.session import Session

TABLE = {
    "registry serve": (
        0,
        0,
        True,
        "",
        """\
- listen string|Address to listen on; port 0 takes a free one (default "127.0.0.1:5000")
- root string|Directory of the storage (default "/var/lib/lamina-registry")
- users string|File of name:hash lines; without it everybody may push
- tls-cert string|Certificate chain in PEM
- tls-key string|Private key in PEM
- read-only bool|Refuse everything but reading
- no-delete bool|Refuse to delete
""",
    ),
    "registry gc": (
        0,
        0,
        True,
        "",
        """\
- root string|Directory of the storage (default "/var/lib/lamina-registry")
- older-than int|Spare what is younger, in seconds (default 3600)
""",
    ),
    "registry passwd": (
        1,
        1,
        True,
        "NAME",
        """\
- users string|File of users, created where there is none
- password-stdin bool|Read the password from the first line of stdin
""",
    ),
    "system service install": (0, -1, True, "[-- LAMINAD_OPTION...]", ""),
    "system service uninstall": (0, 0, True, "", ""),
    "system service print": (0, -1, True, "[-- LAMINAD_OPTION...]", ""),
}

_STORAGE = "/var/lib/lamina-registry"


def _become(module: str, words: list[str]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    command = [*program(module), *words]
    os.execv(command[0], command)


def _flags(arguments: Arguments, texts: tuple[str, ...], switches: tuple[str, ...] = ()) -> list[str]:
    words = [word for name in texts if arguments.given(name) for word in (f"--{name}", arguments.text(name))]
    return words + [f"--{name}" for name in switches if arguments.on(name)]


def registry_serve(_session: Session, arguments: Arguments) -> int:
    """Serve a registry in the foreground."""
    words = _flags(arguments, ("listen", "users", "tls-cert", "tls-key"), ("read-only", "no-delete"))
    return _become("lamina.registry.__main__", ["serve", "--root", arguments.text("root", _STORAGE), *words])


def registry_gc(_session: Session, arguments: Arguments) -> int:
    """Remove what no manifest needs."""
    return _become("lamina.registry.__main__", ["gc", "--root", arguments.text("root", _STORAGE), *_flags(arguments, ("older-than",))])


def registry_passwd(_session: Session, arguments: Arguments) -> int:
    """Set a user's password."""
    if not arguments.given("users"):
        raise UsageError("--users is required: the file of users that the registry reads")
    return _become("lamina.registry.__main__", ["passwd", *_flags(arguments, ("users",), ("password-stdin",)), *arguments.words])


def system_service_install(_session: Session, arguments: Arguments) -> int:
    """Write the unit and start it."""
    return _become("lamina.daemon.service", ["install", *arguments.words])


def system_service_uninstall(_session: Session, _arguments: Arguments) -> int:
    """Remove the unit."""
    return _become("lamina.daemon.service", ["uninstall"])


def system_service_print(_session: Session, arguments: Arguments) -> int:
    """Print the unit."""
    return _become("lamina.daemon.service", ["print", *arguments.words])
