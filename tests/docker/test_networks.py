"""Networks through the real docker CLI."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from lamina.network.hostports import has_ipv6
from tests.docker.conftest import BASE
from tests.harness import Daemon, docker_cli_version, eventually, free_port

_numbers = count(1)
SERVE = "echo hello from $(hostname) > /tmp/said; while true; do nc -l -p 80 < /tmp/said; done"
# Nobody listens until the server has begun, nor between two of its clients.
ASK = "for i in $(seq 300); do nc -w 5 {} {} < /dev/null && break; sleep 0.2; done"


def read(port: int, host: str = "127.0.0.1") -> str:
    """What a server on the host says first; empty where there is none."""
    try:
        with socket.create_connection((host, port), timeout=3) as connection:
            connection.settimeout(3)
            return connection.recv(100).decode()
    except OSError:
        return ""


def test_a_container_is_on_the_default_bridge(daemon: Daemon) -> None:
    shown = daemon.docker("run", "--rm", BASE, "ip", "-4", "addr", "show", "eth0").stdout
    network = json.loads(daemon.docker("network", "inspect", "bridge").stdout)[0]
    subnet = network["IPAM"]["Config"][0]["Subnet"]
    assert subnet.rpartition("/")[2] == "16"
    assert f"inet {subnet.split('.')[0]}.{subnet.split('.')[1]}." in shown
    gateway = network["IPAM"]["Config"][0]["Gateway"]
    assert f"default via {gateway} dev eth0" in daemon.docker("run", "--rm", BASE, "ip", "route").stdout


@pytest.mark.covers("cli:run --publish", "cli:port", "cli:create --publish")
def test_a_published_port_leads_into_the_container(daemon: Daemon, name: str) -> None:
    port = free_port()
    daemon.docker("run", "-d", "--name", name, "-p", f"{port}:80", BASE, "sh", "-c", SERVE)
    eventually(lambda: "hello" in read(port), "nobody answered on the published port")
    assert daemon.docker("port", name, "80").stdout.splitlines()[0] == f"0.0.0.0:{port}"
    assert f"0.0.0.0:{port}->80/tcp" in daemon.docker("ps", "--filter", f"name={name}").stdout
    facts = json.loads(daemon.docker("inspect", name).stdout)[0]["NetworkSettings"]
    assert facts["Ports"]["80/tcp"][0] == {"HostIp": "0.0.0.0", "HostPort": str(port)}
    assert facts["IPAddress"] == facts["Networks"]["bridge"]["IPAddress"] != ""
    daemon.docker("rm", "-f", name)
    eventually(lambda: not read(port), "the port still leads somewhere")


def test_a_port_that_is_taken_is_said_and_nothing_is_left(daemon: Daemon, name: str) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        failed = daemon.docker("run", "--name", name, "-p", f"{port}:80", BASE, "true", code=125)
        assert f"failed to bind host port for 0.0.0.0:{port}" in failed.stderr
        assert "address already in use" in failed.stderr
    daemon.docker("start", "-a", name)


def test_a_path_of_builds_leads_outside_too(daemon: Daemon, tag: str, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN ip addr show eth0 > /seen\nRUN --network=none ip addr > /alone\n")
    daemon.docker("build", "-t", tag, str(context))
    shown = daemon.docker("run", "--rm", tag, "sh", "-c", "cat /seen; echo; cat /alone").stdout
    assert shown.count("eth0") >= 1 and "eth0" not in shown.rpartition("\n\n")[2]


@pytest.fixture
def network(daemon: Daemon) -> Iterator[str]:
    """A name for a network, which is removed at the end."""
    name = f"n{next(_numbers)}"
    yield name
    for row in daemon.docker("network", "ls", "-q", "--filter", f"name={name}", code=None).stdout.split():
        daemon.docker("network", "rm", row, code=None)


@pytest.mark.covers(
    "cli:network create", "cli:network create --subnet", "cli:network create --gateway", "cli:network create --ip-range", "cli:network create --aux-address",
    "cli:network create --label", "cli:network create --opt", "cli:network create --driver", "cli:network create --attachable", "cli:network inspect",
    "cli:network create --ipam-driver", "cli:network create --ipam-opt", "cli:network create --scope",
    "cli:network inspect --format", "cli:network inspect --verbose", "cli:network ls", "cli:network ls --filter", "cli:network ls --format",
    "cli:network ls --no-trunc", "cli:network ls --quiet", "cli:network rm", "cli:network rm --force", "api:POST /networks/create", "api:GET /networks",
    "api:GET /networks/{id}", "api:DELETE /networks/{id}",
)  # fmt: skip
def test_a_network_is_as_it_was_asked_for_until_it_is_removed(daemon: Daemon, network: str) -> None:
    made = daemon.docker(
        "network", "create", "--driver", "bridge", "--subnet", "10.213.0.0/16", "--gateway", "10.213.9.9", "--ip-range", "10.213.5.0/24",
        "--aux-address", "router=10.213.5.0", "--label", "a=b", "--opt", "com.docker.network.driver.mtu=1400", "--attachable",
        "--ipam-driver", "default", "--ipam-opt", "k=v", "--scope", "local", network,
    ).stdout.strip()  # fmt: skip
    facts = json.loads(daemon.docker("network", "inspect", "--verbose", network).stdout)[0]
    assert facts["Id"] == made
    assert facts["IPAM"]["Config"] == [
        {"Subnet": "10.213.0.0/16", "IPRange": "10.213.5.0/24", "Gateway": "10.213.9.9", "AuxiliaryAddresses": {"router": "10.213.5.0"}}
    ]
    assert (facts["Labels"], facts["Attachable"], facts["Options"]) == ({"a": "b"}, True, {"com.docker.network.driver.mtu": "1400"})
    shown = daemon.docker("run", "--rm", "--network", network, BASE, "sh", "-c", "ip addr show eth0; ip route").stdout
    assert "inet 10.213.5.1/16" in shown and "default via 10.213.9.9" in shown and "mtu 1400" in shown
    assert daemon.docker("network", "inspect", "-f", "{{.Driver}}", made[:12]).stdout == "bridge\n"
    assert daemon.docker("network", "ls", "--no-trunc", "-q", "--filter", "label=a=b").stdout == f"{made}\n"
    assert network in daemon.docker("network", "ls", "--format", "{{.Name}}").stdout.split()
    daemon.docker("network", "rm", network)
    missing = daemon.docker("network", "rm", network, code=1).stderr
    if docker_cli_version() >= 23:
        assert "not found" in missing
        daemon.docker("network", "rm", "--force", network)
    assert not os.path.exists(f"/sys/class/net/br-{made[:12]}")


@pytest.mark.covers("cli:run --ip", "cli:create --ip", "cli:network connect --ip")
def test_an_address_can_be_chosen_once_and_only_in_a_chosen_subnet(daemon: Daemon, network: str, name: str) -> None:
    daemon.docker("network", "create", "--subnet", "10.214.0.0/24", network)
    daemon.docker("run", "-d", "--name", name, "--network", network, "--ip", "10.214.0.77", BASE, "sleep", "1000")
    assert daemon.docker("inspect", "-f", f"{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}", name).stdout == "10.214.0.77\n"
    taken = daemon.docker("run", "--rm", "--network", network, "--ip", "10.214.0.77", BASE, "true", code=125)
    assert "Address already in use" in taken.stderr
    daemon.docker("network", "disconnect", network, name)
    daemon.docker("network", "connect", "--ip", "10.214.0.78", network, name)
    assert "10.214.0.78/24" in daemon.docker("exec", name, "ip", "addr").stdout
    outside = daemon.docker("run", "--rm", "--network", network, "--ip", "10.99.0.1", BASE, "true", code=125)
    assert "no configured subnet or ip-range contain the IP address 10.99.0.1" in outside.stderr


@pytest.mark.covers(
    "cli:network connect", "cli:network disconnect", "cli:network disconnect --force", "cli:network connect --alias",
    "cli:network connect --gw-priority", "cli:network connect --driver-opt",
    "api:POST /networks/{id}/connect", "api:POST /networks/{id}/disconnect", "cli:run --network", "cli:create --network",
)  # fmt: skip
def test_a_running_container_is_connected_and_disconnected(daemon: Daemon, network: str, name: str) -> None:
    daemon.docker("network", "create", network)
    daemon.docker("run", "-d", "--name", name, "--network", "bridge", BASE, "sleep", "1000")
    option = "com.docker.network.endpoint.ifname=second0"
    daemon.docker("network", "connect", "--alias", "also", "--gw-priority", "5", "--driver-opt", option, network, name)
    facts = json.loads(daemon.docker("inspect", name).stdout)[0]["NetworkSettings"]["Networks"]
    assert set(facts) == {"bridge", network}
    assert "also" in facts[network]["DNSNames"]
    shown = daemon.docker("exec", name, "sh", "-c", "ip addr; ip route").stdout
    assert f"inet {facts[network]['IPAddress']}/" in shown and "second0" in shown
    assert f"default via {facts[network]['Gateway']}" in shown
    assert "already exists in network" in daemon.docker("network", "connect", network, name, code=1).stderr
    members = json.loads(daemon.docker("network", "inspect", network).stdout)[0]["Containers"]
    assert [member["Name"] for member in members.values()] == [name]
    refused = daemon.docker("network", "rm", network, code=1).stderr
    assert f"network {network} has active endpoints" in refused
    daemon.docker("network", "disconnect", "--force", network, name)
    shown = daemon.docker("exec", name, "sh", "-c", "ip addr; ip route").stdout
    assert "second0" not in shown and f"default via {facts['bridge']['Gateway']}" in shown
    assert "is not connected to network" in daemon.docker("network", "disconnect", network, name, code=1).stderr


def test_a_container_without_a_network_gets_one_once_it_left_none(daemon: Daemon, network: str, name: str) -> None:
    daemon.docker("network", "create", network)
    daemon.docker("run", "-d", "--name", name, "--network", "none", BASE, "sleep", "1000")
    assert "private (none) mode" in daemon.docker("network", "connect", network, name, code=1).stderr
    networks = ("inspect", "-f", "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}{{.HostConfig.NetworkMode}}", name)
    for steps in ((), ("stop", "-t", "0")):
        if steps:
            daemon.docker(*steps, name)
        daemon.docker("network", "disconnect", "none", name)
        assert daemon.docker(*networks).stdout.split() == ["none"]
        assert "is not connected" in daemon.docker("network", "disconnect", "none", name, code=1).stderr
        daemon.docker("network", "connect", network, name)
        assert daemon.docker(*networks).stdout.split() == [network, "none"]
        daemon.docker("restart", "-t", "0", name)
        assert "eth0" in daemon.docker("exec", name, "ip", "addr").stdout
        daemon.docker("network", "disconnect", network, name)
        daemon.docker("network", "connect", "none", name)
        assert daemon.docker(*networks).stdout.split() == ["none", "none"]


@pytest.mark.parametrize("first", ["bridge", "none"])
def test_names_are_known_from_the_first_network_with_names_on(daemon: Daemon, network: str, name: str, first: str) -> None:
    daemon.docker("network", "create", network)
    daemon.docker("run", "-d", "--name", f"{name}-peer", "--network", network, BASE, "sleep", "1000")
    for own in ("", "nameserver 192.0.2.7"):
        write = f"test -z '{own}' || echo '{own}' > /etc/resolv.conf; exec sleep 1000"
        daemon.docker("run", "-d", "--name", name, "--network", first, BASE, "sh", "-c", write)
        eventually(lambda own=own: own in daemon.docker("exec", name, "cat", "/etc/resolv.conf").stdout, "nothing was written")
        if first == "none":
            daemon.docker("network", "disconnect", "none", name)
        daemon.docker("network", "connect", network, name)
        if own:
            assert daemon.docker("exec", name, "cat", "/etc/resolv.conf").stdout.strip() == own
        else:
            assert f"{name}-peer" in daemon.docker("exec", name, "nslookup", f"{name}-peer").stdout
        daemon.docker("rm", "-f", name)
    daemon.docker("rm", "-f", f"{name}-peer")


def test_networks_are_apart_and_an_internal_one_has_no_way_out(daemon: Daemon, network: str, name: str) -> None:
    daemon.docker("network", "create", "--internal", network)
    daemon.docker("run", "-d", "--name", name, "--network", network, BASE, "sh", "-c", SERVE)
    address = daemon.docker("inspect", "-f", f"{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}", name).stdout.strip()
    ask = ("sh", "-c", ASK.format(address, 80))
    assert "hello" in daemon.docker("run", "--rm", "--network", network, BASE, *ask).stdout
    assert "hello" not in daemon.docker("run", "--rm", BASE, "nc", "-w", "1", address, "80", code=None).stdout
    assert "default" not in daemon.docker("exec", name, "ip", "route").stdout


@pytest.mark.covers("cli:network prune", "cli:network prune --filter", "cli:network prune --force", "api:POST /networks/prune")
def test_networks_nobody_uses_are_pruned(daemon: Daemon, network: str, name: str) -> None:
    daemon.docker("network", "create", "--label", "gone=1", network)
    daemon.docker("network", "create", "--label", "gone=1", f"{network}-used")
    daemon.docker("run", "-d", "--name", name, "--network", f"{network}-used", BASE, "sleep", "1000")
    assert network in daemon.docker("network", "prune", "--force", "--filter", "label=gone=1").stdout.split()
    assert daemon.docker("network", "ls", "-q", "--filter", f"name={network}-used").stdout.strip()


@pytest.mark.covers(
    "cli:network create --internal", "cli:network create --ipv6", "cli:network create --ipv4", "cli:network create --config-only",
    "cli:network create --config-from", "cli:network create --ingress", "cli:run --ip6", "cli:create --ip6",
)  # fmt: skip
def test_what_cannot_be_is_said_in_dockers_words(daemon: Daemon, network: str) -> None:
    def refused(*words: str) -> str:
        return daemon.docker("network", "create", *words, network, code=1).stderr

    daemon.docker("network", "create", "--subnet", "10.215.0.0/16", f"{network}-first")
    assert "Pool overlaps with other one on this address space" in refused("--subnet", "10.215.7.0/24")
    assert "it should be 10.216.0.0/16" in refused("--subnet", "10.216.0.1/16")
    assert "could not find plugin magic" in refused("--driver", "magic")
    assert "not a swarm manager" in refused("--driver", "overlay")
    assert "Ingress network can only be global scope network" in refused("--ingress")
    assert "IPv4 or IPv6 must be enabled" in refused("--ipv4=false")
    already = daemon.docker("network", "create", f"{network}-first", code=1).stderr
    assert f"network with name {network}-first already exists" in already
    assert "operation is not permitted on predefined bridge network" in daemon.docker("network", "create", "bridge", code=1).stderr
    assert "is a pre-defined network and cannot be removed" in daemon.docker("network", "rm", "host", code=1).stderr
    assert "network nowhere not found" in daemon.docker("run", "--rm", "--network", "nowhere", BASE, "true", code=125).stderr
    daemon.docker("network", "create", "--config-only", "--subnet", "10.217.0.0/16", f"{network}-settings")
    daemon.docker("network", "create", "--config-from", f"{network}-settings", network)
    assert "10.217.0.0/16" in daemon.docker("network", "inspect", network).stdout
    daemon.docker("network", "create", "--ipv6", "--internal", f"{network}-six")
    shown = daemon.docker("run", "--rm", "--network", f"{network}-six", BASE, "ip", "-6", "addr", "show", "eth0").stdout
    assert "inet6 fd" in shown
    chosen = ("--ipv6", "--subnet", "fd00:77::/64", f"{network}-chosen")
    daemon.docker("network", "create", *chosen)
    shown = daemon.docker("run", "--rm", "--network", f"{network}-chosen", "--ip6", "fd00:77::5", BASE, "ip", "-6", "addr").stdout
    assert "inet6 fd00:77::5/64" in shown


def addresses(daemon: Daemon, container: str, asked: str) -> str:
    """What the name server inside a container says."""
    return daemon.docker("exec", container, "nslookup", asked, "127.0.0.11", code=None).stdout


@pytest.mark.covers("cli:run --network-alias", "cli:create --network-alias")
def test_containers_find_each_other_by_name_and_alias(daemon: Daemon, network: str, name: str) -> None:
    daemon.docker("network", "create", network)
    daemon.docker("run", "-d", "--name", name, "--network", network, "--network-alias", "db", BASE, "sleep", "1000")
    other = f"{name}other"
    daemon.docker("run", "-d", "--name", other, "--network", network, BASE, "sleep", "1000")
    try:
        address = daemon.docker("inspect", "-f", f"{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}", name).stdout.strip()
        assert "nameserver 127.0.0.11" in daemon.docker("exec", other, "cat", "/etc/resolv.conf").stdout
        for asked in (name, "db", f"{name}.{network}"):
            assert address in addresses(daemon, other, asked)
        assert f"{name}.{network}" in addresses(daemon, other, address)
        daemon.docker("rename", name, f"{name}new")
        assert address in addresses(daemon, other, f"{name}new")
        daemon.docker("rename", f"{name}new", name)
        daemon.docker("rm", "-f", name)
        assert address not in addresses(daemon, other, "db")
    finally:
        daemon.docker("rm", "-f", other)


def test_a_published_port_is_reached_by_ipv6_and_from_containers(daemon: Daemon, name: str) -> None:
    port = free_port()
    daemon.docker("run", "-d", "--name", name, "-p", f"{port}:80", BASE, "sh", "-c", SERVE)
    eventually(lambda: "hello" in read(port), "nobody answered on the published port")
    if os.path.exists("/proc/sys/net/ipv6/conf/all/disable_ipv6") and Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").read_text() == "0\n":
        eventually(lambda: "hello" in read(port, "::1"), "nobody answered by ::1")
    gateway = json.loads(daemon.docker("network", "inspect", "bridge").stdout)[0]["IPAM"]["Config"][0]["Gateway"]
    ask = ("sh", "-c", ASK.format(gateway, port))
    assert "hello" in daemon.docker("run", "--rm", BASE, *ask).stdout
    assert "hello" in daemon.docker("exec", name, *ask).stdout


@pytest.mark.skipif(not has_ipv6(), reason="this host speaks no IPv6")
@pytest.mark.parametrize("address", ["", "[::1]:"])
def test_a_port_of_a_container_with_ipv6_is_reached_by_the_hosts_loopback(daemon: Daemon, network: str, name: str, address: str) -> None:
    port = free_port()
    daemon.docker("network", "create", "--ipv6", network)
    daemon.docker("run", "-d", "--name", name, "--network", network, "-p", f"{address}{port}:80", BASE, "sh", "-c", SERVE)
    eventually(lambda: "hello" in read(port, "::1"), "nobody answered by ::1")


def test_links_lead_to_who_comes_later_and_to_whom_a_network_is_shared_with(daemon: Daemon, network: str, name: str) -> None:
    daemon.docker("network", "create", network)
    early, guest = f"{name}-early", f"{name}-guest"
    try:
        daemon.docker("run", "-d", "--name", early, "--network", network, "--link", f"{name}:later", BASE, "sleep", "1000")
        daemon.docker("run", "-d", "--name", name, "--network", network, "--network-alias", "x", BASE, "sleep", "1000")
        address = daemon.docker("inspect", "-f", f"{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}", name).stdout.strip()
        assert address in addresses(daemon, early, "later")
        daemon.docker("network", "connect", "bridge", name)
        daemon.docker("run", "-d", "--name", guest, "--network", f"container:{name}", BASE, "sleep", "1000")
        address = daemon.docker("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", name).stdout.strip()
        assert f"{address}\tit " in daemon.docker("run", "--rm", "--link", f"{guest}:it", BASE, "cat", "/etc/hosts").stdout
    finally:
        daemon.docker("rm", "-f", early, guest)


def test_a_network_is_shared_by_way_of_who_shares_it(daemon: Daemon, name: str) -> None:
    """The files of /etc are those of the container whose network it is."""
    middle = f"{name}-middle"
    daemon.docker("run", "-d", "--name", name, "--hostname", "owner", BASE, "sleep", "1000")
    try:
        daemon.docker("run", "-d", "--name", middle, "--network", f"container:{name}", BASE, "sleep", "1000")
        shown = daemon.docker(
            "run", "--rm", "--network", f"container:{middle}", BASE, "sh", "-c", "hostname; cat /etc/hostname /etc/hosts"
        ).stdout
        assert shown.startswith("owner\nowner\n") and "\towner\n" in shown
    finally:
        daemon.docker("rm", "-f", middle)


def test_what_is_on_the_hosts_network_is_not_linked_to(daemon: Daemon, name: str) -> None:
    daemon.docker("create", "--name", name, "--network", "host", BASE, "true")
    refused = daemon.docker("create", "--link", f"{name}:it", BASE, "true", code=1).stderr
    assert "conflicting options: host type networking can't be used with links" in refused


@pytest.mark.covers("cli:run --link", "cli:create --link", "cli:network connect --link")
def test_links_give_names_and_facts_of_another_container(daemon: Daemon, network: str, name: str) -> None:
    daemon.docker("run", "-d", "--name", name, "--hostname", "dbhost", "--expose", "5432", "-e", "COLOUR=blue", BASE, "sleep", "1000")
    address = daemon.docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name).stdout.strip()
    shown = daemon.docker("run", "--rm", "--link", f"{name}:my-db", BASE, "sh", "-c", "cat /etc/hosts; env").stdout
    assert f"{address}\tmy-db dbhost {name}\n" in shown
    assert f"MY_DB_PORT_5432_TCP_ADDR={address}" in shown and "MY_DB_ENV_COLOUR=blue" in shown
    daemon.docker("create", "--name", f"{name}linked", "--link", f"{name}:my-db", BASE, "true")
    listed = daemon.docker("ps", "--no-trunc", "--format", "{{.Names}}", "--filter", f"name=^/{name}$").stdout.strip()
    assert listed == f"{name},{name}linked/my-db"
    daemon.docker("rm", f"{name}linked")
    missing = daemon.docker("run", "--rm", "--link", "nobody:x", BASE, "true", code=125).stderr
    assert "No such container: nobody" in missing
    daemon.docker("network", "create", network)
    daemon.docker("network", "connect", network, name)
    other = f"{name}other"
    daemon.docker("run", "-d", "--name", other, BASE, "sleep", "1000")
    try:
        daemon.docker("network", "connect", "--link", f"{name}:base", network, other)
        address = daemon.docker("inspect", "-f", f"{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}", name).stdout.strip()
        assert address in addresses(daemon, other, "base")
    finally:
        daemon.docker("rm", "-f", other)
    web = f"{name}-web"
    daemon.docker("run", "-d", "--name", web, "--link", f"{name}:db", "--link", f"{name}:other", BASE, "sleep", "300")
    try:
        daemon.docker("rm", "--link", f"{web}/db")
        assert json.loads(daemon.docker("inspect", web).stdout)[0]["HostConfig"]["Links"] == [f"/{name}:/{web}/other"]
        hosts = daemon.docker("exec", web, "cat", "/etc/hosts").stdout
        assert "\tother " in hosts and "\tdb " not in hosts
        assert "No such container" in daemon.docker("rm", "--link", f"{web}/db", code=1).stderr
        daemon.docker("inspect", name)
    finally:
        daemon.docker("rm", "-f", web)
    daemon.docker("stop", "-t", "0", name)
    stopped = daemon.docker("run", "--rm", "--link", f"{name}:x", BASE, "true", code=125).stderr
    assert "Cannot link to a non running container" in stopped
    daemon.docker("rm", name)
    daemon.docker("run", "-d", "--name", name, "--network", network, BASE, "sleep", "1000")
    elsewhere = daemon.docker("run", "--rm", "--link", f"{name}:x", BASE, "true", code=125).stderr
    assert f"Cannot link to /{name}, as it does not belong to the default network" in elsewhere


def test_a_link_holds_on_the_network_it_was_asked_for(daemon: Daemon, network: str, name: str) -> None:
    """TestUserDefinedNetworkConnectDisconnectLink of moby's."""
    other, first = f"{network}x", f"{name}first"
    for each in (network, other):
        daemon.docker("network", "create", each)
    try:
        daemon.docker("run", "-d", "--name", first, "--network", network, BASE, "sleep", "1000")
        daemon.docker("run", "-d", "--name", name, "--network", network, "--link", f"{first}:one", BASE, "sleep", "1000")
        daemon.docker("network", "connect", other, first)
        daemon.docker("network", "connect", "--link", f"{first}:two", other, name)
        assert "NXDOMAIN" not in addresses(daemon, name, "one") and "NXDOMAIN" not in addresses(daemon, name, "two")
        daemon.docker("network", "disconnect", network, first)
        assert "NXDOMAIN" in addresses(daemon, name, "one")
        assert "NXDOMAIN" not in addresses(daemon, name, "two")
        daemon.docker("network", "disconnect", other, name)
        assert "NXDOMAIN" in addresses(daemon, name, "two")
    finally:
        daemon.docker("rm", "-f", first, name)
        daemon.docker("network", "rm", other)


