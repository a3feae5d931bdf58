"""The one place where an error becomes a response: `{"message": …}` as Docker's clients read it."""

from __future__ import annotations

import errno
import logging
from pathlib import PurePath

from lamina.api.message import Reply, encode, json_reply
from lamina.errors import Exhausted, LaminaError

_log = logging.getLogger("lamina.api")


def failure(error: Exception) -> Reply:
    """The reply that reports `error`; what is not a LaminaError is a fault of our own and is logged with its trace."""
    error = _exhausted(error)
    if not isinstance(error, LaminaError):
        return json_reply({"message": internal_message(error), "code": "internal"}, 500)
    if error.http_status == 304:
        return Reply(304)
    return json_reply({"message": str(error), "code": error.code}, error.http_status)


def message_of(error: Exception) -> str:
    """The sentence that reports `error` inside a stream."""
    error = _exhausted(error)
    return str(error) if isinstance(error, LaminaError) else internal_message(error)


def _exhausted(error: Exception) -> Exception:
    """A full disk is not a fault of ours, wherever it shows."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    place = f" of {error.filename}" if isinstance(error.filename, str) else " of the data root"
    return Exhausted(f"no space left on the disk{place}", hint="free some, or run `lamina system prune`")


def stream_failure(error: Exception) -> bytes:
    """The line that reports `error` at the end of a progress stream."""
    message = message_of(error)
    detail: dict[str, object] = {"message": message}
    status = getattr(error, "status", None)  # of a build's failed step: its exit code
    if isinstance(status, int):
        detail["code"] = status
    return encode({"errorDetail": detail, "error": message})


def internal_message(error: Exception) -> str:
    """One sentence for a fault of our own; the trace goes to the log."""
    _log.error("a request failed", exc_info=error)
    if isinstance(error, OSError) and error.strerror:
        where = f": {PurePath(error.filename).name}" if isinstance(error.filename, str) else ""
        return f"the system refused: {error.strerror.lower()}{where}"
    return f"internal error: {type(error).__name__}: {error}"
