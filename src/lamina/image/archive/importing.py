"""import: the tar of a root file system becomes an image of one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lamina.errors import InvalidArgument
from lamina.image.archive.source import Given, Source, stage
from lamina.image.layers import Layers
from lamina.image.model import LayerFacts, LayerNote
from lamina.image.mutate import apply_changes
from lamina.spec.config import ContainerConfig, History, ImageConfig, RootFS
from lamina.spec.platform import Platform
from lamina.spec.progress import Sink, Update


class UnsupportedSystem(InvalidArgument):
    """No layer for that operating system can be made here."""


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What an import is told. `changes` are instructions (`CMD ["sh"]`), `created` is RFC 3339."""

    changes: Sequence[str]
    message: str
    platform: Platform
    created: str


def import_tar(given: Given, request: ImportRequest, layers: Layers, scratch: str, sink: Sink) -> tuple[ImageConfig, LayerFacts]:
    """Bring the one layer here, and say which configuration the image gets.

    Raises:
        UnsupportedSystem: it is not to be for linux; nothing was read.
        DockerfileError: a change is malformed; nothing was read.
        InvalidArchive, Corrupt, Exhausted: nothing was registered.
    """
    if request.platform.os != "linux":
        raise UnsupportedSystem(f"operating system is not supported: {request.platform.os}", hint="import makes images for linux")
    container = apply_changes(ContainerConfig(), request.changes)
    with Source(given) as source:
        staged = stage(layers, source, None, scratch, lambda done: sink(Update(status="Importing", current=done)))()
    message = request.message or "Imported from -"
    facts = layers.register(staged, None, LayerNote(request.created, message, message))
    history = (History(created=request.created, comment=message),)
    platform = request.platform
    return (
        ImageConfig(
            architecture=platform.architecture,
            os=platform.os,
            rootfs=RootFS(diff_ids=(str(facts.diff_id),)),
            config=container,
            created=request.created,
            history=history,
            variant=platform.variant,
        ),
        facts,
    )
