"""What a build takes from its client's directories: the Dockerfile, its .dockerignore, and the context without what that leaves out."""

from __future__ import annotations

import hashlib
import os
import posixpath
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lamina.builder.context import unpacked
from lamina.builder.request import Context
from lamina.buildkit.asked import Asked
from lamina.buildkit.failure import INVALID, Refused
from lamina.buildkit.messages import Definition, Empty, Input, Op, SourceOp
from lamina.buildkit.sessions import Sessions
from lamina.buildkit.status import Log, Work
from lamina.buildkit.wire import decode, encode
from lamina.dockerfile import ast
from lamina.dockerfile.errors import DockerfileError
from lamina.dockerfile.mounts import origin_of
from lamina.dockerfile.parser import parse
from lamina.spec.reference import Reference

_LIMIT = 16 << 20
_UPLOADS = "http://buildkit-session/"
IMAGE = "lamina-image://"
"""A source of ours: an image by its ID."""


@dataclass(frozen=True, slots=True)
class Local:
    """A Dockerfile that came from the client, the .dockerignore that goes with it, and the vertex that it came by."""

    work: Work
    text: bytes
    ignore: str | None


class Files:
    """One build's. Everything is written below `scratch`."""

    def __init__(self, sessions: Sessions, asked: Asked, log: Log, scratch: str, plain: Callable[[str], bool]) -> None:
        """`plain` tells whether a base image is known and brings no instructions of its own."""
        self._sessions, self.asked, self.log, self._scratch, self._plain = sessions, asked, log, scratch, plain

    def definition(self) -> Local:
        """The Dockerfile.

        Raises:
            Refused: there is none.
        """
        name = self.asked.filename
        work = self.log.work(f"[internal] load build definition from {posixpath.basename(name)}")
        lower = [posixpath.join(posixpath.dirname(name), "dockerfile")] if posixpath.basename(name) == "Dockerfile" else []
        try:
            found = self._small("dockerfile", [name, f"{name}.dockerignore", *lower], work, "dockerfile")
            text = next((found[each] for each in (name, *lower) if each in found), None)
            if text is None:
                raise Refused(f"failed to read dockerfile: open {name}: no such file or directory")
        except Refused as error:
            work.done(error.message)
            raise
        work.done()
        return Local(work, text, self._ignore(found.get(f"{name}.dockerignore")))

    def _ignore(self, own: bytes | None) -> str | None:
        if self.asked.remote:
            return None
        if own is None:
            work = self.log.work("[internal] load .dockerignore")
            own = self._small("context", [".dockerignore"], work, "context").get(".dockerignore", b"")
            work.done()
        return own.decode("utf-8", "surrogateescape")

    def context(self, local: Local) -> str:
        """The context as a tar; only of what the Dockerfile may ask for, and nothing where it asks for nothing."""
        path = os.path.join(self._scratch, "context.tar")
        wanted = _wanted(local.text, self._plain)
        if wanted is not None and not wanted:
            with open(path, "wb"):
                return path
        work = self.log.work("[internal] load build context")
        options: dict[str, Sequence[str]] = {"exclude-patterns": _patterns(local.ignore or "")}
        if wanted is not None:
            options["followpaths"] = wanted
        self._tree("context", path, options, work, "context")
        work.done()
        return path

    def remote(self) -> Context:
        """The context by its address; a tar that the client got on its standard input has one in the session."""
        if not self.asked.remote.startswith(_UPLOADS):
            return Context(remote=self.asked.remote)
        path = os.path.join(self._scratch, "upload")
        work = self.log.work("[internal] load remote build context")
        self._sessions.get(self.asked.session).upload(self.asked.remote.removeprefix(_UPLOADS), path)
        work.done()
        with open(path, "rb") as packed, open(os.path.join(self._scratch, "context.tar"), "wb") as plain:
            for piece in unpacked(packed):
                plain.write(piece)
        return Context(tar=plain.name)

    def contexts(self, inputs: Mapping[str, Definition]) -> dict[str, str | Context]:
        """What further names mean, as the builder wants it.

        Raises:
            Refused: a context is of a kind that is not here.
        """
        return {name: self._named(name, value, inputs) for name, value in self.asked.contexts.items()}

    def _named(self, name: str, value: str, inputs: Mapping[str, Definition]) -> str | Context:
        kind, _, rest = value.partition(":")
        if kind == "docker-image":
            return str(Reference.parse(rest.removeprefix("//")).with_default_tag())
        if kind == "input":
            return _image_of(inputs.get(rest), name)
        if kind != "local":
            raise Refused(f"the build context {name[:100]} cannot come from {value[:100]}: give a folder, or docker-image://", code=INVALID)
        work = self.log.work(f"[context {name}] load from client")
        path = os.path.join(self._scratch, f"context-{len(os.listdir(self._scratch))}.tar")
        ignore = self._small(rest, [".dockerignore"], work, "context").get(".dockerignore", b"").decode("utf-8", "surrogateescape")
        self._tree(rest, path, {"exclude-patterns": _patterns(ignore)}, work, name)
        work.done()
        return Context(tar=path)

    def _small(self, name: str, paths: Sequence[str], work: Work, what: str) -> Mapping[str, bytes]:
        """Small files of a directory, those that are there."""
        path = os.path.join(self._scratch, f"{name}.files.tar")
        self._tree(name, path, {"followpaths": paths}, work, what)
        found = {}
        with tarfile.open(path, "r:") as archive:
            for each in paths:
                member = _member(archive, each)
                if member is not None and member.size <= _LIMIT:
                    file = archive.extractfile(member)
                    found[each] = file.read() if file else b""
        os.unlink(path)
        return found

    def _tree(self, name: str, path: str, options: Mapping[str, Sequence[str]], work: Work, what: str) -> None:
        total = 0

        def progress(size: int) -> None:
            nonlocal total
            total += size
            work.moved(f"transferring {what}:", total)

        session = self._sessions.get(self.asked.session_of(name))
        session.tree(name, path, {key: values for key, values in options.items() if values}, progress)
        work.moved(f"transferring {what}:", total, done=True)