def test_a_link_by_an_id_is_shown_by_the_name(daemon: Daemon, name: str) -> None:
    made = daemon.docker("run", "-d", "--name", name, BASE, "sleep", "1000").stdout.strip()
    daemon.docker("run", "-d", "--name", f"{name}linked", "--link", f"{made[:12]}:db", BASE, "sleep", "1000")
    try:
        links = "{{json .HostConfig.Links}}"
        assert json.loads(daemon.docker("inspect", "-f", links, f"{name}linked").stdout) == [f"/{name}:/{name}linked/db"]
        listed = daemon.docker("ps", "--no-trunc", "--format", "{{.Names}}", "--filter", f"id={made}").stdout.strip()
        assert listed == f"{name},{name}linked/db"
    finally:
        daemon.docker("rm", "-f", f"{name}linked")


def test_a_stopped_container_leaves_a_network_that_is_gone(daemon: Daemon, network: str, name: str) -> None:
    daemon.docker("network", "create", network)
    daemon.docker("create", "--name", name, "--network", network, BASE, "true")
    daemon.docker("network", "rm", network)
    assert "not found" in daemon.docker("start", name, code=1).stderr
    daemon.docker("network", "disconnect", "-f", network, name)
    assert network not in json.loads(daemon.docker("inspect", name).stdout)[0]["NetworkSettings"]["Networks"]
    daemon.docker("network", "connect", "bridge", name)
    daemon.docker("start", name)
    assert f"network {network} not found" in daemon.docker("network", "disconnect", "-f", network, name, code=1).stderr


