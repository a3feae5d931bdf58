"""RUN --mount=type=secret and ssh: where what the client gives is shown to a command."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lamina.builder.given import Given
from lamina.builder.mounting import Shown
from lamina.dockerfile.mounts import Mount
from lamina.errors import InvalidArgument, Unsupported

_FLAGS = {"secret": "--secret id={},src=FILE", "ssh": "--ssh {}"}
_MODES = {"secret": 0o400, "ssh": 0o600}


class CannotGive(Unsupported):
    """A RUN asks for what the client cannot carry or this builder does not give."""


class NotGiven(InvalidArgument):
    """A secret or an agent that a RUN requires was not given."""


class Giving:
    """The secrets and agents of one build as its mounts ask for them."""

    def __init__(self, given: Given | None) -> None:
        self._given = given

    def placed(self, mount: Mount, cwd: str, number: int) -> Mount:
        """The mount with ID and target as BuildKit chooses them; `number` is its place among those of its RUN.

        Raises:
            CannotGive: the client's request cannot carry such things.
        """
        if self._given is None:
            raise CannotGive(
                f"RUN --mount=type={mount.kind} cannot be given by this client: the classic builder's request carries neither secrets nor agents",
                hint=f"use lamina build {_FLAGS[mount.kind].format(mount.id or 'default')}",
            )
        name = mount.id or mount.source or posixpath.basename(mount.target) or "default"
        target = mount.target
        if not target and mount.env is None:
            target = f"/run/secrets/{posixpath.basename(name)}" if mount.kind == "secret" else f"/run/buildkit/ssh_agent.{number}"
        return replace(mount, id=name, target=posixpath.normpath(posixpath.join("/", cwd, target)) if target else "")

    def shown(self, mount: Mount) -> Shown | None:
        """What is mounted; None where nothing of that ID was given, or where it is a variable only.

        Raises:
            NotGiven: it is required.
        """
        given = self._given or Given()
        held = given.secrets if mount.kind == "secret" else given.agents
        if mount.id not in held:
            if mount.required:
                raise NotGiven(f"{mount.kind} {mount.id}: not found", hint=f"give it by lamina build {_FLAGS[mount.kind].format(mount.id)}")
            return None
        if not mount.target:
            return None
        mode = _MODES[mount.kind] if mount.mode is None else mount.mode
        return Shown(
            mount.target,
            secret=given.secrets.get(mount.id) if mount.kind == "secret" else None,
            agent=given.agents.get(mount.id) if mount.kind == "ssh" else None,
            mode=mode,
            uid=mount.uid or 0,
            gid=mount.gid or 0,
        )

    def variables(self, mounts: Sequence[Mount], present: Sequence[str]) -> Iterator[str]:
        """What the command's environment gets besides: secrets that are wanted there, and the first agent's socket."""
        given = self._given or Given()
        for mount in mounts:
            if mount.kind == "secret" and mount.env and mount.id in given.secrets:
                yield f"{mount.env}={given.secrets[mount.id].decode('utf-8', 'surrogateescape')}"
        sockets = [mount.target for mount in mounts if mount.kind == "ssh" and mount.id in given.agents]
        if sockets and not any(word.startswith("SSH_AUTH_SOCK=") for word in present):
            yield f"SSH_AUTH_SOCK={sockets[0]}"
