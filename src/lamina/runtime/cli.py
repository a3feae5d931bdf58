"""`lamina-runtime`: the OCI runtime command line over the same plan, launcher and init as the daemon's.

It reads bundle and options and plans; then it becomes `oci`, a bare process from a sealed interpreter, which launches.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lamina.errors import InvalidArgument, LaminaError
from lamina.linux import channel
from lamina.linux.capability import NAMES
from lamina.linux.namespace import KINDS
from lamina.runtime import bundle, cgroup, hooking, hooks, interpreter, mapped, placing, plan, recorded
from lamina.runtime.cgroup import Cgroup
from lamina.runtime.client import cgroup_mounts
from lamina.runtime.filters import Filters
from lamina.runtime.launch import RuntimeFailed
from lamina.runtime.oci import FIFO, SAID
from lamina.runtime.options import SPEC_VERSION, parser


class InvalidBundle(InvalidArgument):
    """There is no readable config.json."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    options = parser().parse_args(arguments)
    try:
        return _COMMANDS[options.command](options)
    except (LaminaError, OSError) as error:
        _complain(options, str(error))
        return 1


def _complain(options: argparse.Namespace, message: str) -> None:
    print(f"lamina-runtime: {message}", file=sys.stderr)
    if options.log:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        as_json = json.dumps({"level": "error", "msg": message, "time": stamp})
        try:
            with open(options.log, "a", encoding="utf-8") as log:
                log.write((as_json if options.log_format == "json" else f"{stamp} error: {message}") + "\n")
        except OSError as error:
            print(f"lamina-runtime: {options.log}: {error.strerror}", file=sys.stderr)


# --- commands


def _create(options: argparse.Namespace) -> int:
    """create and run."""
    where = os.path.realpath(options.bundle)
    spec = _read_spec(where)
    directory = recorded.directory_of(options)
    document = _launch_document(options, spec, where, directory)
    try:
        os.makedirs(options.root, mode=0o711, exist_ok=True)
        os.mkdir(directory, 0o711)
    except FileExistsError:
        raise recorded.WrongState(f"container {options.id} exists already") from None
    Path(directory, "config.json").write_text(json.dumps(spec))
    document["wait"] = options.command == "run" and not options.detach
    return _launch_and_clean_up(document, directory)


def _launch_and_clean_up(document: dict[str, Any], directory: str) -> int:
    """Launch in a child; what it leaves behind where it fails is removed here.

    Where it does not stay, what it started becomes the child of whoever reaps orphans, not of this process.
    """
    pid = os.fork()
    if pid == 0:
        try:
            _become(document)
        finally:
            os._exit(1)
    if document["wait"]:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, lambda number, _frame: os.kill(pid, number))
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code and not os.path.exists(f"{directory}/state.json"):
        recorded.forget(directory)
    return code


def _become(document: dict[str, Any]) -> int:
    if not document["wait"]:
        # The process outlives who launches it: somebody else reaps it.
        made = document["launch"]["plan"]
        made["steps"] = [step for step in made["steps"] if step != ["die_with_parent"]]
    fd = os.memfd_create("launch", 0)
    channel.write_all(fd, channel.encode(document))
    for slot in document["slots"].values():
        os.set_inheritable(slot, True)
    os.set_inheritable(fd, True)
    interpreter.run_sealed("lamina.runtime.oci", [str(fd)])
    raise AssertionError("execve returned")


def _read_spec(where: str) -> dict[str, Any]:
    try:
        found = json.loads(Path(where, "config.json").read_text())
    except FileNotFoundError:
        raise InvalidBundle(f"there is no config.json in {where}") from None
    except ValueError:
        raise InvalidBundle(f"{where}/config.json is not JSON") from None
    if not isinstance(found, dict) or not isinstance(found.get("process"), dict) or not isinstance(found.get("root"), dict):
        raise InvalidBundle(f"{where}/config.json has no process or no root")
    return found