def test_clients_before_api_1_45_see_the_short_id_among_the_aliases(daemon: Daemon, network: str, name: str) -> None:
    daemon.docker("network", "create", network)
    made = daemon.docker("create", "--name", name, "--hostname", "box", "--network", network, "--network-alias", "db", BASE, "true").stdout
    for version, aliases in (("1.45", ["db"]), ("1.44", ["db", made[:12], "box"])):
        shown = json.loads(daemon.curl(f"/v{version}/containers/{name}/json"))
        assert shown["NetworkSettings"]["Networks"][network]["Aliases"] == aliases


def test_a_name_of_a_bridge_that_is_refused_leaves_the_next_network_alone(daemon: Daemon, network: str) -> None:
    option = "com.docker.network.bridge.name=lo"
    assert "is not a bridge" in daemon.docker("network", "create", "-o", option, network, code=1).stderr
    daemon.docker("network", "create", network)


def test_our_own_command_line_does_the_same(daemon: Daemon, network: str, name: str) -> None:
    made = daemon.lamina(
        "network", "create", "--subnet", "10.218.0.0/24", "--gateway", "10.218.0.9", "--ip-range", "10.218.0.128/25",
        "--aux-address", "a=10.218.0.128", "--label", "k=v", "-o", "com.docker.network.driver.mtu=1300", network,
    ).stdout.strip()  # fmt: skip
    facts = json.loads(daemon.lamina("network", "inspect", network).stdout)[0]
    assert (facts["Id"], facts["IPAM"]["Config"][0]["Gateway"], facts["Labels"]) == (made, "10.218.0.9", {"k": "v"})
    daemon.lamina("run", "-d", "--name", name, BASE, "sleep", "1000")
    daemon.lamina("network", "connect", "--ip", "10.218.0.200", "--alias", "db", network, name)
    assert "10.218.0.200/24" in daemon.lamina("exec", name, "ip", "addr").stdout
    assert network in daemon.lamina("network", "ls").stdout and name in daemon.lamina("ps", "--format", "{{.Names}} {{.Networks}}").stdout
    assert "has active endpoints" in daemon.lamina("network", "rm", network, code=1).stderr
    daemon.lamina("network", "disconnect", network, name)
    assert network in daemon.lamina("network", "prune", "-f", "--filter", "label=k=v").stdout
    daemon.lamina("network", "rm", "--force", network)
    assert "not found" in daemon.lamina("network", "rm", network, code=1).stderr


