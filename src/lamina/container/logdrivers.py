"""Log drivers as they are asked for (--log-driver, --log-opt): what is refused, in Docker's words, and what it comes to. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lamina.container.destinations import FLUENTD_SCHEMES, FORMATS, SYSLOG_SCHEMES, Unreachable, facility
from lamina.container.document import Document, mapping, text
from lamina.container.model import Container
from lamina.errors import InvalidArgument
from lamina.spec.numeral import natural

DEFAULT = "json-file"
_COMMON = frozenset(("mode", "max-buffer-size"))
_DECORATED = frozenset(("labels", "labels-regex", "env", "env-regex", "tag"))
_ROTATED = frozenset(("max-size", "max-file", "compress"))
_CACHED = frozenset(("cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"))
_OPTIONS: Mapping[str, frozenset[str]] = {
    "none": frozenset(),
    "json-file": _ROTATED | _DECORATED,
    "local": _ROTATED | _DECORATED,
    "syslog": _CACHED
    | _DECORATED
    | {
        "syslog-address",
        "syslog-facility",
        "syslog-format",
        "syslog-tls-ca-cert",
        "syslog-tls-cert",
        "syslog-tls-key",
        "syslog-tls-skip-verify",
    },
    "journald": _CACHED | _DECORATED,
    "fluentd": _CACHED
    | _DECORATED
    | {
        "fluentd-address",
        "fluentd-async",
        "fluentd-async-reconnect-interval",
        "fluentd-buffer-limit",
        "fluentd-max-retries",
        "fluentd-request-ack",
        "fluentd-retry-wait",
        "fluentd-sub-second-precision",
        "fluentd-write-timeout",
    },
}
DRIVERS = tuple(_OPTIONS)
_DIGITS = 18
_SIZES = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_LOCAL = {"max-size": "20m", "max-file": "5", "compress": "true"}
"""What Docker's local driver does where nothing is said; the cache of drivers that send logs away is such a log."""
_BUFFER = 1 << 20
_EVENTS, _EVENT = 1 << 20, 16
"""Events that wait for a fluentd at most, and what each counts in bytes: 16 MiB are a bound that a monitor can have."""
_FIELD = re.compile(r"\{\{\s*\.(\w+)\s*\}\}")
_FIELDS = frozenset(("ID", "FullID", "Name", "ImageName", "ImageID", "ImageFullID", "DaemonName", "Command"))
"""What a tag can be of."""
_TRUE = frozenset(("1", "t", "true", "TRUE", "True", "T"))
_FALSE = frozenset(("0", "f", "false", "FALSE", "False", "F"))


class InvalidLog(InvalidArgument):
    """A driver that is not there, or an option that it does not have."""


@dataclass(frozen=True, slots=True)
class LogPlan:
    """Where a container's output goes.

    `path` is a file of Docker's json lines ("": none), rotated at `max_size` bytes (0: never), of which `max_file` are kept, older ones
    compressed if `compress`. `attributes` are added to each line. `driver` names what is sent to elsewhere ("": nothing is), with its
    `options` and `tag`; `lossy` says that lines are dropped, not held back, when `buffer` bytes wait for it.
    """

    path: str = ""
    max_size: int = 0
    max_file: int = 1
    compress: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)
    driver: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    tag: str = ""
    lossy: bool = False
    buffer: int = _BUFFER

    def document(self) -> dict[str, object] | None:
        """What the monitor is told; None: nothing is logged."""
        if not self.path and not self.driver:
            return None
        attributes = f',"attrs":{json.dumps(dict(self.attributes), separators=(",", ":"))}' if self.attributes else ""
        return {
            "path": self.path,
            "max_size": self.max_size,
            "max_file": self.max_file,
            "compress": self.compress,
            "attributes": attributes,
            "lossy": self.lossy,
            "buffer": self.buffer,
        }


