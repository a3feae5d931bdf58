"""The files that an engine puts below every container's writable layer, and those bound over its /etc."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

_HOSTS = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


@dataclass(frozen=True, slots=True)
class EtcFiles:
    """Host paths of the files bound over /etc of a container; an empty one is not bound."""

    hostname: str = ""
    hosts: str = ""
    resolv_conf: str = ""


def write_etc_files(
    directory: str, *, hostname: str, addresses: Sequence[str] = (), extra_hosts: Sequence[str] = (), resolv_conf: str = ""
) -> EtcFiles:
    """Write hostname, hosts and resolv.conf into `directory` as Docker does; idempotent.

    `extra_hosts` are `name:address`; `resolv_conf` is text, empty for a copy of the host's.
    """
    lines = [f"{address}\t{name}\n" for name, _, address in (entry.partition(":") for entry in extra_hosts)]
    lines += [f"{address}\t{hostname}\n" for address in addresses]
    resolver = resolv_conf or _host_resolver()
    for name, text in (("hostname", f"{hostname}\n"), ("hosts", _HOSTS + "".join(lines)), ("resolv.conf", resolver)):
        _write(f"{directory}/{name}", text)
    return EtcFiles(f"{directory}/hostname", f"{directory}/hosts", f"{directory}/resolv.conf")


def _host_resolver() -> str:
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
        os.makedirs(f"{directory}/{name}", mode=0o755, exist_ok=True)
    for name in (".dockerenv", "dev/console"):
        _write(f"{directory}/{name}", "", mode=0o755)
    for name in ("etc/hosts", "etc/hostname", "etc/resolv.conf"):
        _write(f"{directory}/{name}", "", mode=0o644)
    if not os.path.lexists(f"{directory}/etc/mtab"):
        os.symlink("/proc/mounts", f"{directory}/etc/mtab")


def _write(path: str, text: str, *, mode: int = 0o644) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(file.fileno(), mode)
