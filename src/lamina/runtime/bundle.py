"""Docker's default confinement as an OCI runtime specification: pure functions from what was asked to a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lamina.runtime.initlayer import EtcFiles
from lamina.runtime.launch import Limits, Mount

CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID",
    "SETUID", "SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
)  # fmt: skip
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def default_spec(
    *,
    args: Sequence[str],
    env: Sequence[str] = (),
    cwd: str = "/",
    hostname: str = "",
    tty: bool = False,
    readonly: bool = False,
    privileged: bool = False,
    cap_add: Sequence[str] = (),
    cap_drop: Sequence[str] = (),
    network: str = "none",
    netns: str = "",
    mounts: Sequence[Mount] = (),
    etc: EtcFiles | None = None,
    limits: Limits | None = None,
    devices: Sequence[Mapping[str, Any]] = (),
    security: Sequence[str] = (),
    sysctls: Mapping[str, str] | None = None,
    cgroup_path: str = "",
    shm_size: int = 64 << 20,
    oom_score_adj: int = 0,
    init: str = "",
) -> dict[str, Any]:
    """The specification of one container.

    `env` are `NAME=value`; PATH, HOSTNAME and (with a terminal) TERM are put in front where absent, HOME is set at start.
    `network` is none or host; `netns` is the path of a network namespace to join, and wins.
    `security` are Docker's --security-opt (no-new-privileges, seccomp=unconfined|<JSON>, systempaths=unconfined).
    `init` is the host path of a static init (tini) bound at /sbin/docker-init and run as PID 1.
    """
    raise NotImplementedError


def exec_process(
    spec: Mapping[str, Any],
    *,
    args: Sequence[str],
    env: Sequence[str] = (),
    cwd: str = "",
    tty: bool = False,
    privileged: bool = False,
) -> dict[str, Any]:
    """The OCI process of one more command in the container of `spec`; `env` is added to the container's, `cwd` defaults to its."""
    raise NotImplementedError