@dataclass(frozen=True, slots=True)
class LogDefault:
    """The driver of containers that name none, and options that containers with that driver get where they name others."""

    driver: str = DEFAULT
    options: Mapping[str, str] = field(default_factory=dict)

    def completed(self, log: Document) -> dict[str, Any]:
        """A request's LogConfig with the defaults, checked.

        Raises:
            InvalidLog: it names the driver or the option.
        """
        driver, own = text(log, "Type") or self.driver, mapping(log, "Config")
        options = {**(self.options if driver == self.driver else {}), **own}
        check_log(driver, options)
        return {"Type": driver, "Config": options}


JSON_FILES = LogDefault()
"""What holds where nobody says anything."""


def check_log(driver: str, options: Mapping[str, str]) -> None:
    """Refuse what cannot be.

    Raises:
        InvalidLog: it names the driver or the option.
    """
    if driver not in _OPTIONS:
        raise InvalidLog(f"logger: no log driver named '{driver[:100]}' is registered")
    if driver == "none":
        return  # nothing reads them
    for option in sorted(options):
        if option not in _OPTIONS[driver] | _COMMON:
            raise InvalidLog(f"unknown log opt '{option[:100]}' for {driver} log driver")
    _check_mode(options)
    for option in ("compress", "cache-disabled", "cache-compress", "fluentd-async", "fluentd-sub-second-precision", "fluentd-request-ack"):
        _truth(options, option)
    for option in ("max-file", "cache-max-file", "fluentd-max-retries"):
        number_of(options, option, 1)
    for option in ("max-size", "cache-max-size", "max-buffer-size", "fluentd-buffer-limit"):
        size_of(options, option)
    if driver == "json-file" and "max-size" in options and size_of(options, "max-size") == 0:
        raise InvalidLog("max-size must be a positive number")
    for option in ("labels-regex", "env-regex"):
        _pattern(options, option)
    _check_tag(options.get("tag", ""))
    _check_receiver(driver, options)
    if driver in ("json-file", "local") and _truth(options, "compress") and _file(driver, options)[1] < 2:
        raise InvalidLog("compress cannot be true when max-file is less than 2 or max-size is not set")
    if driver == "json-file" and _truth(options, "compress") and not size_of(options, "max-size"):
        raise InvalidLog("compress cannot be true when max-file is less than 2 or max-size is not set")


def _check_receiver(driver: str, options: Mapping[str, str]) -> None:
    """What says where lines go and what they look like. Whether somebody listens there is seen at the start."""
    scheme, separator, _ = options.get(f"{driver}-address", "").partition("://")
    if driver == "syslog" and (scheme or separator) and not (separator and scheme in SYSLOG_SCHEMES):
        raise InvalidLog(f"syslog-address should be in form proto://address, got {options['syslog-address'][:200]}")
    if driver == "fluentd" and separator and scheme not in FLUENTD_SCHEMES:
        raise InvalidLog(f"invalid fluentd-address {options['fluentd-address'][:200]}: unsupported scheme")
    try:
        facility(options.get("syslog-facility") or "daemon")
    except Unreachable as error:
        raise InvalidLog(str(error)) from None
    if options.get("syslog-format", "") not in FORMATS:
        raise InvalidLog("Invalid syslog format")


def _check_tag(tag: str) -> None:
    for name in set(_FIELD.findall(tag)) - _FIELDS:
        raise InvalidLog(f"invalid value for tag: can't evaluate field {name[:100]}")
    if "{{" in _FIELD.sub("", tag):
        raise InvalidLog(f"invalid value for tag: {tag[:100]} (it takes fields like {{{{.Name}}}}, and nothing else of Go's templates)")


def _check_mode(options: Mapping[str, str]) -> None:
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidLog(f"logger: logging mode not supported: {mode[:100]}")
    if "max-buffer-size" in options and mode != "non-blocking":
        raise InvalidLog(f"logger: max-buffer-size option is only supported with 'mode=non-blocking': {options['max-buffer-size'][:100]}")


