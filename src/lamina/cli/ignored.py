"""Which files of a build context are sent: `NAME.dockerignore` beside the Dockerfile, else `.dockerignore`."""

from __future__ import annotations

import os
from collections.abc import Callable

Decides = Callable[[str], bool]


def ignore_file(root: str, dockerfile: str) -> str:
    """The host path of the one that counts for the context `root`; "" where there is none. `dockerfile` is a host path, too, within the
    context or not, or "" where the Dockerfile is no file."""
    beside = [f"{dockerfile}.dockerignore"] if dockerfile else []
    return next((place for place in (*beside, os.path.join(root, ".dockerignore")) if os.path.isfile(place)), "")


def read(path: str) -> tuple[Decides, Decides]:
    """Whether a path of the context is sent, and whether something below a directory that is not may be, by the file at `path` ("": all is).

    Raises:
        InvalidPattern: names the file.
    """
    if not path:
        return lambda path: True, lambda path: True
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        return _kept(file.read(), os.path.basename(path))


def _kept(text: str, name: str) -> tuple[Decides, Decides]:
    # the Dockerfile language is a room of its own; only this command needs a part of it here
    from lamina.dockerfile.ignore import Ignore, InvalidPattern

    try:
        rules = Ignore.parse(text)
    except InvalidPattern as error:
        raise InvalidPattern(f"{name}: {error.message}") from None
    return lambda path: not rules.excludes(path), rules.may_descend
