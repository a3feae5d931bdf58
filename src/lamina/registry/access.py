"""Who may use a registry: a file of `name:hash` lines, and Basic authentication against it.

{scrypt}SALT$HASH     both base64: n=16384, r=8, p=1, as `python -m lamina.registry passwd` writes it
{SHA}HASH             base64 of SHA-1, as `htpasswd -s` writes it: for files that are there already
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path

from lamina.errors import InvalidArgument, Unauthorized

_COST = {"n": 16384, "r": 8, "p": 1}


class AuthenticationRequired(Unauthorized):
    """No credentials, or wrong ones."""


class InvalidUsers(InvalidArgument):
    """The file of users cannot be read."""


def hashed(password: str, salt: bytes | None = None) -> str:
    """The line's part after the colon for a password."""
    salt = salt if salt is not None else os.urandom(16)
    key = hashlib.scrypt(password.encode(), salt=salt, dklen=32, **_COST)
    return "{scrypt}" + base64.b64encode(salt).decode() + "$" + base64.b64encode(key).decode()


def verify(password: str, stored: str) -> bool:
    """Whether the password is the one that was hashed."""
    try:
        if stored.startswith("{SHA}"):
            digest = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
            return hmac.compare_digest(base64.b64decode(stored[5:]), digest)
        if stored.startswith("{scrypt}"):
            salt, _, key = stored[8:].partition("$")
            found = hashlib.scrypt(password.encode(), salt=base64.b64decode(salt), dklen=32, **_COST)
            return hmac.compare_digest(base64.b64decode(key), found)
    except (binascii.Error, ValueError):
        pass
    return False


def read_users(path: str) -> dict[str, str]:
    """Names and their hashes.

    Raises:
        InvalidUsers: a line has no colon, or a kind of hash that is not known here.
    """
    users: dict[str, str] = {}
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, stored = line.strip().partition(":")
        if not colon or not name or not stored.startswith(("{SHA}", "{scrypt}")):
            raise InvalidUsers(f"line {number} of {path} is not a user", hint="write lines with `python -m lamina.registry passwd NAME`")
        users[name] = stored
    return users


class Gate:
    """Lets requests with good credentials through; where there is no file of users (`users` None), all. Thread-safe.

    Good ones are remembered by a hash under a key of this process: scrypt costs 50 ms, and clients send them each time.
    """

    def __init__(self, users: Mapping[str, str] | None) -> None:
        self._users = users
        self._key = os.urandom(32)
        self._known: set[bytes] = set()

    def check(self, authorization: str) -> None:
        """Raises AuthenticationRequired for anything but a Basic header with a name and its password."""
        if self._users is None:
            return
        scheme, _, value = authorization.partition(" ")
        tag = hmac.digest(self._key, value.encode(), "sha256")
        if scheme.lower() == "basic" and (tag in self._known or self._good(value)):
            self._known.add(tag)
            return
        raise AuthenticationRequired("authentication required")

    def _good(self, value: str) -> bool:
        try:
            name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            return False
        return verify(password, (self._users or {}).get(name, ""))
