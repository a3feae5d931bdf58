"""What becomes of a build's result: an image with names, or files that go to the client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lamina.buildkit.failure import FAILED_PRECONDITION, Refused
from lamina.buildkit.messages import Exporter, SolveRequest
from lamina.buildkit.session import Sessions
from lamina.buildkit.status import Log
from lamina.image.model import Image
from lamina.spec.descriptor import Descriptor
from lamina.spec.reference import Reference


class Images(Protocol):
    """What exports need of image.store.Images."""

    def tag(self, source: str, target: Reference) -> Image: ...

    def resolved(self, image: Image) -> Descriptor: ...


class Exports:
    """Carries exporters out."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def carry_out(self, asked: SolveRequest, image: Image | None, log: Log, sessions: Sessions) -> Mapping[str, str]:
        """Do what `asked` wants done with `image`: the ExporterResponse.

        Raises:
            Refused: an exporter is not here.
        """
        exporters = asked.exporters or ((Exporter(asked.exporter, asked.exporter_attrs),) if asked.exporter else ())
        answer: dict[str, str] = {}
        for exporter in exporters:
            if image is None:
                raise Refused("the build gave no image to export", code=FAILED_PRECONDITION)
            if exporter.type in ("moby", "image"):
                answer |= self._named(image, exporter, log)
            else:
                raise Refused(f"the exporter {exporter.type[:50]} is not here", code=FAILED_PRECONDITION)
        return answer

    def _named(self, image: Image, exporter: Exporter, log: Log) -> Mapping[str, str]:
        work = log.work("exporting to image")
        work.moved("exporting layers", 0, done=True)
        work.moved(f"writing image {image.id}", 0, done=True)
        names = [name for name in exporter.attrs.get("name", "").split(",") if name]
        for name in names:
            target = Reference.parse(name).with_default_tag()
            self._images.tag(str(image.id), target)
            work.moved(f"naming to {target}", 0, done=True)
        work.done()
        found = {"containerimage.config.digest": str(image.id), "containerimage.digest": str(image.id)}
        if names:
            found["image.name"] = ",".join(str(Reference.parse(name).with_default_tag()) for name in names)
        return found
