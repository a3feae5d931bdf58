"""--publish and --expose as the Engine API has them."""

from __future__ import annotations

from lamina.cli.flags import Arguments, UsageError

_PORTS = 1 << 16
_LONGEST = len("065535-065535")
_PROTOCOLS = ("tcp", "udp", "sctp")


def published(arguments: Arguments) -> dict[str, list[dict[str, str]]]:
    """`PortBindings` for --publish.

    Raises:
        UsageError: one that cannot be.
    """
    found: dict[str, list[dict[str, str]]] = {}
    for word in arguments.many("publish"):
        for port, binding in _publish(_short(word)):
            found.setdefault(port, []).append(binding)
    return found


def exposed(arguments: Arguments, published: dict[str, list[dict[str, str]]]) -> dict[str, object]:
    """`ExposedPorts`: what is published is exposed too."""
    return {port if "/" in port else f"{port}/tcp": {} for port in [*arguments.many("expose"), *published]}


def _short(word: str) -> str:
    """`published=8080,target=80,protocol=udp` in the other notation; other keys say nothing, as in docker run."""
    if "=" not in word:
        return word
    given = {"published": "", "target": "", "protocol": "tcp"}
    for field in word.split(","):
        key, equals, value = field.partition("=")
        if not equals or not key:
            raise UsageError(f"invalid publish opts format (should be name=value but got '{field}')")
        given[key] = value
    return f"{given['published']}:{given['target']}/{given['protocol']}"


def _publish(word: str) -> list[tuple[str, dict[str, str]]]:
    """`[[address:]host:]container[/protocol]`, each port a range perhaps; 0 or nothing on the host is any that is free."""
    rest, _, inside = word.rpartition(":")
    address, _, outside = rest.rpartition(":")
    inside, _, protocol = inside.partition("/")
    protocol = protocol.lower() or "tcp"
    if not inside:
        raise UsageError(f"no port specified: {word}<empty>")
    if protocol not in _PROTOCOLS:
        raise UsageError(f"invalid proto: {protocol}")
    low, high = _range(inside, "containerPort", least=1)
    first, last = _range(outside, "hostPort", least=0) if outside else (0, 0)
    if outside and last - first != high - low and low != high:
        raise UsageError(f"invalid ranges specified for container and host Ports: {inside} and {outside}")
    rows = []
    for offset in range(high - low + 1):
        host = "" if not outside else f"{first}-{last}" if low == high and first != last else str(first + offset)
        rows.append((f"{low + offset}/{protocol}", {"HostIp": address.strip("[]"), "HostPort": host}))
    return rows


def _range(text: str, name: str, *, least: int) -> tuple[int, int]:
    low, _, high = text.partition("-")
    high = high or low
    if not (len(text) <= _LONGEST and low.isdecimal() and high.isdecimal() and least <= int(low) <= int(high) < _PORTS):
        raise UsageError(f"invalid {name}: {text}")
    return int(low), int(high)
