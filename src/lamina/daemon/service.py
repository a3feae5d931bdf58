"""The systemd unit that runs laminad: `python -m lamina.daemon.service install|uninstall|print [laminad options]`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

from lamina.errors import InvalidArgument, LaminaError, Unsupported

UNIT = "/etc/systemd/system/lamina.service"
_WORDS = ("install", "uninstall", "print")


def unit(command: Sequence[str]) -> str:
    """The unit's text. KillMode=process leaves monitors, keeper and containers alone when the daemon ends or is upgraded.

    No time limit for its start: finding thousands of containers again on a busy machine may take longer than systemd's 90 seconds, and a
    daemon that is killed for that would begin anew."""
    return f"""[Unit]
Description=Lamina container engine
After=network-online.target local-fs.target
Wants=network-online.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={" ".join(_quoted(word) for word in command)}
Restart=on-failure
RestartSec=1
TimeoutStartSec=infinity
KillMode=process
Delegate=yes
OOMScoreAdjust=-500
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"""


def _quoted(word: str) -> str:
    """One word of ExecStart (systemd.service(5) "COMMAND LINES")."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if not word or set(" \t\"'\\;") & set(word) else escaped


def daemon_command() -> list[str]:
    """The command that starts laminad from this installation, by absolute path."""
    script = os.path.join(os.path.dirname(sys.executable), "laminad")
    return [script] if os.path.exists(script) else [sys.executable, "-m", "lamina.daemon.main"]


def install(options: Sequence[str], *, path: str = UNIT) -> str:
    """Write the unit, enable and start it; what was done, for the user.

    Raises:
        Unsupported: this machine has no systemd.
        InvalidArgument: the unit cannot be written, or systemd refuses it.
    """
    systemctl = shutil.which("systemctl")
    if systemctl is None or not os.path.isdir("/run/systemd/system"):
        raise Unsupported("this machine does not run systemd", hint="start laminad by your own supervisor; `print` shows the unit")
    try:
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(unit([*daemon_command(), *options]))
        os.rename(f"{path}.new", path)
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be written: {(error.strerror or '').lower()}", hint="run it as root")
    _run(systemctl, "daemon-reload")
    _run(systemctl, "enable", os.path.basename(path))
    _run(systemctl, "restart", os.path.basename(path))
    return f"wrote {path}, enabled and started {os.path.basename(path)}"


def uninstall(*, path: str = UNIT) -> str:
    """Stop and remove the unit; containers go on."""
    systemctl = shutil.which("systemctl")
    if not os.path.exists(path) or systemctl is None:
        raise InvalidArgument(f"there is no {path}")
    _run(systemctl, "disable", "--now", os.path.basename(path))
    os.unlink(path)
    _run(systemctl, "daemon-reload")
    return f"removed {path}"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InvalidArgument(f"{' '.join(command)} failed: {done.stderr.strip()}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] not in _WORDS:
        print(f"usage: {'|'.join(_WORDS)} [laminad options]", file=sys.stderr)
        return 2
    try:
        if words[0] == "print":
            print(unit([*daemon_command(), *words[1:]]), end="")
        else:
            print(install(words[1:]) if words[0] == "install" else uninstall())
    except LaminaError as error:
        print(f"lamina: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
