"""The facade: every operation on networks (`engine.networks`)."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any

from lamina.apitypes.events import Emit, Event
from lamina.errors import LaminaError
from lamina.linux import links
from lamina.network import abandoned, choosing, describe, neighbours
from lamina.network.firewall import Firewall, table_of, tag_of
from lamina.network.fixed import fixed, members
from lamina.network.hostports import HostPorts
from lamina.network.interfaces import Interfaces
from lamina.network.mode import DEFAULT_NETWORK
from lamina.network.model import (
    OPTION,
    Connector,
    Document,
    Endpoint,
    Network,
    NetworkExists,
    NetworkForbidden,
    NetworkInUse,
    NetworkNotFound,
    NetworkUnavailable,
    Pool,
    Published,
    Sandbox,
    Subnet,
)
from lamina.network.pools import OVERLAP, POOLS, first_address, free_subnet, local_prefix, overlap, with_gateway
from lamina.network.requests import NetworkRequest, asked_pools, check
from lamina.network.roster import Roster
from lamina.network.ruleset import Rules, rules_of
from lamina.network.sandboxes import Sandboxes
from lamina.network.store import NetworkStore
from lamina.network.watching import Watch
from lamina.network.wiring import Member, Wiring

Filters = Mapping[str, Sequence[str]]
_LOCK = "/run/lamina/networks.lock"


@dataclass(frozen=True, slots=True)
class Parts:
    """What networks stand on. `root` is ROOT/networks, `run` ROOT/run; `tag` a short word of hex digits that names this data root on the machine, ""
    for the usual one."""

    root: str
    run: str
    tag: str
    emit: Emit
    clock: Callable[[], int]
    new_id: Callable[[], str]
    warn: Callable[[str], None]
    pools: Sequence[tuple[str, int]] = POOLS


class Networks:
    """Networks of an engine. `ref` is a name, an ID or the beginning of one. Thread-safe.

    Every call with a `ref` raises NetworkNotFound, or AmbiguousNetwork for a prefix of several IDs. Nothing is made on the host before a
    network is made or a container uses one.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._store = NetworkStore(parts.root)
        self._lock = threading.RLock()
        self._roster = Roster([fixed("host", parts.root), fixed("none", parts.root), *self._store.load()])
        self._interfaces = Interfaces(parts.tag or "default", _LOCK, parts.warn, os.path.realpath(os.path.dirname(parts.root)))
        self._firewall = Firewall(table_of(parts.tag), self._rules)
        self._sandboxes = Sandboxes(self._interfaces, self._firewall, HostPorts(), parts.new_id, parts.run)
        self._watch = Watch(self._firewall.table, self._firewall.sender, self._others_changed_rules)
        self._prepared: set[str] = set()
        self.connector: Connector | None = None

    # ── the API ──────────────────────────────────────────────────────────────────────────────────────────────────
    def list(self, filters: Filters | None = None) -> Sequence[dict[str, Any]]:
        """The API's Network of each, without the containers on it."""
        with suppress(NetworkUnavailable):
            self._default()
        used = {network.id for network in self._roster.all() if self._sandboxes.on(network.id)}
        chosen = choosing.listed(self._roster.all(), filters or {}, used)
        return [describe.network_document(network) for network in chosen]

    def inspect(self, ref: str, *, verbose: bool = False, scope: str = "") -> dict[str, Any]:
        """The API's Network, with the running containers on it."""
        network = self.get(ref)
        if scope not in ("", "local"):
            raise NetworkNotFound(f"network {ref} not found")
        document = describe.network_document(network, self._members(network))
        return {**document, "Services": {}} if verbose else document

    def _members(self, network: Network) -> Sequence[tuple[Sandbox, Endpoint]]:
        if network.driver == "bridge" or self.connector is None:
            return self._sandboxes.on(network.id)
        return members(network, self.connector.on(network.name))

    def get(self, ref: str) -> Network:
        """The network."""
        if ref == DEFAULT_NETWORK:
            return self._default()
        try:
            return self._roster.find(ref)
        except NetworkNotFound:
            self._default()
            return self._roster.find(ref)

    def create(self, request: NetworkRequest) -> tuple[Network, str]:
        """Make a network; with it comes a warning, or "".

        Raises:
            InvalidNetwork, NetworkForbidden, NetworkExists, DriverNotFound: in Docker's words.
            NetworkUnavailable: this kernel cannot.
        """
        check(request)
        with self._lock:
            request = self._configured(request)
            if self._roster.named(request.name):
                raise NetworkExists(f"network with name {request.name} already exists")
            with self._interfaces.choosing():
                network = self._made(request)
                self._check_bridge(network)
                warning = self._overlapping(network)
                self._store.save(network)
                try:
                    self._roster.add(network)
                    if not network.config_only:
                        self._prepare(network)
                except BaseException:
                    self._discard(network)
                    raise
        self._emit("create", network)
        return network, warning

    def remove(self, ref: str) -> None:
        """Remove a network and its bridge.

        Raises:
            NetworkForbidden: it is predefined, or in use.
        """
        with self._lock:
            network = self.get(ref)
            if network.predefined:
                raise NetworkForbidden(f"{network.name} is a pre-defined network and cannot be removed")
            if members := self._sandboxes.on(network.id):
                names = ", ".join(f'name:"{box.name}" id:"{endpoint.id[:12]}"' for box, endpoint in members)
                raise NetworkInUse(f"error while removing network: network {network.name} has active endpoints ({names})")
            if self._needed(network):
                raise NetworkInUse(f'error while removing network: configuration network "{network.name}" is in use')
            self._discard(network)
        self._emit("destroy", network)

    def _needed(self, network: Network) -> bool:
        """Whether a container is on it, or another network has its configuration from it."""
        copied = network.config_only and any(other.config_from == network.name for other in self._roster.all())
        return copied or bool(self._sandboxes.on(network.id))

    def prune(self, filters: Filters | None = None, *, dry_run: bool = False) -> Sequence[str]:
        """Remove the networks of users' that no running container is on and that the filters (`until`, `label`, `label!`) let through;
        their names. With `dry_run` none is: the answer says which would be."""
        if dry_run:
            known = {key: values for key, values in (filters or {}).items() if key in choosing.PRUNING}
            chosen = choosing.prunable(self._roster.all(), known, self._parts.clock())
            return [network.name for network in chosen if not self._needed(network)]
        removed = []
        for network in choosing.prunable(self._roster.all(), filters or {}, self._parts.clock()):
            with suppress(NetworkForbidden, NetworkInUse, NetworkNotFound):
                self.remove(network.id)
                removed.append(network.name)
        if removed:
            self._parts.emit(Event("network", "prune", "", {"reclaimed": "0"}))
        return removed

    def connect(self, ref: str, container: str, settings: Document | None = None) -> None:
        """Put a container on the network, now if it runs; `settings` are the API's EndpointSettings."""
        network = self.get(ref)
        assert self.connector is not None
        self.connector.connect(network, container, settings or {})

    def disconnect(self, ref: str, container: str, *, force: bool = False) -> None:
        """Take a container off the network; one that does not run also off a network that is gone, by its name."""
        assert self.connector is not None
        try:
            network = self.get(ref)
        except NetworkNotFound:
            if not self.connector.forget(ref, container):
                raise
        else:
            self.connector.disconnect(network, container, force=force)

    # ── containers ───────────────────────────────────────────────────────────────────────────────────────────────
    def join(self, member: Member) -> tuple[Sandbox, Wiring]:
        """What a container that starts gets, and what is to be done in its namespace. Raises as Sandboxes.join, NetworkNotFound."""
        if member.mode.kind in ("none", "host"):
            self._emit("connect", self.get(member.mode.kind), container=member.id)
            return Sandbox(member.id, member.name), Wiring()
        networks = [(self._usable(ref), settings) for ref, settings in member.networks.items()]
        box, wiring = self._sandboxes.join(member, networks, [self._ready(network) for network, _ in networks])
        for network, _ in networks:
            self._emit("connect", network, container=member.id)
        return box, wiring

    def leave(self, container: str, kind: str = "bridge", *, shared: bool = False) -> None:
        """A container has ended, or did not start: what it had is free. `kind` is its mode's; `shared`: see Sandboxes.leave."""
        if kind in ("none", "host"):
            self._emit("disconnect", self.get(kind), container=container)
        box = self._sandboxes.leave(container, shared=shared)
        for endpoint in box.endpoints if box else ():
            if (network := self._roster.get(endpoint.network)) is not None:
                self._emit("disconnect", network, container=container)

    def ended(self, box: Sandbox, *, shared: bool) -> None:
        """A container that had this has ended while no engine was there: nothing leads to who has its addresses next. `shared`: see leave."""
        for endpoint in box.endpoints if shared else ():
            with suppress(OSError):
                self._interfaces.perform(links.delete_link(endpoint.host))
        self._firewall.forget_flows(box.published)

    def plug(self, network: Network, member: Member, settings: Document, pid: int, note: Callable[[Sandbox], None]) -> Sandbox:
        """Connect a running container. `note`: see Sandboxes.connect, which also says what it raises."""
        usable = self._usable(network.id)
        box = self._sandboxes.connect(member, usable, self._ready(usable), settings, pid, self._by_id(), note)
        self._emit("connect", network, container=member.id)
        return box

    def unplug(self, network: Network, container: str, pid: int) -> Sandbox | None:
        """Disconnect a running container; None where it was not connected."""
        box = self._sandboxes.disconnect(container, network.id, pid, self._by_id())
        if box is not None:
            self._emit("disconnect", network, container=container)
        return box

    def canonical(self, ref: str) -> str:
        """The name of the network that `ref` means; itself where there is none yet."""
        try:
            return DEFAULT_NETWORK if ref == DEFAULT_NETWORK else self._roster.find(ref).name
        except LaminaError:
            return ref

    def _by_id(self) -> dict[str, Network]:
        return {network.id: network for network in self._roster.all()}

    def restore(self, box: Sandbox, begun: str, pid: int) -> Sandbox:
        """A container was found running with this; see Sandboxes.restore."""
        return self._sandboxes.restore(box, begun, pid, self._by_id())

    def started(self, container: str, pid: int) -> None:
        """A container that joined runs now."""
        self._sandboxes.started(container, pid)

    def renamed(self, container: str, name: str) -> None:
        """A container has another name."""
        self._sandboxes.rename(container, name)

    def sandbox(self, container: str) -> Sandbox | None:
        """What a running container has."""
        return self._sandboxes.get(container)

    def ids(self) -> dict[str, str]:
        """IDs of all networks by name."""
        return {network.name: network.id for network in self._roster.all()}

    def host_gateway(self) -> str:
        """The host's address on the default network: what `host-gateway` stands for."""
        return self._default().pools[0].gateway

    def _usable(self, ref: str) -> Network:
        network = self.get(ref)
        if network.config_only:
            raise NetworkForbidden("cannot create endpoint on configuration-only network")
        if network.driver != "bridge":
            raise NetworkForbidden(f"container cannot be connected to multiple networks with one of the networks in [{network.name}] mode")
        return network

    # ── start and end of the engine ──────────────────────────────────────────────────────────────────────────────
    def recover(self) -> None:
        """Once, after the containers that run were restored: the table says what there is now, nothing of what an earlier engine left."""
        with suppress(OSError, LaminaError):
            abandoned.clear(self._interfaces)
        with self._lock:
            self._prepared = {network.id for network in self._roster.all() if network.bridge and self._interfaces.exists(network.bridge)}
            try:
                if self._prepared:
                    self._firewall.renew()
                    self._watch.begin()
                else:
                    self._firewall.remove()
                self._sandboxes.recover()
                self._admit()
            except Exception as error:
                self._parts.warn(f"the packet filter could not be set up: {error}")

    def close(self) -> None:
        """Let go; networks, interfaces and rules stay, for the containers that go on."""
        self._watch.close()
        self._sandboxes.close()
        self._firewall.close()
        self._interfaces.close()

    def _admit(self, networks: Sequence[Network] | None = None) -> None:
        bridges = [each.bridge for each in networks or self._roster.all() if each.id in self._prepared and not each.internal]
        for bridge in bridges:
            neighbours.admit(bridge)
        neighbours.trust(bridges)

    def _others_changed_rules(self) -> None:
        with self._lock, suppress(Exception):
            if self._prepared:
                self._firewall.renew()
                self._admit()

    # ── bridges ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _default(self) -> Network:
        """The default network, made now where it was not yet, or with another subnet where that has come to be somebody else's."""
        found = self._roster.named(DEFAULT_NETWORK)
        if found is not None and (found.id in self._prepared or self._interfaces.exists(found.bridge)):
            return found
        with self._lock, self._interfaces.choosing():
            found = self._roster.named(DEFAULT_NETWORK)
            if found is None or not self._is_free(found):
                found = self._make_default(found)
            return found

    def _make_default(self, before: Network | None) -> Network:
        name = f"lamina-{self._parts.tag}" if self._parts.tag else "lamina0"
        subnet = free_subnet(self._taken(), self._parts.pools)
        pool = Pool(str(subnet), first_address(subnet), chosen=False)
        options = {f"{OPTION}bridge.default_bridge": "true", f"{OPTION}bridge.name": name, f"{OPTION}driver.mtu": "1500"}
        options |= {f"{OPTION}bridge.enable_icc": "true", f"{OPTION}bridge.enable_ip_masquerade": "true"}
        options |= {f"{OPTION}bridge.host_binding_ipv4": "0.0.0.0"}
        network_id = before.id if before else self._parts.new_id()
        network = Network(network_id, DEFAULT_NETWORK, "bridge", self._parts.clock(), name, (pool,), options=options)
        self._store.save(network)
        self._sandboxes.forget(network.id)
        self._roster.add(network)
        self._prepare(network)
        return network

    def _is_free(self, network: Network) -> bool:
        taken = self._taken(without=network)
        return not any(overlap(ip_network(pool.subnet), other) for pool in network.pools for other in taken)

    def _taken(self, without: Network | None = None) -> Sequence[Subnet]:
        own: Sequence[Subnet] = [
            ip_network(pool.subnet)
            for network in self._roster.all()
            for pool in network.pools
            if network is not without and not network.config_only
        ]
        return [*own, *self._interfaces.subnets(without.bridge if without else "")]

    def _ready(self, network: Network) -> int:
        """See to it that a network's bridge is there; its index."""
        return (network.id in self._prepared and self._interfaces.index(network.bridge)) or self._prepare(network)

    def _prepare(self, network: Network) -> int:
        with self._lock:
            self._roster.find(network.id)  # nobody makes the bridge again of one that was removed meanwhile
            index = self._interfaces.ensure(network)
            self._prepared.add(network.id)
            self._firewall.renew()
            self._watch.begin()
            self._admit([network])
            return index

    def _discard(self, network: Network) -> None:
        """Bridge first, file last: what is left by a crash is known by the file."""
        self._prepared.discard(network.id)
        self._roster.drop(network.id)
        if network.bridge and not network.config_only:
            self._interfaces.remove(network)
            neighbours.dismiss(network.bridge)
            neighbours.distrust(network.bridge)
            with suppress(Exception):
                self._firewall.renew()
        self._sandboxes.forget(network.id)
        self._store.remove(network.id)

    def _configured(self, request: NetworkRequest) -> NetworkRequest:
        """With what the configuration network says, where it names one."""
        if not request.config_from:
            return request
        source = self._roster.named(request.config_from)
        if source is None or not source.config_only:
            raise NetworkNotFound(f'configuration network "{request.config_from}" not found')
        return replace(
            request,
            ipv4=source.ipv4,
            ipv6=source.ipv6,
            ipam_driver=source.ipam_driver,
            ipam_options=source.ipam_options,
            ipam=[pool.document() for pool in source.pools],
            options=source.options,
            labels=source.labels,
        )

    def _made(self, request: NetworkRequest) -> Network:
        """The network that a checked request asks for, with subnets."""
        ipv4, ipv6 = request.ipv4 is not False, bool(request.ipv6)
        pools: Sequence[Pool] = asked_pools(request.ipam, ipv4=ipv4, ipv6=ipv6)
        if not request.config_only:
            pools = self._completed(pools, ipv4=ipv4, ipv6=ipv6)
        network_id = self._parts.new_id()
        return Network(
            id=network_id,
            name=request.name,
            driver=request.driver or "bridge",
            created_ns=self._parts.clock(),
            bridge="" if request.config_only else request.options.get(f"{OPTION}bridge.name") or f"br-{network_id[:12]}",
            pools=tuple(pools),
            ipv4=ipv4,
            ipv6=ipv6,
            internal=request.internal,
            attachable=request.attachable,
            config_only=request.config_only,
            config_from=request.config_from,
            ipam_driver=request.ipam_driver or "default",
            ipam_options=dict(request.ipam_options) if request.ipam_options is not None else None,
            options=dict(request.options),
            labels=dict(request.labels),
        )

    def _completed(self, asked: Iterable[Pool], *, ipv4: bool, ipv6: bool) -> Sequence[Pool]:
        """Subnets for both versions, with gateways; those that were asked for must not be another network's."""
        own = [ip_network(pool.subnet) for network in self._roster.all() if not network.config_only for pool in network.pools]
        by_version: dict[int, Pool] = {}
        for pool in asked:
            subnet = ip_network(pool.subnet)
            if any(overlap(subnet, other) for other in own):
                raise NetworkForbidden(OVERLAP)
            by_version[subnet.version] = with_gateway(pool)
        if ipv4 and 4 not in by_version:
            subnet = free_subnet(self._taken(), self._parts.pools)
            by_version[4] = Pool(str(subnet), first_address(subnet), chosen=False)
        if ipv6 and 6 not in by_version:
            seed = hashlib.sha256(f"{self._parts.tag} {self._parts.root}".encode()).hexdigest()
            subnet = free_subnet(self._taken(), ((local_prefix(seed), 64),))
            by_version[6] = Pool(str(subnet), first_address(subnet), chosen=False)
        return [by_version[version] for version in sorted(by_version)]

    def _check_bridge(self, network: Network) -> None:
        for other in self._roster.all():
            if network.bridge and other.bridge == network.bridge:
                raise NetworkForbidden(
                    f"cannot create network {network.id} ({network.bridge}): conflicts with network {other.id} ({other.bridge}): "
                    "networks have same bridge name"
                )
        if network.bridge:
            self._interfaces.check(network.bridge)

    def _overlapping(self, network: Network) -> str:
        """A word of warning where a chosen subnet is also somebody else's on this host."""
        taken = self._interfaces.subnets(network.bridge) if not network.config_only else []
        clashes = [pool.subnet for pool in network.pools if pool.chosen and any(overlap(ip_network(pool.subnet), other) for other in taken)]
        return f"subnet {clashes[0]} overlaps with an address or a route of this host" if clashes else ""

    # ── the packet filter ────────────────────────────────────────────────────────────────────────────────────────
    def _rules(self) -> tuple[Sequence[Rules], Sequence[Published], bool]:
        networks = [network for network in self._roster.all() if network.id in self._prepared]
        loopback = all(self._interfaces.through_loopback(network.bridge) for network in networks)
        return [rules_of(network) for network in networks], self._sandboxes.published(), loopback

    def _emit(self, action: str, network: Network, **attributes: str) -> None:
        self._parts.emit(Event("network", action, network.id, {"name": network.name, "type": network.driver, **attributes}))


def erase(root: str) -> None:
    """Take away what an engine on data root `root` left on the host: its bridges and its table. For roots that are to be removed."""
    interfaces = Interfaces(tag_of(root) or "default", _LOCK, lambda _: None)
    for network in NetworkStore(f"{root}/networks").load():
        if network.bridge:
            interfaces.remove(network)
            neighbours.dismiss(network.bridge)
            neighbours.distrust(network.bridge)
    interfaces.close()
    firewall = Firewall(table_of(tag_of(root)), lambda: ((), (), False))
    with suppress(NetworkUnavailable):
        firewall.remove()
    firewall.close()
