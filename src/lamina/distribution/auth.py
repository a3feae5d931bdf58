"""Credentials for registries: what a client sends with a request, and the tokens they are changed into."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from lamina.distribution.protocol import Challenge
from lamina.errors import InvalidArgument, Unauthorized, Unavailable

CLIENT = "lamina"
"""The OAuth2 client_id that token servers see."""


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
        """Read an `X-Registry-Auth` header: base64url of a JSON object, padded or not; empty and `null` are anonymous.

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
        fields = {} if fields is None else fields
        if not isinstance(fields, dict):
            raise InvalidAuth("invalid X-Registry-Auth header")
        return cls.from_fields(fields)

    @classmethod
    def from_fields(cls, fields: dict[str, object]) -> Auth:
        """From the keys of Docker's AuthConfig, in any case; a combined `auth` (base64 of `user:password`) counts where there is no
        username.

        Raises:
            InvalidAuth: a field has the wrong type, or a token holds what no header can.
        """
        known = {key.casefold(): value for key, value in fields.items()}

        def text(key: str) -> str:
            value = known.get(key) or ""
            if not isinstance(value, str):
                raise InvalidAuth(f"invalid registry credentials: {key} is not text")
            return value

        username, password = text("username"), text("password")
        if not username and text("auth"):
            username, password = _combined(text("auth"))
        token = text("registrytoken")
        if not (token.isascii() and token.isprintable()):
            raise InvalidAuth("invalid registry credentials: registrytoken holds what no header can")
        return cls(username, password, text("identitytoken"), token, text("serveraddress"))

    @property
    def anonymous(self) -> bool:
        """Whether it holds nothing to show a registry."""
        return not (self.username or self.identity_token or self.registry_token)


def _combined(auth: str) -> tuple[str, str]:
    try:
        username, _, password = base64.b64decode(auth).decode().partition(":")
    except ValueError:
        raise InvalidAuth("invalid registry credentials: auth is not base64") from None
    return username, password.rstrip("\0")


class ChallengeUnusable(Unavailable):
    """A registry's demand for credentials, or its token server's answer, makes no sense."""


class TokenRefused(Unauthorized):
    """A token server does not accept the credentials."""


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One request to a token server: a GET, or a POST of the form `body`."""

    url: str
    authorization: str = field(default="", repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Grant:
    """A bearer token, and the second on the caller's clock from which it is not used again."""

    token: str = field(repr=False)
    expires: float
    identity_token: str = field(default="", repr=False)


def basic(auth: Auth) -> str:
    """The `Authorization` value of a name and password."""
    return "Basic " + base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()


def token_request(challenge: Challenge, scopes: Sequence[str], auth: Auth, *, offline: bool = False) -> TokenRequest:
    """What to ask the challenge's realm: OAuth2's POST with an identity token, Docker's GET otherwise.

    With `offline`, an identity token is asked for too.

    Raises:
        ChallengeUnusable: the challenge names no http(s) realm.
    """
    realm, service = challenge.parameters.get("realm", ""), challenge.parameters.get("service", "")
    if not _is_url(realm):
        raise ChallengeUnusable(f"registry asks for a token from an unusable address: {realm[:200]!r}")
    if auth.identity_token:
        form = {"grant_type": "refresh_token", "service": service, "client_id": CLIENT, "refresh_token": auth.identity_token}
        return TokenRequest(realm, body=urlencode({**form, **({"scope": " ".join(scopes)} if scopes else {})}).encode())
    query = [("service", service)] if service else []
    query += [("scope", scope) for scope in scopes]
    if auth.username:
        query += [("account", auth.username), ("client_id", CLIENT)]
    if offline:
        query += [("offline_token", "true")]
    joined = f"{realm}{'&' if urlsplit(realm).query else '?'}{urlencode(query)}" if query else realm
    return TokenRequest(joined, authorization=basic(auth) if auth.username else "")


def read_grant(body: bytes, now: float) -> Grant:
    """The token in a token server's answer; without a lifetime it is good for 60 seconds.

    Raises:
        ChallengeUnusable: there is none.
    """
    try:
        fields = json.loads(body)
        token = fields.get("token") or fields.get("access_token")
        lifetime = float(fields.get("expires_in") or 60)
        identity = fields.get("refresh_token") or ""
    except (ValueError, OverflowError, TypeError, AttributeError, RecursionError):
        token, lifetime, identity = None, 60.0, ""
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise ChallengeUnusable("token server answered without a token")
    # A tenth off, so that a token does not run out between its look-up and its arrival.
    return Grant(token, now + max(60.0, lifetime) * 0.9, str(identity))


def _is_url(text: str) -> bool:
    try:
        return urlsplit(text).scheme in ("http", "https") and bool(urlsplit(text).hostname)
    except ValueError:
        return False
