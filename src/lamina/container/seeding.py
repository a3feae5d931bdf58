"""A new container's empty volumes take the image's content."""

from __future__ import annotations

from lamina.container.launching import Launcher
from lamina.container.model import Container
from lamina.container.parts import Parts


class Seeder:
    """Fills volumes."""

    def __init__(self, parts: Parts, launcher: Launcher) -> None:
        self._parts, self._launcher = parts, launcher

    def seed(self, record: Container) -> None:
        """Copy what the image has at the target of each empty volume that wants it."""
