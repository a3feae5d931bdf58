"""RUN --mount: what the text of one says, after its variables were replaced (reference "RUN --mount")."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass

from lamina.dockerfile.errors import DockerfileError

KINDS = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARING = ("shared", "private", "locked")
_KEYS = (
    "type", "from", "source", "src", "target", "dst", "destination", "readonly", "ro", "readwrite", "rw",
    "required", "size", "id", "sharing", "mode", "uid", "gid", "env",
)  # fmt: skip
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)(i?b)?\Z", re.IGNORECASE)
_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of a RUN. `origin` is a stage or an image ("" the context), `size` in bytes, `mode`, `uid`, `gid` None where not given."""

    kind: str = "bind"
    origin: str = ""
    source: str = ""
    target: str = ""
    readonly: bool = True
    size: int = 0
    id: str = ""
    sharing: str = ""
    required: bool = False
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    env: str | None = None


def parse_mount(text: str, word: Callable[[str], str] = str) -> Mount:
    """Read `type=cache,target=/x,…`; `word` replaces the variables of a value.

    Raises:
        DockerfileError: a key or value is unknown, or does not go with the type.
    """
    fields: dict[str, str] = {}
    for field in _fields(text):
        key, equals, value = field.partition("=")
        key = key.lower()
        if key not in _KEYS:
            raise DockerfileError(f"unexpected key {key[:50]!r} in {field[:100]!r}", hint=f"known are {', '.join(_KEYS)}")
        if not equals and key not in ("readonly", "ro", "readwrite", "rw", "required"):
            raise DockerfileError(f"invalid field {field[:100]!r} must be a key=value pair")
        if key == "from" and "$" in value[:-1]:
            raise DockerfileError("'from' doesn't support variable expansion, define alias stage instead")
        fields[key] = word(value) if equals else "true"
    mount = _mount(fields)
    _check(mount, fields)
    return mount


def origin_of(text: str) -> str:
    """What `from=` of a mount names, without reading the rest; "" where there is none."""
    for field in _fields(text):
        key, _, value = field.partition("=")
        if key.lower() == "from":
            return value
    return ""


def _fields(text: str) -> list[str]:
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise DockerfileError(f"failed to parse csv mounts: {error}: {text[:100]!r}") from None


def _mount(fields: dict[str, str]) -> Mount:
    kind = _one_of(fields.get("type", "bind").lower(), KINDS, "mount type")
    sharing = fields.get("sharing", "").lower()
    return Mount(
        kind=kind,
        origin=fields.get("from", ""),
        source=_either(fields, "source", "src"),
        target=_either(fields, "target", "dst", "destination"),
        readonly=_readonly(fields, kind),
        size=_size(fields["size"]) if "size" in fields else 0,
        id=fields.get("id", ""),
        sharing=_one_of(sharing, SHARING, "sharing value") if "sharing" in fields else "",
        required=_boolean("required", fields["required"]) if "required" in fields else False,
        mode=_number(fields, "mode", 8),
        uid=_number(fields, "uid", 10),
        gid=_number(fields, "gid", 10),
        env=fields.get("env"),
    )


def _either(fields: dict[str, str], *names: str) -> str:
    """The value of the spelling that came last."""
    given = [value for key, value in fields.items() if key in names]
    return given[-1] if given else ""


def _readonly(fields: dict[str, str], kind: str) -> bool:
    said = [(key, _boolean(key, value)) for key, value in fields.items() if key in ("readonly", "ro", "readwrite", "rw")]
    if not said:
        return kind not in ("cache", "tmpfs")
    key, value = said[-1]
    return value if key in ("readonly", "ro") else not value


def _check(mount: Mount, fields: dict[str, str]) -> None:
    kind = mount.kind
    allowed = {"required": ("secret", "ssh"), "size": ("tmpfs",), "sharing": ("cache",)}
    allowed |= dict.fromkeys(("mode", "uid", "gid"), ("secret", "ssh", "cache"))
    for key, kinds in allowed.items():
        if key in fields and kind not in kinds:
            raise DockerfileError(f"unexpected key {key!r} for mount type {kind!r}")
    if kind == "secret" and mount.origin:
        raise DockerfileError("secret mount should not have a from")
    if kind == "secret" and not (mount.source or mount.target or mount.id):
        raise DockerfileError("invalid secret mount: one of source, target required")
    if kind == "secret" and mount.source and mount.id:
        raise DockerfileError("both source and id can't be set")


def _one_of(value: str, known: tuple[str, ...], what: str) -> str:
    if value not in known:
        raise DockerfileError(f"unsupported {what} {value[:50]!r}", hint=f"known are {', '.join(known)}")
    return value


def _boolean(key: str, value: str) -> bool:
    if value not in (*_TRUE, *_FALSE):
        raise DockerfileError(f"invalid value for {key}: {value[:50]!r}")
    return value in _TRUE


def _number(fields: dict[str, str], key: str, base: int) -> int | None:
    text = fields.get(key)
    if text is None:
        return None
    digits = "01234567" if base == 8 else "0123456789"
    if not text or text.strip(digits) or len(text) > 12 or int(text, base) >= 1 << 32:
        raise DockerfileError(f"invalid value {text[:50]!r} for {key}")
    return int(text, base)


def _size(text: str) -> int:
    match = _SIZE.match(text)
    if match is None or len(text) > len(str(1 << 63)):
        raise DockerfileError(f"invalid value for size: {text[:50]!r}", hint="write it as 64m")
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " "))
