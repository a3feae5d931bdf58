"""Restart policies: whether a container that exited is started again, and after how long."""

from __future__ import annotations

from lamina.container.document import mapping, number, text
from lamina.container.model import Container

BACKOFF_RESET = 10.0
"""A run longer than this (seconds) starts the back-off anew."""
_FIRST, _LONGEST = 0.1, 60.0


def next_backoff(last: float) -> float:
    """Seconds to wait: 0.1, then twice the last, at most a minute."""
    return min(_LONGEST, last * 2) if last else _FIRST


def wants_restart(container: Container, code: int) -> bool:
    """Whether the policy starts it again after an exit with that code."""
    policy = mapping(container.host_config, "RestartPolicy")
    name, limit, state = text(policy, "Name"), number(policy, "MaximumRetryCount"), container.state
    if state.stopped_by_user:
        return False
    if name == "on-failure":
        return code != 0 and (limit == 0 or state.restart_count < limit)
    return name in ("always", "unless-stopped")


def wants_start(container: Container) -> bool:
    """Whether the policy starts it when the engine starts: it ran before, and for unless-stopped nobody had stopped it."""
    name, state = text(mapping(container.host_config, "RestartPolicy"), "Name"), container.state
    if not state.started_ns:
        return False
    return name == "always" or (name in ("unless-stopped", "on-failure") and wants_restart(container, state.exit_code))
