"""Launching through another OCI runtime (runc, crun, any program with their command line), in place of launcher and init.

The launcher prepares what the embedded runtime's does, then hands the same specification over as a bundle:

    DIRECTORY/bundle/config.json    the specification, with the ids, the environment's HOME and the limits that hold here
    DIRECTORY/bundle/rootfs         where the root is mounted, in a mount namespace that ends with the launcher
    DIRECTORY/bundle/state          the runtime's own records (its --root), one container's only
    DIRECTORY/bundle/log            what it says, JSON lines

`create` sets the container up, its network namespace is connected from outside, `start` runs the command. What was started
becomes the monitor's child (PR_SET_CHILD_SUBREAPER), so streams, log, exit code and the life after the daemon's are the
monitor's as with the embedded runtime; signals, freezing and limits go to the kernel directly. `delete` comes after the exit.
Paths that become names of sockets are relative: they must stay below 108 bytes.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import os
import struct

from lamina.errors import LaminaError
from lamina.linux import cabling, capability, channel, mount, namespace, prctl
from lamina.runtime import launcher
from lamina.runtime.cgroup import Cgroup
from lamina.runtime.launcher import Launched, Prepared
from lamina.runtime.reports import ADVICE, FAILED, MISMATCHED, NOT_EXECUTABLE, NOT_FOUND, LaunchFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Never

    from lamina.runtime.cgroup import Hierarchy

BUNDLE = "bundle"
_STATE, _ROOT, _SHARED = "state", "rootfs", "shared"
_LOG, _PID, _CONSOLE, _PROCESS = "log", "pid", "console.sock", "process.json"
_LARGEST_LOG = 1 << 20
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_IGNORED_HERE = (_signal.SIGPIPE, _signal.SIGXFSZ)
"""What the interpreter ignores and must not pass on."""


def launch(document: Mapping[str, Any], slots: dict[str, Any], hierarchies: Sequence[Hierarchy]) -> Launched:
    """Start a container, or with `process` in the document one more process in one that runs.

    The document is as launcher.launch takes it, with `outside` ({program, arguments, id, state}) and `spec` or `process` instead of a
    plan. This process must be forked for it: it changes its mount namespace and its working directory.

    Raises:
        LaunchFailed: nothing remains.
    """
    prepared = Prepared(slots)
    group = document.get("cgroup") or {}
    cgroup = Cgroup(group["path"], hierarchies) if group else None
    started = False
    try:
        pid, pidfd = _exec(document, prepared) if "process" in document else _create(document, prepared)
        started = True
        return Launched(pid, pidfd, cgroup, prepared.master, prepared.pipes, prepared.warnings)
    except (OSError, LaminaError, ValueError) as error:
        raise LaunchFailed(FAILED, error.message if isinstance(error, LaminaError) else launcher.words(error)) from None
    finally:
        if not started:
            channel.close_all([*prepared.pipes.values(), *([prepared.master] if prepared.master >= 0 else [])])
            if group.get("create"):
                _unmount(os.path.dirname(document["outside"]["state"]))
            remove(document["outside"], bool(group.get("create")))
            if cgroup is not None and group.get("create"):
                cgroup.remove()
        channel.close_all(prepared.opened)


def remove(outside: Mapping[str, Any] | None, created: bool) -> None:
    """Let the runtime forget a container that has ended, or end it. Nothing for the embedded one, and for an exec (not `created`)."""
    if outside is None or not created or not os.path.isdir(outside["state"]):
        return
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        _run(outside, ["delete", "--force", outside["id"]], [null, null, null])
    except OSError:
        pass  # its program is gone: the control group's removal ends what is left
    finally:
        os.close(null)
    remove_tree(os.path.dirname(outside["state"]))


# --- a container


def _create(document: Mapping[str, Any], prepared: Prepared) -> tuple[int, int]:
    outside, directory = document["outside"], os.path.dirname(document["outside"]["state"])
    if os.path.isdir(directory):
        remove(outside, created=True)
        remove_tree(directory)
    for name in ("", _STATE, _ROOT, _SHARED):
        os.makedirs(f"{directory}/{name}", mode=0o700, exist_ok=True)
    spec = _mount(document, prepared, directory)
    os.chdir(directory)
    spec = {**spec, "process": _settled(document, prepared, spec["process"])}
    _write("config.json", channel.encode(spec))
    listener = _streams(document, prepared)
    _call(document, prepared, ["create", "--bundle", directory, "--pid-file", _PID, *_console(listener), outside["id"]])
    pid, pidfd = _found(prepared, listener)
    if wanted := document.get("network"):
        cabling.connect(pid, wanted["interfaces"], wanted["gateways"], wanted.get("resolver"))
    _call(document, prepared, ["start", outside["id"]])
    return pid, pidfd


def _mount(document: Mapping[str, Any], prepared: Prepared, directory: str) -> dict[str, Any]:
    """Mount the root where only this process and what it starts see it; the specification, with its places."""
    spec = document["spec"]
    root = prepared.keep("root", launcher.open_root(document, prepared.slots))
    shared = [entry for entry in spec.get("mounts") or [] if {"shared", "rshared"} & set(entry.get("options") or [])]
    copies = [(entry, mount.open_tree(entry["source"], recursive="rbind" in entry["options"])) for entry in shared]
    namespace.unshare(namespace.CLONE_NEWNS)
    mount.mount("", "/", flags=mount.MS_REC | mount.MS_SLAVE)
    mount.move_mount(root, f"{directory}/{_ROOT}")
    places = {}
    for number, (entry, fd) in enumerate(copies):
        # What is to be shared with the host must be one with the host's mount: a copy made before this namespace became a slave.
        place = f"{directory}/{_SHARED}/{number}"
        os.mkdir(place)
        mount.move_mount(fd, place)
        os.close(fd)
        places[entry["destination"]] = place
    mounts = [{**entry, "source": places.get(entry["destination"], entry.get("source", ""))} for entry in spec.get("mounts") or []]
    # runc makes everything a slave first, unless the root is to be shared as well; dockerd asks for the same.
    linux = {**spec["linux"], **({"rootfsPropagation": "shared"} if copies else {})}
    return {**spec, "root": {**spec["root"], "path": f"{directory}/{_ROOT}"}, "mounts": mounts, "linux": linux}


def _unmount(directory: str) -> None:
    """Undo `_mount` in this process's sight, as far as it got."""
    places = [f"{directory}/{_ROOT}", *(f"{directory}/{_SHARED}/{name}" for name in _names(f"{directory}/{_SHARED}"))]
    for place in places:
        try:
            mount.unmount(place, mount.MNT_DETACH)
        except OSError:
            continue  # nothing is mounted there