def _launch_document(options: argparse.Namespace, spec: Mapping[str, Any], where: str, directory: str) -> dict[str, Any]:
    process, linux = spec["process"], spec.get("linux") or {}
    hierarchies = cgroup.here()
    rootfs = os.path.join(where, spec["root"]["path"])
    made = mapped.adapted(plan.container_plan(spec, cgroup_mounts(hierarchies), bundle=where, place=rootfs), spec)
    path = _cgroup_path(linux.get("cgroupsPath") or "", options.id)
    record = {
        "id": options.id,
        "bundle": where,
        "rootfs": rootfs,
        "cgroup": path,
        "ociVersion": spec.get("ociVersion", SPEC_VERSION),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "annotations": spec.get("annotations") or {},
    }
    limits = dict(linux.get("resources") or {})
    if limits.get("devices"):
        limits["devices"] = [*limits["devices"], *bundle.default_device_rules()]
    asked, about = spec.get("hooks") or {}, recorded.about(record)
    launch = {
        **_process_part(process, hooking.adapted(made, asked, about, rootfs), directory),
        "hooks": hooking.document(asked, about),
        "placed": _placed(linux, rootfs),
        "owners": mapped.owners(spec),
        "rootfs": rootfs,
        "cgroup": {"path": path, "resources": limits, "create": True},
    }
    return {
        **_common(options, launch, linux),
        "state": directory,
        "record": record,
    }


def _placed(linux: Mapping[str, Any], rootfs: str) -> dict[str, Any] | None:
    """Where a container's root is to be unmounted that has no mount namespace of its own; see `placing`."""
    found = [entry.get("path") or "" for entry in linux.get("namespaces") or [] if entry.get("type") == "mount"]
    if found == [""]:
        return None
    path = found[0] if found else ""
    return {"path": rootfs, "namespace": path, "inode": os.stat(path).st_ino if path else 0}


def _process_part(process: Mapping[str, Any], made: plan.Plan, directory: str) -> dict[str, Any]:
    who = process.get("user") or {}
    size = process.get("consoleSize")
    return {
        "plan": made.encode(),
        "command": {"candidates": plan.candidates(process), "args": list(process["args"]), "env": list(process.get("env") or [])},
        "directory": directory,
        "ids": [who.get("uid", 0), who.get("gid", 0), who.get("additionalGids") or []],
        "terminal": bool(process.get("terminal")),
        "size": [size["height"], size["width"]] if size else None,
    }


def _common(options: argparse.Namespace, launch: dict[str, Any], linux: Mapping[str, Any]) -> dict[str, Any]:
    """What the launching half needs in every case."""
    slots = {}
    if linux.get("seccomp"):
        os.makedirs(options.root, mode=0o711, exist_ok=True)
        slots["filter"] = os.dup(Filters(options.root).descriptor(linux["seccomp"]))
    return {
        "command": options.command,
        "launch": launch,
        "slots": slots,
        "preserve": options.preserve_fds,
        "log": options.log,
        "log_json": options.log_format == "json",
        "console_socket": options.console_socket,
        "pid_file": options.pid_file,
        "wait": False,
        "state": "",
    }


def _cgroup_path(text: str, identifier: str) -> str:
    """Where the group is; systemd's `slice:prefix:name` becomes the path that systemd would use."""
    if text.count(":") == 2:
        parent, prefix, name = text.split(":")
        words = (parent or "system.slice").removesuffix(".slice").split("-")
        slices = ["-".join(words[: depth + 1]) + ".slice" for depth in range(len(words))]
        return "/" + "/".join([*slices, f"{prefix}-{name}.scope" if prefix else f"{name}.scope"])
    if ".." in text.split("/"):
        raise InvalidArgument(f"invalid cgroup path: {text[:200]!r}")
    return "/" + (text.strip("/") or identifier)


