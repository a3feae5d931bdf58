"""Finds the engine: by --host, LAMINA_HOST, DOCKER_HOST, then the default socket, where one is started if nobody listens."""

from __future__ import annotations

import _socket

from lamina.client.transport import Address, Transport

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from collections.abc import Mapping

    from lamina.cli.flags import Arguments

DEFAULT_SOCKET = "/run/lamina.sock"


def find(host: str, environment: Mapping[str, str], options: Arguments, config: str) -> Transport:
    """The engine to talk to. `config` is the directory of the client's files, certificates among them.

    Raises:
        InvalidArgument: an address, or a certificate, that cannot be read.
    """
    named = host or environment.get("LAMINA_HOST") or environment.get("DOCKER_HOST")
    if not named:
        return SelfStarting(DEFAULT_SOCKET, environment)
    address = Address.parse(named)
    verify = options.on("tlsverify", default=bool(environment.get("DOCKER_TLS_VERIFY")))
    if address.host and (verify or options.on("tls")):
        from lamina.cli.certificates import secured

        return secured(address, options, environment.get("DOCKER_CERT_PATH") or config, verify=verify)
    return Transport(address)


class SelfStarting(Transport):
    """An engine on a socket of this machine; the first connection that finds nobody there starts one."""

    __slots__ = ("_environment",)

    def __init__(self, path: str, environment: Mapping[str, str]) -> None:
        super().__init__(Address(path=path))
        self._environment = environment

    def open_socket(self) -> _socket.socket:
        """See Transport.open_socket."""
        try:
            return super().open_socket()
        except (FileNotFoundError, ConnectionRefusedError):
            from lamina.cli.autostart import start_daemon

            start_daemon(str(self.address), self._environment)
            return super().open_socket()

    def as_it_is(self) -> Transport:
        """See Transport.as_it_is."""
        return Transport(self.address)
