"""`lamina update`."""

from __future__ import annotations

from lamina.cli.flags import Arguments, UsageError
from lamina.cli.hostconfig import limits
from lamina.cli.session import Session
from lamina.client.containers import Containers


def update(session: Session, arguments: Arguments) -> int:
    """Change limits and restart policies of containers, whether they run or not."""
    changes = limits(arguments)
    if not changes:
        raise UsageError("you must provide one or more flags when using this command")
    containers = Containers(session.engine)

    def one(name: str) -> None:
        warnings = containers.update(name, changes).get("Warnings")
        for warning in warnings if isinstance(warnings, list) else []:
            session.warn(str(warning))

    return session.each(arguments.words, one)