def _start(options: argparse.Namespace) -> int:
    record = recorded.record_of(options)
    if record["status"] != "created":
        raise recorded.WrongState(f"container {options.id} is {record['status']}, not created")
    directory = record["directory"]
    said = os.open(f"{directory}/{SAID}", os.O_RDONLY | os.O_NONBLOCK)
    fd = os.open(f"{directory}/{FIFO}", os.O_WRONLY | os.O_NONBLOCK)
    os.write(fd, b"+")
    os.close(fd)
    for name in (FIFO, SAID):
        os.unlink(f"{directory}/{name}")
    if message := _failure_of(said):
        raise RuntimeFailed(message)
    _run_hooks(options, record, "poststart")
    return 0


def _failure_of(said: int) -> str:
    """What failed between the word to start and the command; it closes its end by executing."""
    os.set_blocking(said, True)
    with open(said, "rb") as file:
        return file.read().decode(errors="replace").rpartition("\0")[2]


def _run_hooks(options: argparse.Namespace, record: Mapping[str, Any], kind: str) -> None:
    """Hooks after the fact: what fails is said and changes nothing."""
    found = hooking.entries(recorded.specification(record).get("hooks") or {}, kind)
    # A command may have ended by now; that it was started is what its hooks are told.
    state = (
        hooks.told(recorded.about(record), "running", record["pid"])
        if kind == "poststart"
        else hooks.told(recorded.about(record), "stopped")
    )
    for warning in hooks.run_all(found, state):
        _complain(options, f"warning: {warning}")


def _print_state(options: argparse.Namespace) -> int:
    print(json.dumps(recorded.state(recorded.record_of(options)), indent=2))
    return 0


def _kill(options: argparse.Namespace) -> int:
    record = recorded.record_of(options)
    number, group = _signal_number(options.signal), Cgroup(record["cgroup"], cgroup.here())
    if not options.all and record["status"] == "stopped":
        raise recorded.WrongState(f"container {options.id} is not running")
    # 0 stands for a process that this one cannot see, and to kill(2) for itself.
    for pid in filter(None, group.pids()) if options.all else [record["pid"]]:
        with suppress(ProcessLookupError):  # it ended just now; the others are yet to be told
            os.kill(pid, number)
    _let_die(record, group, number)
    return 0


def _let_die(record: Mapping[str, Any], group: Cgroup, number: int) -> None:
    """What version 1 has frozen dies only when it is thawed, as runc does it."""
    if number == signal.SIGKILL and record["status"] == "paused":
        group.freeze(frozen=False)


def _signal_number(text: str) -> int:
    if text.isdigit():
        return int(text)
    try:
        return int(signal.Signals[f"SIG{text.upper().removeprefix('SIG')}"])
    except KeyError:
        raise InvalidArgument(f"unknown signal {text[:40]!r}") from None


def _delete(options: argparse.Namespace) -> int:
    try:
        record = recorded.record_of(options)
    except recorded.ContainerNotFound:
        if options.force:
            recorded.forget(recorded.directory_of(options))
            return 0
        raise
    group = Cgroup(record["cgroup"], cgroup.here())
    if record["status"] != "stopped":
        if not options.force and record["status"] != "created":
            raise recorded.WrongState(f"container {options.id} is {record['status']}", hint="stop it first, or use --force")
        _end(record, group)
    group.remove()
    if record.get("placed"):
        placing.remove(record["placed"])
    _run_hooks(options, record, "poststop")
    recorded.forget(record["directory"])
    return 0


def _end(record: Mapping[str, Any], group: Cgroup) -> None:
    """Kill a process that is somebody else's child, and wait until it has ended."""
    import select

    try:
        fd = os.pidfd_open(record["pid"])
    except ProcessLookupError:
        return
    signal.pidfd_send_signal(fd, signal.SIGKILL)
    _let_die(record, group, signal.SIGKILL)
    select.select([fd], [], [], 10)
    os.close(fd)


def _exec(options: argparse.Namespace) -> int:
    record = recorded.record_of(options)
    if record["status"] != "running":
        raise recorded.WrongState(f"container {options.id} is {record['status']}, not running")
    spec = recorded.specification(record)
    process = json.loads(Path(options.process).read_text()) if options.process else _exec_process(options, spec)
    launch = {
        **_process_part(process, _exec_plan(process, spec), record["directory"]),
        "owners": mapped.owners(spec),
        "joined": f"/proc/{record['pid']}/root",
        "cgroup": {"path": record["cgroup"]},
    }
    document = _common(options, launch, spec.get("linux") or {})
    document["slots"]["target"] = os.pidfd_open(record["pid"])
    document["wait"] = not options.detach
    return _become(document)


