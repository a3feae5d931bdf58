"""Seccomp profiles of one's own, in Docker's format: an OCI `linux.seccomp` document whose rules may hold for some hosts and
capabilities only."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lamina.errors import InvalidArgument

_NATIVE = {"x86_64": ("amd64", "SCMP_ARCH_X86_64"), "aarch64": ("arm64", "SCMP_ARCH_AARCH64")}
_DROPPED = frozenset({"archMap", "syscalls"})
_OF_A_RULE = frozenset({"name", "names", "comment", "includes", "excludes"})
_KERNEL = re.compile(r"(\d+)\.(\d+)")


class InvalidOption(InvalidArgument):
    """An option for a container's confinement is malformed."""


def filter_of(text: str, held: Collection[str], machine: str, release: str) -> dict[str, Any]:
    """The OCI `linux.seccomp` document of a profile, for a container that holds these capabilities (without `CAP_`), on `machine` (uname's
    word) with the kernel `release`.

    Raises:
        InvalidOption: it is not a profile, or says something in two ways.
    """
    try:
        document = json.loads(text)
    except ValueError:
        raise InvalidOption("the seccomp profile is not JSON") from None
    if not isinstance(document, dict) or not isinstance(document.get("defaultAction"), str):
        raise InvalidOption("the seccomp profile has no defaultAction")
    if document.get("architectures") and document.get("archMap"):
        raise InvalidOption("both 'architectures' and 'archMap' are specified in the seccomp profile, use either")
    architecture, native = _NATIVE.get(machine, (machine, ""))
    found = {key: value for key, value in document.items() if key not in _DROPPED}
    for entry in _objects(document, "archMap"):
        if entry.get("architecture") == native:
            found["architectures"] = [native, *(entry.get("subArchitectures") or [])]
    rules = [_rule(rule) for rule in _objects(document, "syscalls") if _holds(rule, held, architecture, release)]
    return {"architectures": [], **found, "syscalls": rules}


def _objects(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    entries = document.get(key) or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidOption(f"{key} of the seccomp profile is not a list of objects")
    return entries


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    names = rule.get("names") or []
    if rule.get("name"):
        if names:
            raise InvalidOption("both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'")
        names = [rule["name"]]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidOption("names of the seccomp profile is not a list of strings")
    return {"names": names, **{key: value for key, value in rule.items() if key not in _OF_A_RULE}}


def _holds(rule: Mapping[str, Any], held: Collection[str], architecture: str, release: str) -> bool:
    """Whether a rule is for this host and container: nothing that it excludes, everything that it includes."""
    excludes, includes = rule.get("excludes") or {}, rule.get("includes") or {}
    if not isinstance(excludes, dict) or not isinstance(includes, dict):
        raise InvalidOption("includes and excludes of the seccomp profile are objects")
    if architecture in _strings(excludes, "arches") or any(_plain(name) in held for name in _strings(excludes, "caps")):
        return False
    if excludes.get("minKernel") and _at_least(release, excludes["minKernel"]):
        return False
    if includes.get("arches") and architecture not in _strings(includes, "arches"):
        return False
    if not all(_plain(name) in held for name in _strings(includes, "caps")):
        return False
    return not includes.get("minKernel") or _at_least(release, includes["minKernel"])


def _strings(document: Mapping[str, Any], key: str) -> Sequence[str]:
    return [entry for entry in document.get(key) or [] if isinstance(entry, str)]


def _plain(capability: str) -> str:
    return capability.upper().removeprefix("CAP_")


def _at_least(release: str, wanted: object) -> bool:
    here, asked = _KERNEL.match(release), _KERNEL.match(str(wanted))
    if here is None or asked is None:
        raise InvalidOption(f"minKernel of the seccomp profile is not a version: {str(wanted)[:100]}")
    return tuple(map(int, here.groups())) >= tuple(map(int, asked.groups()))
