"""Descriptors that several have, and that the last of them closes."""

from __future__ import annotations

import os


class Owned(int):
    """A descriptor's number; the descriptor is closed when nobody has this object any more.

    Who only copied the number may find somebody else's file under it.
    """

    def __del__(self) -> None:
        os.close(self)
