"""Content trust: what is asked to be verified and cannot be is refused, never passed over. docs/decisions/0023 says why."""

from __future__ import annotations

from lamina.errors import Unsupported

TYPE_CHECKING = False  # the name type checkers know; typing would cost 2 ms
if TYPE_CHECKING:
    from lamina.cli.flags import Arguments
    from lamina.cli.session import Session

_FALSE = ("", "0", "f", "F", "false", "FALSE", "False")
"""What does not ask for it; whatever else the variable says does, as with docker."""


def refuse(session: Session, arguments: Arguments, what: str) -> None:
    """End the command if signatures are to be verified: by the flag, or by DOCKER_CONTENT_TRUST where the flag says nothing.

    Raises:
        Unsupported: nothing was asked of the engine.
    """
    asked = session.environment.get("DOCKER_CONTENT_TRUST", "") not in _FALSE
    if not arguments.on("disable-content-trust", default=not asked):
        raise Unsupported(what, hint="name images by the digests that you trust, and use --disable-content-trust")
