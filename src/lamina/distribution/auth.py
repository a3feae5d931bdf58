"""Credentials for registries: what a client sends with a request, and the tokens they are changed into."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field

from lamina.errors import InvalidArgument


class InvalidAuth(InvalidArgument):
    """An `X-Registry-Auth` value cannot be read."""


@dataclass(frozen=True, slots=True)
class Auth:
    """What a user gave for one registry; every field may be empty, which means anonymous.

    `identity_token` is an OAuth2 refresh token, `registry_token` a bearer token sent as it is.
    `server` is the registry's address as the client's configuration names it.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    server: str = ""

    @classmethod
    def parse(cls, header: str) -> Auth:
        """Read an `X-Registry-Auth` header: base64url of a JSON object, padded or not; empty is anonymous.

        Raises:
            InvalidAuth: it is not that.
        """
        if not header.strip():
            return cls()
        text = header.strip().replace("+", "-").replace("/", "_").rstrip("=")
        try:
            fields = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except (binascii.Error, ValueError, RecursionError):
            raise InvalidAuth("invalid X-Registry-Auth header") from None
        if not isinstance(fields, dict):
            raise InvalidAuth("invalid X-Registry-Auth header")
        return cls.from_fields(fields)

    @classmethod
    def from_fields(cls, fields: dict[str, object]) -> Auth:
        """From the keys of Docker's AuthConfig; a combined `auth` (base64 of `user:password`) counts where there is no username.

        Raises:
            InvalidAuth: a field has the wrong type.
        """

        def text(key: str) -> str:
            value = fields.get(key) or ""
            if not isinstance(value, str):
                raise InvalidAuth(f"invalid registry credentials: {key} is no text")
            return value

        username, password = text("username"), text("password")
        if not username and text("auth"):
            username, password = _combined(text("auth"))
        return cls(username, password, text("identitytoken"), text("registrytoken"), text("serveraddress"))

    @property
    def anonymous(self) -> bool:
        """Whether it holds nothing to show a registry."""
        return not (self.username or self.identity_token or self.registry_token)


def _combined(auth: str) -> tuple[str, str]:
    try:
        username, _, password = base64.b64decode(auth).decode().partition(":")
    except ValueError:
        raise InvalidAuth("invalid registry credentials: auth is no base64") from None
    return username, password.rstrip("\0")
