"""import, save and load: images as archives."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from lamina.cli.commands.contents import refuse_terminal, write_out
from lamina.cli.commands.transfer import split_name
from lamina.cli.flags import Arguments
from lamina.cli.progress import Display, metered
from lamina.cli.session import Session, is_terminal
from lamina.client.images import Images
from lamina.errors import LaminaError

_PIECE = 1 << 20


def source(path: str) -> tuple[Iterator[bytes], int | None]:
    """The bytes of a file, or of standard input for `-`, and how many they are if that is known."""
    fd = 0 if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    facts = os.fstat(fd)
    if stat.S_ISDIR(facts.st_mode):
        raise LaminaError(f"{path} is a directory, not an archive")
    length = max(facts.st_size - os.lseek(fd, 0, os.SEEK_CUR), 0) if stat.S_ISREG(facts.st_mode) else None
    return _pieces(fd, length), length


def _pieces(fd: int, length: int | None) -> Iterator[bytes]:
    done = 0
    # what was promised is sent, also where the file grows meanwhile
    while length is None or done < length:
        piece = os.read(fd, _PIECE if length is None else min(_PIECE, length - done))
        if not piece:
            break
        done += len(piece)
        yield piece


def import_(session: Session, arguments: Arguments) -> int:
    """Make an image of a root file system's tar."""
    path = arguments.words[0]
    repository, tag = split_name(arguments.words[1]) if len(arguments.words) > 1 else ("", "")
    remote = path.startswith(("http://", "https://"))
    pairs = [("fromSrc", path if remote else "-"), ("repo", repository), ("tag", tag), ("message", arguments.text("message"))]
    pairs += [("changes", change) for change in arguments.many("change")]
    pairs += [("platform", arguments.text("platform"))] if arguments.given("platform") else []
    if remote:
        messages = Images(session.engine).import_url(pairs)
    else:
        pieces, length = source(path)
        messages = Images(session.engine).import_(pairs, metered(pieces, length, "Importing"), length)
    Display().show(messages)
    return 0


def save(session: Session, arguments: Arguments) -> int:
    """Write images as a docker-archive."""
    path = arguments.text("output")
    refuse_terminal(path)
    write_out(Images(session.engine).save(arguments.words, arguments.text("platform")).pieces(_PIECE), path, "Saving")
    return 0


def load(session: Session, arguments: Arguments) -> int:
    """Take images from an archive."""
    path = arguments.text("input", "-")
    if path == "-" and is_terminal(0):
        raise LaminaError("requested load from stdin, but stdin is empty")
    pieces, length = source(path)
    quiet = arguments.on("quiet") or not is_terminal(1)
    answer = Images(session.engine).load(metered(pieces, length, "Loading"), length, quiet=quiet)
    if "json" in answer.headers.get("content-type", ""):
        Display().show(answer.lines())
        return 0
    for piece in answer.pieces():
        session.write(piece)
    return 0
