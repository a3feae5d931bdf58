"""Finds the engine: by --host, LAMINA_HOST, DOCKER_HOST, then the default socket, where one is started if nobody listens."""

from __future__ import annotations

from collections.abc import Mapping

from lamina.client.transport import Address, EngineUnreachable, Transport

DEFAULT_SOCKET = "/run/lamina.sock"


def find(host: str, environment: Mapping[str, str]) -> Transport:
    """The engine to talk to.

    Raises:
        InvalidArgument: an address that cannot be read.
        EngineUnreachable: the default one could not be started.
    """
    named = host or environment.get("LAMINA_HOST") or environment.get("DOCKER_HOST")
    if named:
        return Transport(Address.parse(named))
    return _Default(Address(path=DEFAULT_SOCKET))


class _Default(Transport):
    """The engine on the default socket; the first connection that finds nobody there starts one."""

    __slots__ = ()

    def _socket(self):  # type: ignore[no-untyped-def]
        try:
            return super()._socket()
        except (FileNotFoundError, ConnectionRefusedError):
            from lamina.cli.autostart import start_daemon

            start_daemon(str(self.address))
            return super()._socket()


__all__ = ["DEFAULT_SOCKET", "EngineUnreachable", "find"]
