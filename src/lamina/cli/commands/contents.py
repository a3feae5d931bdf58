"""logs, diff, export, cp and commit: what containers hold."""

from __future__ import annotations

import base64
import calendar
import json
import os
import re
import time
from collections.abc import Iterable, Iterator

from lamina.cli.flags import Arguments
from lamina.cli.landing import land
from lamina.cli.packing import Packer, Piece, below
from lamina.cli.progress import metered
from lamina.cli.session import Session, is_terminal
from lamina.cli.streams import write_all
from lamina.cli.table import printable
from lamina.cli.terminal import moves
from lamina.cli.units import human_size, parse_duration
from lamina.cli.unpacking import Unpacking
from lamina.client.containers import Containers
from lamina.client.images import Images
from lamina.client.stdcopy import STDERR, split
from lamina.errors import InvalidArgument, LaminaError, NotFound

TABLE = {
    "cp": (
        2,
        2,
        True,
        "CONTAINER:SRC_PATH DEST_PATH|-\n        lamina cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
        """\
a archive bool|Archive mode (copy all uid/gid information)
L follow-link bool|Always follow symbol link in SRC_PATH
q quiet bool|Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached
""",
    ),
    "diff": (1, 1, True, "CONTAINER", ""),
    "export": (
        1,
        1,
        True,
        "CONTAINER",
        """\
o output string|Write to a file, instead of STDOUT
""",
    ),
    "commit": (
        1,
        2,
        True,
        "CONTAINER [REPOSITORY[:TAG]]",
        """\
a author string|Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
c change list|Apply Dockerfile instruction to the created image
m message string|Commit message
p pause bool|Pause container during commit (default true)
""",
    ),
    "logs": (
        1,
        1,
        True,
        "CONTAINER",
        """\
- details bool|Show extra details provided to logs
f follow bool|Follow log output
- since string|Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
n tail string|Number of lines to show from the end of the logs (default "all")
t timestamps bool|Show timestamps
- until string|Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
""",
    ),
}

_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9})\d*)?)?)?)?(Z|[+-]\d\d:\d\d)?\Z")
_SHOWN = 5
_KINDS = {0: "C", 1: "A", 2: "D"}


def moment(text: str) -> str:
    """A --since or --until as the API takes it: seconds since 1970, of such, of a duration before now, or of RFC 3339.

    As Docker's, the latter may end after the date, the hour, the minute or the second; without a zone it is local time.

    Raises:
        InvalidArgument: it is none of these.
    """
    if text.replace(".", "", 1).isdigit():
        return text
    if (found := _MOMENT.match(text)) is None:
        try:
            return f"{time.time() - parse_duration(text) / 1e9:.9f}"
        except InvalidArgument:
            raise InvalidArgument(f"invalid time: {text!r}", hint="write a duration before now (1h30m) or 2026-01-31T12:00:00Z") from None
    date, hour, minute, second, fraction, zone = found.groups()
    try:
        parts = time.strptime(f"{date} {hour or '00'}:{minute or '00'}:{second or '00'}", "%Y-%m-%d %H:%M:%S")
        seconds = calendar.timegm(parts) if zone else int(time.mktime(parts))
    except (ValueError, OverflowError):
        raise InvalidArgument(f"invalid time {text!r}", hint="write it like 2024-01-31T10:00:00Z") from None
    if zone and zone != "Z":
        seconds -= (1 if zone[0] == "+" else -1) * (int(zone[1:3]) * 3600 + int(zone[4:]) * 60)
    return f"{seconds}.{fraction}" if fraction else str(seconds)  # a float has no room for nanoseconds


def logs(session: Session, arguments: Arguments) -> int:
    """Show what a container wrote."""
    containers, name = Containers(session.engine), arguments.words[0]
    config = containers.inspect(name).get("Config")
    tty = isinstance(config, dict) and bool(config.get("Tty"))
    pairs = [("stdout", "1"), ("stderr", "1"), ("tail", arguments.text("tail", "all"))]
    pairs += [(key, "1") for key in ("follow", "timestamps", "details") if arguments.on(key)]
    pairs += [("restarts", "1")] if arguments.on("follow") else []
    pairs += [(key, moment(arguments.text(key))) for key in ("since", "until") if arguments.text(key)]
    for kind, piece in split(containers.logs(name, pairs), framed=not tty):
        write_all(2 if kind == STDERR else 1, piece)
    return 0


def diff(session: Session, arguments: Arguments) -> int:
    """Show the files a container changed."""
    found = Containers(session.engine).get(arguments.words[0], "changes")
    for change in found if isinstance(found, list) else []:
        session.print(f"{_KINDS.get(change.get('Kind'), '?')} {printable(str(change.get('Path')))}")
    return 0


def export(session: Session, arguments: Arguments) -> int:
    """Write a container's file system as a tar."""
    path = arguments.text("output")
    refuse_terminal(path)
    write_out(Containers(session.engine).stream(arguments.words[0], "export").pieces(1 << 20), path, "Exporting")
    return 0


def refuse_terminal(path: str) -> None:
    """No tar is written to a terminal."""
    if not path and is_terminal(1):
        raise LaminaError("cowardly refusing to save to a terminal", hint="use the -o flag or redirect")


def write_out(pieces: Iterable[bytes], path: str, label: str) -> None:
    """Write pieces to standard output, or to a file that appears when it is whole."""
    measured = (bytes(piece) for piece in metered(pieces, None, label))
    if not path:
        for piece in measured:
            _write(1, piece, "standard output")
        return
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb", buffering=0) as device:
            for piece in measured:
                _write(device.fileno(), piece, path)
        return
    temporary = f"{path}.partial-{os.getpid()}"
    try:
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None  # what the user wrote
        try:
            for piece in measured:
                _write(fd, piece, path)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _write(fd: int, piece: bytes, path: str) -> None:
    try:
        write_all(fd, piece)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