@pytest.mark.covers("cli:run --publish-all", "cli:create --publish-all", "cli:run --expose", "cli:create --expose")
def test_every_exposed_port_gets_one_of_the_hosts(daemon: Daemon, name: str) -> None:
    daemon.docker("run", "-d", "--name", name, "-P", "--expose", "80", "--expose", "90-91/udp", BASE, "sh", "-c", SERVE)
    ports = json.loads(daemon.docker("inspect", name).stdout)[0]["NetworkSettings"]["Ports"]
    assert set(ports) == {"80/tcp", "90/udp", "91/udp"} and all(ports.values())
    eventually(lambda: "hello" in read(int(ports["80/tcp"][0]["HostPort"])), "nobody answered")


def test_docker_py_makes_networks_and_connects(daemon: Daemon, network: str, name: str) -> None:
    docker = pytest.importorskip("docker")
    with closing(docker.DockerClient(base_url=daemon.host)) as client:
        made = client.networks.create(network, driver="bridge", labels={"by": "py"}, check_duplicate=True)
        container = client.containers.run(BASE, ["sleep", "1000"], name=name, detach=True, ports={"80/tcp": None})
        made.connect(container, aliases=["web"])
        made.reload()
        assert [member.name for member in made.containers] == [name]
        container.reload()
        assert set(container.attrs["NetworkSettings"]["Networks"]) == {"bridge", network}
        assert container.ports["80/tcp"][0]["HostPort"]
        assert [found.name for found in client.networks.list(filters={"label": "by=py"})] == [network]
        made.disconnect(container)
        made.remove()