def _names(directory: str) -> list[str]:
    return os.listdir(directory) if os.path.isdir(directory) else []


def _settled(document: Mapping[str, Any], prepared: Prepared, process: Mapping[str, Any]) -> dict[str, Any]:
    """The process with what only the container's own files and this host say: ids, HOME, limits that can be set."""
    environment = launcher.identify(document, prepared)
    uid, gid, groups = prepared.slots["user"]
    names = [entry["type"] for entry in process.get("rlimits") or []]
    limits = launcher.clamp(document["rlimits"], prepared.warnings)
    settled = {
        **process,
        "user": {**(process.get("user") or {}), "uid": uid, "gid": gid, "additionalGids": list(groups)},
        "env": [f"{name}={value}" for name, value in environment.items()],
        **({"capabilities": _held(process["capabilities"])} if process.get("capabilities") else {}),
        "rlimits": [
            {"type": name, "soft": _unsigned(soft), "hard": _unsigned(hard)} for name, (_, soft, hard) in zip(names, limits, strict=True)
        ],
    }
    score = launcher.clamp_oom_score(process.get("oomScoreAdj"), prepared.warnings)
    return {key: value for key, value in {**settled, "oomScoreAdj": score}.items() if value is not None and value != ""}


def _held(sets: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Capability sets without what this host does not let the engine have: runtimes fail on those."""
    held = capability.held()[1]
    return {kind: [name for name in names if capability.mask([name]) & held] for kind, names in sets.items()}


def _unsigned(value: int) -> int:
    return value if value >= 0 else (1 << 64) - 1


# --- one more process


def _exec(document: Mapping[str, Any], prepared: Prepared) -> tuple[int, int]:
    os.chdir(document["directory"])
    _write(_PROCESS, channel.encode(_settled(document, prepared, document["process"])))
    listener = _streams(document, prepared)
    words = ["exec", "--detach", "--pid-file", _PID, "--process", _PROCESS, *_console(listener), document["outside"]["id"]]
    _call(document, prepared, words)
    return _found(prepared, listener)


# --- streams


def _streams(document: Mapping[str, Any], prepared: Prepared) -> Any:
    """Pipes; or, for a terminal, the socket at which its master arrives."""
    if not document.get("terminal"):
        launcher.open_pipes(document, prepared)
        return None
    null = prepared.keep("stdin", os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
    prepared.slots["stdout"] = prepared.slots["stderr"] = null
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    listener.bind(_CONSOLE)
    listener.listen(1)
    return listener


def _console(listener: Any) -> list[str]:
    return [] if listener is None else ["--console-socket", _CONSOLE]


def _found(prepared: Prepared, listener: Any) -> tuple[int, int]:
    """The process that the runtime made; the terminal's master into `prepared`."""
    if listener is not None:
        connection, _ = listener._accept()
        master = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, connection)
        _, rights, _, _ = master.recvmsg(4096, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        listener.close()
        master.close()
        (prepared.master,) = struct.unpack("i", rights[0][2][:4])
    try:
        with open(_PID, "rb") as file:
            pid = int(file.read())
    except (FileNotFoundError, ValueError):
        raise LaunchFailed(FAILED, "the runtime said that it made a container, but named no process") from None
    return pid, os.pidfd_open(pid)


# --- the program


def _call(document: Mapping[str, Any], prepared: Prepared, words: Sequence[str]) -> None:
    """Run one of its commands with the container's streams.

    Raises:
        LaunchFailed: in the runtime's own words.
    """
    slots = prepared.slots
    try:
        code = _run(document["outside"], words, [slots[name] for name in ("stdin", "stdout", "stderr")], _LOG, bound=True)
    except OSError as error:
        raise LaunchFailed(FAILED, f"cannot run the runtime {document['outside']['program']}: {error.strerror}") from None
    if code:
        raise _failure(document, words[0], _said() or f"{document['outside']['program']} {words[0]} ended with code {code}")


def _run(outside: Mapping[str, Any], words: Sequence[str], streams: Sequence[int], log: str = "/dev/null", *, bound: bool = False) -> int:
    """Run a command of the runtime to its end; its exit code. `bound`: it ends with this process, whose start may be given up."""
    state = ["--root", outside["state"], "--log", log, "--log-format", "json"]
    arguments = [outside["program"], *outside["arguments"], *state, *words]
    failed, told = os.pipe()
    # Not posix_spawn: glibc's leaves its own two signals ignored, and containers would inherit that.
    pid = os.fork()
    if pid == 0:
        _become(outside["program"], arguments, streams, told, bound=bound)
    os.close(told)
    _, status = os.waitpid(pid, 0)
    try:
        if data := os.read(failed, 8):
            number = int(data)
            raise OSError(number, os.strerror(number))
    finally:
        os.close(failed)
    return os.waitstatus_to_exitcode(status)


def _become(program: str, arguments: list[str], streams: Sequence[int], told: int, *, bound: bool) -> Never:
    """Execute a program on these streams; the number of what went wrong goes into `told`."""
    try:
        for target, fd in enumerate(streams):
            os.dup2(fd, target)
        for number in _IGNORED_HERE:
            _signal.signal(number, _signal.SIG_DFL)
        if bound:
            prctl.die_with_parent()
        os.execve(program, arguments, _ENVIRONMENT)
    except OSError as error:
        os.write(told, str(error.errno or 0).encode())
    finally:
        os._exit(125)


def _said() -> str:
    """The last error of the runtime's log."""
    message = ""
    try:
        with open(_LOG, "rb") as file:
            lines = file.read(_LARGEST_LOG).splitlines()
    except OSError:
        return ""
    for line in lines:
        try:
            entry = channel.decode(line)
        except channel.BadMessage:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "fatal"):
            message = str(entry.get("msg"))
    return message


