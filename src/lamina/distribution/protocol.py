"""The distribution specification as pure functions: paths, headers, challenges, errors. No I/O.

Section names in comments are those of the OCI distribution-spec 1.1 and of RFC 9110 (HTTP semantics).
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from lamina.errors import InvalidArgument
from lamina.spec import mediatype
from lamina.spec.digest import Digest

DOCKER_DOMAIN = "docker.io"
DOCKER_HOST = "registry-1.docker.io"
DOCKER_INDEX_HOST = "index.docker.io"
MANIFEST_TYPES = (
    mediatype.OCI_INDEX,
    mediatype.OCI_MANIFEST,
    mediatype.DOCKER_INDEX,
    mediatype.DOCKER_MANIFEST,
)
ACCEPT_MANIFESTS = ", ".join(MANIFEST_TYPES)
MANIFEST_LIMIT = 4 << 20
"""Bytes of the largest manifest taken or accepted: the specification's own bound ("Pushing Manifests")."""
PAGES_LIMIT = 10_000
"""So many pages of a list are asked for; a registry may always name one more."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"\s*,?\s*({_TOKEN})(?:\s+|\s*$|\s*(?=,))")
_PARAMETER = re.compile(rf'\s*,?\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*')
_LINK = re.compile(r"\s*,?\s*<([^<>]*)>((?:\s*;\s*[^;,<>\"]+(?:\"[^\"]*\")?)*)\s*")
_BYTES = re.compile(r"bytes=([0-9]*)-([0-9]*)\Z")
_SPAN = re.compile(r"(?:bytes[= ])?([0-9]{1,19})-([0-9]{1,19})(?:/(?:[0-9]{1,19}|\*))?\Z")


class RangeNotSatisfiable(InvalidArgument):
    """A range begins behind the end."""

    http_status = 416


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way a registry asks for credentials (RFC 9110 11.6.1). `scheme` is in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Every challenge in the values of `WWW-Authenticate`, in order; what cannot be read is left out."""
    return tuple(challenge for value in headers for challenge in _challenges(value))


def _challenges(value: str) -> list[Challenge]:
    found: list[Challenge] = []
    position = 0
    while match := _SCHEME.match(value, position):
        position = match.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(value, position):
            name, quoted, plain = parameter.groups()
            parameters[name.lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            position = parameter.end()
        found.append(Challenge(match.group(1).lower(), parameters))
    return found


def next_link(headers: Iterable[str], base: str) -> str:
    """The target of the first link with rel=next ("Listing Tags"), made absolute on `base` if it is a URL; empty where there is none."""
    for value in headers:
        position = 0
        while match := _LINK.match(value, position):
            position = match.end()
            if re.search(r';\s*rel\s*=\s*"?next"?\s*(;|$)', match.group(2), re.IGNORECASE):
                try:
                    return urljoin(base, str(match.group(1)))
                except ValueError:
                    return str(match.group(1))
    return ""


def byte_range(value: str, size: int) -> tuple[int, int] | None:
    """Start and end (exclusive) that a `Range` header asks of `size` bytes.

    None where the header is to be ignored (RFC 9110 14.2: malformed, or several ranges).

    Raises:
        RangeNotSatisfiable: it begins behind the end.
    """
    match = _BYTES.match(value.strip())
    if match is None or not (match[1] or match[2]) or len(value) > 64:
        return None
    if not match[1]:
        start, end = max(size - int(match[2]), 0), size
    else:
        start, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    if start >= size or start >= end:
        raise RangeNotSatisfiable(f"range not satisfiable: {value.strip()!r} of {size} bytes")
    return start, end


def span(value: str) -> tuple[int, int] | None:
    """First and last byte (inclusive) of `0-99`, as uploads say it, or `bytes 0-99/100`; None where it is neither."""
    match = _SPAN.match(value.strip())
    if match is None or int(match[2]) < int(match[1]):
        return None
    return int(match[1]), int(match[2])


def received(value: str) -> int:
    """How many bytes of an upload the registry says it has (`Range: 0-99` is 100; the ambiguous `0-0` is none)."""
    bounds = span(value)
    return 0 if bounds is None or bounds[1] == 0 else bounds[1] + 1


def error_details(body: bytes) -> tuple[str, str]:
    """Code and message of an error body ("Error Codes"); both empty where it is not one."""
    try:
        first = json.loads(body[:65536])["errors"][0]
        code, message = first.get("code", ""), first.get("message", "")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "", ""
    return str(code)[:100], " ".join(str(message).split())[:500]


def manifest_path(repository: str, reference: str | Digest) -> str:
    """Where a manifest lives, by tag or digest."""
    return f"/v2/{repository}/manifests/{reference}"


def blob_path(repository: str, digest: Digest) -> str:
    """Where a blob lives."""
    return f"/v2/{repository}/blobs/{digest}"


def upload_path(repository: str, *, mount: Digest | None = None, source: str = "") -> str:
    """Where an upload begins; with `mount`, asking for the blob that repository `source` has."""
    query = f"?mount={quote(str(mount), safe='')}&from={quote(source, safe='')}" if mount else ""
    return f"/v2/{repository}/blobs/uploads/{query}"


def with_digest(location: str, digest: Digest) -> str:
    """An upload's location with the digest that closes it; a query that is there stays ("Pushing a blob monolithically")."""
    return f"{location}{'&' if urlsplit(location).query else '?'}digest={quote(str(digest), safe='')}"


def scope(repository: str, *, push: bool = False) -> str:
    """The token scope for work on one repository."""
    return f"repository:{repository}:{'pull,push' if push else 'pull'}"


def registry_host(domain: str) -> str:
    """The host[:port] that serves the domain of a reference."""
    return DOCKER_HOST if domain in (DOCKER_DOMAIN, DOCKER_INDEX_HOST) else domain


def split_host(host: str) -> tuple[str, int | None]:
    """Name and port of `host[:port]`, without an IPv6 address's brackets."""
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdigit() or name.endswith(":"):
        name, port = host, ""
    return name.strip("[]"), int(port) if port else None


def is_insecure(host: str, allowed: Iterable[str]) -> bool:
    """Whether plain HTTP, or TLS without a known certificate, will do: loopback, or named in `allowed` (host[:port] or CIDR)."""
    name, _ = split_host(host)
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return host in allowed or name in allowed
    return address.is_loopback or any(host == entry or name == entry or _within(address, entry) for entry in allowed)


def _within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, entry: str) -> bool:
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


def server_host(address: str) -> str:
    """The host[:port] of a registry as configurations name it: `https://index.docker.io/v1/`, `ghcr.io`; Docker's where empty."""
    text = address.strip()
    if "://" in text:
        text = text.split("://", 1)[1]
    return text.split("/", 1)[0] or DOCKER_INDEX_HOST