def test_events_of_networks_are_dockers(daemon: Daemon, network: str) -> None:
    daemon.docker("network", "create", network)
    daemon.docker("run", "--rm", "--network", network, BASE, "true")
    daemon.docker("network", "rm", network)

    def actions() -> list[str]:
        # "Until now" is cut to whole seconds.
        shown = daemon.docker("events", "--since", "1h", "--until", "0s", "--filter", "type=network").stdout
        return [line.split()[2] for line in shown.splitlines() if f"name={network}," in line]

    eventually(lambda: actions() == ["create", "connect", "disconnect", "destroy"], f"other events came: {actions()}")


@pytest.mark.skipif(not os.path.isdir("/proc/sys/net/bridge"), reason="the kernel has no br_netfilter")
def test_containers_of_a_network_without_talk_do_not_reach_each_other(daemon: Daemon, network: str, name: str) -> None:
    for option, reached in (("false", False), ("true", True)):
        daemon.docker("network", "create", "-o", f"com.docker.network.bridge.enable_icc={option}", network)
        daemon.docker("run", "-d", "--name", name, "--network", network, BASE, "sh", "-c", SERVE)
        words = f"for i in 1 2 3; do nc -w 1 {name} 80 < /dev/null | grep -q hello && echo reached && break; sleep 0.3; done"
        said = daemon.docker("run", "--rm", "--network", network, BASE, "sh", "-c", words, code=None).stdout
        assert ("reached" in said) == reached
        daemon.docker("rm", "-f", name)
        daemon.docker("network", "rm", network)


def test_who_shared_a_network_has_no_address_that_is_anothers_next(daemon: Daemon, network: str, name: str) -> None:
    guest = f"{name}-guest"
    daemon.docker("network", "create", network)
    daemon.docker("run", "-d", "--name", name, "--network", network, BASE, "sleep", "1000")
    daemon.docker("run", "-d", "--name", guest, "--network", f"container:{name}", BASE, "sleep", "1000")
    try:
        assert "eth0" in daemon.docker("exec", guest, "ip", "addr").stdout
        daemon.docker("kill", name)
        eventually(lambda: "eth0" not in daemon.docker("exec", guest, "ip", "addr").stdout, "the interface stayed")
    finally:
        daemon.docker("rm", "-f", guest)
