"""Which files of a build context are sent: `NAME.dockerignore` beside the Dockerfile, else `.dockerignore`."""

from __future__ import annotations

import os
from collections.abc import Callable


def read(root: str, dockerfile: str) -> Callable[[str], bool]:
    """Whether a path of the context is sent. Raises InvalidPattern."""
    for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
        path = os.path.join(root, name)
        if os.path.isfile(path):
            with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
                return _kept(file.read(), os.path.basename(name))
    return lambda path: True


def _kept(text: str, name: str) -> Callable[[str], bool]:
    # the Dockerfile language is a room of its own; only this command needs a part of it here
    from lamina.dockerfile.ignore import Ignore, InvalidPattern

    try:
        rules = Ignore.parse(text)
    except InvalidPattern as error:
        raise InvalidPattern(f"{name}: {error.message}") from None
    return lambda path: not rules.excludes(path)