def _failure(document: Mapping[str, Any], command: str, said: str) -> LaunchFailed:
    """What dockerd makes of a runtime's error: it has no other sign of the kind of fault than words about the command."""
    process = document.get("process") or document["spec"]["process"]
    kind, text = FAILED, said.lower()
    if process["args"][0].lower() in text or "$path" in text:
        if "executable file not found" in text or "no such file or directory" in text:
            kind = NOT_FOUND
        elif "permission denied" in text or "is a directory" in text:
            kind = NOT_EXECUTABLE
    prefix = f"OCI runtime {'exec' if command == 'exec' else 'create'} failed: "
    message = f"{prefix}{said.removeprefix(prefix).removesuffix(': unknown')}: unknown"
    if kind == FAILED and command != "exec" and "not a directory" in text:
        return LaunchFailed(MISMATCHED, f"{message}: {ADVICE}")
    return LaunchFailed(kind, message)


def _write(name: str, data: bytes) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        channel.write_all(fd, data)
    finally:
        os.close(fd)


def remove_tree(directory: str) -> None:
    """Remove a bundle; the root is not mounted in this sight of it."""
    for below, folders, files in os.walk(directory, topdown=False):
        for name in files:
            os.unlink(f"{below}/{name}")
        for name in folders:
            os.rmdir(f"{below}/{name}")
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        pass
