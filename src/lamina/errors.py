"""The error tree, and the only table of codes.

    LaminaError                  code              HTTP  exit
    ├── InvalidArgument          invalid_argument  400   1
    ├── Unauthorized             unauthorized      401   1
    ├── Forbidden                forbidden         403   1
    ├── NotFound                 not_found         404   1
    ├── Conflict                 conflict          409   1
    ├── NotModified              not_modified      304   0
    ├── Corrupt                  corrupt           500   1   stored or received bytes are not what they should be
    ├── Exhausted                exhausted         507   1   disk, quota or a stated limit
    ├── Unsupported              unsupported       501   1   this kernel or this version cannot do it
    ├── Unavailable              unavailable       503   1   another party did not answer
    ├── Cancelled                cancelled         499   130
    └── Internal                 internal          500   1

A leaf class lives beside the code that raises it and inherits one of these kinds. A message is one
sentence in lower case without a full stop that names the thing; advice goes into `hint`.
"""

from __future__ import annotations


class LaminaError(Exception):
    """Any failure Lamina reports. `message` is one sentence; `hint`, if any, says what to do."""

    code = "internal"
    http_status = 500
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InvalidArgument(LaminaError):
    """What was asked for is malformed."""

    code, http_status = "invalid_argument", 400


class Unauthorized(LaminaError):
    """Credentials are missing or wrong."""

    code, http_status = "unauthorized", 401


class Forbidden(LaminaError):
    """The credentials do not allow it."""

    code, http_status = "forbidden", 403


class NotFound(LaminaError):
    """Nothing has that name or ID."""

    code, http_status = "not_found", 404


class Conflict(LaminaError):
    """The present state does not allow it."""

    code, http_status = "conflict", 409


class NotModified(LaminaError):
    """It is already so."""

    code, http_status, exit_code = "not_modified", 304, 0


class Corrupt(LaminaError):
    """Stored or received bytes are not what they should be."""

    code = "corrupt"


class Exhausted(LaminaError):
    """A disk, a quota or a stated limit is used up."""

    code, http_status = "exhausted", 507


class Unsupported(LaminaError):
    """This kernel, or this version of Lamina, cannot do it."""

    code, http_status = "unsupported", 501


class Unavailable(LaminaError):
    """Another party did not answer, or answered that it cannot."""

    code, http_status = "unavailable", 503


class Cancelled(LaminaError):
    """The caller went away or asked to stop."""

    code, http_status, exit_code = "cancelled", 499, 130


class Internal(LaminaError):
    """A fault of Lamina's own."""
