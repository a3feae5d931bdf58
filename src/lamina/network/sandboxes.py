"""Containers on networks: what a container gets when it starts, and gives back when it ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from ipaddress import ip_network

from lamina.errors import LaminaError
from lamina.linux import cabling, links
from lamina.network.bindings import Wanted
from lamina.network.firewall import Firewall
from lamina.network.hostports import HostPorts, hold
from lamina.network.interfaces import Interfaces
from lamina.network.model import (
    Document,
    Endpoint,
    Network,
    NetworkForbidden,
    NetworkUnavailable,
    PortTaken,
    Published,
    Sandbox,
)
from lamina.network.pools import AddressPool
from lamina.network.requests import check_endpoint
from lamina.network.switchboard import SOCKET
from lamina.network.switching import Switching
from lamina.network.wiring import (
    Member,
    Wiring,
    dns_names,
    gateway_of,
    gateways,
    interface,
    interface_name,
    led,
    mac_of,
    needs_switchboard,
    way_in,
    wiring,
)

_SETUP = "failed to set up container networking: "


class Sandboxes:
    """Who is on which network. Thread-safe.

    Whoever makes networks asks here with a lock of its own held, so nothing here may wait for a bridge to be made: callers bring its index.
    """

    def __init__(
        self,
        interfaces: Interfaces,
        firewall: Firewall,
        ports: HostPorts,
        new_id: Callable[[], str],
        directory: str,
    ) -> None:
        """The switchboard listens in `directory`."""
        self._interfaces, self._firewall, self._ports, self._new_id = interfaces, firewall, ports, new_id
        self._lock = threading.RLock()
        self._sandboxes: dict[str, Sandbox] = {}
        self._pools: dict[tuple[str, int], AddressPool] = {}
        self._pids: dict[str, int] = {}
        self._changed: set[str] = set()
        self._shut: set[str] = set()
        self._switching = Switching(directory, self._lock, self._tell_again)

    # ── questions ────────────────────────────────────────────────────────────────────────────────────────────────
    def get(self, container: str) -> Sandbox | None:
        """A running container's, by its ID."""
        return self._sandboxes.get(container)

    def on(self, network: str) -> list[tuple[Sandbox, Endpoint]]:
        """Everybody on the network with that ID."""
        with self._lock:
            return [(box, endpoint) for box in self._sandboxes.values() for endpoint in box.endpoints if endpoint.network == network]

    def published(self) -> list[Published]:
        """Every port that leads into a container."""
        with self._lock:
            return [port for box in self._sandboxes.values() for port in box.published]

    # ── start and end ────────────────────────────────────────────────────────────────────────────────────────────
    def join(self, member: Member, networks: Sequence[tuple[Network, Document]], indexes: Sequence[int]) -> tuple[Sandbox, Wiring]:
        """Give a container all it needs on `networks`, whose bridges have these `indexes`.

        Raises:
            InvalidNetwork, NetworkForbidden, NoAddress, PortTaken, NetworkUnavailable: it was given nothing.
        """
        with self._lock:
            self.leave(member.id)
            box = Sandbox(member.id, member.name, servers=tuple(member.servers), links=dict(member.links))
            try:
                for network, settings in networks:
                    box = self._with_endpoint(box, member, network, settings)
                box = replace(box, gateway=gateway_of(box, {network.id: network for network, _ in networks}))
                self._sandboxes[member.id] = box
                box = self._with_ports(box, member.ports)
                self._tell_names(box)
                wires = wiring(box, [network for network, _ in networks], indexes, self._resolver(box))
            except BaseException:
                box = self._sandboxes.pop(member.id, box)
                self._release(box)
                raise
            self._sandboxes[member.id] = box
        return box, wires

    def leave(self, container: str, *, shared: bool = False) -> Sandbox | None:
        """Take everything back; what the container had, if it had anything. Its interfaces go with its namespace, unless that is `shared`
        with others who run on: then they are removed, since their addresses are another container's next."""
        with self._lock:
            box = self._sandboxes.pop(container, None)
            if box is not None:
                for endpoint in box.endpoints if shared else ():
                    with suppress(OSError):
                        self._interfaces.perform(links.delete_link(endpoint.host))
                self._release(box)
            return box

    # ── while it runs ────────────────────────────────────────────────────────────────────────────────────────────
    def connect(
        self,
        member: Member,
        network: Network,
        index: int,
        settings: Document,
        pid: int,
        networks: Mapping[str, Network],
        note: Callable[[Sandbox], None],
    ) -> Sandbox:
        """Put a running container on one more network, whose bridge has that `index`; `networks` are all by ID. `note` writes down what it
        will have, before the last of its endpoints is made: the engine that comes after one that is killed here undoes it, see `restore`.

        Raises as `join`; nothing has changed then.
        """
        with self._lock:
            before = self._sandboxes.get(member.id) or Sandbox(member.id, member.name, servers=tuple(member.servers))
            if before.endpoint(network.id):
                raise NetworkForbidden(f"endpoint with name {member.name} already exists in network {network.name}")
            box = self._with_endpoint(before, member, network, settings)
            added = box.endpoints[-1]
            box = replace(box, gateway=gateway_of(box, networks))
            self._pids[member.id] = pid
            try:
                if not before.published:  # it had no way outside yet for them to lead in by
                    box = self._with_ports(box, member.ports)
                wire = interface(added, network, index, hairpin=bool(box.published))
                resolver = None if self._resolver(before) else self._resolver(box)
                self._tell_names(box)
                note(box)
                in_a_thread(lambda: cabling.connect(pid, [wire], gateways(box) if box.gateway != before.gateway else [], resolver))
            except BaseException as error:
                self._take_back(added, before)
                if not isinstance(error, OSError):
                    raise
                raise NetworkUnavailable(f"container {member.name} cannot be connected: {error.strerror}") from None
            self._sandboxes[member.id] = box = self._retargeted(box)
            if resolver or (box.published and not before.published):
                self._watch(member.id, pid)
            return box

    def disconnect(self, container: str, network: str, pid: int, networks: Mapping[str, Network]) -> Sandbox | None:
        """Take a running container off the network with that ID; what it has then, None where it was not on it."""
        with self._lock:
            before = self._sandboxes.get(container)
            gone = before.endpoint(network) if before else None
            if before is None or gone is None:
                return None
            box = replace(before, endpoints=tuple(endpoint for endpoint in before.endpoints if endpoint is not gone))
            box = replace(box, gateway=gateway_of(box, networks))
            with suppress(OSError):
                self._interfaces.perform(links.delete_link(gone.host))
            self._give_back(gone)
            if box.gateway and box.gateway != before.gateway and pid:
                with suppress(OSError):
                    in_a_thread(lambda: cabling.connect(pid, [], gateways(box)))
            if before.published and not box.gateway:
                box = replace(box, published=())
                self._without_ports(box, before.published)
                return box
            self._sandboxes[container] = box = self._retargeted(box)
            if gone.names:
                self._say_names(box)
            return box

    def _without_ports(self, box: Sandbox, had: Sequence[Published]) -> None:
        """What a container `had` leads nowhere any more: as with Docker it is free, until the container is on a network that leads outside."""
        self._sandboxes[box.container] = box
        self._ports.give_back(had)
        try:
            self._firewall.withdraw(had)
        finally:
            self._switching.drop(box.container)
            if needs_switchboard(box):
                self._tell_all(box)

    def _retargeted(self, box: Sandbox) -> Sandbox:
        """Its ports lead to the endpoint that now is the way outside."""
        moved = led(box)
        if moved != box:
            self._firewall.withdraw(box.published)
            self._sandboxes[box.container] = moved
            self._firewall.publish(moved.published)
            self._switching.lead(box.container, *way_in(moved))
        return moved

    def _take_back(self, added: Endpoint, before: Sandbox) -> None:
        """An endpoint of a container that runs came to nothing: so does what was made of it, which goes with no namespace."""
        self._give_back(added)
        with suppress(OSError):
            self._interfaces.perform(links.delete_link(added.host))
        box = self._sandboxes.get(before.container, before)
        taken = box.published if not before.published else ()
        with suppress(LaminaError, OSError):
            if taken:
                self._without_ports(before, taken)
            elif needs_switchboard(before):
                self._say_names(before)
            else:
                self._switching.drop(before.container)

    def _give_back(self, endpoint: Endpoint) -> None:
        for version, address in ((4, endpoint.address4), (6, endpoint.address6)):
            pool = self._pools.get((endpoint.network, version))
            if pool is not None and address:
                pool.give_back(address)

    def restore(self, box: Sandbox, begun: str, pid: int, networks: Mapping[str, Network]) -> Sandbox:
        """Note what a container that was found running has, and give it. An endpoint that was being made when an engine was killed, whose
        interface on the host is `begun`, is undone; one that was being removed may be noted and not be there: its interface tells. Ports
        that lead nowhere without it are free."""
        with self._lock:
            if begun:
                with suppress(OSError):
                    self._interfaces.perform(links.delete_link(begun))
            there = tuple(endpoint for endpoint in box.endpoints if endpoint.host != begun and self._interfaces.exists(endpoint.host))
            if there != box.endpoints:
                before, box = box, replace(box, endpoints=there)
                box = led(replace(box, gateway=gateway_of(box, networks)))
                self._changed.add(box.container)
                if box.gateway and box.gateway != before.gateway:
                    with suppress(OSError):
                        in_a_thread(lambda: cabling.connect(pid, [], gateways(box)))
            if box.published and not box.gateway:
                box = replace(box, published=())
                self._shut.add(box.container)
            self._sandboxes[box.container] = box
            self._pids[box.container] = pid
            self._ports.note(box.published)
            return box

    def started(self, container: str, pid: int) -> None:
        """A container that joined runs now: what the switchboard has for it ends with it."""
        with self._lock:
            self._pids[container] = pid
            box = self._sandboxes.get(container)
            if box is not None and needs_switchboard(box):
                self._watch(container, pid)

    # ── the switchboard ──────────────────────────────────────────────────────────────────────────────────────────
    def recover(self) -> None:
        """Once, after what runs was restored: the switchboard has what runs, and nothing else."""
        with self._lock:
            there = self._switching.containers()
            needed = {box.container for box in self._sandboxes.values() if needs_switchboard(box)} - self._shut
            for container in there.keys() - needed:
                self._switching.drop(container)
                del there[container]
            for box in [self._sandboxes[container] for container in self._changed if container in there]:
                if needs_switchboard(box):
                    self._say_names(box)
                    self._switching.lead(box.container, *way_in(box))
            for box in list(self._sandboxes.values()):
                if needs_switchboard(box) and box.container not in there:
                    self._tell_all(box)
                elif needs_switchboard(box) and "end" not in there[box.container]:
                    self._watch(box.container, self._pids[box.container])  # the engine was killed before it had said that it runs

    def close(self) -> None:
        """Let go; the switchboard goes on."""
        self._switching.close()

    def _tell_again(self) -> None:
        """The switchboard was killed: another one is told everything."""
        for box in list(self._sandboxes.values()):
            if needs_switchboard(box) and box.container in self._pids:
                self._tell_all(box)

    def _tell_all(self, box: Sandbox) -> None:
        pid = self._pids[box.container]
        self._tell_names(box)
        held = []
        for port in box.published:
            with suppress(PortTaken):
                held.append(hold(port))
        try:
            if held:
                self._switching.ports(box.container, held)
        finally:
            for one in held:
                one.close()
        if resolver := self._resolver(box):
            with suppress(OSError):
                in_a_thread(lambda: cabling.connect(pid, [], [], resolver))
        self._watch(box.container, pid)

    def _watch(self, container: str, pid: int) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return  # it has ended: its leave is on the way
        try:
            self._switching.watch(container, pidfd)
        finally:
            os.close(pidfd)

    def _tell_names(self, box: Sandbox) -> None:
        if any(endpoint.names for endpoint in box.endpoints):
            self._say_names(box)

    def _say_names(self, box: Sandbox) -> None:
        self._switching.names(box.container, box.endpoints, links=dict(box.links), servers=box.servers, outside=bool(box.gateway))

    def _resolver(self, box: Sandbox) -> dict[str, str] | None:
        if not any(endpoint.names for endpoint in box.endpoints):
            return None
        return {"directory": self._switching.directory, "socket": SOCKET, "container": box.container}

    def rename(self, container: str, name: str) -> Sandbox | None:
        """A running container is called otherwise now."""
        with self._lock:
            box = self._sandboxes.get(container)
            if box is not None:
                endpoints = tuple(
                    replace(endpoint, names=(name, *(known for known in endpoint.names if known != box.name)))
                    if endpoint.names
                    else endpoint
                    for endpoint in box.endpoints
                )
                box = self._sandboxes[container] = replace(box, name=name, endpoints=endpoints)
                self._tell_names(box)
            return box

    # ── addresses ────────────────────────────────────────────────────────────────────────────────────────────────
    def _with_endpoint(self, box: Sandbox, member: Member, network: Network, settings: Document) -> Sandbox:
        """The sandbox with a further endpoint, which has taken its addresses: a member's own MAC is that of its first.

        Raises what `check_endpoint` and `AddressPool.take` do; no address is taken then.
        """
        check_endpoint(settings, network.pools, name=network.name, default=network.default)
        endpoint_id = self._new_id()
        ipam = settings.get("IPAMConfig") or {}
        wanted = {4: str(ipam.get("IPv4Address") or ""), 6: str(ipam.get("IPv6Address") or "")}
        endpoint = Endpoint(
            id=endpoint_id,
            network=network.id,
            network_name=network.name,
            host=f"veth{endpoint_id[:7]}",
            interface=interface_name(box, network, settings),
            mac="",
            settings=settings,
            names=() if network.default else dns_names(member, settings),
        )
        for pool in network.pools:
            subnet = ip_network(pool.subnet)
            try:
                address = self._pool(network, pool.subnet).take(wanted[subnet.version])
            except BaseException:
                self._give_back(endpoint)  # of two addresses it may have got the first
                raise
            gateway = "" if network.internal else pool.gateway
            if subnet.version == 4:
                endpoint = replace(endpoint, address4=address, prefix4=subnet.prefixlen, gateway4=gateway)
            else:
                endpoint = replace(endpoint, address6=address, prefix6=subnet.prefixlen, gateway6=gateway)
        mac = str(settings.get("MacAddress") or "") or (member.mac if not box.endpoints else "")
        endpoint = replace(endpoint, mac=(mac.replace("-", ":").lower() or mac_of(endpoint)))
        return replace(box, endpoints=(*box.endpoints, endpoint))

    def _pool(self, network: Network, subnet: str) -> AddressPool:
        key = (network.id, ip_network(subnet).version)
        if key not in self._pools or str(self._pools[key].subnet) != subnet:
            pool = next(pool for pool in network.pools if pool.subnet == subnet)
            self._pools[key] = made = AddressPool.of(pool)
            for _, endpoint in self.on(network.id):
                address = endpoint.address4 if key[1] == 4 else endpoint.address6
                if address:
                    made.claim(address)
        return self._pools[key]

    def forget(self, network: str) -> None:
        """A network is gone."""
        with self._lock:
            for key in [key for key in self._pools if key[0] == network]:
                del self._pools[key]

    # ── ports ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _with_ports(self, box: Sandbox, wanted: Sequence[Wanted]) -> Sandbox:
        endpoint = next((endpoint for endpoint in box.endpoints if endpoint.id == box.gateway), None)
        if not wanted or endpoint is None:
            return box
        try:
            held = self._ports.take(wanted, endpoint.address4, endpoint.address6)
        except PortTaken as error:
            words = f"driver failed programming external connectivity on endpoint {box.name} ({endpoint.id}): {error.message}"
            raise PortTaken(_SETUP + words) from None
        box = replace(box, published=tuple(one.published for one in held))
        self._sandboxes[box.container] = box
        try:
            self._switching.ports(box.container, held)
        finally:
            for one in held:
                one.close()
        self._firewall.publish(box.published)
        return box

    def _release(self, box: Sandbox) -> None:
        """All of it, whatever of it fails; raises the last failure then."""
        with ExitStack() as each:
            for endpoint in box.endpoints:
                self._give_back(endpoint)
            self._pids.pop(box.container, None)
            each.callback(self._ports.give_back, box.published)
            if needs_switchboard(box):
                each.callback(self._switching.drop, box.container)
            if box.published:
                self._sandboxes.pop(box.container, None)
                each.callback(self._firewall.withdraw, box.published)


def in_a_thread(action: Callable[[], None]) -> None:
    """Do something that changes the thread's namespace in one of its own, and raise what it raises."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="namespace", daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
