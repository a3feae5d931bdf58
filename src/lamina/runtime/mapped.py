"""Plans for containers with a user namespace of their own: the ordinary plan, rewritten. Pure.

Root inside is nobody outside, and what it may not do there the launcher does for it:

* layers and binds are id-mapped mounts (mount_setattr), made and given their attributes by the launcher: a file that root inside owns is
  0's on disk, nothing is copied, and commit, diff and volumes see the container's ids
* device nodes are made by the launcher, in a file system of the host's, and bound
* limits and the score for running out of memory are set from outside
* /proc and /sys are made before the root is entered: the kernel lets a user namespace make them only while it sees the host's; devpts is
  made inside, so that terminals belong to whoever is inside, and the terminal's master is sent out
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lamina.errors import Unsupported
from lamina.linux.namespace import CLONE_NEWPID, CLONE_NEWUSER
from lamina.runtime.plan import CGROUPS, InvalidSpec, Plan, Step

_BEFORE_ROOT = ("proc", "sysfs")
_FROM_OUTSIDE = ("oom_score", "limits")


def adapted(made: Plan, spec: Mapping[str, Any]) -> Plan:
    """`made`, or its rewriting where it makes a user namespace.

    Raises:
        InvalidSpec, Unsupported: the mappings are not valid, or it joins namespaces of others.
    """
    theirs = [join for join in made.joins if join[2] == CLONE_NEWUSER]
    if not made.namespaces & CLONE_NEWUSER and not theirs:
        return made
    if made.joins and not theirs:
        raise Unsupported("a container with a user namespace of its own cannot join namespaces of others: they belong to theirs")
    linux = spec["linux"]
    mapping: dict[str, Any] = {"uids": _ranges(linux, "uidMappings"), "gids": _ranges(linux, "gidMappings"), "nodes": [], "sources": []}
    mapping["joined"] = bool(theirs)
    binds = {slot: path for slot, path, *_ in made.sources}
    early: list[Step] = [["wait", "mapped"], ["private_proc"]]
    steps: list[Step] = []
    joined: list[Step] = []
    for step in made.steps:
        if step[0] in ("private_proc", "enter_groups", *_FROM_OUTSIDE) or (step == ["die_with_parent"] and not steps):
            continue
        if step[0] == "join":
            joined.append(step)
        elif step[0] == "label":
            early.append(step)
        elif step[0] == "filesystem" and step[1] in _BEFORE_ROOT:
            _, kind, target, source, options, attributes, strict = step
            slot = f"early:{len(early)}"
            early.append(["make", slot, kind, source, options, attributes])
            steps.append(["attach", slot, target, strict, []])
        elif step[0] == "attach" and step[1] in binds:
            mapping["sources"].append([step[1], step[4], "" if step[1].startswith(CGROUPS) else binds[step[1]]])
            steps.append([*step[:4], []])
        elif step[0] == "attach":
            steps += _devpts(made, step)
        elif step[0] == "nodes":
            mapping["nodes"] = [[f"node:{number}", node] for number, node in enumerate(step[1])]
            steps += [["attach", slot, node[0], True, []] for slot, node in mapping["nodes"]]
        elif step[0] == "console":
            steps += [["open_terminal", slot] for slot, kind, *_ in made.made if kind == "devpts"] + [step]
        else:
            steps.append(step)
    if theirs:
        return _joining(made, early, steps, joined, mapping)
    begin: list[Step] = [["die_with_parent"], ["enter_groups"], *early, ["become_root"], ["die_with_parent"]]
    return replace(made, made=[], steps=[*begin, *steps], mapped=mapping)


def _joining(made: Plan, early: list[Step], steps: list[Step], joined: list[Step], mapping: dict[str, Any]) -> Plan:
    """Into another's user namespace, with it into what belongs to that, as dockerd does; the other namespaces are made in there.

    A process namespace of its own comes from the clone, before, and so is the host's: its procfs is made by the host's root too. sysfs
    shows the network namespace that it is made in, so that comes after.
    """
    kinds = made.namespaces & ~CLONE_NEWPID
    late = [step for step in early if step[:1] == ["make"] and step[2] == "sysfs"]
    first = [step for step in early if step not in late]
    user = [step for step in joined if step[2] == CLONE_NEWUSER]
    others = [step for step in joined if step[2] != CLONE_NEWUSER]
    begin: list[Step] = [
        ["die_with_parent"],
        ["enter_groups"],
        *first,
        *user,
        ["become_root"],
        ["die_with_parent"],
        ["unshare", kinds],
        ["reached"],
        *others,
        *late,
    ]
    return replace(made, namespaces=made.namespaces & CLONE_NEWPID, made=[], steps=[*begin, *steps], mapped=mapping)


def adapted_exec(made: Plan) -> Plan:
    """An exec's plan, for a container with a user namespace: what only the host's root may do comes before it is joined."""
    before = [step for step in made.steps if step[0] in ("private_proc", "oom_score", "limits", "label")]
    steps: list[Step] = []
    for step in made.steps:
        if step[0] == "join":
            steps += [*before, step, ["become_root"], ["die_with_parent"]]
        elif step not in before:
            steps.append(step)
    return replace(made, steps=steps)


def owners(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """Whose ids on the host those of its user namespace are; None without one."""
    linux = spec.get("linux") or {}
    if not linux.get("uidMappings"):
        return None
    return {"uids": _ranges(linux, "uidMappings"), "gids": _ranges(linux, "gidMappings")}


def _devpts(made: Plan, step: Step) -> list[Step]:
    """Made inside instead of by the launcher; it stays in its slot, for the terminal."""
    _, slot, target, strict, _ = step
    for name, kind, options, attributes in made.made:
        if name == slot:
            return [["make", slot, kind, kind, options, attributes], ["attach", slot, target, strict, []]]
    return [step]


def _ranges(linux: Mapping[str, Any], key: str) -> list[list[int]]:
    entries: Sequence[Mapping[str, Any]] = linux.get(key) or []
    found = [[int(entry["containerID"]), int(entry["hostID"]), int(entry["size"])] for entry in entries]
    if not found or not all(inside >= 0 <= outside and size > 0 for inside, outside, size in found):
        raise InvalidSpec(f"a user namespace needs {key}")
    return found
