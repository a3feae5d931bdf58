"""What a container finds in /etc/hosts, /etc/hostname and /etc/resolv.conf."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lamina.container.connecting import HOST_GATEWAY, mode_of, resolver_text
from lamina.container.document import text, texts
from lamina.container.live import Roster
from lamina.container.model import Container, WrongState
from lamina.network.model import Sandbox
from lamina.runtime.initlayer import EtcFiles, write_etc_files
from lamina.spec.resolver import render_hosts


def etc_files(container: Container, roster: Roster, box: Sandbox, gateway: str, others: Sequence[tuple[str, str]] = ()) -> EtcFiles:
    """Write them into the container's folder; one that shares another's network has the other's. `gateway` is for HOST_GATEWAY,
    `others` are addresses and names of containers that it is linked to."""
    mode = mode_of(container)
    if mode.kind == "container":
        return _written(with_network(container, roster))
    return write_etc_files(
        container.directory,
        hostname=text(container.config, "Hostname"),
        hosts=hosts_text(container, box, gateway, others, kind=mode.kind),
        resolv_conf=resolver_text(container.host_config, box, kind=mode.kind),
    )


def with_network(container: Container, roster: Roster) -> Container:
    """The container whose network this one has: itself, or whom it shares one with.

    Raises:
        ContainerNotFound: that one is not there any more.
    """
    return _holder(container, lambda ref: roster.find(ref).container)


def lent(find: Callable[[str], Container], ref: str) -> tuple[str, str, EtcFiles]:
    """What a command needs to be run in the network of a container: the path of its namespace, its host name, its files.

    Raises:
        ContainerNotFound.
        WrongState: it does not run.
    """
    container = find(ref)
    if not container.running:
        raise WrongState(f"cannot join network of a non running container: {container.id}")
    return f"/proc/{container.state.pid}/ns/net", text(container.config, "Hostname"), _written(_holder(container, find))


def _holder(container: Container, find: Callable[[str], Container]) -> Container:
    seen = set()  # two may name each other, and then neither starts
    while (mode := mode_of(container)).kind == "container" and container.id not in seen:
        seen.add(container.id)
        container = find(mode.name)
    return container


def _written(container: Container) -> EtcFiles:
    home = container.directory
    return EtcFiles(f"{home}/hostname", f"{home}/hosts", f"{home}/resolv.conf")


def hosts_text(container: Container, box: Sandbox, gateway: str, others: Sequence[tuple[str, str]], *, kind: str) -> str:
    """The text of /etc/hosts: the container's own names by each of its addresses."""
    hostname, domain = text(container.config, "Hostname"), text(container.config, "Domainname")
    full = f"{hostname}.{domain}" if domain else hostname
    short = full.partition(".")[0]
    names = f"{full} {short}" if short and short != full else full
    addresses = ["127.0.1.1"] if kind == "none" else []
    addresses += [address for endpoint in box.endpoints for address in (endpoint.address4, endpoint.address6) if address]
    extra = [entry.replace(HOST_GATEWAY, gateway) if entry.endswith(f":{HOST_GATEWAY}") else entry for entry in extra_hosts(container)]
    base = {"base": host_names()} if kind == "host" else {}
    return render_hosts([*others, *((address, names) for address in addresses)], extra, **base)


def extra_hosts(container: Container) -> list[str]:
    """What --add-host said, as `name:address`; `name=address` means the same."""
    return [
        entry.replace("=", ":", 1) if ":" not in entry.partition("=")[0] else entry for entry in texts(container.host_config, "ExtraHosts")
    ]


def host_names() -> str:
    """The host's own /etc/hosts, for containers on its network."""
    try:
        with open("/etc/hosts", encoding="utf-8", errors="replace") as file:
            found = file.read()
    except OSError:
        return ""
    return found if found.endswith("\n") or not found else f"{found}\n"