def commit(session: Session, arguments: Arguments) -> int:
    """Make an image of a container's changes."""
    from lamina.cli.references import split_name

    container = arguments.words[0]
    repository, tag = split_name(arguments.words[1]) if len(arguments.words) > 1 else ("", "")
    pairs = [
        ("container", container),
        ("repo", repository),
        ("tag", tag),
        ("author", arguments.text("author")),
        ("comment", arguments.text("message")),
    ]
    pairs += [("changes", change) for change in arguments.many("change")]
    pairs.append(("pause", "1" if arguments.on("pause", default=True) and not arguments.on("no-pause") else "0"))
    session.print(Images(session.engine).commit(pairs))
    return 0


def cp(session: Session, arguments: Arguments) -> int:
    """Copy files between a container and here."""
    source, target = arguments.words
    from_container, to_container = _place(source), _place(target)
    if from_container and to_container:
        raise InvalidArgument("copying between containers is not supported")
    copier = _Copier(session, arguments)
    if from_container:
        copier.out(*from_container, target)
    elif to_container:
        copier.into(source, *to_container)
    else:
        raise InvalidArgument("must specify at least one container source")
    return 0


def _place(text: str) -> tuple[str, str] | None:
    """Container and path of `NAME:PATH`; nothing for a path here."""
    if text.startswith(("/", ".")) or ":" not in text:
        return None
    name, _, path = text.partition(":")
    return name, path


class _Copier:
    def __init__(self, session: Session, arguments: Arguments) -> None:
        self._session, self._containers = session, Containers(session.engine)
        self._follow, self._archive = arguments.on("follow-link"), arguments.on("archive")
        self._quiet = arguments.on("quiet") or not moves(2)

    def out(self, name: str, path: str, target: str) -> None:
        """From the container: to a tar on standard output, or unpacked here."""
        if self._follow:
            path = self._resolved(name, path)
        pieces = self._containers.stream(name, "archive", [("path", path)]).pieces(1 << 20)
        if target == "-":
            for piece in pieces:
                write_all(1, piece)
            return
        only_content = path.endswith("/.") or path == "."
        base = os.path.basename(os.path.normpath(path)) if not only_content else ""
        size, left_out = land(Unpacking(pieces), base, target, only_content=only_content, keep_owner=self._archive)
        if left_out:
            more = f" and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
            self._session.note(f"Not copied, since they are devices: {', '.join(left_out[:_SHOWN])}{more}")
        self._done(size, target)

    def _resolved(self, name: str, path: str) -> str:
        stat = _stat(self._containers.stat(name, path))
        link = str(stat.get("linkTarget") or "")
        return os.path.normpath(os.path.join(os.path.dirname(path) or "/", link)) if link else path

    def into(self, source: str, name: str, path: str) -> None:
        """Into the container: a tar from standard input, or files from here."""
        directory, rename = self._destination(name, path, source)
        pairs = [("path", directory), ("noOverwriteDirNonDir", "true")] + ([("copyUIDGID", "true")] if self._archive else [])
        if source == "-":
            self._containers.put(name, pairs, _file_pieces(0))
            return
        if not os.path.lexists(source):
            raise NotFound(f"no such file or directory: {source}")
        counted = _Counted(_packed(source, rename, follow=self._follow))
        self._containers.put(name, pairs, counted)
        self._done(counted.size, f"{name}:{path}")

    def _destination(self, name: str, path: str, source: str) -> tuple[str, str]:
        """The directory to unpack in, and the name the source gets there (`.`: only its content)."""
        path = path if path.startswith("/") else f"/{path}"
        own = os.path.basename(os.path.abspath(source)) if source != "-" else ""
        content = source.endswith("/.") or source == "."
        stat = self._found(name, path)
        if not stat:
            self._containers.inspect(name)  # says so if it is the container that is missing
        if link := str(stat.get("linkTarget") or ""):
            path = os.path.normpath(os.path.join(os.path.dirname(path), link))
            stat = self._found(name, path)  # what it leads to; where that is nothing it is made
        mode = stat.get("mode")
        if (isinstance(mode, int) and mode & 1 << 31) or source == "-":
            return path, "." if content else own
        if path.endswith("/") and not os.path.isdir(source):
            raise InvalidArgument(f"no such directory: {name}:{path}")
        if stat and os.path.isdir(source):
            raise InvalidArgument("cannot copy directory to a file")
        return os.path.dirname(path.rstrip("/")) or "/", os.path.basename(path.rstrip("/"))

    def _found(self, name: str, path: str) -> dict[str, object]:
        """What there is at a path; {} for nothing."""
        try:
            return _stat(self._containers.stat(name, path))
        except NotFound:
            return {}

    def _done(self, size: int, target: str) -> None:
        if not self._quiet:
            self._session.note(f"Successfully copied {human_size(size)} to {target}")


def _stat(text: str) -> dict[str, object]:
    found = json.loads(base64.b64decode(text)) if text else {}
    return found if isinstance(found, dict) else {}


def _file_pieces(fd: int) -> Iterator[bytes]:
    while piece := os.read(fd, 1 << 18):
        yield piece


class _Counted:
    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._pieces, self.size = pieces, 0

    def __iter__(self) -> Iterator[Piece]:
        for piece in self._pieces:
            self.size += len(piece)
            yield piece


def _packed(source: str, name: str, *, follow: bool) -> Iterator[Piece]:
    """A tar of a file or tree, its top called `name`; a link is followed where it is named with a slash behind it."""
    packer = Packer(keep_owner=True)
    for path, entry in below(os.path.realpath(source) if follow else source, name):
        yield from packer.add(path, entry)
    yield from packer.finish()
