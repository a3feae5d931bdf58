"""What an engine has on the host besides its root: processes, mounts, interfaces, rules, control groups. Looked at from outside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from lamina.linux import nftables
from lamina.linux.netlink import NETFILTER, Netlink
from lamina.network.firewall import table_of, tag_of
from tests.harness import Daemon, control_groups, eventually
from tests.torture.churn import name_of


def processes(daemon: Daemon) -> list[str]:
    """Everything that has a file below the root open, is started with it, or sees it mounted in a namespace of its own."""
    root = str(daemon.root)
    return [f"{pid} {_command(pid)}" for pid in _pids() if _touches(pid, root)]


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and int(entry) != os.getpid()]


def _touches(pid: int, root: str) -> bool:
    return root in _command(pid) or any(root in path for path in _open(pid)) or _mounted(pid, root)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def _open(pid: int) -> Iterator[str]:
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            yield os.readlink(f"/proc/{pid}/fd/{fd}")
    except OSError:
        return


def _mounted(pid: int, root: str) -> bool:
    """Whether it sees something below the root in a mount namespace of its own, but for what is mounted for all to see: a service of
    systemd's with a namespace of its own is shown that too."""
    try:
        if os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt"):
            return False
        lines, shown = Path(f"/proc/{pid}/mountinfo").read_text().splitlines(), Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return False
    everybodys = {place for line in shown if (place := line.split()[4]).startswith(f"{root}/")}
    return any(root in line and line.split()[4] not in everybodys for line in lines)


def mounts(daemon: Daemon) -> list[str]:
    """Mount points below the root, in this namespace."""
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [place for place in places if place.startswith(f"{daemon.root}/")]


def check_nothing_remains(daemon: Daemon, containers: list[str]) -> None:
    """With every container removed: what the engine still has is what it has without any; stopped and erased, it has nothing.

    `containers` are the IDs of all that there were.
    """
    daemon.lamina("volume", "prune", "-af")
    daemon.docker("network", "prune", "-f")
    assert daemon.docker("ps", "-aq").stdout == ""
    bridges = [f"br-{row[:12]}" for row in daemon.docker("network", "ls", "-q", "--no-trunc").stdout.split()]
    default = f"lamina-{tag_of(str(daemon.data))}"
    eventually(lambda: not interfaces([default, *bridges]), "pairs of interfaces remain")
    eventually(lambda: not monitors(daemon), f"monitors remain: {monitors(daemon)}")
    eventually(lambda: not ports(daemon), "published ports remain in the rules")
    assert control_groups(containers) == []
    eventually(lambda: not files(daemon), f"files remain: {files(daemon)}")
    daemon.remove()
    eventually(lambda: not processes(daemon), f"processes remain: {processes(daemon)}")
    assert mounts(daemon) == []
    assert not os.path.exists(f"/sys/class/net/{default}")
    assert not has_table(daemon)


def monitors(daemon: Daemon) -> list[str]:
    """Monitors, and processes of containers."""
    zygotes = [pid for pid in _pids() if name_of(pid) == "lamina-zygote"]
    named = [pid for pid in _pids() if name_of(pid) == "lamina-monitor" and _touches(pid, str(daemon.root))]
    inside = [pid for pid in _pids() if pid not in zygotes and _mounted(pid, str(daemon.root))]
    return [f"{pid} {name_of(pid)}" for pid in (*named, *inside)]


def ports(daemon: Daemon) -> list[str]:
    """Elements of the maps of published ports, as nft(8) shows them; none where that is not installed."""
    if not (nft := shutil.which("nft")):
        return []
    shown = subprocess.run([nft, "-j", "list", "table", "inet", table_of(tag_of(str(daemon.data)))], capture_output=True, check=False)
    rows = json.loads(shown.stdout)["nftables"] if shown.returncode == 0 else []
    return [str(row["map"]["elem"]) for row in rows if "map" in row and row["map"].get("elem")]


def interfaces(bridges: list[str]) -> list[str]:
    """Ends of pairs on these bridges."""
    return [str(port) for bridge in bridges for port in Path("/sys/class/net", bridge).glob("brif/*")]


def files(daemon: Daemon) -> list[str]:
    """What is in the folders of containers and volumes, but for what every engine has."""
    found = []
    for folder in ("containers", "volumes"):
        found += [f"{folder}/{name}" for name in os.listdir(daemon.data / folder) if name not in (".init", ".scratch")]
    return found


def has_table(daemon: Daemon) -> bool:
    """Whether the engine's table of rules is there."""
    with Netlink(NETFILTER) as connection:
        return table_of(tag_of(str(daemon.data))) in {name for _, name in nftables.tables(connection)}
