"""A bundle's hooks in a plan: which steps run them, and what the launcher and the monitor run of them. Pure; `hooks` runs them.

prestart, createRuntime    the launcher, on the host, when the namespaces and the mounts stand
createContainer            init, in the container's namespaces, a program of the host's: the root is entered after that
startContainer             init, inside, as who the command will be, right before it
poststart                  whoever started it, before it says that it is started
poststop                   whoever removes it, also after a launch that failed
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lamina.runtime.plan import InvalidSpec, Plan, Step

KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_BEFORE_ROOT = KINDS[:3]


def adapted(made: Plan, asked: Mapping[str, Any], about: Mapping[str, Any], place: str) -> Plan:
    """`made` with the hooks that init runs.

    `about` is the container's state, without status and pid. Where a hook is to see the mounts before the root is entered, the root is put
    at `place` on the host first, in the container's own mount namespace.

    Raises:
        InvalidSpec: an entry is not a hook.
    """
    steps = list(made.steps)
    if any(asked.get(kind) for kind in _BEFORE_ROOT):
        go = steps.index(["wait", "go"])
        steps.insert(go, ["reached"])
        if ["enter_root", "root"] in steps:
            steps[steps.index(["enter_root", "root"])] = ["place_root", "root", place]
            steps.insert(go + 2, ["enter_placed_root"])
    if inside := entries(asked, "createContainer"):
        go = steps.index(["wait", "go"])
        steps.insert(go + 1, _step(inside, about, "creating"))
    if inside := entries(asked, "startContainer"):
        steps.insert(len(steps) - 1, _step(inside, about, "created"))
    return replace(made, steps=steps)


def document(asked: Mapping[str, Any], about: Mapping[str, Any], bundle: str = "") -> dict[str, Any]:
    """What launcher and monitor run; `bundle` is a directory that goes with the container."""
    return {
        # runtime-tools' validation wants prestart to hear "created", as before there were others.
        "create": [["created", entries(asked, "prestart")], ["creating", entries(asked, "createRuntime")]],
        "seen": any(asked.get(kind) for kind in _BEFORE_ROOT),
        "poststart": entries(asked, "poststart"),
        "poststop": entries(asked, "poststop"),
        "about": dict(about),
        "bundle": bundle,
    }


def entries(asked: Mapping[str, Any], *kinds: str) -> list[list[Any]]:
    """The hooks of these kinds as `hooks` takes them.

    Raises:
        InvalidSpec: one has no absolute path, or a timeout that is not positive.
    """
    return [_entry(kind, hook) for kind in kinds for hook in asked.get(kind) or []]


def _entry(kind: str, hook: Mapping[str, Any]) -> list[Any]:
    path, seconds = hook.get("path"), hook.get("timeout")
    if not isinstance(path, str) or not path.startswith("/"):
        raise InvalidSpec(f"a {kind} hook needs an absolute path")
    if seconds is not None and not (isinstance(seconds, int) and seconds > 0):
        raise InvalidSpec(f"{kind} hook {path[:200]}: the timeout must be greater than zero")
    words: Sequence[str] = hook.get("args") or [path]
    variables: Sequence[str] = hook.get("env") or []
    if "\0" in "".join([path, *words, *variables]):
        raise InvalidSpec(f"{kind} hook {path[:200]}: a NUL is in its words")
    return [path, list(words), dict(entry.split("=", 1) for entry in variables if "=" in entry), seconds or 0]


def _step(found: list[list[Any]], about: Mapping[str, Any], status: str) -> Step:
    """init alone knows its pid in there: it puts it between two halves of the text."""
    before, _, after = json.dumps({**about, "status": status, "pid": 0}).rpartition('"pid": 0')
    return ["hooks", found, f'{before}"pid": ', after]