def _exec_plan(process: Mapping[str, Any], spec: Mapping[str, Any]) -> plan.Plan:
    made = plan.exec_plan(process, spec)
    own = any(entry.get("type") == "user" for entry in (spec.get("linux") or {}).get("namespaces") or [])
    return mapped.adapted_exec(made) if own else made


def _exec_process(options: argparse.Namespace, spec: Mapping[str, Any]) -> dict[str, Any]:
    if not options.args:
        raise InvalidArgument("exec needs a command, or --process")
    process = bundle.exec_process(spec, args=options.args, env=options.env, cwd=options.cwd, tty=options.tty)
    if options.user:
        uid, _, gid = options.user.partition(":")
        process["user"] = {"uid": int(uid), "gid": int(gid or 0), "additionalGids": options.additional_gids}
    if options.cap:
        names = [f"CAP_{name.upper().removeprefix('CAP_')}" for name in options.cap]
        own = process.get("capabilities") or {}
        process["capabilities"] = {kind: sorted({*(own.get(kind) or []), *names}) for kind in ("bounding", "effective", "permitted")}
    if options.no_new_privs:
        process["noNewPrivileges"] = True
    return process


def _list(options: argparse.Namespace) -> int:
    found = []
    for name in sorted(os.listdir(options.root)) if os.path.isdir(options.root) else []:
        try:
            found.append(recorded.state(recorded.record_of(argparse.Namespace(root=options.root, id=name))))
        except LaminaError:
            continue
    if options.format == "json":
        print(json.dumps(found))
    else:
        for state in found:
            print(state["id"], state["pid"], state["status"], state["bundle"], state["created"])
    return 0


def _ps(options: argparse.Namespace) -> int:
    print(json.dumps(Cgroup(recorded.record_of(options)["cgroup"], cgroup.here()).pids()))
    return 0


def _freeze(options: argparse.Namespace) -> int:
    Cgroup(recorded.record_of(options)["cgroup"], cgroup.here()).freeze(frozen=options.command == "pause")
    return 0


def _update(options: argparse.Namespace) -> int:
    text = sys.stdin.read() if options.resources == "-" else Path(options.resources).read_text()
    Cgroup(recorded.record_of(options)["cgroup"], cgroup.here()).limit(json.loads(text))
    return 0


def _spec(options: argparse.Namespace) -> int:
    path = Path(options.bundle, "config.json")
    if path.exists():
        raise recorded.WrongState(f"{path} exists already")
    made = bundle.default_spec(args=["sh"], tty=True, hostname="lamina", machine=os.uname().machine, security=["apparmor=unconfined"])
    path.write_text(json.dumps(made, indent=2) + "\n")
    return 0


def _features(options: argparse.Namespace) -> int:
    del options
    found = {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": list(hooking.KINDS),
        "mountOptions": sorted(["bind", "rbind", *plan.ATTRIBUTES, *plan.PROPAGATION]),
        "linux": {
            "namespaces": sorted(kind for kind in KINDS if kind != "time"),
            "capabilities": [f"CAP_{name}" for name in NAMES],
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False},
            "seccomp": {"enabled": True},
            "apparmor": {"enabled": True},
            "selinux": {"enabled": False},
        },
    }
    print(json.dumps(found, indent=2))
    return 0


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "create": _create,
    "run": _create,
    "start": _start,
    "state": _print_state,
    "kill": _kill,
    "delete": _delete,
    "exec": _exec,
    "ps": _ps,
    "pause": _freeze,
    "resume": _freeze,
    "update": _update,
    "list": _list,
    "spec": _spec,
    "features": _features,
}


if __name__ == "__main__":
    sys.exit(main())
