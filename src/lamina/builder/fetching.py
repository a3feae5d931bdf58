"""Files by address, for ADD and for contexts: fetched only where they changed, by what the server says of them."""

from __future__ import annotations

import email.utils
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from lamina.distribution.proxies import Proxies, manager
from lamina.errors import InvalidArgument, NotFound, Unavailable
from lamina.spec.digest import Digest, InvalidDigest

_REDIRECTS = 11
_CHUNK = 1 << 20
_DISPOSITION = re.compile(r"""filename\*?=(?:UTF-8'')?"?([^";]+)""", re.IGNORECASE)


class AddressNotFound(NotFound):
    """The server has nothing at that address."""


class AddressUnreachable(Unavailable):
    """The server of an address cannot be reached, or does not give what is asked for."""


class ChecksumMismatch(InvalidArgument):
    """What was fetched is not what --checksum promises."""


class Notes(Protocol):
    """Where what servers said is remembered (cache.Cache)."""

    def remote(self, address: str) -> dict[str, Any] | None: ...

    def put_remote(self, address: str, facts: dict[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Fetched:
    """What is at an address. `path` is where its bytes lie, "" where they are known and were not fetched.

    `name` is the last part of the address, or what the server calls it; `time` its Last-Modified in nanoseconds, 0 if it has none.
    """

    address: str
    digest: Digest
    name: str
    time: int
    path: str = ""


class Fetcher:
    """Fetches by HTTP. Thread-safe. `check` is called between chunks; what it raises ends it."""

    def __init__(self, notes: Notes, check: Callable[[], None], proxies: Proxies) -> None:
        self._notes, self._check, self._proxies = notes, check, proxies
        self._pools: dict[str, urllib3.PoolManager] = {}

    def look(self, address: str, scratch: str) -> Fetched:
        """What is at `address` now: fetched into `scratch`, unless the server says that it is what it was last time.

        Raises:
            AddressNotFound, AddressUnreachable: nothing is left.
        """
        known = self._notes.remote(address) or {}
        asked = {"If-None-Match": str(known["etag"])} if known.get("etag") else {}
        response = self._get(address, asked)
        try:
            if not (response.status == 304 if asked else _same(known, response.headers)):
                return self._taken(address, response, scratch)
            if not asked:
                response.close()  # nobody reads its bytes
            return Fetched(address, Digest.parse(known["digest"]), str(known["name"]), int(known["time"]))
        finally:
            response.release_conn()

    def fetch(self, address: str, scratch: str) -> Fetched:
        """What is at `address`, its bytes in `scratch` in any case.  See look."""
        response = self._get(address, {})
        try:
            return self._taken(address, response, scratch)
        finally:
            response.release_conn()

    def close(self) -> None:
        """Close idle connections."""
        for pool in self._pools.values():
            pool.clear()

    def _get(self, address: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        self._check()
        try:
            sent = {"User-Agent": "lamina", "Accept-Encoding": "identity", **headers}
            response = self._asked(address, sent)
        except (HTTPError, ValueError) as error:
            raise AddressUnreachable(f"cannot fetch {shown(address)}: {_reason(error)}") from None
        if response.status in (200, 304):
            return response
        response.release_conn()
        kind = AddressNotFound if response.status in (404, 410) else AddressUnreachable
        raise kind(f"cannot fetch {shown(address)}: the server answered {response.status} {response.reason or ''}".rstrip())

    def _asked(self, address: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """The first answer that is no redirect; each address by its own proxy. Raises HTTPError: they lead on without end."""
        for _ in range(_REDIRECTS):
            response = self._pool(address).request("GET", address, headers=headers, preload_content=False, redirect=False)
            location = response.get_redirect_location()
            if not location:
                return response
            response.release_conn()
            address = urljoin(address, location)
        raise HTTPError("it redirects without end")

    def _pool(self, address: str) -> urllib3.PoolManager:
        proxy = self._proxies.of(address)
        if proxy not in self._pools:
            retries = urllib3.Retry(2, redirect=False, status=0, allowed_methods=None)
            self._pools[proxy] = manager(proxy, timeout=urllib3.Timeout(connect=15.0, read=60.0), retries=retries)
        return self._pools[proxy]

    def _taken(self, address: str, response: urllib3.BaseHTTPResponse, scratch: str) -> Fetched:
        """Write the body to a file of its own and note what the server said of it."""
        path = os.path.join(scratch, f"fetched-{os.urandom(8).hex()}")
        try:
            with open(path, "xb") as file:
                digest = self._written(address, response, file)
        except BaseException:
            os.unlink(path)
            raise
        headers = response.headers
        name, time = _name(address, headers.get("Content-Disposition", "")), _seconds(headers.get("Last-Modified", "")) * 10**9
        # RFC 9110, 8.8.2.2: within the second of the answer the file may have changed once more.
        settled = _seconds(headers.get("Last-Modified", "")) < _seconds(headers.get("Date", ""))
        facts = {
            "etag": headers.get("ETag", ""),
            "modified": headers.get("Last-Modified", "") if settled else "",
            "size": headers.get("Content-Length", ""),
        }
        self._notes.put_remote(address, {**facts, "digest": str(digest), "name": name, "time": time})
        return Fetched(address, digest, name, time, path)

    def _written(self, address: str, response: urllib3.BaseHTTPResponse, file: BinaryIO) -> Digest:
        whole = hashlib.sha256()
        try:
            for chunk in response.stream(_CHUNK):
                self._check()
                whole.update(chunk)
                file.write(chunk)
        except HTTPError as error:
            raise AddressUnreachable(f"cannot fetch {shown(address)}: {_reason(error)}") from None
        return Digest.parse(f"sha256:{whole.hexdigest()}")


def parse_checksum(text: str) -> Digest | None:
    """The digest of --checksum, None where there is none.

    Raises:
        InvalidArgument: it is not a digest.
    """
    if not text:
        return None
    try:
        return Digest.parse(text)
    except InvalidDigest:
        raise InvalidArgument(f"invalid --checksum: {text[:100]!r}", hint="write it as sha256:<64 hex digits>") from None


def verify(fetched: Fetched, checksum: Digest | None) -> Fetched:
    """`fetched`, if it is what `checksum` says.

    Raises:
        ChecksumMismatch: it is not.
    """
    if checksum is not None and fetched.digest != checksum:
        raise ChecksumMismatch(f"digest mismatch of {shown(fetched.address)}: it is {fetched.digest}, not {checksum}")
    return fetched


def shown(address: str) -> str:
    """An address for messages: without name and password, and not too long."""
    return re.sub(r"//[^/@]*@", "//", address)[:200]


def named(address: str) -> str:
    """What a file is called by its address alone."""
    return _name(address, "")


def _name(address: str, disposition: str) -> str:
    """What the file is called: the server's word, else the last part of the path; "" where neither says."""
    found = _DISPOSITION.search(disposition)
    name = unquote(found[1]) if found else unquote(urlsplit(address).path)
    name = name.rstrip().rpartition("/")[2]
    return "" if name in (".", "..") or "\0" in name else name


def _same(known: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
    """Whether an answer is to a file of the time and size that are known.

    A server that were asked by If-Modified-Since would say so of an older file that took its place, too.
    """
    told = (headers.get("Last-Modified", ""), headers.get("Content-Length", ""))
    return bool(known.get("modified")) and told == (known["modified"], known.get("size"))


def _seconds(text: str) -> int:
    """Seconds since 1970 of a Last-Modified header, 0 if it is not a date."""
    try:
        return max(int(email.utils.parsedate_to_datetime(text).timestamp()), 0)
    except (TypeError, ValueError, OverflowError):
        return 0


def _reason(error: Exception) -> str:
    """One sentence of what urllib3 raised."""
    reason = getattr(error, "reason", None) or error
    text = re.sub(r"\[Errno -?\d+\] ", "", str(reason).rpartition(": ")[2]) or type(reason).__name__
    return text.strip("()'\"<>").splitlines()[0][:200] if text.strip() else type(reason).__name__
