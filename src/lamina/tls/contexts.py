"""What each side of a TLS connection shows and asks for, by files in Docker's places."""

from __future__ import annotations

import ssl

from lamina.errors import InvalidArgument


class InvalidCertificates(InvalidArgument):
    """A certificate, a key or an authority cannot be read."""


def server_context(*, certificate: str, key: str, authority: str) -> ssl.SSLContext:
    """A server's: with an `authority` (a file of certificates), only clients that one of them signed come in.

    Raises:
        InvalidCertificates: a file is missing or wrong.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load(context, certificate, key, authority)
    if authority:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(*, certificate: str, key: str, authority: str, verify: bool) -> ssl.SSLContext:
    """A client's: it verifies the server by `authority` (empty: the system's) unless told not to; `certificate` and `key` may be empty.

    Raises:
        InvalidCertificates: a file is missing or wrong.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    _load(context, certificate, key, authority)
    return context


def _load(context: ssl.SSLContext, certificate: str, key: str, authority: str) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if certificate or key:
            context.load_cert_chain(certificate, key or None)
        if authority:
            context.load_verify_locations(authority)
    except (OSError, ValueError) as error:
        named = " and ".join(name for name in (certificate, key, authority) if name)
        why = (
            "no certificate in PEM with its key"
            if isinstance(error, ssl.SSLError)
            else str(getattr(error, "strerror", "") or error).lower()
        )
        raise InvalidCertificates(f"TLS cannot be set up with {named}: {why}") from None
