"""One build as BuildKit's clients drive it: a solve, its status, the gateway's calls in between, and what becomes of the result."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from lamina.builder.build import Builder
from lamina.builder.execute import StepFailed
from lamina.builder.given import Given
from lamina.builder.request import BuildRequest, Cancellation, Context
from lamina.buildkit.asked import Asked
from lamina.buildkit.failure import UNAVAILABLE, Refused, blamed_lines, failed_vertex
from lamina.buildkit.fetching import Files
from lamina.buildkit.messages import Definition, Status
from lamina.buildkit.sessions import GivenAgents, GivenSecrets, Session, Sessions
from lamina.buildkit.status import Log, Narration, Work
from lamina.dockerfile.errors import DockerfileError
from lamina.errors import Cancelled, LaminaError
from lamina.image.model import Image

_BLAMED = re.compile(r"^[^\s:]+:(\d+): ")
_WAIT = 30.0
_UNHEARD = 16
"""How many logs are kept that nobody has asked for when their solves ended: a solve that fails at once is over before its client asks."""


@dataclass(slots=True)
class Solve:
    """What is known of one `ref`: its log, its results by their IDs, and what the client returned in the end."""

    log: Log
    cancellation: Cancellation = field(default_factory=Cancellation)
    session: str = ""
    results: dict[str, Image] = field(default_factory=dict)
    returned: threading.Event = field(default_factory=threading.Event)
    result: Image | None = None
    error: Status | None = None

    def give(self, ref: str, error: Status | None) -> None:
        """The client says what came of it: a result's ID, or an error."""
        self.result, self.error = self.results.get(ref), error
        self.returned.set()

    def outcome(self) -> Image | None:
        """Wait for `give`.

        Raises:
            Refused: the client returned an error, or the solve was given up.
        """
        self.returned.wait()
        self.cancellation.check()
        if self.error is not None:
            raise Refused(self.error.message, code=self.error.code, details=self.error.details)
        return self.result


class Solves:
    """Those that are going on, by their refs; whoever asks for one that is yet to begin waits for it. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open: dict[str, Solve] = {}
        self._unheard: dict[str, Log] = {}

    @contextmanager
    def begun(self, ref: str, session: str) -> Iterator[Solve]:
        """A solve, until the context is left."""
        solve = Solve(Log(ref), session=session)
        with self._changed:
            self._open[ref] = solve
            self._changed.notify_all()
        try:
            yield solve
        finally:
            solve.log.close()
            with self._changed:
                self._open.pop(ref, None)
                if not solve.log.followed:
                    self._unheard[ref] = solve.log
                for oldest in list(self._unheard)[:-_UNHEARD]:
                    del self._unheard[oldest]

    def get(self, ref: str) -> Solve:
        """The solve of that ref.

        Raises:
            Refused: none began.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: ref in self._open, _WAIT):
                raise _none(ref)
            return self._open[ref]

    def log(self, ref: str) -> Log:
        """What is told of the solve of that ref, also of one that ended before anybody asked.

        Raises:
            Refused: none began.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: ref in self._open or ref in self._unheard, _WAIT):
                raise _none(ref)
            return self._unheard.pop(ref) if ref in self._unheard else self._open[ref].log


def _none(ref: str) -> Refused:
    return Refused(f"no such job {ref[:80]}", code=UNAVAILABLE)


class Frontend:
    """Carries out what the Dockerfile frontend is asked for."""

    def __init__(self, builder: Builder, sessions: Sessions) -> None:
        self._builder, self._sessions = builder, sessions

    def build(self, solve: Solve, asked: Asked, inputs: Mapping[str, Definition]) -> tuple[str, Image]:
        """Build; the image and the ID by which the client may name it. `inputs` are results of other builds.

        Raises:
            Refused: it failed, with what the client shows beside the reason.
        """
        os.makedirs(self._builder.scratch, exist_ok=True)
        session = self._sessions.get(asked.session or solve.session)
        with tempfile.TemporaryDirectory(prefix="build-", dir=self._builder.scratch) as scratch:
            files = Files(self._sessions, asked, solve.log, scratch, self._plain(asked))
            request = replace(self._request(asked, session), contexts=files.contexts(inputs))
            image = self._built(solve, files, request)
        ref = secrets.token_hex(12)
        solve.results[ref] = image
        return ref, image

    def _plain(self, asked: Asked) -> Callable[[str], bool]:
        return (lambda _: False) if asked.pulls else self._builder.plain

    def _request(self, asked: Asked, session: Session) -> BuildRequest:
        given = Given(GivenSecrets(session), GivenAgents(session))
        return asked.request(given, lambda reference: session.credentials(reference.domain))

    def _built(self, solve: Solve, files: Files, request: BuildRequest) -> Image:
        definition, text, request = self._defined(files, request)
        narration = Narration(solve.log, definition)
        try:
            return self._builder.told(request, narration, solve.cancellation)
        except Cancelled:
            raise
        except LaminaError as error:
            raise _failure(error, narration, definition, files.asked.filename, text) from None

    def _defined(self, files: Files, request: BuildRequest) -> tuple[Work, bytes, BuildRequest]:
        """The request with its Dockerfile and its context; the vertex that the Dockerfile came by, and its text."""
        if files.asked.remote and not files.asked.dockerfile_local:
            work = files.log.work("[internal] load remote build context")
            work.done()
            return work, b"", replace(request, context=files.remote())
        local = files.definition()
        context = files.remote() if files.asked.remote else Context(tar=files.context(local))
        text = local.text.decode("utf-8", "surrogateescape")
        return local.work, local.text, replace(request, context=context, text=text, ignore=local.ignore)


def _failure(error: LaminaError, narration: Narration, definition: Work, filename: str, text: bytes) -> Refused:
    """The reason as clients of BuildKit know it, with the lines of the Dockerfile that are to blame."""
    message = str(error)
    match = _BLAMED.match(message)
    line = int(match[1]) if match else 0
    message = message[match.end() :] if match else message
    if match and isinstance(error, DockerfileError):
        message = f"dockerfile parse error on line {line}: {message}"
    if isinstance(error, StepFailed) and error.argv:
        message = f'process "{" ".join(error.argv)}" did not complete successfully: exit code: {error.status}'
    instruction, work = narration.failure(message)
    definition.done()
    first, last = (instruction.line, instruction.end_line) if instruction and instruction.line else (line, line)
    details = [failed_vertex(work.digest)] if work else []
    if first and text:
        details.append(blamed_lines(filename, text, first, max(first, last)))
    return Refused(message, details=details)
