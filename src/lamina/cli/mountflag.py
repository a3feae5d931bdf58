"""--mount as the Engine API has it."""

from __future__ import annotations

from lamina.cli.fields import fields
from lamina.cli.flags import Arguments, UsageError, absolute, read_value
from lamina.cli.units import parse_size
from lamina.errors import InvalidArgument

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Document = dict[str, object]

_MODE_LIMIT = 1 << 32
_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")


def mounts(arguments: Arguments) -> list[Document]:
    """The Engine API's `Mounts`.

    Raises:
        UsageError: one cannot be, in Docker's words.
    """
    return [read_value("mount", word, _mount) for word in arguments.many("mount")]


def _named(word: str) -> dict[str, str]:
    name, _, value = word.partition("=")
    return {name: value} if name else {}


def _mount(word: str) -> Document:
    mount: Document = {"Type": "volume"}
    for field in fields(word):
        key, equals, value = field.partition("=")
        key = key.lower()
        if not equals and key not in _SWITCHES:
            raise UsageError(f"invalid field '{field}' must be a key=value pair")
        if key not in _KEYS:
            raise UsageError(f"unexpected key '{key}' in '{field}'")
        try:
            _merge(mount, _KEYS[key](value if equals else "true"))
        except (ValueError, InvalidArgument) as error:
            advice = f" ({error})" if isinstance(error, _NotOneOf) else ""
            raise UsageError(f"invalid value for {key}: {value}{advice}") from None
    _check(mount)
    return mount


def _merge(document: Document, more: Mapping[str, object]) -> None:
    for name, value in more.items():
        known = document.get(name)
        if isinstance(known, dict) and isinstance(value, dict):
            _merge(known, value)
        else:
            document[name] = value


def _check(mount: Document) -> None:
    """Refuse what contradicts itself, in Docker's words."""
    type = mount["Type"]
    if not type or not mount.get("Target"):
        raise UsageError(f"{'target' if type else 'type'} is required")
    for owner in ("volume", "image", "bind", "tmpfs"):
        if f"{owner.capitalize()}Options" in mount and type != owner:
            raise UsageError(f"cannot mix '{owner}-*' options with mount type '{type}'")
    bind = mount.get("BindOptions")
    if not isinstance(bind, dict):
        return
    for key, name in (("ReadOnlyNonRecursive", "writable"), ("ReadOnlyForceRecursive", "readonly")):
        if bind.get(key) and not mount.get("ReadOnly"):
            raise UsageError(f"option 'bind-recursive={name}' requires 'readonly' to be specified in conjunction")
    if bind.get("ReadOnlyForceRecursive") and bind.get("Propagation") != "rprivate":
        raise UsageError("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction")


class _NotOneOf(ValueError):
    """A word that is not one of those that may stand there; its message lists them."""


def _truth(value: str) -> bool:
    if value not in _TRUE + _FALSE:
        raise ValueError
    return value in _TRUE


def _mode(value: str) -> int:
    if not set(value) <= set("01234567") or int(value, 8) >= _MODE_LIMIT:  # int alone takes signs, blanks and 0o
        raise ValueError
    return int(value, 8)


def _recursive(value: str) -> Document:
    if value not in _RECURSIVE:
        raise _NotOneOf('must be "enabled", "disabled", "writable", or "readonly"')
    option = _RECURSIVE[value]
    return {"BindOptions": {option: True}} if option else {}


_RECURSIVE = {"enabled": "", "disabled": "NonRecursive", "writable": "ReadOnlyNonRecursive", "readonly": "ReadOnlyForceRecursive"}
_SWITCHES = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive")
_SOURCE: Callable[[str], Document] = lambda value: {"Source": absolute(value)}  # noqa: E731
_TARGET: Callable[[str], Document] = lambda value: {"Target": value}  # noqa: E731
_READ_ONLY: Callable[[str], Document] = lambda value: {"ReadOnly": _truth(value)}  # noqa: E731
_KEYS: dict[str, Callable[[str], Document]] = {
    "type": lambda value: {"Type": value.lower()},
    "source": _SOURCE,
    "src": _SOURCE,
    "target": _TARGET,
    "dst": _TARGET,
    "destination": _TARGET,
    "readonly": _READ_ONLY,
    "ro": _READ_ONLY,
    "consistency": lambda value: {"Consistency": value.lower()},
    "bind-propagation": lambda value: {"BindOptions": {"Propagation": value.lower()}},
    "bind-nonrecursive": lambda value: {"BindOptions": {"NonRecursive": _truth(value)}},
    "bind-recursive": _recursive,
    "volume-subpath": lambda value: {"VolumeOptions": {"Subpath": value}},
    "volume-nocopy": lambda value: {"VolumeOptions": {"NoCopy": _truth(value)}},
    "volume-label": lambda value: {"VolumeOptions": {"Labels": _named(value)}},
    "volume-driver": lambda value: {"VolumeOptions": {"DriverConfig": {"Name": value}}},
    "volume-opt": lambda value: {"VolumeOptions": {"DriverConfig": {"Options": _named(value)}}},
    "image-subpath": lambda value: {"ImageOptions": {"Subpath": value}},
    "tmpfs-size": lambda value: {"TmpfsOptions": {"SizeBytes": parse_size(value)}},
    "tmpfs-mode": lambda value: {"TmpfsOptions": {"Mode": _mode(value)}},
}
"""What each key of --mount adds to the mount."""
