"""import, save and load: images as archives."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from lamina.cli.commands.contents import refuse_terminal, write_out
from lamina.cli.flags import Arguments
from lamina.cli.packing import Packer, Piece, below
from lamina.cli.progress import Display, metered
from lamina.cli.references import platform_json, split_name
from lamina.cli.session import Session, is_terminal
from lamina.client.images import Images
from lamina.errors import LaminaError

TABLE = {
    "import": (
        1,
        2,
        True,
        "file|URL|- [REPOSITORY[:TAG]]",
        """\
c change list|Apply Dockerfile instruction to the created image
m message string|Set commit message for imported image
- platform string|Set platform if server is multi-platform capable
""",
    ),
    "save": (
        1,
        -1,
        True,
        "IMAGE [IMAGE...]",
        """\
- format string|Layout of the archive: docker (an OCI layout that is a docker-archive too), oci or v1 (default docker)
o output string|Write to a file, or to a directory: one that ends in /, is empty or holds an earlier save, instead of STDOUT
- platform string|Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
""",
    ),
    "load": (
        0,
        0,
        True,
        "",
        """\
i input string|Read from a tar archive file or a directory, instead of STDIN
- platform string|Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
q quiet bool|Suppress the load output
""",
    ),
}

_PIECE = 1 << 20


def source(path: str) -> tuple[Iterator[bytes], int | None]:
    """The bytes of a file, or of standard input for `-`, and how many they are if that is known."""
    fd = 0 if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    facts = os.fstat(fd)
    if stat.S_ISDIR(facts.st_mode):
        os.close(fd)
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
    pairs += [("platform", platform)] if (platform := session.platform(arguments)) else []
    if remote:
        messages = Images(session.engine).import_url(pairs)
    else:
        pieces, length = source(path)
        messages = Images(session.engine).import_(pairs, metered(pieces, length, "Importing"), length)
    Display().show(messages)
    return 0


def save(session: Session, arguments: Arguments) -> int:
    """Write images as an archive."""
    path, form = arguments.text("output"), arguments.text("format", "docker")
    refuse_terminal(path)
    into = path.endswith("/") or os.path.isdir(path)
    if into:
        from lamina.cli.layoutdir import earlier, unpack

        earlier(path)  # refused before anything is sent
    saved = Images(session.engine).save(arguments.words, platform_json(arguments.text("platform")), form)
    if into:
        unpack(saved.pieces(_PIECE), path.rstrip("/") or "/")
    else:
        write_out(saved.pieces(_PIECE), path, "Saving")
    return 0


def load(session: Session, arguments: Arguments) -> int:
    """Take images from an archive."""
    path = arguments.text("input", "-")
    if path == "-" and is_terminal(0):
        raise LaminaError("requested load from stdin, but stdin is empty")
    pieces, length = archived(path)
    quiet = arguments.on("quiet") or not is_terminal(1)
    platform = platform_json(arguments.text("platform"))
    answer = Images(session.engine).load(metered(pieces, length, "Loading"), length, quiet=quiet, platform=platform)
    if "json" in answer.headers.get("content-type", ""):
        Display().show(answer.lines())
        return 0
    for piece in answer.pieces():
        session.write(piece)
    return 0


def archived(path: str) -> tuple[Iterator[Piece], int | None]:
    """An archive's bytes, of a directory as a tar. See `source`."""
    if not os.path.isdir(path):
        return source(path)
    from lamina.cli.layoutdir import is_layout

    # looked for here, since a directory that is not one may be the whole file system
    if not is_layout(path):
        raise LaminaError(f"{path} is not an image layout: it has neither index.json nor manifest.json nor layers in folders")
    return _packed(os.path.realpath(path)), None


def _packed(directory: str) -> Iterator[Piece]:
    """The files and links of a directory as a tar, documents before layers."""
    packer = Packer(keep_owner=False)
    names = [(path, name.partition("/")[2]) for path, name in below(directory, ".") if os.path.islink(path) or os.path.isfile(path)]
    for path, name in sorted(names, key=lambda pair: (pair[1].count("/"), pair[1])):
        yield from packer.add(path, name)
    yield from packer.finish()
