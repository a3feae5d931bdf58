"""Which files of a build context are sent: `NAME.dockerignore` beside the Dockerfile, else `.dockerignore`."""

from __future__ import annotations

import os
from collections.abc import Callable

Decides = Callable[[str], bool]


def read(root: str, dockerfile: str) -> tuple[Decides, Decides]:
    """Whether a path of the context is sent, and whether something below a directory that is not may be. Raises InvalidPattern."""
    for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
        path = os.path.join(root, name)
        if os.path.isfile(path):
            with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
                return _kept(file.read(), os.path.basename(name))
    return lambda path: True, lambda path: True


def _kept(text: str, name: str) -> tuple[Decides, Decides]:
    # the Dockerfile language is a room of its own; only this command needs a part of it here
    from lamina.dockerfile.ignore import Ignore, InvalidPattern

    try:
        rules = Ignore.parse(text)
    except InvalidPattern as error:
        raise InvalidPattern(f"{name}: {error.message}") from None
    return lambda path: not rules.excludes(path), rules.may_descend
