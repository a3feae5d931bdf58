"""Why files cannot be copied in or out. Raised in workers too, so this imports nothing else."""

from __future__ import annotations

from lamina.errors import Conflict, Forbidden, InvalidArgument, NotFound


class PathNotFound(NotFound):
    """The container has no such path."""


class NotADirectory(InvalidArgument):
    """Something that is not a directory cannot be extracted into."""


class ReadOnlyPath(Forbidden):
    """The root file system or the mount is read-only."""


class BadArchive(InvalidArgument):
    """The stream is not a tar, or tries to leave its root."""


class PathBusy(Conflict):
    """Something is mounted there, which cannot be replaced."""


class CannotOverwrite(InvalidArgument):
    """A directory would take the place of something else, or the other way round."""


class TooDeep(InvalidArgument):
    """Directories lie in one another deeper than can be followed: each is open while it is looked into."""
