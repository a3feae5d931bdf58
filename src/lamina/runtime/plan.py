"""From an OCI runtime specification to the flat list of operations that `init` performs: pure.

The order is what confines: everything of the host is opened before (`sources`), then the root is entered and
the host let go of, then file systems are mounted inside, parents before children; after the wait for the
control groups come the private cgroup namespace and its mounts; then the process gives up what it may,
privileges last, and executes. A plan is plain data: it crosses to the zygote as JSON.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lamina.errors import InvalidArgument, Unsupported
from lamina.linux import capability
from lamina.linux.namespace import CLONE_NEWCGROUP, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, KINDS

Step = list[Any]

_RLIMITS = {
    "CPU": 0,
    "FSIZE": 1,
    "DATA": 2,
    "STACK": 3,
    "CORE": 4,
    "RSS": 5,
    "NPROC": 6,
    "NOFILE": 7,
    "MEMLOCK": 8,
    "AS": 9,
    "LOCKS": 10,
    "SIGPENDING": 11,
    "MSGQUEUE": 12,
    "NICE": 13,
    "RTPRIO": 14,
    "RTTIME": 15,
}
ATTRIBUTES = {
    "ro": (1, 0),
    "rw": (0, 1),
    "nosuid": (2, 0),
    "suid": (0, 2),
    "nodev": (4, 0),
    "dev": (0, 4),
    "noexec": (8, 0),
    "exec": (0, 8),
    "noatime": (0x10, 0x70),
    "strictatime": (0x20, 0x70),
    "relatime": (0, 0x70),
    "nodiratime": (0x80, 0),
    "diratime": (0, 0x80),
    "nosymfollow": (0x200000, 0),
    "symfollow": (0, 0x200000),
}
PROPAGATION = {"private": 1 << 18, "slave": 1 << 19, "shared": 1 << 20, "unbindable": 1 << 17}
_IGNORED = {"bind", "rbind", "defaults", "newinstance", "create", "nocopy", "z", "Z", "tmpcopyup", "norelatime", "nostrictatime"}
_PROC_FILES = {f"/proc/{name}" for name in ("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo")}
"""What lxcfs gives containers values of their own for."""
CGROUPS = "cgroups:"
"""What slots with the host's control groups begin with: no ids are mapped in there."""
_FIXED_PLACES = ("/proc", "/sys", "/dev")
_LINKS = [["fd", "/proc/self/fd"], ["stdin", "/proc/self/fd/0"], ["stdout", "/proc/self/fd/1"], ["stderr", "/proc/self/fd/2"]]
_NODES = [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
_PATH = "PATH="
_IPC_SYSCTLS = {f"kernel.{name}" for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")}


class InvalidSpec(InvalidArgument):
    """The runtime specification says something that cannot be done."""

    exit_code = 125


@dataclass(frozen=True, slots=True)
class CgroupMount:
    """One hierarchy to show inside: directory name below /sys/fs/cgroup ("" for version 2) and its options."""

    name: str
    options: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """`namespaces` are flags for clone3; the lists are what the launcher prepares on the host, by slot:

    `joins` (slot, path) namespaces to open, `sources` (slot, path, recursive) host paths to open for binding,
    `made` (slot, kind, options, attributes) file systems to make there.

    `mapped` is for a user namespace, else None: {"uids", "gids"} as the kernel takes them, "nodes" (slot, node) devices to make on the
    host, "sources" (slot, changes, path) what to do with opened sources, which are id-mapped as well. `apart`: see `parting`.
    """

    namespaces: int
    joins: Sequence[Sequence[Any]]
    sources: Sequence[Sequence[Any]]
    made: Sequence[Sequence[Any]]
    rlimits: Sequence[Sequence[int]]
    oom_score: int | None
    steps: Sequence[Step]
    mapped: Mapping[str, Any] | None = None
    apart: bool = False

    def encode(self) -> dict[str, Any]:
        """As JSON values. Not by `asdict`, which copies every step deeply: this is on the way of every start."""
        return {
            "namespaces": self.namespaces,
            "joins": self.joins,
            "sources": self.sources,
            "made": self.made,
            "rlimits": self.rlimits,
            "oom_score": self.oom_score,
            "steps": self.steps,
            "mapped": self.mapped,
            "apart": self.apart,
        }


@dataclass(frozen=True, slots=True)
class Options:
    """mount(8)'s words sorted: attributes to add and remove, propagation, the rest for the file system."""

    add: int = 0
    remove: int = 0
    recursive_add: int = 0
    propagation: int = 0
    propagation_recursive: bool = False
    recursive: bool = False
    data: tuple[tuple[str, ...], ...] = ()


def options(words: Sequence[str]) -> Options:
    """Sort the options of one mount. The same few come with every container."""
    return _sorted_options(tuple(words))


@functools.lru_cache(256)
def _sorted_options(words: tuple[str, ...]) -> Options:
    add = remove = recursive_add = propagation = 0
    deep = False
    data: list[tuple[str, ...]] = []
    for word in words:
        if word in ATTRIBUTES:
            more, less = ATTRIBUTES[word]
            add, remove = add & ~less | more, remove & ~more | less
        elif word.startswith("r") and word[1:] in ATTRIBUTES:
            recursive_add |= ATTRIBUTES[word[1:]][0]
        elif word.removeprefix("r") in PROPAGATION:
            propagation, deep = PROPAGATION[word.removeprefix("r")], word.startswith("r")
        elif word not in _IGNORED:
            key, equals, value = word.partition("=")
            data.append((key, value) if equals else (key,))
    return Options(add, remove, recursive_add, propagation, deep, "rbind" in words, tuple(data))


def container_plan(spec: Mapping[str, Any], hierarchies: Sequence[CgroupMount], *, bundle: str = "/", place: str = "") -> Plan:
    """The plan of a container's first process. `bundle` is what relative sources are relative to.

    `place` is where the root is put on the host for a container that has no mount namespace of its own, "" where that is not to be.

    Raises:
        InvalidSpec, Unsupported: names what cannot be done.
    """
    linux = spec.get("linux") or {}
    process = spec.get("process") or {}
    new, joins = _namespaces(linux.get("namespaces") or [])
    own = bool(new & CLONE_NEWNS)
    mapped = bool(new & CLONE_NEWUSER) or any(flag == CLONE_NEWUSER for _, _, flag in joins)
    if not own and (not place or mapped):
        raise InvalidSpec("a container needs a mount namespace of its own")
    if mapped and not new & CLONE_NEWCGROUP:
        # The host's groups cannot be mounted by a process in a user namespace, only shown.
        hierarchies = []
    sources, made, mounts, late = _mounts(spec.get("mounts") or [], hierarchies, bundle, terminal=bool(process.get("terminal")))
    steps: list[Step] = [
        ["die_with_parent"],
        ["enter_groups"],
        *_join_steps(joins),
        ["new_session"],
        *([["private_mounts"], ["enter_root", "root"]] if own else [["place_root", "root", place]]),
    ]
    if new & CLONE_NEWNET:
        steps.append(["loopback"])
    steps += _names(spec, linux.get("namespaces") or [])
    steps += [["private_proc"], *mounts, *_devices(linux.get("devices") or [], process, _covers_dev(spec.get("mounts") or []))]
    if sysctls := linux.get("sysctl"):
        _check_sysctls(sysctls, linux.get("namespaces") or [])
        steps.append(["sysctls", [[name.replace(".", "/"), str(value)] for name, value in sorted(sysctls.items())]])
    if masked := linux.get("maskedPaths"):
        steps.append(["mask", list(masked)])
    if fixed := linux.get("readonlyPaths"):
        steps.append(["read_only", list(fixed)])
    steps.append(["wait", "go"])
    if not own:
        steps.append(["change_root"])
    if new & CLONE_NEWCGROUP:
        steps.append(["unshare", CLONE_NEWCGROUP])
    steps += late
    if (spec.get("root") or {}).get("readonly"):
        # The working directory is made while that can be, as runc does.
        steps += [["directory", process.get("cwd") or "/", True], ["read_only_root"]]
    steps += _root_propagation(linux.get("rootfsPropagation", ""))
    steps += _process_steps(process, linux)
    flags = new & ~CLONE_NEWCGROUP
    return Plan(flags, joins, sources, made, _rlimits(process), process.get("oomScoreAdj"), steps)


def exec_plan(process: Mapping[str, Any], spec: Mapping[str, Any], *, traced: bool = False) -> Plan:
    """The plan of one more process in a container that runs; its namespaces are joined by a pidfd in slot `target`."""
    linux = spec.get("linux") or {}
    kinds, own = 0, False
    for entry in linux.get("namespaces") or []:
        kinds |= KINDS.get(entry.get("type", ""), 0)
        own = own or (entry.get("type") == "mount" and not entry.get("path"))
    steps: list[Step] = [
        ["die_with_parent"],
        ["enter_groups"],
        ["join", "target", kinds & ~CLONE_NEWPID],
        ["enter_joined_root"] if own else ["change_to_joined_root", "joined"],
        ["new_session"],
    ]
    # It waits before it is confined: a filter need not allow reading.
    steps += [["private_proc"], *_process_steps(process, linux, [["wait", "go"]])]
    # The pid namespace is joined by the monitor: it counts for children only.
    apart = (traced or _may_trace(spec)) and not kinds & CLONE_NEWUSER
    return Plan(0, [], [], [], _rlimits(process), process.get("oomScoreAdj"), _apart(steps) if apart else steps, apart=apart)


def _may_trace(spec: Mapping[str, Any]) -> bool:
    """Whether a container's processes may look into others that are undumpable."""
    return "CAP_SYS_PTRACE" in (((spec.get("process") or {}).get("capabilities") or {}).get("bounding") or [])


def _apart(steps: Sequence[Step]) -> list[Step]:
    """The steps of an exec by two processes, see `parting`. A session with a terminal ends with its leader: so it is the second one's."""
    made: list[Step] = []
    for step in steps:
        if step[0] == "new_session":
            continue
        made.append(["stdio", False] if step[0] == "stdio" else step)
        if step[0] == "wait":
            made.append(["let_go"])
        elif step[0] == "capabilities":
            terminal = ["stdio", True] in steps
            made += [["part"], ["new_session"], *([["controlling_terminal"]] if terminal else [])]
    return made


def candidates(process: Mapping[str, Any]) -> list[str]:
    """Where to look for the command: itself where it has a slash, else below every directory of the process's PATH; nowhere for an empty
    one."""
    if not process.get("args") or "\0" in "".join([*process["args"], *(process.get("env") or [])]):
        raise InvalidSpec("the command is empty, or it or the environment holds a NUL")
    name = process["args"][0]
    if "/" in name or not name:
        return [name] if name else []
    path = next((entry[len(_PATH) :] for entry in process.get("env") or [] if entry.startswith(_PATH)), "")
    return [f"{directory or '.'}/{name}" for directory in path.split(":")] if path else []


def _namespaces(entries: Sequence[Mapping[str, Any]]) -> tuple[int, list[list[Any]]]:
    """Flags of those to make; slot, path and flag of those to join."""
    new, joins = 0, []
    for entry in entries:
        flag = KINDS.get(entry.get("type", ""))
        if flag is None or entry["type"] == "time":
            raise Unsupported(f"namespaces of type {entry.get('type')!r} are not supported yet")
        if entry.get("path"):
            joins.append([f"ns:{entry['type']}", entry["path"], flag])
        else:
            new |= flag
    return new, joins


def _names(spec: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> list[Step]:
    """Host name and domain name, which without a namespace for them would be the host's."""
    asked = [[step, spec[key]] for key, step in (("hostname", "host_name"), ("domainname", "domain_name")) if spec.get(key)]
    if asked and "uts" not in {entry.get("type") for entry in entries}:
        raise InvalidSpec("unable to set hostname or domain name without a private UTS namespace")
    return asked


def _check_sysctls(names: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> None:
    """Only what belongs to the container's own namespaces may be set: the rest is the host's."""
    own = {entry.get("type") for entry in entries}
    for name in (name.replace("/", ".") for name in names):
        if name in ("kernel.hostname", "kernel.domainname") and "uts" in own:
            continue
        if (name in _IPC_SYSCTLS or name.startswith("fs.mqueue.")) and "ipc" in own:
            continue
        if name.startswith("net."):
            if "network" in own:
                continue
            raise InvalidSpec(f'sysctl "{name[:100]}" not allowed in host network namespace')
        raise InvalidSpec(f'sysctl "{name[:100]}" is not in a separate kernel namespace')


def _join_steps(joins: Sequence[Sequence[Any]]) -> Iterator[Step]:
    # Joining a pid namespace counts for children only: the launcher does it.
    return (["join", slot, flag] for slot, _, flag in joins if flag != CLONE_NEWPID)


def _mounts(
    entries: Sequence[Mapping[str, Any]], hierarchies: Sequence[CgroupMount], bundle: str, *, terminal: bool
) -> tuple[list[list[Any]], list[list[Any]], list[Step], list[Step]]:
    """Sources, file systems to make before, steps, and steps that need the cgroup namespace."""
    sources: list[list[Any]] = []
    made: list[list[Any]] = []
    steps: list[Step] = []
    late: list[Step] = []
    for number, entry in enumerate(entries):
        target = _target(entry)
        chosen = options(entry.get("options") or [])
        kind = entry.get("type") or "bind"
        _check_place(target, kind, entry)
        strict = any(target == place or target.startswith(place + "/") for place in _FIXED_PLACES)
        slot = f"mount:{number}"
        if kind == "cgroup" and not hierarchies:
            slot = f"{CGROUPS}{number}"
            sources.append([slot, "/sys/fs/cgroup", True])
            steps.append(["attach", slot, target, strict, [[chosen.add, 0, True, PROPAGATION["private"]]]])
        elif kind == "cgroup":
            late += _cgroup_steps(target, chosen, hierarchies)
        elif kind in ("bind", "none") or {"bind", "rbind"} & set(entry.get("options") or []):
            source = entry.get("source") or ""
            sources.append([slot, source if source.startswith("/") else f"{bundle}/{source}", chosen.recursive])
            steps.append(["attach", slot, target, strict, _changes(chosen)])
        elif kind == "devpts" and terminal:
            # The launcher opens the terminal in it.
            made.append([slot, kind, [list(pair) for pair in chosen.data], chosen.add])
            steps.append(["attach", slot, target, strict, []])
        else:
            flags = [["ro"]] if chosen.add & 1 else []
            source = entry.get("source") or kind
            steps.append(["filesystem", kind, target, source, [*(list(pair) for pair in chosen.data), *flags], chosen.add, strict])
            if chosen.propagation:
                steps.append(["set_mount", target, 0, 0, chosen.propagation_recursive, chosen.propagation])
    return sources, made, steps, late


def _target(entry: Mapping[str, Any]) -> str:
    target = "/" + str(entry.get("destination", "")).strip("/")
    if target == "/" or "\0" in target or ".." in target.split("/"):
        raise InvalidSpec(f"invalid mount target: {target[:100]!r}")
    return target


def _check_place(target: str, kind: str, entry: Mapping[str, Any]) -> None:
    """Nothing may be put over parts of /proc (CVE-2019-19921): what is written there would go elsewhere."""
    genuine = kind == "proc" or entry.get("source") == "/proc"
    if (target == "/proc" and not genuine) or (target.startswith("/proc/") and target not in _PROC_FILES):
        raise InvalidSpec(f"{target} cannot be mounted: it is inside /proc")


def _changes(chosen: Options) -> list[list[Any]]:
    """What to change of a copied mount before it is attached: attributes to add and remove, recursively, propagation."""
    # It would keep the propagation it has on the host; private unless asked otherwise.
    changes: list[list[Any]] = [[0, 0, True, chosen.propagation or PROPAGATION["private"]]]
    if chosen.add or chosen.remove:
        changes.append([chosen.add, chosen.remove, False, 0])
    if chosen.recursive_add:
        changes.append([chosen.recursive_add, 0, True, 0])
    return changes


def _cgroup_steps(target: str, chosen: Options, hierarchies: Sequence[CgroupMount]) -> list[Step]:
    if [hierarchy.name for hierarchy in hierarchies] == [""]:
        return [["filesystem", "cgroup2", target, "cgroup", [], chosen.add, True]]
    steps: list[Step] = [["filesystem", "tmpfs", target, "tmpfs", [["mode", "755"]], chosen.add & ~1, True]]
    for hierarchy in hierarchies:
        if hierarchy.name:
            steps.append(
                ["filesystem", "cgroup", f"{target}/{hierarchy.name}", "cgroup", [list(o) for o in hierarchy.options], chosen.add, True]
            )
    return [*steps, ["set_mount", target, chosen.add, 0, False, 0]]


def _covers_dev(entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether /dev is the container's own: nodes are made only there, never in a bind of the host's."""
    return any(_target(entry) == "/dev" and entry.get("type") == "tmpfs" for entry in entries)


def _devices(entries: Sequence[Mapping[str, Any]], process: Mapping[str, Any], own: bool) -> Iterator[Step]:
    if own:
        default = [[f"/dev/{name}", "c", major, minor, 0o666, 0, 0] for name, major, minor in _NODES]
        yield ["nodes", default + [_device(entry) for entry in entries if entry["path"] not in [node[0] for node in default]]]
        yield ["links", [*_LINKS, ["ptmx", "pts/ptmx"]]]
    if process.get("terminal"):
        yield ["console", "slave"]


def _device(entry: Mapping[str, Any]) -> list[Any]:
    kind = entry.get("type", "c")
    if kind not in ("c", "u", "b", "p"):
        raise InvalidSpec(f"invalid device type: {kind!r}")
    return [
        entry["path"],
        kind,
        entry.get("major", 0),
        entry.get("minor", 0),
        entry.get("fileMode") or 0o666,
        entry.get("uid") or 0,
        entry.get("gid") or 0,
    ]


def _root_propagation(word: str) -> list[Step]:
    flag = PROPAGATION.get(word.removeprefix("r"))
    return [["set_mount", "/", 0, 0, word.startswith("r"), flag]] if flag and word not in ("private", "rprivate", "slave", "rslave") else []


def _rlimits(process: Mapping[str, Any]) -> list[list[int]]:
    found = []
    for entry in process.get("rlimits") or []:
        number = _RLIMITS.get(str(entry.get("type", "")).removeprefix("RLIMIT_"))
        if number is None:
            raise InvalidSpec(f"no such resource limit: {entry.get('type')!r}")
        found.append([number, _rlimit(entry["soft"]), _rlimit(entry["hard"])])
    return found


def _rlimit(value: int) -> int:
    return -1 if value < 0 or value >= (1 << 64) - 1 else value


def _process_steps(process: Mapping[str, Any], linux: Mapping[str, Any], settled: Sequence[Step] = ()) -> list[Step]:
    """From a finished root to the command; `settled` come before anything is given up, in a container that runs: there the directory
    must be."""
    privileges = process.get("capabilities") or {}
    steps: list[Step] = [["keyring", "_ses"], ["oom_score", "oom"]]
    if profile := process.get("apparmorProfile"):
        steps.append(["label", profile])
    steps += [["stdio", bool(process.get("terminal"))], ["close_descriptors"], ["directory", process.get("cwd") or "/", not settled]]
    # After the last descriptor was opened: a low limit counts those that are still open till execve.
    steps.append(["limits", "rlimits"])
    umask = (process.get("user") or {}).get("umask")
    steps += [["file_mask", 0o022 if umask is None else umask], ["signals"]]
    steps += settled
    confined = [["load_filter", "filter"]] if linux.get("seccomp") else []
    if process.get("noNewPrivileges"):
        steps.append(["no_new_privileges"])
    else:
        # Without no_new_privs loading a filter takes CAP_SYS_ADMIN, which goes next.
        steps, confined = [*steps, *confined], []
    masks = [_mask(privileges.get(name) or []) for name in ("bounding", "effective", "permitted", "inheritable", "ambient")]
    steps += [["bound", masks[0]], ["identity", "user"], ["capabilities", *masks[1:]], ["die_with_parent"]]
    return [*steps, *confined, ["ready"], ["execute", "command"]]


def _mask(names: Sequence[str]) -> int:
    try:
        return capability.mask(names)
    except KeyError as error:
        raise InvalidSpec(f"no such capability: {error.args[0]}") from None
