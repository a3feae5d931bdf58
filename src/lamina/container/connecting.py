"""Containers and their networks: what one gets when it starts, and what is connected or disconnected meanwhile.

What a running container has is written to `network.json` in its folder before its command runs, so that an engine that finds it
running knows it, whenever the one before was killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from lamina.container.document import Document, flag, mapping, text, texts
from lamina.container.model import Container
from lamina.container.parts import Networks
from lamina.container.store import write_file
from lamina.errors import InvalidArgument
from lamina.network.bindings import exposed_ports, wanted_ports
from lamina.network.mode import NetworkMode, network_mode
from lamina.network.model import Sandbox
from lamina.network.requests import is_mac
from lamina.network.sandboxes import Member, Wiring

RECORD = "network.json"


class Connections:
    """Joins containers to their networks."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    def join(self, container: Container) -> tuple[Sandbox, Wiring]:
        """All that a container needs for its start. Raises as network.networks.Networks.join; it then has nothing."""
        mode = mode_of(container)
        if mode.kind == "container":
            return Sandbox(container.id, container.name), Wiring()
        box, wiring = self._networks.join(member(container, mode))
        if box.endpoints:
            self.write(container, box)
        return box, wiring

    def write(self, container: Container, box: Sandbox) -> None:
        """Note what a running container has."""
        write_file(f"{container.directory}/{RECORD}", json.dumps(box.encode(), separators=(",", ":")).encode())

    def leave(self, container: Container) -> None:
        """Its run is over."""
        mode = mode_of(container)
        if mode.kind != "container":
            self._networks.leave(container.id, mode.kind)

    def restore(self, container: Container) -> None:
        """It was found running: what it has, it keeps."""
        with suppress(OSError, ValueError, KeyError, TypeError), open(f"{container.directory}/{RECORD}", "rb") as file:
            self._networks.restore(Sandbox.decode(json.loads(file.read())))

    def forget(self, container: Container) -> None:
        """What an earlier run left noted is of no use."""
        with suppress(FileNotFoundError):
            os.unlink(f"{container.directory}/{RECORD}")


def check_networking(config: Document, host: Document, networking: Document, mode: NetworkMode) -> None:
    """Refuse what contradicts itself.

    Raises:
        InvalidArgument: in Docker's words.
    """
    if mode.kind in ("container", "host") and texts(host, "Links"):
        raise InvalidArgument(
            f"conflicting options: {mode.kind} type network{'ing' * (mode.kind == 'host')} can't be used with links. "
            "This would result in undefined behavior"
        )
    if mode.kind == "container":
        _check_shared(config, host)
    if mode.kind != "bridge" and set(mapping(networking, "EndpointsConfig")) - {mode.kind, mode.shown, "default"}:
        raise InvalidArgument(f"conflicting options: cannot attach both user-defined and non-user-defined network-modes ({mode.shown})")
    exposed = exposed_ports((mapping(config, "ExposedPorts"), mapping(host, "PortBindings")))
    wanted_ports(mapping(host, "PortBindings"), exposed)
    mac = text(config, "MacAddress")
    if mac and not is_mac(mac):
        raise InvalidArgument(f"invalid MAC address: {mac}")


def _check_shared(config: Document, host: Document) -> None:
    """What a container that has another's network cannot have of its own."""
    conflicts = (
        ("hostname", bool(text(config, "Hostname"))),
        ("dns", bool(texts(host, "Dns"))),
        ("custom host-to-IP mapping", bool(texts(host, "ExtraHosts"))),
        ("mac-address", bool(text(config, "MacAddress"))),
    )
    for words, found in conflicts:
        if found:
            raise InvalidArgument(f"conflicting options: {words} and the network mode")
    for words, document, key in (("publishing", host, "PortBindings"), ("exposing", config, "ExposedPorts")):
        if mapping(document, key) or (words == "publishing" and flag(host, "PublishAllPorts")):
            raise InvalidArgument(f"conflicting options: port {words} and the container type network mode")


def mode_of(container: Container) -> NetworkMode:
    """What its NetworkMode asks for."""
    return network_mode(text(container.host_config, "NetworkMode"))


def member(container: Container, mode: NetworkMode) -> Member:
    """The container as networks see it."""
    host = container.host_config
    exposed = exposed_of(container)
    ports = wanted_ports(mapping(host, "PortBindings"), exposed, publish_all=flag(host, "PublishAllPorts"))
    return Member(
        id=container.id,
        name=container.name,
        hostname=text(container.config, "Hostname"),
        mode=mode,
        networks=asked_networks(container.networking, mode),
        ports=ports,
        mac=text(container.config, "MacAddress"),
    )


def exposed_of(container: Container) -> list[tuple[int, str]]:
    """The ports it says it listens on, and those that are published."""
    return exposed_ports((mapping(container.config, "ExposedPorts"), mapping(container.host_config, "PortBindings")))


def asked_networks(networking: Document, mode: NetworkMode) -> dict[str, Mapping[str, Any]]:
    """The API's EndpointSettings by network, that of the mode first; none for modes that have no networks."""
    if mode.kind != "bridge":
        return {}
    asked = {name: settings or {} for name, settings in mapping(networking, "EndpointsConfig").items()}
    first = asked.pop(mode.name, None) or asked.pop("default" if mode.name == "bridge" else "", None) or {}
    return {mode.name: first, **asked}
