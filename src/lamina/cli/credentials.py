"""Credentials of registries in Docker's config.json, and the credential helpers it names (docker-credential-NAME).

The file's other keys are kept as they are. Nothing here reads the environment: the caller gives the directory.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping

from lamina.errors import Corrupt, LaminaError

DEFAULT_REGISTRY = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"


class CredentialHelperFailed(LaminaError):
    """A credential helper is missing or answered with an error."""


class Credentials:
    """The credentials of one config directory."""

    def __init__(self, directory: str, environment: Mapping[str, str]) -> None:
        self._path = f"{directory}/config.json"
        self._environment = dict(environment)

    def get(self, server: str) -> dict[str, object]:
        """The AuthConfig for a registry; empty where nothing is stored."""
        config = self._load()
        helper = self._helper(config, server)
        if helper:
            return self._from_helper(helper, server)
        stored = _mapping(config.get("auths"))
        found = next((_mapping(stored[name]) for name in _spellings(server) if name in stored), {})
        return _decoded(found, server) if found else {}

    def all(self) -> dict[str, object]:
        """Every registry's AuthConfig, by name."""
        config = self._load()
        names = dict.fromkeys(
            [*_mapping(config.get("auths")), *_mapping(config.get("credHelpers")), *self._kept_by(config.get("credsStore"))]
        )
        return {name: auth for name in names if (auth := self._quietly(name))}

    def _kept_by(self, helper: object) -> list[str]:
        """The registries that the helper for all of them knows."""
        try:
            return list(self._asked(str(helper), "list", "unused")) if helper else []
        except CredentialHelperFailed:
            return []

    def _quietly(self, name: str) -> dict[str, object]:
        # one helper that fails must not stop a build that needs another registry
        try:
            return self.get(name)
        except CredentialHelperFailed:
            return {}

    def store(self, server: str, username: str, password: str, identity_token: str = "") -> str:
        """Keep credentials; says where."""
        config = self._load()
        helper = self._helper(config, server)
        if helper:
            user, secret = (_TOKEN_USER, identity_token) if identity_token else (username, password)
            self._call(helper, "store", json.dumps({"ServerURL": server, "Username": user, "Secret": secret}))
            return ""
        entry: dict[str, object] = {"auth": base64.b64encode(f"{username}:{'' if identity_token else password}".encode()).decode()}
        if identity_token:
            entry["identitytoken"] = identity_token
        config["auths"] = {**_mapping(config.get("auths")), server: entry}
        self._save(config)
        return self._path

    def erase(self, server: str) -> bool:
        """Forget a registry's credentials; whether there were any."""
        config = self._load()
        stored = _mapping(config.get("auths"))
        known = [name for name in _spellings(server) if name in stored]
        if helper := self._helper(config, server):
            self._call(helper, "erase", server)
        if known:
            config["auths"] = {name: value for name, value in stored.items() if name not in known}
            self._save(config)
        return bool(known or helper)

    @staticmethod
    def _helper(config: dict[str, object], server: str) -> str:
        named = _mapping(config.get("credHelpers"))
        return str(next((named[name] for name in _spellings(server) if name in named), None) or config.get("credsStore") or "")

    def _from_helper(self, helper: str, server: str) -> dict[str, object]:
        try:
            found = self._asked(helper, "get", server)
        except CredentialHelperFailed as error:
            if "credentials not found" in error.message:
                return {}
            raise
        if found.get("Username") == _TOKEN_USER:
            return {"identitytoken": found.get("Secret", ""), "serveraddress": server}
        return {"username": found.get("Username", ""), "password": found.get("Secret", ""), "serveraddress": server}

    def _asked(self, helper: str, action: str, text: str) -> dict[str, object]:
        try:
            found = json.loads(self._call(helper, action, text))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise CredentialHelperFailed(f"docker-credential-{helper} answered {action} with something other than a JSON object")
        return found

    def _call(self, helper: str, action: str, text: str) -> str:
        program = f"docker-credential-{helper}"
        try:
            done = subprocess.run(
                [program, action], input=text, capture_output=True, text=True, errors="replace", env=self._environment, check=False
            )
        except OSError as fault:
            raise CredentialHelperFailed(f"cannot run the credential helper {program}: {fault.strerror}") from None
        if done.returncode:
            raise CredentialHelperFailed(f"{program} failed: {(done.stdout or done.stderr).strip() or done.returncode}")
        return done.stdout

    def _load(self) -> dict[str, object]:
        try:
            with open(self._path, encoding="utf-8") as file:
                found = json.load(file)
        except FileNotFoundError:
            return {}
        except ValueError:
            raise Corrupt(f"cannot read {self._path}: it is not JSON") from None
        return found if isinstance(found, dict) else {}

    def _save(self, config: dict[str, object]) -> None:
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        # a link stays a link: what it points to is replaced
        path = os.path.realpath(self._path)
        fd, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".config.json")
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                json.dump(config, file, indent="\t")
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


def server_of(image: str) -> str:
    """The registry that an image's name belongs to, as config.json spells it."""
    head, slash, _ = image.partition("/")
    if not slash or not ("." in head or ":" in head or head == "localhost") or head in ("docker.io", "index.docker.io"):
        return DEFAULT_REGISTRY
    return head


def header(auth: Mapping[str, object]) -> str:
    """The value of X-Registry-Auth or X-Registry-Config."""
    return base64.urlsafe_b64encode(json.dumps(auth, separators=(",", ":")).encode()).decode()


def _spellings(server: str) -> list[str]:
    bare = server.removeprefix("https://").removeprefix("http://").rstrip("/")
    host = bare.split("/")[0]
    names = [server, bare, f"https://{bare}", f"http://{bare}", host, f"https://{host}", f"https://{host}/v1/", f"https://{host}/v2/"]
    return list(dict.fromkeys(names))


def _decoded(entry: dict[str, object], server: str) -> dict[str, object]:
    auth: dict[str, object] = {"serveraddress": server}
    if entry.get("auth"):
        try:
            user, _, password = base64.b64decode(str(entry["auth"])).decode().partition(":")
        except ValueError:
            raise Corrupt(f"the stored credentials of {server} cannot be read", hint="log in again") from None
        auth |= {"username": user, "password": password.strip("\0")}
    auth |= {key: entry[key] for key in ("username", "password", "identitytoken", "registrytoken") if entry.get(key)}
    return auth


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
