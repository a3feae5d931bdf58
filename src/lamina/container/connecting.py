"""Containers and their networks: what one gets when it starts, and what is connected or disconnected meanwhile.

What a running container has is written to `network.json` in its folder before its command runs, so that an engine that finds it
running knows it, whenever the one before was killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import IO, Any

from lamina.container.document import Document, flag, mapping, text, texts
from lamina.container.live import Live, Roster
from lamina.container.model import Container, WrongState
from lamina.container.parts import Networks
from lamina.container.store import write_file
from lamina.errors import Forbidden, Internal, InvalidArgument
from lamina.network.bindings import exposed_ports, wanted_ports
from lamina.network.mode import PREDEFINED, NetworkMode, network_mode
from lamina.network.model import Endpoint, Network, NetworkForbidden, NetworkUnavailable, Sandbox
from lamina.network.pools import parse_address
from lamina.network.requests import check_endpoint, is_mac
from lamina.network.wiring import Member, Wiring, aliases
from lamina.runtime.initlayer import host_resolver
from lamina.spec.resolver import ResolverSettings, overridden, parse_resolver, reachable, render_resolver, served

RECORD = "network.json"
_LEFT_NONE = "LeftNone"
"""Among a container's networking: it was made with no network, and disconnected from that, so that it may be on others."""
_BEGUN = "Begun"
_LARGEST = 1 << 20  # bytes
HOST_GATEWAY = "host-gateway"
"""What --add-host takes in place of an address: that of the host on the default network."""


class NotConnected(Internal):
    """The container is not on the network."""


class SharedNetwork(Forbidden):
    """The container has no network of its own, or the network cannot be shared."""


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
        try:
            if box.endpoints:
                self.write(container, box)
            else:
                self.forget(container)
        except BaseException:
            self.leave(container)
            raise
        return box, wiring

    def write(self, container: Container, box: Sandbox, *, begun: str = "") -> None:
        """Note what a running container has; `begun`: the interface, on the host, of an endpoint that is being made."""
        document = {**box.encode(), **({_BEGUN: begun} if begun else {})}
        write_file(f"{container.directory}/{RECORD}", json.dumps(document, separators=(",", ":")).encode())

    def leave(self, container: Container, *, shared: bool = False) -> None:
        """Its run is over; `shared`: others run on in its network namespace."""
        mode = mode_of(container)
        if mode.kind != "container":
            self._networks.leave(container.id, mode.kind, shared=shared)
            with suppress(OSError):
                self.forget(container)

    def restore(self, container: Container) -> Container:
        """It was found running: what it has, it keeps. Gives the container as it is to be saved: with the network to which an engine that
        was killed had connected it, and had not noted that."""
        if (noted := self._noted(container)) is None:
            return container
        box = self._networks.restore(*noted, container.state.pid)
        wanted = networks_of(container)
        known = {self._networks.canonical(ref) for ref in wanted}
        more = {endpoint.network_name: endpoint.settings for endpoint in box.endpoints if endpoint.network_name not in known}
        return _on(container, {**wanted, **more}) if more else container

    def ended(self, container: Container, *, shared: bool) -> None:
        """It was found not running: what a run had whose end nobody saw is free; see `leave`."""
        if (noted := self._noted(container)) is not None:
            self._networks.ended(noted[0], shared=shared)
            self.forget(container)

    def _noted(self, container: Container) -> tuple[Sandbox, str] | None:
        """What it has, and what of it was begun; see `write`."""
        try:
            with open(f"{container.directory}/{RECORD}", "rb") as file:
                document = dict(json.loads(file.read()))
            begun = str(document.pop(_BEGUN, ""))
            return Sandbox.decode(document), begun
        except (OSError, ValueError, KeyError, TypeError):
            return None

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
        if not mode.name:
            raise InvalidArgument("invalid network mode: invalid container format container:<name|id>")
        _check_shared(config, host)
    if mode.kind != "bridge" and set(mapping(networking, "EndpointsConfig")) - {mode.kind, mode.shown, "default"}:
        raise InvalidArgument(f"conflicting options: cannot attach both user-defined and non-user-defined network-modes ({mode.shown})")
    exposed = exposed_ports((mapping(config, "ExposedPorts"), mapping(host, "PortBindings")))
    wanted_ports(mapping(host, "PortBindings"), exposed)
    for entry in texts(host, "ExtraHosts"):
        check_extra_host(entry)
    for server in texts(host, "Dns"):
        if parse_address(server) is None:
            raise InvalidArgument(f"IP address is not correctly formatted: {server[:100]}")
    mac = text(config, "MacAddress")
    if mac and not is_mac(mac):
        raise InvalidArgument(f"invalid MAC address: {mac}")


def check_endpoints(networking: Document, mode: NetworkMode, networks: Networks) -> None:
    """Refuse what cannot be asked of a network. What is not there yet is looked at by the start.

    Raises:
        InvalidNetwork: in Docker's words.
    """
    there = networks.ids()
    for ref, settings in mapping(networking, "EndpointsConfig").items():
        name = networks.canonical(ref)
        if mode.kind != "bridge" or name in PREDEFINED:
            check_endpoint(settings or {}, (), name=ref, default=True)
        elif name in there:
            check_endpoint(settings or {}, networks.get(name).pools, name=ref, default=False)


