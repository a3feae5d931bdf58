"""The AppArmor profile of default containers, where the kernel has AppArmor on and its parser is installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress

DEFAULT = "lamina-default"
_ENABLED = "/sys/module/apparmor/parameters/enabled"
_LOADED = "/sys/kernel/security/apparmor/profiles"

# The kernel's files that no container has business writing, whatever capabilities it was given, and no mounts;
# no AF_ALG sockets (CVE-2026-31431: what a filter cannot see of 32-bit programs, it does);
# signals and tracing among processes of the same profile only, signals from the host's side allowed.
PROFILE = f"""
profile {DEFAULT} flags=(attach_disconnected,mediate_deleted) {{
  network,
  deny network alg,
  capability,
  file,
  umount,
  signal (receive) peer=unconfined,
  signal (send,receive) peer={DEFAULT},
  ptrace (trace,read,tracedby,readby) peer={DEFAULT},
  deny mount,
  deny @{{PROC}}/* w,
  deny @{{PROC}}/{{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}}/** w,
  deny @{{PROC}}/sys/[^k]** w,
  deny @{{PROC}}/sys/kernel/{{?,??,[^s][^h][^m]**}} w,
  deny @{{PROC}}/sysrq-trigger rwklx,
  deny @{{PROC}}/kcore rwklx,
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}}
"""


def load() -> bool:
    """Load the default profile; whether containers can enter it now."""
    parser = shutil.which("apparmor_parser", path="/usr/sbin:/sbin:/usr/bin")
    if not enabled():
        return False
    if parser:
        with suppress(OSError, subprocess.TimeoutExpired):  # what is not loaded is said by who asks for it
            subprocess.run([parser, "-Kr"], input="@{PROC}=/proc/\n" + PROFILE, text=True, capture_output=True, check=False, timeout=60)
    return is_loaded(DEFAULT)


def enabled() -> bool:
    """Whether this kernel has AppArmor on."""
    try:
        with open(_ENABLED, encoding="ascii") as file:
            return file.read().strip() == "Y"
    except OSError:
        return False


def warnings(security: Sequence[str]) -> tuple[str, ...]:
    """What of these --security-opt has no effect here, in a sentence."""
    asked = [word.partition("=")[2] for word in security if word.startswith("apparmor=")]
    if not asked or asked[-1] in ("", "unconfined") or enabled():
        return ()
    return (f"This kernel has AppArmor off: its profile {asked[-1][:100]} confines nothing.",)


def is_loaded(name: str) -> bool:
    """Whether the kernel has a profile of that name."""
    try:
        with open(_LOADED, encoding="utf-8") as file:
            return any(line.split(" (")[0] == name for line in file)
    except OSError:
        return False
