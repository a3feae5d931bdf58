"""What becomes of a build's result: an image with names, or files that go to the client."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping

from lamina.builder.build import Builder
from lamina.buildkit.failure import FAILED_PRECONDITION, Refused
from lamina.buildkit.messages import Exporter, SolveRequest
from lamina.buildkit.sessions import Session, Sessions
from lamina.buildkit.status import Log
from lamina.image.model import Image
from lamina.spec.reference import Reference

_WORDS = {"local": "exporting to client directory", "tar": "exporting to client tarball"}


class Exports:
    """Carries exporters out."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder

    def carry_out(self, asked: SolveRequest, image: Image | None, log: Log, sessions: Sessions) -> Mapping[str, str]:
        """Do what `asked` wants done with `image`: the ExporterResponse.

        Raises:
            Refused: an exporter is not here, or the client cannot take what it asked for.
        """
        exporters = asked.exporters or ((Exporter(asked.exporter, asked.exporter_attrs),) if asked.exporter else ())
        answer: dict[str, str] = {}
        for number, exporter in enumerate(exporters):
            if image is None:
                raise Refused("the build gave no image to export", code=FAILED_PRECONDITION)
            if exporter.type in ("moby", "image"):
                answer |= self._named(image, exporter, log)
            elif exporter.type in _WORDS:
                self._sent(image, number, exporter.type, log, sessions.get(asked.session))
            else:
                raise Refused(f"the exporter {exporter.type[:50]} is not supported: image, local and tar are", code=FAILED_PRECONDITION)
        return answer

    def _named(self, image: Image, exporter: Exporter, log: Log) -> Mapping[str, str]:
        work = log.work("exporting to image")
        work.moved("exporting layers", 0, done=True)
        names = [Reference.parse(name).with_default_tag() for name in exporter.attrs.get("name", "").split(",") if name]
        image = self._builder.publish(image, names)
        work.moved(f"writing image {image.id}", 0, done=True)
        for name in names:
            work.moved(f"naming to {name}", 0, done=True)
        work.done()
        found = {"containerimage.config.digest": str(image.id), "containerimage.digest": str(image.id)}
        return {**found, "image.name": ",".join(str(name) for name in names)} if names else found

    def _sent(self, image: Image, number: int, kind: str, log: Log, session: Session) -> None:
        work = log.work(_WORDS[kind])
        with tempfile.TemporaryDirectory(prefix="build-", dir=self._builder.scratch) as scratch:
            path = os.path.join(scratch, "files.tar")
            self._builder.export(image, path)
            send = session.send_tree if kind == "local" else session.send_file
            send(number, path)
            work.moved("copying files", os.path.getsize(path), done=True)
        work.done()