def check_extra_host(entry: str) -> None:
    """Refuse what is not `name:address` or `name=address`, or `name:host-gateway`. Raises InvalidArgument."""
    name, separator, address = entry.partition(":" if ":" in entry.partition("=")[0] else "=")
    if not name or not separator:
        raise InvalidArgument(f'bad format for add-host: "{entry[:200]}"')
    if address != HOST_GATEWAY and parse_address(address.removeprefix("[").removesuffix("]")) is None:
        raise InvalidArgument(f'invalid IP address in add-host: "{address[:200]}"')


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
    """What its NetworkMode asks for, and what came of it since."""
    mode = network_mode(text(container.host_config, "NetworkMode"))
    return NetworkMode("bridge") if mode.kind == "none" and container.networking.get(_LEFT_NONE) else mode


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
        networks=networks_of(container),
        ports=ports,
        mac=text(container.config, "MacAddress"),
        servers=resolver_settings(host).servers,
        links=own_names(container),
    )


def resolver_settings(host: Document) -> ResolverSettings:
    """The host's settings with what the container asks for in their place."""
    asked = ResolverSettings(*(tuple(texts(host, key)) for key in ("Dns", "DnsSearch", "DnsOptions")))
    return overridden(parse_resolver(host_resolver()), asked)


def resolver_text(host: Document, box: Sandbox, *, kind: str) -> str:
    """The text of /etc/resolv.conf."""
    settings = resolver_settings(host)
    if kind == "bridge":
        named = any(endpoint.names for endpoint in box.endpoints)
        # servers that were asked for stay, also on the loopback: that of the container, where it may have one of its own
        settings = served(settings) if named else settings if texts(host, "Dns") else reachable(settings)
    return render_resolver(settings)


def own_names(container: Container) -> dict[str, str]:
    """What it calls others on every network with names: alias to name. Where links are asked for by network, none: each holds there."""
    if any(settings.get("Links") for settings in networks_of(container).values()):
        return {}
    return aliases(texts(container.host_config, "Links"))


def exposed_of(container: Container) -> list[tuple[int, str]]:
    """The ports it says it listens on, and those that are published."""
    return exposed_ports((mapping(container.config, "ExposedPorts"), mapping(container.host_config, "PortBindings")))


def networks_of(container: Container) -> dict[str, Mapping[str, Any]]:
    """The networks it is to be on: those it was made with, and what was connected and disconnected since."""
    if "EndpointsConfig" not in container.networking:
        return asked_networks({}, mode_of(container))
    return {name: settings or {} for name, settings in mapping(container.networking, "EndpointsConfig").items()}


def asked_networks(networking: Document, mode: NetworkMode) -> dict[str, Mapping[str, Any]]:
    """The API's EndpointSettings by network, that of the mode first, and alone where none is named; none for modes that have no networks."""
    if mode.kind != "bridge":
        return {}
    asked = {name: settings or {} for name, settings in mapping(networking, "EndpointsConfig").items()}
    if mode.name == "bridge" and (default := asked.pop("default", None)) is not None:
        asked["bridge"] = asked.get("bridge") or default
    return {mode.name: asked.pop(mode.name, {}), **asked} if mode.name in asked or not asked else asked


