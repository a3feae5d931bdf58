"""`python -m lamina.registry`: serve, gc, passwd."""

from __future__ import annotations

import argparse
import getpass
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from lamina.errors import InvalidArgument, LaminaError
from lamina.registry.access import hashed
from lamina.registry.filesystem import FileStorage
from lamina.registry.server import ServeOptions, serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. Without a command's name it is `serve`."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] not in ("serve", "gc", "passwd", "-h", "--help"):
        words.insert(0, "serve")
    options = _parser().parse_args(words)
    try:
        run = {"serve": _serve, "gc": _collect, "passwd": _passwd}[options.command]
        return run(options)
    except LaminaError as error:
        print(f"lamina registry: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        print(f"lamina registry: {name}{(error.strerror or str(error)).lower()}", file=sys.stderr)
        return 1


def _serve(options: argparse.Namespace) -> int:
    settings = ServeOptions(
        options.root,
        options.listen,
        options.users,
        options.tls_cert,
        options.tls_key,
        read_only=options.read_only,
        delete=not options.no_delete,
    )
    serve(settings, ready=lambda host, port: print(f"registry listens on {host}:{port}, storage {options.root}", flush=True))
    return 0


def _collect(options: argparse.Namespace) -> int:
    if not Path(options.root, "repositories").is_dir():
        raise InvalidArgument(f"{options.root} holds no registry")
    if options.older_than < 0:
        raise InvalidArgument(f"invalid age {options.older_than:g}: it is seconds, not negative")
    swept = FileStorage(options.root).sweep(older_than=options.older_than)
    print(f"removed {swept.blobs} blobs and {swept.uploads} uploads, {swept.freed} bytes")
    return 0


def _passwd(options: argparse.Namespace) -> int:
    if not options.name or not options.name.isprintable() or ":" in options.name:
        raise InvalidArgument(f"invalid user name {options.name!r}: it is neither empty nor holds a colon")
    if not options.password_stdin and not sys.stdin.isatty():
        raise InvalidArgument("standard input is not a terminal to ask for the password", hint="--password-stdin reads it from there")
    try:
        password = sys.stdin.readline().rstrip("\n") if options.password_stdin else getpass.getpass()
    except EOFError:
        raise InvalidArgument("no password was given", hint="--password-stdin reads it from standard input") from None
    if not password:
        raise InvalidArgument("the password is empty")
    line = f"{options.name}:{hashed(password)}\n"
    path = Path(options.users)
    kept = [old for old in path.read_text().splitlines(keepends=True) if not old.startswith(f"{options.name}:")] if path.exists() else []
    path.touch(mode=0o600)
    _replace(path.resolve(), "".join((*kept, line)))
    return 0


def _replace(path: Path, text: str) -> None:
    """Make a file that is there hold `text`: whoever reads it meanwhile, or after a crash, sees all of it or what was there."""
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            status = path.stat()
            os.fchown(file.fileno(), status.st_uid, status.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(status.st_mode))
            file.write(text)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lamina registry", description="A registry of the OCI distribution specification.")
    commands = parser.add_subparsers(dest="command", required=True)
    server = commands.add_parser("serve", help="serve until SIGTERM")
    server.add_argument("--root", required=True, help="directory of the storage, created where there is none")
    server.add_argument("--listen", default="127.0.0.1:5000", metavar="HOST:PORT", help="address; port 0 takes a free one")
    server.add_argument("--users", default="", metavar="FILE", help="name:hash lines (see passwd); without it everybody may push")
    server.add_argument("--tls-cert", default="", metavar="FILE", help="certificate chain in PEM")
    server.add_argument("--tls-key", default="", metavar="FILE", help="its key in PEM")
    server.add_argument("--read-only", action="store_true", help="refuse everything but reading")
    server.add_argument("--no-delete", action="store_true", help="refuse to delete")
    collector = commands.add_parser("gc", help="remove blobs that no manifest needs")
    collector.add_argument("--root", required=True, help="directory of the storage")
    collector.add_argument("--older-than", type=float, default=3600.0, metavar="SECONDS", help="spare what is younger (3600)")
    passwd = commands.add_parser("passwd", help="set a user's password")
    passwd.add_argument("--users", required=True, metavar="FILE", help="file of users, created where there is none")
    passwd.add_argument("--password-stdin", action="store_true", help="read the password from the first line of stdin")
    passwd.add_argument("name")
    return parser


if __name__ == "__main__":
    sys.exit(main())
