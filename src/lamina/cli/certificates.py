"""An engine behind TLS: certificates in docker's places, or where flags say."""

from __future__ import annotations

import _socket
import os
import ssl

from lamina.cli.flags import Arguments
from lamina.client.transport import Address, Connection, EngineUnreachable, Transport
from lamina.tls.contexts import client_context
from lamina.tls.pump import behind

_FILES = (("tlscert", "cert.pem"), ("tlskey", "key.pem"), ("tlscacert", "ca.pem"))


def secured(address: Address, options: Arguments, directory: str, *, verify: bool) -> Transport:
    """The engine at `address` by TLS. Of the files in `directory` those that are not there are not used; one that a flag names must be.

    Raises:
        InvalidCertificates: a file is missing or wrong.
    """
    certificate, key, authority = (_file(options.text(flag), os.path.join(directory, name)) for flag, name in _FILES)
    return SecureTransport(address, client_context(certificate=certificate, key=key, authority=authority, verify=verify))


def _file(named: str, usual: str) -> str:
    return named or (usual if os.path.exists(usual) else "")


class SecureConnection(Connection):
    """A connection that tells why the engine ended it, where TLS knows."""

    __slots__ = ("_faults",)

    def __init__(self, socket: _socket.socket, faults: list[Exception]) -> None:
        super().__init__(socket)
        self._faults = faults

    def fill(self) -> bool:
        """See Connection.fill."""
        filled = super().fill()
        if not filled and self._faults and isinstance(self._faults[0], ssl.SSLError):
            raise refused(self._faults[0])
        return filled

    def _write(self, data: bytes) -> None:
        try:
            super()._write(data)
        except EngineUnreachable:
            self.fill()
            raise


class SecureTransport(Transport):
    """An engine reached by TLS."""

    __slots__ = ("_context",)

    def __init__(self, address: Address, context: ssl.SSLContext) -> None:
        super().__init__(address)
        self._context = context

    def connect(self) -> Connection:
        """See Transport.connect.

        Raises:
            EngineUnreachable: its certificate is not what it should be, or it does not take ours.
        """
        plain = super().connect()
        faults: list[Exception] = []
        try:
            made = behind(plain.socket, self._context, server=False, name=self.address.host, failed=faults.append)
        except ssl.SSLError as fault:
            raise refused(fault) from None
        return SecureConnection(made, faults)


def refused(fault: ssl.SSLError) -> EngineUnreachable:
    """Why TLS came to nothing, in OpenSSL's words."""
    reason = str(getattr(fault, "verify_message", "") or fault.reason or fault).lower().replace("_", " ")
    what = "the engine does not take this client's certificate" if "alert" in reason else "cannot connect to the engine by TLS"
    return EngineUnreachable(f"{what}: {reason}", hint="see --tlscacert, --tlscert and --tlskey")
