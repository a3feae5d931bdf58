"""The local driver's options (type, device, o) as what mount(2) takes. Pure, but for names of servers, which `resolve` looks up."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lamina.errors import InvalidArgument
from lamina.linux import mount

_NEEDED: Mapping[str, tuple[str, ...]] = {"device": ("type",), "type": ("device",), "o": ("device", "type")}
_KNOWN = ("type", "o", "device", "size")
_FLAGS: Mapping[str, tuple[int, int]] = {  # what a word adds, and what it takes away
    "defaults": (0, 0),
    "ro": (mount.MS_RDONLY, 0),
    "rw": (0, mount.MS_RDONLY),
    "suid": (0, mount.MS_NOSUID),
    "nosuid": (mount.MS_NOSUID, 0),
    "dev": (0, mount.MS_NODEV),
    "nodev": (mount.MS_NODEV, 0),
    "exec": (0, mount.MS_NOEXEC),
    "noexec": (mount.MS_NOEXEC, 0),
    "sync": (16, 0),
    "async": (0, 16),
    "dirsync": (128, 0),
    "mand": (64, 0),
    "nomand": (0, 64),
    "atime": (0, mount.MS_NOATIME),
    "noatime": (mount.MS_NOATIME, 0),
    "diratime": (0, 2048),
    "nodiratime": (2048, 0),
    "bind": (mount.MS_BIND, 0),
    "rbind": (mount.MS_BIND | mount.MS_REC, 0),
    "relatime": (1 << 21, 0),
    "norelatime": (0, 1 << 21),
    "strictatime": (1 << 24, 0),
    "nostrictatime": (0, 1 << 24),
}
_PROPAGATION: Mapping[str, int] = {
    "unbindable": 1 << 17,
    "private": mount.MS_PRIVATE,
    "slave": mount.MS_SLAVE,
    "shared": mount.MS_SHARED,
}
_SECRETS = re.compile(r"(pass(?:word)?=)[^,]*")


class InvalidOptions(InvalidArgument):
    """Options that the local driver does not have, or that miss each other."""


@dataclass(frozen=True, slots=True)
class MountCall:
    """What to mount. `propagation` is set in a call of its own afterwards (0: none)."""

    device: str
    kind: str
    flags: int
    data: str
    propagation: int = 0

    def words(self, target: str) -> str:
        """The call as Docker shows it in errors, secrets left out."""
        flags = f", flags: 0x{self.flags:x}" if self.flags else ""
        shown = _SECRETS.sub(r"\1********", self.data)
        data = f", data: {shown}" if shown else ""
        return f"mount {self.device}:{target}{flags}{data}"


def check(name: str, options: Mapping[str, str]) -> None:
    """Refuse what cannot be mounted, in Docker's words.

    Raises:
        InvalidOptions: it names the option.
    """
    for option in sorted(options):
        if option not in _KNOWN:
            raise InvalidOptions(f'create {name}: invalid option: "{option[:100]}"')
        if "\0" in options[option]:
            raise InvalidOptions(f'create {name}: option "{option}" must not hold a NUL')
        for needed in _NEEDED.get(option, ()):
            if needed not in options:
                raise InvalidOptions(f'create {name}: missing required option: "{needed}"')
    if "size" in options:
        raise InvalidOptions(f"create {name}: quota size requested but no quota support")


def call(options: Mapping[str, str], resolve: Callable[[str], str]) -> MountCall:
    """What to mount for these options. `resolve` gives the address of a host's name; what it raises passes through."""
    kind, device = options.get("type", ""), options.get("device", "")
    flags, propagation, data = 0, 0, []
    for word in filter(None, options.get("o", "").split(",")):
        if word in _FLAGS:
            add, remove = _FLAGS[word]
            flags = flags & ~remove | add
        elif word.removeprefix("r") in _PROPAGATION:
            propagation = _PROPAGATION[word.removeprefix("r")] | (mount.MS_REC if word.startswith("r") else 0)
        else:
            data.append(word)
    return MountCall(device, kind, flags, ",".join(_addressed(kind, device, data, resolve)), propagation)


def _addressed(kind: str, device: str, data: list[str], resolve: Callable[[str], str]) -> list[str]:
    """The kernel takes addresses only: mount(8)'s helpers for network file systems look names up."""
    if kind in ("nfs", "nfs4"):
        return [f"addr={resolve(word[5:])}" if word.startswith("addr=") else word for word in data]
    if kind == "cifs" and device.startswith("//") and not any(word.startswith(("ip=", "addr=")) for word in data):
        return [*data, f"ip={resolve(device[2:].partition('/')[0])}"]
    return data