def _image_of(definition: Definition | None, name: str) -> str:
    """The image that an input stands for: the result of another build.

    Raises:
        Refused: it is anything else.
    """
    for raw in definition.operations if definition else ():
        source = decode(Op, raw).source
        if source is not None and source.identifier.startswith(IMAGE):
            return source.identifier.removeprefix(IMAGE)
    raise Refused(f"the build context {name[:100]} is a graph of build operations (LLB), which is not supported", code=INVALID)


def stands_for(image: str) -> Definition:
    """The graph that stands for the image of that ID where a client hands it on to another build."""
    source = encode(Op(source=SourceOp(f"{IMAGE}{image}")))
    digest = f"sha256:{hashlib.sha256(source).hexdigest()}"
    return Definition((source, encode(Op(inputs=(Input(digest),)))), {digest: Empty()})


def _member(archive: tarfile.TarFile, name: str) -> tarfile.TarInfo | None:
    """The file of that name; links to it are followed."""
    path = posixpath.normpath(name)
    for _ in range(40):
        try:
            member = archive.getmember(path)
        except KeyError:
            return None
        if not member.issym():
            return member if member.isreg() or member.islnk() else None
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname)).lstrip("/")
    return None


def _patterns(ignore: str) -> list[str]:
    """The lines of a .dockerignore as the client wants them: cleaned, without comments."""
    found = []
    for line in ignore.removeprefix("\ufeff").split("\n"):
        text = line.strip()
        if not text or line.startswith("#"):
            continue
        kept = text.startswith("!")
        cleaned = posixpath.normpath(text[kept:].strip()).lstrip("/")
        found.append(f"{'!' if kept else ''}{cleaned}")
    return found


def _wanted(text: bytes, plain: Callable[[str], bool]) -> list[str] | None:
    """The paths of the context that instructions name; None for all of it: where that cannot be known before the build."""
    try:
        dockerfile = parse(text.decode("utf-8", "surrogateescape"))
    except DockerfileError:
        return []
    names = {"scratch", *(stage.name for stage in dockerfile.stages)}
    if not all(stage.start.base.lower() in names or plain(stage.start.base) for stage in dockerfile.stages):
        return None
    found = []
    for path in (path for stage in dockerfile.stages for step in stage.steps for path in _sources(step)):
        if path[:1] in ('"', "'") and path[-1] == path[0]:
            path = path[1:-1]
        cleaned = posixpath.normpath(path).lstrip("/")
        # the client would take what begins with `!` for an exception
        if cleaned in ("", ".") or any(sign in path for sign in "$`\\\"'") or cleaned.startswith(("..", "!")):
            return None
        found.append(cleaned)
    return sorted(set(found))


def _sources(step: ast.Instruction) -> Iterator[str]:
    """What an instruction takes from the context, as written."""
    if isinstance(step, ast.Onbuild):
        yield "."
    elif isinstance(step, ast.Copy) and not step.origin:
        yield from (source for source in step.sources if not _inline(step, source))
    elif isinstance(step, ast.Add):
        yield from (
            source for source in step.sources if not _inline(step, source) and "://" not in source and not source.startswith("git@")
        )
    elif isinstance(step, ast.Run) and any("type=" not in mount or "type=bind" in mount for mount in step.mounts if not origin_of(mount)):
        yield "."


def _inline(step: ast.Copy | ast.Add, source: str) -> bool:
    return source.startswith("<<") or any(source == heredoc.name for heredoc in step.heredocs)
