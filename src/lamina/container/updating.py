"""Changing limits and the restart policy of a container, while it runs or not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lamina.container import resources
from lamina.container.checking import check_restart
from lamina.container.devices import device_number
from lamina.container.document import Document, flag, mapping, refuse_nul, text
from lamina.container.live import Live
from lamina.container.model import State, WrongState
from lamina.container.parts import Parts, Process
from lamina.container.spec import limits
from lamina.container.store import ContainerStore
from lamina.errors import Conflict, LaminaError
from lamina.runtime import bundle
from lamina.runtime.process import ProcessGone

_AS_CREATED = frozenset({"Ulimits", "OomKillDisable", "CpuCount", "CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth"})
"""Of the limits those that no update changes: it passes over them, as Docker's does."""


class CannotUpdate(Conflict):
    """The changes contradict what the container has, or the kernel refuses them."""


class Updater:
    """See Containers.update. Thread-safe."""

    def __init__(self, parts: Parts, store: ContainerStore) -> None:
        self._parts, self._store = parts, store

    def update(self, live: Live, changes: Document) -> tuple[str, ...]:
        """Change what is given; Docker's warnings. Where the kernel refuses a limit, everything is as it was."""
        refuse_nul(changes)
        policy = mapping(changes, "RestartPolicy")
        check_restart(policy, auto_remove=False)
        wanted = {key: value for key, value in changes.items() if key in resources.KEYS - _AS_CREATED}
        checked, warnings = resources.checked(wanted, self._parts.abilities, update=True)
        with live.lock:
            if live.removing or live.state.status is State.DEAD:
                raise WrongState(f'Cannot update container {live.container.id}: container is marked for removal and cannot be "update"')
            host = self._merged(live, checked, policy)
            if live.process is not None:
                self._apply(live, live.process, checked)
            changed = replace(live.container, host_config=host)
            self._store.save(changed)
            live.container = changed
        self._parts.emit(live.event("update"))
        return warnings

    def _merged(self, live: Live, checked: Document, policy: Document) -> dict[str, Any]:
        container = live.container
        try:
            host = resources.merged(container.host_config, checked)
        except resources.InvalidLimit as error:
            raise CannotUpdate(f"Cannot update container {container.id}: {error.message}") from None
        if not text(policy, "Name"):
            return host
        if flag(host, "AutoRemove") and text(policy, "Name") != "no":
            raise CannotUpdate(
                f"Cannot update container {container.id}: Restart policy cannot be updated because AutoRemove is enabled for the container"
            )
        return {**host, "RestartPolicy": {"Name": text(policy, "Name"), "MaximumRetryCount": policy.get("MaximumRetryCount") or 0}}

    def _apply(self, live: Live, process: Process, checked: Document) -> None:
        """Set the limits now; what was set of them before a refusal is taken back."""
        container = live.container
        try:
            process.limit(bundle.resources(limits(checked, device_number)))
        except ProcessGone:  # it ended just now
            return
        except (OSError, LaminaError) as error:
            if process.ended:  # its control group went with it
                return
            before = {key: container.host_config.get(key) for key in checked}
            try:
                process.limit(bundle.resources(limits(before, device_number)))
            except (OSError, LaminaError):
                pass
            words = error.message if isinstance(error, LaminaError) else error.strerror
            raise CannotUpdate(f"Cannot update container {container.id}: {words}") from None
