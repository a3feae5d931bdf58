"""--use-api-socket: the engine's socket inside a container, with the user's credentials for registries."""

from __future__ import annotations

import io
import json
import tarfile

from lamina.cli.credentials import Credentials
from lamina.cli.session import Session
from lamina.client.containers import Containers
from lamina.errors import InvalidArgument

_SOCKET, _CONFIG = "/var/run/docker.sock", "/run/secrets/docker"


def share(session: Session, config: dict[str, object]) -> bytes:
    """Add the socket's mount to what a create sends; a tar for the new container's root that holds the credentials, empty without any.

    Raises:
        InvalidArgument: the engine is reached by a network.
    """
    path = session.engine.address.path
    if not path:
        raise InvalidArgument(f"flag --use-api-socket can only be used with unix sockets: {session.engine.address} is not one")
    host = config["HostConfig"]
    if isinstance(host, dict):
        host["Mounts"] = [*(host.get("Mounts") or ()), {"Type": "bind", "Source": path, "Target": _SOCKET, "BindOptions": {}}]
    found = Credentials(session.config_directory, session.environment).all()
    if not found:
        return b""
    environment = config.get("Env")
    config["Env"] = [*(environment if isinstance(environment, list) else ()), f"DOCKER_CONFIG={_CONFIG}"]
    return _archive(json.dumps({"auths": found}).encode())


def _archive(data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("run", "run/secrets", "run/secrets/docker"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755 if name != "run/secrets/docker" else 0o700
            tar.addfile(folder)
        entry = tarfile.TarInfo("run/secrets/docker/config.json")
        entry.size, entry.mode = len(data), 0o600
        tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def hand_over(session: Session, container: str, archive: bytes) -> None:
    """Put the credentials into a container that was just made."""
    if archive:
        Containers(session.engine).put(container, [("path", "/")], [archive])
