"""What can be wrong with a layer. Raised throughout this room."""

from __future__ import annotations

from lamina.errors import Corrupt, Exhausted, InvalidArgument, NotFound, Unsupported


class InvalidArchive(InvalidArgument):
    """A tar breaks its format, or does what no layer may."""


class TruncatedArchive(InvalidArchive):
    """A tar or its compression ends in the middle."""


class ArchiveTooLarge(Exhausted):
    """An archive unpacks to more than a stated limit."""


class UnsupportedArchive(Unsupported):
    """The archive is sound but holds what cannot be kept here."""


class LayerDamaged(Corrupt):
    """What is stored of a layer is not what was written; it is never mounted."""


class PathNotFound(NotFound):
    """No layer shows that path."""


def shown(path: bytes) -> str:
    """A path from an archive as an error message shows it: printable, quoted, not endless."""
    text = path.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 200 else f"{text[:200]}…")
