"""--secret and --ssh of `lamina build`: what they name, and the session that gives it to the engine while it builds."""

from __future__ import annotations

import _socket
import base64
import csv
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

from lamina.cli.flags import UsageError
from lamina.client.text import quoted
from lamina.client.transport import Transport
from lamina.errors import InvalidArgument, NotFound

_PATH = "/lamina/build/session"
_PIECE = 1 << 16


def secret(text: str, environment: Mapping[str, str]) -> tuple[str, bytes]:
    """The ID and the bytes that `id=x,src=file`, `id=x,env=NAME` or `id=x` names; as in BuildKit the last is the variable of that name,
    else the file.

    Raises:
        UsageError: it cannot be read so.
        NotFound: there is no such file or variable.
    """
    fields: dict[str, str] = {}
    for word in next(csv.reader([text]), []):
        name, equals, value = word.partition("=")
        if not equals or name.lower() not in ("type", "id", "src", "source", "env"):
            raise UsageError(f"invalid argument {text!r} for --secret: write it as id=NAME,src=FILE or id=NAME,env=VARIABLE")
        fields[{"source": "src"}.get(name.lower(), name.lower())] = value
    kind, name = fields.get("type", ""), fields.get("id", "")
    if kind not in ("", "file", "env") or not name:
        raise UsageError(f"invalid argument {text!r} for --secret: " + ("its type is file or env" if name else "it has no id"))
    variable = fields.get("env") or (fields.get("src", "") if kind == "env" else "")
    path = "" if kind == "env" else fields.get("src", "")
    if not variable and not path:
        variable, path = (name, "") if name in environment and kind != "file" else ("", name)
    return name, _of_variable(name, variable, environment) if variable else _of_file(name, path)


def _of_variable(name: str, variable: str, environment: Mapping[str, str]) -> bytes:
    if variable not in environment:
        raise NotFound(f"secret {name}: there is no environment variable {variable}")
    return environment[variable].encode("utf-8", "surrogateescape")


def _of_file(name: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise NotFound(f"secret {name}: {path} cannot be read: {(error.strerror or str(error)).lower()}") from None


def agent(text: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """The ID and the socket of the agent that `default` or `id=socket` names.

    Raises:
        NotFound: no agent runs.
        InvalidArgument: no agent listens there; it may be a key.
    """
    name, _, path = text.partition("=")
    path = path or environment.get("SSH_AUTH_SOCK", "")
    if not path:
        raise NotFound(
            f"--ssh {text}: no SSH agent runs: SSH_AUTH_SOCK is empty", hint="eval $(ssh-agent) starts one, ssh-add gives it keys"
        )
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            raise InvalidArgument(f"--ssh {text}: no SSH agent listens on {path}", hint="give keys to an agent by ssh-add") from None
    return name or "default", path


class Giving:
    """An open session; `id` names it to the build. `close` ends it, and with it what the engine knows of the secrets."""

    def __init__(self, transport: Transport, secrets: Mapping[str, bytes], agents: Mapping[str, str]) -> None:
        self._transport, self._agents = transport, agents
        document = {"Secrets": {name: base64.b64encode(data).decode() for name, data in secrets.items()}, "Agents": list(agents)}
        self._connection = transport.connect()
        self._lines = self._connection.request("POST", _PATH, document).lines()
        self.id = str(next(self._lines).get("Id", ""))
        threading.Thread(target=self._attend, name="session", daemon=True).start()

    def close(self) -> None:
        """End the session."""
        with suppress(OSError):
            self._connection.socket.shutdown(socket.SHUT_RDWR)

    def _attend(self) -> None:
        with suppress(Exception):  # the engine closes it when the build is over
            for line in self._lines:
                words = (str(line.get("Agent", "")), str(line.get("Connection", "")))
                threading.Thread(target=self._connect, args=words, name="agent", daemon=True).start()

    def _connect(self, name: str, number: str) -> None:
        """One connection of the build to the agent `name`."""
        with suppress(OSError, KeyError), socket.socket(socket.AF_UNIX) as local:
            local.connect(self._agents[name])
            headers = ("Connection: Upgrade", "Upgrade: tcp")
            path = f"{_PATH}/{quoted(self.id, '')}/connections/{quoted(number, '')}"
            remote, early = self._transport.connect().request("POST", path, headers=headers).connection.detach()
            local.sendall(early)
            back = threading.Thread(target=_copy, args=(local, remote), name="agent", daemon=True)
            back.start()
            _copy(remote, local)
            back.join()
            remote.close()


def _copy(source: _socket.socket, target: _socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_PIECE):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def begun(transport: Transport, secrets: Sequence[str], agents: Sequence[str], environment: Mapping[str, str]) -> Giving:
    """Open a session with what the flags name. Raises as `secret` and `agent`."""
    return Giving(transport, dict(secret(text, environment) for text in secrets), dict(agent(text, environment) for text in agents or ()))
