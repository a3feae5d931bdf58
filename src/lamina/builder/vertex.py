"""The build's graph: vertices with content digests, pure.

A vertex says what is done to which inputs; its digest covers both, so equal digests mean equal work:

    source      a stack of layers or a set of files, by their content
    exec        a command in a root file system
    copy        files put onto a root file system
    configure   a change of the configuration alone

An input counts by its *content* (chain ID, digest of files), not by how it came about: a label added above a RUN,
or another way to the same files, leaves the vertices below it as they were.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from lamina.spec.digest import Digest

Fact = str | int | bool | None | tuple[str, ...] | tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Vertex:
    """One piece of work. `facts` are all that can change its result besides `inputs`."""

    kind: str
    facts: Mapping[str, Fact] = field(default_factory=dict)
    inputs: tuple[Vertex, ...] = ()

    @property
    def digest(self) -> Digest:
        """Covers kind, facts and inputs; the same on every machine and in every version that keeps this format."""
        content = [1, self.kind, sorted(self.facts.items()), [str(vertex.digest) for vertex in self.inputs]]
        return Digest.of(json.dumps(content, separators=(",", ":")).encode())


def source(content: Digest | None) -> Vertex:
    """A stack of layers by its chain ID (None: the empty one), or files by the digest of their content."""
    return Vertex("source", {"content": str(content) if content else None})


def execute(
    root: Digest | None,
    argv: tuple[str, ...],
    *,
    env: tuple[str, ...],
    cwd: str,
    user: str,
    network: str,
    script: str = "",
    mounts: tuple[tuple[str, str], ...] = (),
    volumes: tuple[str, ...] = (),
    hosts: tuple[str, ...] = (),
    epoch: int | None = None,
) -> Vertex:
    """A RUN. `env` is all the command sees; proxies that no ARG declares are left out by the caller.

    `mounts` are what is mounted, each with the digest of what it shows ("" where that counts for nothing: caches); `volumes` are
    directories below which nothing stays; `hosts` the lines of --add-host.
    """
    facts: dict[str, Fact] = {"argv": argv, "env": env, "cwd": cwd, "user": user, "network": network, "script": script}
    return Vertex(
        "exec", {**facts, **_given(mounts=mounts or None, volumes=volumes or None, hosts=hosts or None, epoch=epoch)}, (source(root),)
    )


def copy(
    root: Digest | None, files: Digest, *, target: str, chown: str, chmod: str, unpack: bool, link: bool = False, epoch: int | None = None
) -> Vertex:
    """A COPY or ADD of files whose content is `files`; one with `link` comes to the same on every stack."""
    facts: dict[str, Fact] = {"target": target, "chown": chown, "chmod": chmod, "unpack": unpack}
    return Vertex("copy", {**facts, **_given(link=link or None, epoch=epoch)}, (source(None if link else root), source(files)))


def selection(
    stack: Digest, paths: tuple[str, ...], exclude: tuple[str, ...] = (), *, parents: bool = False, owners: bool = False
) -> Vertex:
    """Paths, with wildcards, of a stack of layers; with `owners` these count too, with `parents` the folders above."""
    given = _given(exclude=exclude or None, parents="above" if parents else None, owners=owners or None)
    return Vertex("source", {"paths": paths, **given}, (source(stack),))


def directory(root: Digest | None, path: str, user: str = "", epoch: int | None = None) -> Vertex:
    """The directory that WORKDIR makes sure of; a new one is `user`'s ("": root's)."""
    return Vertex("copy", {"directory": path, **_given(user=user or None, epoch=epoch)}, (source(root),))


def _given(**facts: Fact) -> dict[str, Fact]:
    """Facts that count only where there is something to say, so that digests of old stay."""
    return {name: fact for name, fact in facts.items() if fact is not None}


def step(image: str, what: str, created_by: str, work: Digest | None, config: Digest, epoch: int | None = None) -> Vertex:
    """What the image that an instruction made is remembered by.

    `image` is the ID of the one before (or what scratch starts with), `what` the instruction with its variables replaced ("" where only
    the work behind it counts), `created_by` its history entry, `work` the digest of the exec or copy vertex behind it, if it is more than
    a change of configuration. `config` is that of the configuration after it, for which more counts: whether a CMD came before an
    ENTRYPOINT in the same stage, and by which protocol was asked.
    """
    facts: dict[str, Fact] = {"image": image, "what": what, "created_by": created_by, "work": str(work) if work else None}
    return Vertex("configure", {**facts, "config": str(config), **_given(epoch=epoch)})
