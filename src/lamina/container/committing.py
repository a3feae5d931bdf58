"""Commit: what a container wrote becomes a layer, and on it a new image."""

from __future__ import annotations

import msgspec

from lamina.container.document import mapping, texts
from lamina.container.launching import Launcher
from lamina.container.lifecycle import LifeCycle
from lamina.container.live import Live
from lamina.container.model import Container
from lamina.container.parts import Parts
from lamina.container.requests import CommitRequest
from lamina.container.snapshots import Snapshot
from lamina.container.spec import merged_env
from lamina.container.times import rfc3339
from lamina.errors import InvalidArgument
from lamina.image.model import Image, LayerFacts, LayerNote
from lamina.image.mutate import apply_changes
from lamina.spec.config import ContainerConfig, History, ImageConfig, RootFS
from lamina.spec.digest import Digest
from lamina.spec.reference import Reference

_NOT_THE_IMAGES = ("Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "Image")
"""What is the container's own and says nothing of an image."""


class Committer:
    """Makes images of containers. Thread-safe."""

    def __init__(self, parts: Parts, life: LifeCycle, launcher: Launcher) -> None:
        self._parts, self._life, self._launcher = parts, life, launcher

    def commit(self, live: Live, request: CommitRequest, snapshot: Snapshot | None = None) -> Image:
        """See Containers.commit. With a `snapshot` of the container, what it was then."""
        container = live.container
        base = self._parts.images.resolve(container.image)
        config = apply_changes(_config(container, request), request.changes)
        names = [_name(request)] if request.repository else []
        created, command = rfc3339(self._parts.clock()), " ".join([container.path, *container.args])
        note = LayerNote(created=created, created_by=command, instruction=f"commit {container.name}")
        parent = Digest.parse(container.layer) if container.layer else None
        with self._parts.leases.hold(base.id, *base.layers):
            layer = self._layer(live, parent, note, snapshot, pause=request.pause)
            step = History(created=created, created_by=command, author=request.author, comment=request.comment)
            image = self._parts.images.create(
                _extended(base.config, config, layer.diff_id, step),
                [*self._parts.layers.chain(parent), layer] if parent else [layer],
                names=names,
                parent=base.id,
            )
        self._parts.emit(live.event("commit", comment=request.comment, imageID=str(image.id), imageRef=names[0].familiar if names else ""))
        return image

    def _layer(self, live: Live, parent: Digest | None, note: LayerNote, snapshot: Snapshot | None, *, pause: bool) -> LayerFacts:
        """All that was written on the image, snapshots and what came after them, as one layer."""
        if snapshot is not None:
            top, *rest = self._launcher.snapshots.over(snapshot.id)
            return self._parts.layers.commit_upper(top, parent, note, over=rest, cached=False)
        with self._life.still(live, pause=pause):
            container = live.container
            return self._parts.layers.commit_upper(container.writes, parent, note, over=self._launcher.over(container), cached=False)


def _name(request: CommitRequest) -> Reference:
    name = Reference.of(request.repository, request.tag).with_default_tag()
    if name.digest is not None:
        raise InvalidArgument(f"refusing to create a tag with a digest reference: {name.familiar}")
    return name


def _config(container: Container, request: CommitRequest) -> ContainerConfig:
    """The container's configuration as an image's, overlaid with what the request says."""
    said = {key: value for key, value in (request.config or {}).items() if value not in (None, "", [], {}, False)}
    document = {key: value for key, value in {**container.config, **said}.items() if value is not None and key not in _NOT_THE_IMAGES}
    document["Env"] = [entry for entry in merged_env(texts(said, "Env"), texts(container.config, "Env")) if "=" in entry]
    for key in ("ExposedPorts", "Volumes"):
        document[key] = {**mapping(container.config, key), **mapping(said, key)}
    if "Entrypoint" in said and "Cmd" not in said:
        document.pop("Cmd", None)  # those were the arguments of another program
    document["Labels"] = {**container.labels, **mapping(said, "Labels")}
    return msgspec.convert(document, ContainerConfig)


def _extended(base: ImageConfig, config: ContainerConfig, diff_id: Digest, step: History) -> ImageConfig:
    return msgspec.structs.replace(
        base,
        config=config,
        created=step.created,
        author=step.author or base.author,
        comment=step.comment,
        rootfs=RootFS(diff_ids=(*base.rootfs.diff_ids, str(diff_id))),
        history=(*base.history, step),
    )
