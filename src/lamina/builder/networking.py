"""Which network a RUN gets: the one place that decides."""

from __future__ import annotations

from lamina.dockerfile import ast
from lamina.errors import Unsupported

_NETWORKS = {"": "", "default": "", "bridge": "", "none": "none", "host": "host"}
"""What --network may say, and what runtime.bundle makes of it; "" leaves it to who is asked next."""


class NetworkNotSupported(Unsupported):
    """A RUN cannot be put into that network."""


def run_network(instruction: ast.Run, asked: str, default: str) -> str:
    """What RUN --network says, else what the build's --network `asked` says, else the engine's default.

    Raises:
        NetworkNotSupported: one of both names a network that builds cannot join.
    """
    return _known(instruction.network, "RUN --network=") or _known(asked, "--network ") or default


def _known(name: str, flag: str) -> str:
    if name not in _NETWORKS:
        raise NetworkNotSupported(f"{flag}{name[:50]} is not supported", hint="known are default, none and host")
    return _NETWORKS[name]
