"""The files that an engine puts below every container's writable layer, and those bound over its /etc."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from lamina.linux.removing import remove_path
from lamina.spec.resolver import render_hosts


@dataclass(frozen=True, slots=True)
class EtcFiles:
    """Host paths of the files bound over /etc of a container; an empty one is not bound."""

    hostname: str = ""
    hosts: str = ""
    resolv_conf: str = ""


def write_etc_files(directory: str, *, hostname: str, hosts: str = "", resolv_conf: str = "") -> EtcFiles:
    """Write hostname, hosts and resolv.conf into `directory` as Docker does; idempotent.

    `hosts` and `resolv_conf` are texts; empty: names of the loopback alone, a copy of the host's.
    """
    texts = (("hostname", f"{hostname}\n"), ("hosts", hosts or render_hosts(())), ("resolv.conf", resolv_conf or host_resolver()))
    for name, text in texts:
        _write(f"{directory}/{name}", text)
    return EtcFiles(f"{directory}/hostname", f"{directory}/hosts", f"{directory}/resolv.conf")


def host_resolver() -> str:
    """The host's resolv.conf; empty where it has none."""
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def write_init_layer(directory: str) -> None:
    """Make the read-only layer that lies between image and writable layer: mount points, so that mounting changes no layer.

    As in Docker: /.dockerenv, dev/pts, dev/shm, dev/console, proc, sys, etc/hosts, etc/hostname, etc/resolv.conf, etc/mtab.
    """
    for name in ("", "dev", "dev/pts", "dev/shm", "etc", "proc", "sys"):
        _clear(f"{directory}/{name}", stat.S_ISDIR)
        os.makedirs(f"{directory}/{name}", mode=0o755, exist_ok=True)
    for name in (".dockerenv", "dev/console"):
        _clear(f"{directory}/{name}", stat.S_ISREG)
        _write(f"{directory}/{name}", "", mode=0o755)
    for name in ("etc/hosts", "etc/hostname", "etc/resolv.conf"):
        _clear(f"{directory}/{name}", stat.S_ISREG)
        _write(f"{directory}/{name}", "", mode=0o644)
    if not os.path.lexists(f"{directory}/etc/mtab"):
        os.symlink("/proc/mounts", f"{directory}/etc/mtab")


def _clear(path: str, fits: Callable[[int], bool]) -> None:
    """Remove what is there if it is of another kind: damage, that would end each start, or be followed if it is a link."""
    if os.path.lexists(path) and not fits(os.lstat(path).st_mode):
        remove_path(path)


def _write(path: str, text: str, *, mode: int = 0o644) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(file.fileno(), mode)
