"""Starts laminad in the background, out of the caller's session, cgroup, directory, umask and environment."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping

from lamina.client.transport import Address, EngineUnreachable, Transport

ROOT = "/var/lib/lamina"
_CGROUP = "/sys/fs/cgroup"
_DEADLINE = 60.0
_POLL = 0.02
# how the outside is reached is a fact of the machine rather than of the caller's shell
_KEPT = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")


def start_daemon(address: str, environment: Mapping[str, str], root: str = ROOT) -> None:
    """Start a daemon that listens on `address`, and wait until it does.

    Raises:
        EngineUnreachable: we may not, or it ended; its log says why.
    """
    if os.geteuid() != 0:
        raise EngineUnreachable(
            f"nobody listens on {address}, and only root can start the engine", hint="start laminad, or name one by --host"
        )
    os.makedirs(root, mode=0o710, exist_ok=True)
    log = f"{root}/laminad.log"
    sys.stderr.write(f"lamina: no engine listens on {address}: starting laminad (log: {log})\n")
    sys.stderr.flush()
    process = _spawn([*program("lamina.daemon.main"), "--root", root, "--host", address], log, environment)
    _move_to_own_cgroup(process.pid)
    _await(process, Transport(Address.parse(address)), log)


def program(module: str) -> list[str]:
    """The command that runs a module's `main` in this installation, with its dependencies, whatever the caller's directory."""
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = f"import sys; sys.path.append({home!r}); from {module} import main; sys.exit(main())"
    return [sys.executable, "-E", "-P", "-c", code]


def _spawn(command: list[str], log: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    kept = {name: environment[name] for name in _KEPT if name in environment}
    clean = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"} | kept
    with open(log, "ab") as out:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/", env=clean, umask=0o022, start_new_session=True
        )


def _move_to_own_cgroup(pid: int) -> None:
    # the caller's cgroup may be a login session's or a service's, which end with it; without a writable tree it stays there
    if not os.path.exists(f"{_CGROUP}/cgroup.controllers"):
        return
    try:
        os.makedirs(f"{_CGROUP}/laminad", exist_ok=True)
        with open(f"{_CGROUP}/laminad/cgroup.procs", "w", encoding="ascii") as file:
            file.write(str(pid))
    except OSError:
        pass


def _await(process: subprocess.Popen[bytes], transport: Transport, log: str) -> None:
    deadline = time.monotonic() + _DEADLINE
    while time.monotonic() < deadline:
        # asked first: another may have started it at the same time, and ours given way
        ended = process.poll() is not None
        try:
            transport.connect().close()
            return
        except EngineUnreachable:
            if ended:
                break
            time.sleep(_POLL)
    raise EngineUnreachable(f"laminad did not start: {_last_line(log)}", hint=f"see {log}")


def _last_line(log: str) -> str:
    with open(log, encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    return lines[-1] if lines else "it said nothing"
