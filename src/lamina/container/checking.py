"""What of a request is refused before anything is made: values that mean nothing, and options that exclude each other. Pure.

Limits are checked in `resources`, mounts in `mounts`; the words are Docker's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lamina.container.capping import asked_size
from lamina.container.devices import check_devices, device_rules, refuse_requests
from lamina.container.document import Document, flag, mapping, number, refuse_nul, text, texts
from lamina.errors import InvalidArgument
from lamina.linux import capability
from lamina.runtime.bundle import check_security
from lamina.runtime.profiles import InvalidOption
from lamina.runtime.runtimes import Runtimes
from lamina.spec.signals import check_stop_signal

MILLISECOND = 1_000_000
"""Nanoseconds; a health check's durations are at least that."""
_HOST_NAME = 64
_MODES: Mapping[str, tuple[frozenset[str], bool, str]] = {
    # words that are allowed, whether container:ID is, what it is called
    "IpcMode": (frozenset({"", "none", "private", "shareable", "host"}), True, "IPC mode"),
    "PidMode": (frozenset({"", "host"}), True, "PID mode"),
    "UTSMode": (frozenset({"", "host"}), False, "UTS mode"),
    "UsernsMode": (frozenset({"", "host", "auto"}), False, "user namespace mode"),
    "CgroupnsMode": (frozenset({"", "private", "host"}), False, "cgroup namespace mode"),
}
SHARED = ("IpcMode", "PidMode", "NetworkMode")
"""Modes that can name another container."""


class InvalidRequest(InvalidArgument):
    """A value of the request makes no sense."""


def check_config(config: Document) -> None:
    """Refuse what a container's own configuration cannot be.

    Raises:
        InvalidRequest, InvalidSignal, InvalidDocument
    """
    refuse_nul(config, "Labels")
    name = text(config, "Hostname")
    if len(name.encode()) > _HOST_NAME:
        raise InvalidRequest(f'hostname "{name[:200]}" is too long (maximum {_HOST_NAME} bytes)')
    check_directory(config)
    if stop := text(config, "StopSignal"):
        check_stop_signal(stop)
    for entry in texts(config, "Env"):
        if not entry.partition("=")[0]:
            raise InvalidRequest(f"invalid environment variable: {entry[:200]}")
    _check_health(mapping(config, "Healthcheck"))


def check_directory(config: Document) -> None:
    """Refuse a working directory that is not absolute. Raises InvalidRequest."""
    directory = text(config, "WorkingDir")
    if directory and not directory.startswith("/"):
        raise InvalidRequest(f"the working directory '{directory[:200]}' is invalid, it needs to be an absolute path")


def _check_health(health: Document) -> None:
    for key in ("Interval", "Timeout", "StartPeriod", "StartInterval"):
        value = number(health, key)
        if value and value < MILLISECOND:
            raise InvalidRequest(f"{key} in Healthcheck cannot be less than 1ms")
    if number(health, "Retries") < 0:
        raise InvalidRequest("Retries in Healthcheck cannot be negative")
    test = texts(health, "Test")
    if test and test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise InvalidRequest(f"unknown type of health check '{test[0][:100]}' (expected NONE, CMD or CMD-SHELL)")
    if test[:1] in (["CMD"], ["CMD-SHELL"]) and len(test) < 2:
        raise InvalidRequest("the health check has no command")


def check_host(config: Document, host: Document, runtimes: Runtimes) -> None:
    """Refuse what the host's part of a request cannot be. `runtimes` knows the names that --runtime takes.

    Raises:
        InvalidRequest, InvalidDevice, InvalidOption, InvalidDocument, UnknownRuntime
    """
    refuse_nul(host, "Annotations", "LogConfig")
    for key, (words, shared, called) in _MODES.items():
        mode = text(host, key)
        joins = shared and mode.startswith("container:") and mode != "container:"
        if mode not in words and not joins:
            raise InvalidRequest(f"invalid {called}: {mode[:100]}")
    for key, called in (("Hostname", "hostname"), ("Domainname", "domain name")):
        if text(host, "UTSMode") == "host" and text(config, key):
            raise InvalidRequest(f"conflicting options: {called} and the UTS mode")
    if number(host, "ShmSize") < 0:
        raise InvalidRequest("SHM size can not be less than 0")
    if text(host, "Isolation") not in ("", "default"):
        raise InvalidRequest(f"invalid isolation '{text(host, 'Isolation')[:100]}' on linux")
    if "" in mapping(host, "Annotations"):
        raise InvalidRequest("invalid Annotations: the empty string is not permitted as an annotation key")
    runtimes.program(text(host, "Runtime"))
    check_restart(mapping(host, "RestartPolicy"), auto_remove=flag(host, "AutoRemove"))
    _check_capabilities(host)
    check_security(texts(host, "SecurityOpt"))
    if "\n" in (parent := text(host, "CgroupParent")):
        raise InvalidRequest(f"invalid cgroup parent {parent[:200]!r}: a control group's name cannot hold a line break")
    check_devices(host)
    device_rules(texts(host, "DeviceCgroupRules"))
    refuse_requests(host)
    asked_size(host)


def check_restart(policy: Document, *, auto_remove: bool) -> None:
    """Refuse a restart policy that does not exist, or that `auto_remove` excludes. Raises InvalidRequest."""
    name, count = text(policy, "Name"), number(policy, "MaximumRetryCount")
    if name not in ("", "no", "always", "on-failure", "unless-stopped"):
        raise InvalidRequest(
            f"invalid restart policy: unknown policy '{name[:100]}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    if name == "on-failure" and count < 0:
        raise InvalidRequest("invalid restart policy: maximum retry count cannot be negative")
    if name not in ("", "on-failure") and count:
        negative = " and cannot be negative" if count < 0 else ""
        raise InvalidRequest(f"invalid restart policy: maximum retry count can only be used with 'on-failure'{negative}")
    if auto_remove and name not in ("", "no"):
        raise InvalidRequest("can't create 'AutoRemove' container with restart policy")


def _check_capabilities(host: Document) -> None:
    for key in ("CapAdd", "CapDrop"):
        for name in texts(host, key):
            plain = name.upper().removeprefix("CAP_")
            if plain != "ALL" and plain not in capability.NAMES:
                raise InvalidOption(f'invalid {key}: unknown capability: "CAP_{plain[:100]}"')


def with_ids(host: Document, find: Callable[[str], str | None]) -> dict[str, Any]:
    """Modes that name another container with its ID, which it keeps when it is renamed. `find` gives None for one that is not there: only the
    network's may come to be there before the start. Raises InvalidRequest."""
    changed: dict[str, Any] = {}
    for key in SHARED:
        mode, _, ref = text(host, key).partition(":")
        found = find(ref) if mode == "container" and ref else None
        if mode == "container" and ref and not found and key != "NetworkMode":
            raise InvalidRequest(f"No such container: {ref[:200]}")
        if found:
            changed[key] = f"container:{found}"
    return {**host, **changed}
