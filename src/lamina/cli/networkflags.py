"""--network and the flags of its endpoint, as the Engine API has them."""

from __future__ import annotations

from lamina.cli.fields import fields
from lamina.cli.flags import Arguments, UsageError, read_value

Document = dict[str, object]
Values = dict[str, list[str]]
"""What is said of one network, by the keys of the long notation."""

_OWN = ("bridge", "default", "host", "none")
_KEYS = ("name", "alias", "ip", "ip6", "mac-address", "link-local-ip", "driver-opt", "gw-priority")
_FLAGS = (
    ("network-alias", "alias", "alias"),
    ("ip", "ip", "IPv4 address"),
    ("ip6", "ip6", "IPv6 address"),
    ("mac-address", "mac-address", "MAC address"),
    ("link-local-ip", "link-local-ip", "link-local IP addresses"),
)


def endpoints(arguments: Arguments) -> dict[str, Document]:
    """The API's EndpointSettings by network, that of the container's NetworkMode first.

    Raises:
        UsageError: they contradict each other, in Docker's words.
    """
    wanted = [read_value("network", word, _network) for word in arguments.many("network") if word] or [("default", {}, 0)]
    _add_flags(arguments, wanted[0][1])
    found: dict[str, Document] = {}
    for name, values, priority in wanted:
        if values.get("alias") and not _is_named(name):
            raise UsageError("network-scoped aliases are only supported for user-defined networks")
        if name in found:
            raise UsageError(f'network "{name}" is specified multiple times')
        found[name] = _settings(values) | ({"GwPriority": priority} if priority else {})
    if len({_is_named(name) for name in found}) > 1:
        raise UsageError("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
    first = wanted[0][0]
    if arguments.given("link") and _is_named(first):
        found[first]["Links"] = arguments.many("link")
    return found


def _is_named(network: str) -> bool:
    """Whether somebody made it: the engine's own have no names for containers."""
    return network not in _OWN and not network.startswith("container:")


def _network(word: str) -> tuple[str, Values, int]:
    """A name, or `name=…,alias=…,ip=…`; what is said of it, and its priority as a gateway."""
    if not _is_long(word):
        return word, {}, 0
    values: Values = {}
    for field in fields(word):
        key, equals, value = field.partition("=")
        key = key.lower().strip()
        if not equals or not key:
            raise UsageError(f"invalid field {field}")
        if key not in _KEYS:
            raise UsageError(f"invalid field key {key}")
        if key == "driver-opt" and value.find("=") < 1:
            raise UsageError("invalid key value pair format in driver options")
        values.setdefault(key, []).append(value.strip())
    name, priority = values.get("name", [""])[-1], values.get("gw-priority", ["0"])[-1]
    if not name:
        raise UsageError("network name/id is not specified")
    if not priority.removeprefix("-").isdecimal():
        raise UsageError(f"invalid gw-priority ({priority}): invalid syntax")
    return name, values, int(priority)


def _is_long(word: str) -> bool:
    r"""Whether Docker's `\w+=\w+` is somewhere in it."""
    return any(letter == "=" and _is_word(word[:at][-1:]) and _is_word(word[at + 1 :][:1]) for at, letter in enumerate(word))


def _is_word(letter: str) -> bool:
    return letter.isascii() and (letter.isalnum() or letter == "_")


def _add_flags(arguments: Arguments, values: Values) -> None:
    """The flags that were there before the long notation: they are about the first network."""
    for flag, key, words in _FLAGS:
        if not arguments.given(flag):
            continue
        if key in values:
            raise UsageError(f"conflicting options: cannot specify both --{flag} and per-network {words}")
        values[key] = arguments.many(flag)


def _settings(values: Values) -> Document:
    addresses: Document = {key: values[name][-1] for key, name in (("IPv4Address", "ip"), ("IPv6Address", "ip6")) if name in values}
    if "link-local-ip" in values:
        addresses["LinkLocalIPs"] = values["link-local-ip"]
    settings: Document = {"IPAMConfig": addresses} if addresses else {}
    if "alias" in values:
        settings["Aliases"] = values["alias"]
    if "mac-address" in values:
        settings["MacAddress"] = values["mac-address"][-1]
    if "driver-opt" in values:
        pairs = (option.partition("=") for option in values["driver-opt"])
        settings["DriverOpts"] = {name.strip().lower(): text.strip() for name, _, text in pairs}
    return settings
