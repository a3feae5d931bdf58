"""The OCI command line's launching half: a bare process from a sealed interpreter that starts one process as its own child.

    oci DOCUMENT    the descriptor DOCUMENT is of a JSON text: {"command": create|run|exec, "launch": …, "state": …, …}

Without a monitor: after `create`, and when detached, it ends, and what it started is the child of whoever reaps
orphans (conmon, containerd-shim). In the foreground it passes signals on, waits, and ends with the same code.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import os
import select
import sys
import time

from lamina.linux import channel, prctl, tty
from lamina.runtime import cgroup, hooks, placing, records, zygote
from lamina.runtime.launcher import launch
from lamina.runtime.reports import NOT_EXECUTABLE, NOT_FOUND, LaunchFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from lamina.runtime.launcher import Launched

FIFO, SAID = "start.fifo", "said.fifo"
"""What `start` writes to, and where it hears what fails after that."""
_CODES = {NOT_FOUND: 127, NOT_EXECUTABLE: 126}


def main() -> None:
    """See the module."""
    fd = int(sys.argv[1])
    document = channel.decode(os.pread(fd, os.fstat(fd).st_size, 0))
    os.close(fd)
    prctl.set_undumpable()
    hierarchies = cgroup.here()
    zygote.close_doors()
    _report(document, "")
    try:
        launched = launch(document["launch"], _slots(document), hierarchies)
    except LaunchFailed as error:
        _report(document, error.message)
        os._exit(1 if document["command"] == "create" else _CODES.get(error.kind, 1))
    try:
        _record(document, launched)
    except OSError as error:
        _report(document, f"{error.filename or document['console_socket']}: {error.strerror}")
        os.kill(launched.pid, _signal.SIGKILL)
        os.waitpid(launched.pid, 0)
        if document["command"] != "exec":
            _forget(document, launched)
        os._exit(1)
    if document["command"] == "run":
        _run_hooks(document, "poststart", "running", launched.pid)
    os._exit(_stay(document, launched) if document["wait"] else 0)


def _slots(document: Mapping[str, Any]) -> dict[str, Any]:
    slots: dict[str, Any] = {**document["slots"], "preserved": document["preserve"]}
    if not document["launch"]["terminal"]:
        slots |= {"stdin": 0, "stdout": 1, "stderr": 2}
    if document["command"] == "create":
        path = f"{document['state']}/{FIFO}"
        os.mkfifo(path, 0o600)
        slots["start"] = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        said = f"{document['state']}/{SAID}"
        os.mkfifo(said, 0o600)
        slots["said"] = os.open(said, os.O_RDWR | os.O_CLOEXEC)
    return slots


def _report(document: Mapping[str, Any], message: str) -> None:
    """Say an error where callers look for it: standard error, and the log, as JSON where that was asked for."""
    if not message:
        return
    os.write(2, f"lamina-runtime: {message}\n".encode())
    if document["log"]:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = (
            channel.encode({"level": "error", "msg": message, "time": stamp})
            if document["log_json"]
            else f"{stamp} error: {message}".encode()
        )
        try:
            fd = os.open(document["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            os.write(2, f"lamina-runtime: {document['log']}: {error.strerror}\n".encode())
            return
        channel.write_all(fd, line + b"\n")
        os.close(fd)


def _record(document: Mapping[str, Any], launched: Launched) -> None:
    """Write down what runs, and hand the terminal over."""
    if document["command"] != "exec":
        record = {**document["record"], "pid": launched.pid, "started": records.start_time(launched.pid), "placed": launched.placed}
        records.write_record(document["state"], "state.json", record, durable=False)
    if document["console_socket"] and launched.master >= 0:
        _send_console(document["console_socket"], launched.master)
    if document["pid_file"]:
        fd = os.open(f"{document['pid_file']}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        os.write(fd, str(launched.pid).encode())
        os.close(fd)
        os.rename(f"{document['pid_file']}.new", document["pid_file"])


def _send_console(path: str, master: int) -> None:
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    sock.connect(path)
    sock.sendmsg([b"pty"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, master.to_bytes(4, sys.byteorder))])
    sock.close()


def _run_hooks(document: Mapping[str, Any], kind: str, status: str, pid: int = 0) -> None:
    """Hooks after the fact: what fails is said and changes nothing."""
    wanted = document["launch"].get("hooks")
    for warning in hooks.run_all(wanted[kind], hooks.told(wanted["about"], status, pid)) if wanted else []:
        _report(document, f"warning: {warning}")


def _stay(document: Mapping[str, Any], launched: Launched) -> int:
    """In the foreground: pass signals and the terminal on until the process ends; its exit code."""
    for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2):
        _signal.signal(number, lambda number, _frame: _pass_on(launched.pid, number))
    if launched.master >= 0 and not document["console_socket"]:
        _relay(launched)
    _, status = os.waitpid(launched.pid, 0)
    if document["command"] == "run":
        _forget(document, launched)
        _run_hooks(document, "poststop", "stopped")
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _forget(document: Mapping[str, Any], launched: Launched) -> None:
    """Remove what a container leaves, once its process has ended."""
    if launched.cgroup is not None:
        launched.cgroup.remove()
    for name in os.listdir(document["state"]):
        os.unlink(f"{document['state']}/{name}")
    os.rmdir(document["state"])
    if launched.placed:
        placing.remove(launched.placed)


def _pass_on(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _relay(launched: Launched) -> None:
    """Copy between standard streams and the terminal until the process ends."""
    restore = tty.make_raw(0)
    poll = select.poll()
    poll.register(launched.master, select.POLLIN)
    poll.register(0, select.POLLIN)
    try:
        while True:
            for fd, _ in poll.poll():
                data = _read(fd)
                if not data and fd == launched.master:
                    return
                if not data:
                    poll.unregister(0)
                channel.write_all(1 if fd == launched.master else launched.master, data)
    finally:
        restore()


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:
        # A terminal without a process answers EIO.
        return b""
