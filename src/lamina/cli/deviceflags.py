"""--device, --gpus and what limits one device, as HostConfig has them."""

from __future__ import annotations

from lamina.cli.fields import fields
from lamina.cli.flags import Arguments, UsageError, read_value
from lamina.cli.units import parse_size
from lamina.errors import InvalidArgument

Document = dict[str, object]

_PARTS = 3  # of a --device: on the host, in the container, access
_RATES = (1 << 64) - 1
_WEIGHTS = (0, *range(10, 1001))
_FORMAT = "The correct format is <device-path>:<number>"


def devices(arguments: Arguments) -> Document:
    """The fields of the flags given.

    Raises:
        UsageError: a value that cannot be.
    """
    found = {
        "Devices": [_device(word) for word in arguments.many("device")],
        "DeviceRequests": [read_value("gpus", word, _request) for word in arguments.many("gpus")],
        "BlkioWeightDevice": [read_value("blkio-weight-device", word, _weight) for word in arguments.many("blkio-weight-device")],
    }
    for field, name, read in (
        ("BlkioDeviceReadBps", "device-read-bps", _bytes),
        ("BlkioDeviceWriteBps", "device-write-bps", _bytes),
        ("BlkioDeviceReadIOps", "device-read-iops", _operations),
        ("BlkioDeviceWriteIOps", "device-write-iops", _operations),
    ):
        found[field] = [read_value(name, word, read) for word in arguments.many(name)]
    return {field: value for field, value in found.items() if value}


def _device(word: str) -> Document:
    """`host[:container][:access]`; access is some of rwm, each once."""
    host, *rest = word.split(":")
    if not host or len(rest) >= _PARTS:
        raise UsageError(f"bad format for path: {word}")
    access = "rwm"
    if len(rest) == _PARTS - 1 or (rest and _is_access(rest[0])):
        access = rest.pop()
    if not _is_access(access):
        raise UsageError(f"bad mode specified: {access}")
    inside = rest[0] if rest else host
    if not inside.startswith("/"):
        raise UsageError(f"{inside} is not an absolute path")
    return {"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": access}


def _is_access(word: str) -> bool:
    return bool(word) and set(word) <= set("rwm") and len(set(word)) == len(word)


def _limited(word: str) -> tuple[str, str]:
    """The path and the text of the limit in `/dev/path:limit`."""
    path, colon, limit = word.partition(":")
    if not colon or not path:
        raise UsageError(f"bad format: {word}")
    if not path.startswith("/dev/"):
        raise UsageError(f"bad format for device path: {word}")
    return path, limit


def _bytes(word: str) -> Document:
    path, limit = _limited(word)
    try:
        return {"Path": path, "Rate": parse_size(limit)}
    except InvalidArgument:
        units = "Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        raise UsageError(f"invalid rate for device: {word}. {_FORMAT}[<unit>]. {units}") from None


def _operations(word: str) -> Document:
    path, limit = _limited(word)
    if not limit.isdecimal() or int(limit) > _RATES:
        raise UsageError(f"invalid rate for device: {word}. {_FORMAT}. Number must be a positive integer")
    return {"Path": path, "Rate": int(limit)}


def _weight(word: str) -> Document:
    path, limit = _limited(word)
    if not limit.isdecimal() or int(limit) not in _WEIGHTS:
        raise UsageError(f"invalid weight for device: {word}")
    return {"Path": path, "Weight": int(limit)}


def _request(word: str) -> Document:
    """`all`, a number, or `count=…,device=…,driver=…,capabilities=…,options=…`; what lists something is in quotes."""
    request: Document = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}
    for field in fields(word):
        key, equals, value = field.partition("=")
        if not equals:
            key, value = "count", key
        if key == "count":
            request["Count"] = _count(value)
        elif key == "device":
            request["DeviceIDs"] = value.split(",")
        elif key == "driver":
            request["Driver"] = value
        elif key == "capabilities":
            request["Capabilities"] = [["gpu", *value.split(",")]]
        elif key == "options":
            request["Options"] = {name: text for name, _, text in (option.partition("=") for option in fields(value))}
        else:
            raise UsageError(f"unexpected key '{key}' in '{field}'")
    return request


def _count(value: str) -> int:
    try:
        return -1 if value == "all" else int(value)
    except ValueError:
        raise UsageError(f'invalid count ({value}): value must be either "all" or an integer') from None
