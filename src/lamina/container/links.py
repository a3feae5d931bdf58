"""`--link`: on the default network the other's names in /etc/hosts and facts of it as variables, elsewhere an alias that DNS knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from lamina.container.connecting import exposed_of, is_small, mode_of
from lamina.container.document import text, texts
from lamina.container.etcfiles import with_network
from lamina.container.live import Roster
from lamina.container.model import Container, ContainerNotFound, WrongState
from lamina.container.parts import Networks
from lamina.errors import InvalidArgument, LaminaError
from lamina.network.mode import DEFAULT_NETWORK


class InvalidLink(InvalidArgument):
    """The text names no container."""


@dataclass(frozen=True, slots=True)
class Linked:
    """Another container, by the name that this one has for it, and its address."""

    alias: str
    container: Container
    address: str


def parse_link(link: str) -> tuple[str, str]:
    """`NAME:ALIAS`, `NAME`, or inspect's `/NAME:/SELF/ALIAS` as (name, alias).

    Raises:
        InvalidLink: in Docker's words.
    """
    name, colon, alias = link.partition(":")
    name, alias = name.removeprefix("/"), alias.rpartition("/")[2]
    if not name or ":" in alias or (colon and not alias):
        raise InvalidLink(f"bad format for links: {link}")
    return name, alias or name


def checked_link(link: str, roster: Roster, *, default: bool) -> str:
    """A link as it is kept. On the `default` network it is to the other container by its name, and one to a container that is not there,
    or on the host's network, is refused; elsewhere it stays as it was said: names are looked up when somebody asks for them.

    Raises:
        InvalidLink: not ContainerNotFound, upon which clients pull the image.
    """
    name, alias = parse_link(link)
    if not default:
        return link
    try:
        other = roster.find(name).container
        mode = mode_of(with_network(other, roster))
    except LaminaError as error:
        raise InvalidLink(f"could not get container for {name}: {error.message}") from None
    if mode.kind == "host":
        raise InvalidLink("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
    return f"{other.name}:{alias}"


def linked(container: Container, roster: Roster, networks: Networks) -> list[Linked]:
    """The containers that one on the default network is linked to.

    Raises:
        WrongState: one of them does not run, or is on other networks alone.
        ContainerNotFound: one of them is not there any more.
    """
    found = []
    if mode_of(container).name == DEFAULT_NETWORK:
        for name, alias in map(parse_link, texts(container.host_config, "Links")):
            other = with_network(roster.find(name).container, roster)
            box = networks.sandbox(other.id)
            address = next((endpoint.address4 for endpoint in box.endpoints if endpoint.network_name == DEFAULT_NETWORK), "") if box else ""
            if not other.running:
                raise WrongState(f"Cannot link to a non running container: /{other.name} AS /{container.name}/{alias}")
            if not address:
                raise WrongState(f"Cannot link to /{other.name}, as it does not belong to the default network")
            found.append(Linked(alias, other, address))
    return found


def link_names(roster: Roster) -> Mapping[str, Sequence[str]]:
    """By a container's name what those call it that are linked to it on the default network: `/OTHER/ALIAS`, sorted."""
    found: dict[str, list[str]] = {}
    for live in roster.some(lambda container: bool(container.host_config.get("Links"))):  # of all that there are, at each listing
        container = live.container
        if mode_of(container).name == DEFAULT_NETWORK:
            for name, alias in map(parse_link, texts(container.host_config, "Links")):
                found.setdefault(name, []).append(f"/{container.name}/{alias}")
    return {name: sorted(names) for name, names in found.items()}


def unlink(name: str, roster: Roster, save: Callable[[Container], None]) -> None:
    """Remove the link CONTAINER/ALIAS, also from the container's /etc/hosts. Its environment keeps what it was told at its start.

    Raises:
        ContainerNotFound: there is no such container, or it has no such link.
        WrongState: `name` is a container's own name, which is not removed without it.
    """
    ref, slash, alias = name.removeprefix("/").rpartition("/")
    live = roster.find(ref if slash else alias)
    if not slash:
        raise WrongState("Conflict, cannot remove the default link name of the container")
    with live.lock:
        container = live.container
        kept = [link for link in texts(container.host_config, "Links") if parse_link(link)[1] != alias]
        if len(kept) == len(texts(container.host_config, "Links")):
            raise ContainerNotFound(f"No such container: {name}")
        changed = replace(container, host_config={**container.host_config, "Links": kept or None})
        save(changed)
        live.container = changed
        _forget_host(f"{container.directory}/hosts", alias)


def renamed(before: str, name: str, roster: Roster, save: Callable[[Container], None]) -> None:
    """Whoever was linked to the container that was called `before` is so by its new name: it finds it at its next start."""
    for live in roster.some(lambda container: bool(texts(container.host_config, "Links"))):
        with live.lock:
            asked = texts(live.container.host_config, "Links")
            kept = [f"{name}:{alias}" if other == before else link for link in asked for other, alias in [parse_link(link)]]
            if kept != asked and not live.removing:
                changed = replace(live.container, host_config={**live.container.host_config, "Links": kept})
                save(changed)
                live.container = changed


def _forget_host(path: str, alias: str) -> None:
    """Take a link's line out of a file of hosts; written in place, since a running container has that very file."""
    with suppress(FileNotFoundError), open(path, "r+b") as file:
        if not is_small(file):
            return
        lines = file.readlines()
        file.seek(0)
        file.writelines(line for line in lines if line.split()[1:2] != [alias.encode()])
        file.truncate()


def host_lines(links: Sequence[Linked]) -> list[tuple[str, str]]:
    """Lines of /etc/hosts: address, and the alias, host name and name."""
    names = [(link.alias, text(link.container.config, "Hostname"), link.container.name) for link in links]
    return [(link.address, " ".join(dict.fromkeys(each))) for link, each in zip(links, names, strict=True)]


def environment(container: Container, links: Sequence[Linked]) -> Iterator[str]:
    """What Docker tells of linked containers: `DB_PORT_5432_TCP_ADDR=…` and the like."""
    for link in links:
        prefix = link.alias.upper().replace("-", "_")
        ports = sorted(exposed_of(link.container), key=lambda port: (port[1] != "tcp", port[1], port[0]))
        for number, (port, protocol) in enumerate(ports):
            place = f"{protocol}://{link.address}:{port}"
            if number == 0:
                yield f"{prefix}_PORT={place}"
            each = f"{prefix}_PORT_{port}_{protocol.upper()}"
            yield from (f"{each}={place}", f"{each}_ADDR={link.address}", f"{each}_PORT={port}", f"{each}_PROTO={protocol}")
        yield f"{prefix}_NAME=/{container.name}/{link.alias}"
        for variable in texts(link.container.config, "Env"):
            if "=" in variable and variable.partition("=")[0] not in ("HOME", "PATH"):
                yield f"{prefix}_ENV_{variable}"