def log_plan(container: Container) -> LogPlan:
    """What the container's LogConfig comes to. It was checked when the container was made."""
    log = mapping(container.host_config, "LogConfig")
    driver = text(log, "Type") or DEFAULT
    options = {key: str(value) for key, value in mapping(log, "Config").items()}
    if driver == "none":
        return LogPlan()
    tag = _tag(container, options.get("tag", ""))
    attributes = _attributes(container, options)
    if driver == DEFAULT:
        size, files, compress = _file(driver, options)
        told = {"tag": tag} if options.get("tag") else {}
        return LogPlan(container.log_path, size, files, compress, {**attributes, **told})
    if driver == "local":
        size, files, compress = _file(driver, options)
        return LogPlan(container.local_log_path, size, files, compress, attributes)
    cache = {key.removeprefix("cache-"): value for key, value in options.items() if key.startswith("cache-")}
    size, files, compress = _file("local", cache)
    return LogPlan(
        "" if _truth(options, "cache-disabled") else container.local_log_path,
        size,
        files,
        compress,
        attributes,
        driver=driver,
        options=options,
        tag=tag,
        lossy=options.get("mode") == "non-blocking" or _truth(options, "fluentd-async"),
        buffer=_buffer(options),
    )


def _buffer(options: Mapping[str, str]) -> int:
    """Bytes that may wait for a receiver. What Docker sends to fluentd aside may be so many events, a million where nothing is said."""
    aside = (size_of(options, "fluentd-buffer-limit") or _EVENTS) * _EVENT if _truth(options, "fluentd-async") else 0
    return max(size_of(options, "max-buffer-size") or _BUFFER, aside)


def _file(driver: str, options: Mapping[str, str]) -> tuple[int, int, bool]:
    options = {**_LOCAL, **options} if driver == "local" else options
    files = number_of(options, "max-file", 1)
    return size_of(options, "max-size"), files, _truth(options, "compress") and files > 1


def size_of(options: Mapping[str, str], option: str) -> int:
    """A size in bytes; 0 where nothing is said. Raises InvalidLog."""
    if option not in options:
        return 0
    said = options[option]
    digits = said.lower().removesuffix("b")
    unit = digits[-1:] if digits[-1:].isalpha() else ""
    figure = digits.removesuffix(unit) if unit else digits
    if not figure.replace(".", "", 1).isdecimal() or unit not in _SIZES or len(figure) > _DIGITS:
        raise InvalidLog(f"invalid size: '{said[:100]}'")
    return int(float(figure) * _SIZES[unit])


def number_of(options: Mapping[str, str], option: str, default: int) -> int:
    """A number above zero. Raises InvalidLog."""
    if option not in options:
        return default
    said = options[option]
    if not (number := natural(said, 10**_DIGITS)):
        raise InvalidLog(f"invalid value for {option}: {said[:100]}")
    return number


def _truth(options: Mapping[str, str], option: str) -> bool:
    said = options.get(option, "")
    if said and said not in _TRUE | _FALSE:
        raise InvalidLog(f"invalid value for {option}: {said[:100]}")
    return said in _TRUE


def _pattern(options: Mapping[str, str], option: str) -> re.Pattern[str] | None:
    try:
        return re.compile(options[option]) if options.get(option) else None
    except re.error as error:
        raise InvalidLog(f"invalid value for {option}: {error}") from None


def _attributes(container: Container, options: Mapping[str, str]) -> dict[str, str]:
    """Labels and variables that were asked for, by name or by pattern."""
    entries = container.config.get("Env")
    variables = dict(entry.partition("=")[::2] for entry in entries) if isinstance(entries, list) else {}
    found = {}
    for values, option in ((container.labels, "labels"), (variables, "env")):
        named = set(filter(None, options.get(option, "").split(",")))
        pattern = _pattern(options, f"{option}-regex")
        found.update({key: value for key, value in values.items() if key in named or (pattern and pattern.search(key))})
    return found


def _tag(container: Container, template: str) -> str:
    """The tag, of fields like {{.Name}}."""
    image = container.image.partition(":")[2]
    fields = {
        "ID": container.id[:12],
        "FullID": container.id,
        "Name": container.name,
        "ImageName": container.image_name,
        "ImageID": image[:12],
        "ImageFullID": image,
        "DaemonName": "docker",
        "Command": " ".join((container.path, *container.args)),
    }
    return _FIELD.sub(lambda match: fields.get(match[1], match[0]), template or "{{.ID}}")