class Connector:
    """See network.model.Connector: what `network connect` and `disconnect` do to a container."""

    def __init__(self, networks: Networks, connections: Connections, roster: Roster, save: Callable[[Container], None]) -> None:
        self._networks, self._connections, self._roster, self._find, self._save = networks, connections, roster, roster.find, save

    def on(self, kind: str) -> list[tuple[str, str]]:
        """See network.model.Connector.on."""
        chosen = self._roster.some(lambda container: container.running and mode_of(container).kind == kind)
        return [(live.container.id, live.container.name) for live in chosen]

    def connect(self, network: Network, container: str, settings: Document) -> None:
        """Put it on the network, now if it runs, else from its next start on."""
        live = self._find(container)
        with live.lock:
            if network.name == "none" and live.container.networking.get(_LEFT_NONE) and not networks_of(live.container):
                self._note(live, {}, left_none=False)
                return
            self._check(live, network)
            if live.container.running and self._plugged(live, network, settings):
                return
            if network.name in networks_of(live.container):
                raise NetworkForbidden(f"endpoint with name {live.container.name} already exists in network {network.name}")
            check_endpoint(settings, network.pools, name=network.name, default=network.default)
            self._note(live, {**networks_of(live.container), network.name: settings})

    def _plugged(self, live: Live, network: Network, settings: Document) -> bool:
        """With the lock: put one that runs on the network; False where it has ended, which nobody noted yet."""
        who = member(live.container, mode_of(live.container))
        try:
            box = self._networks.plug(network, who, settings, live.state.pid, partial(self._begin, live.container))
        except NetworkUnavailable:
            if os.path.exists(f"/proc/{live.state.pid}/ns/net"):
                raise
            return False
        try:
            self._connections.write(live.container, box)
            self._note(live, {**networks_of(live.container), network.name: settings})
        except BaseException:  # else it would be on it and nobody could take it off
            self._networks.unplug(network, live.container.id, live.state.pid)
            raise
        add_names(live.container, box.endpoint(network.id))
        serve_names(live.container, box)
        return True

    def _begin(self, container: Container, box: Sandbox) -> None:
        """Its last endpoint is about to be made."""
        self._connections.write(container, box, begun=box.endpoints[-1].host)

    def disconnect(self, network: Network, container: str, *, force: bool) -> None:
        """Take it off."""
        del force
        live = self._find(container)
        with live.lock:
            _refuse_removing(live)
            if mode_of(live.container).kind == "host" or network.name == "host":
                raise SharedNetwork("container cannot be disconnected from host network or connected to host network")
            if network.name == "none" and mode_of(live.container).kind == "none":
                if live.container.running:
                    self._connections.leave(live.container)
                self._note(live, {}, left_none=True)
                return
            kept = networks_of(live.container)
            if kept.pop(network.name, None) is None:
                raise NotConnected(f"container {live.container.id} is not connected to network {network.name}")
            if live.container.running:
                before = self._networks.sandbox(live.container.id)
                box = self._networks.unplug(network, live.container.id, live.state.pid)
                if box is not None:
                    self._connections.write(live.container, box)
                    remove_names(live.container, before.endpoint(network.id) if before else None)
            self._note(live, kept)

    def forget(self, network: str, container: str) -> bool:
        """See network.model.Connector."""
        live = self._find(container)
        with live.lock:
            _refuse_removing(live)
            kept = networks_of(live.container)
            if live.container.running or kept.pop(network, None) is None:
                return False
            self._note(live, kept)
            return True

    def _check(self, live: Live, network: Network) -> None:
        _refuse_removing(live)
        mode = mode_of(live.container)
        if mode.kind in ("container", "host"):
            raise SharedNetwork(
                "container sharing network namespace with another container or host cannot be connected to any other network"
            )
        if network.driver == "host":
            raise SharedNetwork("container cannot be disconnected from host network or connected to host network")
        if mode.kind == "none" or network.driver == "null":
            raise SharedNetwork("container cannot be connected to multiple networks with one of the networks in private (none) mode")

    def _note(self, live: Live, networks: Mapping[str, Any], *, left_none: bool | None = None) -> None:
        changed = _on(live.container, networks, left_none=left_none)
        self._save(changed)
        live.container = changed


def _on(container: Container, networks: Mapping[str, Any], *, left_none: bool | None = None) -> Container:
    """The container, to be on these networks."""
    left = bool(container.networking.get(_LEFT_NONE)) if left_none is None else left_none
    return replace(container, networking={"EndpointsConfig": dict(networks), **({_LEFT_NONE: True} if left else {})})


def _refuse_removing(live: Live) -> None:
    if live.removing:
        words = "is marked for removal and cannot be connected or disconnected to the network"
        raise WrongState(f"Container {live.container.id} {words}")


def is_small(file: IO[Any]) -> bool:
    """Whether a file that a container writes to as it likes, for it has it mounted, is one to be read: else it stays as it is."""
    return os.fstat(file.fileno()).st_size <= _LARGEST


def add_names(container: Container, endpoint: Endpoint | None) -> None:
    """Let its /etc/hosts know its own name at the new addresses; the file stays the same one, which is mounted inside."""
    addresses = (endpoint.address4, endpoint.address6) if endpoint else ()
    with suppress(OSError), open(f"{container.directory}/hosts", "a", encoding="utf-8") as file:
        file.writelines(f"{address}\t{text(container.config, 'Hostname')}\n" for address in addresses if address)


def serve_names(container: Container, box: Sandbox) -> None:
    """Let it ask for names inside from its first network with names on; what somebody wrote into its /etc/resolv.conf stays."""
    settings = resolver_settings(container.host_config)
    served_now = resolver_text(container.host_config, box, kind="bridge")
    with suppress(OSError), open(f"{container.directory}/resolv.conf", "r+", encoding="utf-8", errors="surrogateescape") as file:
        if is_small(file) and file.read() in (render_resolver(settings), render_resolver(reachable(settings))):
            file.seek(0)
            file.write(served_now)
            file.truncate()


def remove_names(container: Container, endpoint: Endpoint | None) -> None:
    """Take the lines of addresses that it has no more."""
    gone = {address for address in (endpoint.address4, endpoint.address6) if address} if endpoint else set()
    with suppress(OSError), open(f"{container.directory}/hosts", "r+", encoding="utf-8", errors="surrogateescape") as file:
        if not is_small(file):
            return
        kept = [line for line in file if not line.split() or line.split()[0] not in gone]
        file.seek(0)
        file.writelines(kept)
        file.truncate()
