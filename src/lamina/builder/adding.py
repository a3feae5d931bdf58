"""COPY, ADD and WORKDIR: where their files come from, what their key covers, and their layer."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lamina.builder import vertex, wording
from lamina.builder.copying import CopyFailed, escapes
from lamina.builder.fetching import Fetched, named, parse_checksum, shown, verify
from lamina.builder.gitsource import GitAddress, parse_git
from lamina.builder.made import Made
from lamina.builder.progress import Passed, Tell
from lamina.builder.request import Context
from lamina.builder.site import Site
from lamina.builder.state import State
from lamina.dockerfile import ast
from lamina.image import configure
from lamina.image.model import LayerFacts
from lamina.spec.digest import Digest
from lamina.spec.progress import Update

_WEB = ("http://", "https://")
Sources = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Remote:
    """A source by address: what counts of it, and how its files are had when they are needed (a part of a job's parameters)."""

    counts: str
    files: Callable[[], dict[str, Any]]


class Adding:
    """The COPYs and ADDs of one stage."""

    def __init__(self, site: Site, stage: ast.Stage, states: Mapping[int, State], tell: Tell) -> None:
        self._site, self._stage, self._states, self._tell = site, stage, states, tell

    def made(self, state: State, instruction: ast.Copy | ast.Add, known: str = "") -> Made:
        """What `instruction` amounts to in `state`. Files whose digest is `known` need no manifest.

        Raises:
            CopyFailed: a source is not there, or leads out of the context.
            AddressNotFound, AddressUnreachable, ChecksumMismatch, GitFailed: an address does not give what it should.
        """
        if not instruction.sources and not instruction.heredocs:
            raise CopyFailed(f"{instruction.keyword} failed: no source files were specified")
        if isinstance(instruction, ast.Copy) and any(source.startswith(_WEB) for source in instruction.sources):
            raise CopyFailed("source can't be a URL for COPY", hint="ADD takes one")
        remotes = self._remotes(instruction)
        local = replace(instruction, sources=tuple(source for source in instruction.sources if source not in remotes))
        params, origin, image = self._params(state, local, several=len(instruction.sources) + len(instruction.heredocs) > 1)
        params["may_be_empty"] = bool(remotes) or self._site.request.buildkit
        facts = self._content(params, origin, image, local, known)
        for remote in remotes.values():
            facts = _and(facts, remote.counts)
        content = Digest.parse(facts["digest"])
        work = vertex.copy(
            state.top,
            content,
            target=params["target"],
            chown=instruction.chown,
            chmod=instruction.chmod,
            unpack=params["unpack"],
            link=instruction.link,
            epoch=self._site.epoch,
        )
        kind = "multi" if facts["sources"] > 1 else "dir" if facts["directory"] else "file"
        flags = f"--chown={instruction.chown} " if instruction.chown else ""
        created_by = wording.file_operation(
            configure.shell_of(state.container), instruction.keyword, f"{flags}{kind}:{content.encoded}", instruction.target
        )
        return Made(
            created_by,
            state.container,
            work.digest,
            lambda entry: self._write(state, instruction, params, remotes, entry),
            floating=instruction.link,
            files=facts["digest"],
            manifest=facts.get("manifest", ""),
        )

    def work_directory(self, state: State, instruction: ast.Workdir) -> Made:
        """What WORKDIR amounts to: a folder that is there; one that is new is root's, as in Docker's classic builder, or USER's."""
        container = configure.apply(state.container, instruction)
        user = state.container.user if self._site.request.buildkit else ""
        params = {
            "keyword": "WORKDIR",
            "sources": [],
            "target": container.working_dir,
            "unpack": False,
            "chown": "",
            "chmod": "",
            "user": user,
            "root": self._site.files_of(state.top),
            "scratch": self._site.scratch,
        }
        work = vertex.directory(state.top, container.working_dir, user, self._site.epoch)
        created_by = wording.work_directory(configure.shell_of(container), container.working_dir)
        return Made(
            created_by, container, work.digest, lambda entry: self._site.write_layer(state, instruction, params, entry), portable=True
        )

    def _content(
        self, params: dict[str, Any], origin: Digest | None, image: Digest | None, instruction: ast.Copy | ast.Add, known: str
    ) -> dict[str, Any]:
        """What the sources come to. Of a stack of layers it never changes, so it is worked out once."""
        if not params["sources"]:
            return {"digest": str(Digest.of(b"")), "sources": 0, "directory": False}
        key = None
        if origin is not None and not instruction.heredocs:
            key = vertex.selection(
                origin, tuple(params["sources"][0]["paths"]), instruction.exclude, parents=params["parents"], owners=params["owners"]
            ).digest
        facts = self._site.engine.cache.selection(key) if key else None
        if facts is None:
            facts = self._site.job("copying:digest_job", {**params, "known": known})
            if key and image is not None:
                self._site.engine.cache.put_selection(key, {name: facts[name] for name in ("digest", "sources", "directory")}, image)
        return facts

    def _params(
        self, state: State, instruction: ast.Copy | ast.Add, *, several: bool
    ) -> tuple[dict[str, Any], Digest | None, Digest | None]:
        """The parameters of the jobs, the stack that is copied from (None: the context), and an image that stands on it, if one does."""
        origin: Digest | None = None
        image: Digest | None = None
        owners = False
        files = self._site.received.describe(self._site.ignore)
        if isinstance(instruction, ast.Copy) and instruction.origin:
            top, image = self._site.origin_of(instruction.origin, self._stage, self._states, self._tell)
            files, origin = self._site.files_of(top), top or Digest.of(b"")
            # Files of a context are root's whoever has them at the client; those of a stage or an image stay whose they are.
            owners = not instruction.chown and not isinstance(self._site.request.context_of(instruction.origin), Context)
        sources: Sources = []
        if instruction.sources:
            sources.append({"files": files, "paths": [self._inside(instruction, source) for source in instruction.sources]})
        if instruction.heredocs:
            documents = {document.name: document.content for document in instruction.heredocs}
            sources.append({"files": {"kind": "inline", "documents": documents, "time": self._site.now()}, "paths": list(documents)})
        params = {
            "keyword": instruction.keyword,
            "sources": sources,
            "several": several,
            "by_word": self._site.request.buildkit,
            "target": _target(state.container.working_dir, instruction.target),
            "root": {"kind": "empty"} if instruction.link else self._site.files_of(state.top),
            "scratch": self._site.scratch,
            "chown": instruction.chown,
            "chmod": instruction.chmod,
            "owners": owners,
            "exclude": list(instruction.exclude),
            "parents": isinstance(instruction, ast.Copy) and instruction.parents,
            "link": instruction.link,
            "kinds_kept": self._site.request.buildkit,
            "unpack": isinstance(instruction, ast.Add) and instruction.unpack is not False,
        }
        return params, origin, image

    def _inside(self, instruction: ast.Copy | ast.Add, source: str) -> str:
        """A source whose `..` lead nowhere above the root: to BuildKit, as in a file system, what is above the root is the root.

        Raises:
            CopyFailed: they do, which Docker's classic builder refuses.
        """
        if not escapes(source):
            return source
        if not self._site.request.buildkit:
            raise CopyFailed(f"{instruction.keyword} failed: forbidden path outside the build context: {source}")
        return os.path.normpath(f"/{source}").lstrip("/") or "."

    def _write(
        self, state: State, instruction: ast.Copy | ast.Add, params: dict[str, Any], remotes: Mapping[str, _Remote], created_by: str
    ) -> LayerFacts | None:
        sources = [*(remote.files() for remote in remotes.values()), *params["sources"]]
        return self._site.write_layer(state, instruction, {**params, "sources": sources}, created_by)

    def _remotes(self, instruction: ast.Copy | ast.Add) -> dict[str, _Remote]:
        """The sources of an ADD that are addresses.

        Raises:
            CopyFailed: a flag is only for another kind of source.
        """
        found: dict[str, _Remote] = {}
        if not isinstance(instruction, ast.Add):
            return found
        for source in instruction.sources:
            address = parse_git(source)
            if address is not None:
                found[source] = self._git(instruction, address)
            elif source.startswith(_WEB):
                found[source] = self._web(instruction, source)
        if instruction.checksum and len(instruction.sources) != 1:
            raise CopyFailed("checksum can't be specified for multiple sources")
        if instruction.checksum and not found:
            raise CopyFailed("checksum requires HTTP(S) or Git sources")
        if instruction.keep_git_dir and not any(parse_git(source) for source in found):
            raise CopyFailed("--keep-git-dir requires a Git source")
        return found

    def _git(self, instruction: ast.Add, address: GitAddress) -> _Remote:
        """A git repository counts by its commit."""
        site = self._site
        if instruction.checksum:
            address = replace(address, commit=instruction.checksum, ref=address.ref or instruction.checksum)
        commit: str = site.once(f"commit {address}", lambda: site.git.commit(address))
        keep = instruction.keep_git_dir or bool(address.keep_git_dir)
        whole = "" if address.submodules else " without submodules"

        def files() -> dict[str, Any]:
            self._said(f"Fetching {shown(address.url)} at {commit[:12]}")
            checkout = site.once(f"checkout {address.url} {commit}{whole}", lambda: site.git.checkout(address, commit, site.place("git")))
            folder = address.folder or "."
            described = {"kind": "directory", "path": checkout.path, "time": checkout.time, "hide_git": not keep}
            return {"files": described, "paths": [folder], "exact": True}

        return _Remote(f"git {address.url} {commit} {address.folder} {keep}{whole}", files)

    def _web(self, instruction: ast.Add, source: str) -> _Remote:
        """A file counts by its digest: the one that is promised, the one that the server says did not change, or the one that came."""
        site, checksum = self._site, parse_checksum(instruction.checksum)
        unpack = instruction.unpack is True
        target = instruction.target
        if checksum is not None and not target.endswith("/"):
            return _Remote(
                f"file {checksum} {unpack} {named(source)}", lambda: self._file(verify(self._fetched(source), checksum), instruction)
            )
        seen: Fetched = site.once(f"look {source}", lambda: site.fetcher.look(source, site.scratch))
        verify(seen, checksum)
        if target.endswith("/") and not seen.name:
            raise CopyFailed(f"cannot determine filename from url: {shown(source)}")

        def files() -> dict[str, Any]:
            there = seen if seen.path else self._fetched(source)
            return self._file(verify(there, seen.digest), instruction)

        # Its name counts in any case: the target may be a folder without saying so.
        return _Remote(f"file {seen.digest} {unpack} {seen.name}", files)

    def _fetched(self, source: str) -> Fetched:
        self._said(f"Downloading {shown(source)}")
        fetched: Fetched = self._site.once(f"fetch {source}", lambda: self._site.fetcher.fetch(source, self._site.scratch))
        return fetched

    def _file(self, fetched: Fetched, instruction: ast.Add) -> dict[str, Any]:
        name = fetched.name or "file"
        files = {"kind": "file", "name": name, "path": fetched.path, "time": fetched.time or self._site.now()}
        return {"files": files, "paths": [name], "exact": True, "unpack": instruction.unpack is True}

    def _said(self, text: str) -> None:
        self._tell(Passed(Update(status=text)))


def _target(working_directory: str, target: str) -> str:
    """Where files go, absolute; with a slash at its end where a folder is meant. An empty one is the working directory."""
    path = os.path.join("/", working_directory, target)
    return path.rstrip("/") + "/" if target in ("", ".", "./") or target.endswith(("/", "/.")) else path


def _and(facts: dict[str, Any], more: str) -> dict[str, Any]:
    """Facts of files with one source by address added."""
    whole = hashlib.sha256(f"{facts['digest']} {more}".encode("utf-8", "surrogateescape")).hexdigest()
    return {**facts, "digest": f"sha256:{whole}", "sources": facts["sources"] + 1, "manifest": ""}
