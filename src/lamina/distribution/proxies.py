"""Which proxy leads to an address: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, read as Go's programs read them, and so dockerd."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import urllib3

from lamina.errors import InvalidArgument

_PORTS = {"http": 80, "https": 443}


class InvalidProxy(InvalidArgument):
    """A proxy's address cannot be used."""


@dataclass(frozen=True, slots=True)
class Proxies:
    """`http` and `https` are the addresses of the proxies for URLs of these schemes, "" for none.

    `exempt` are the hosts that are asked directly, between commas: names (`example.com`: it and all below it, `.example.com`: only those),
    addresses, networks (`10.0.0.0/8`), each but these with a port perhaps; `*` for all. This machine itself (`localhost` and loopback
    addresses) is always asked directly.
    """

    http: str = ""
    https: str = ""
    exempt: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Proxies:
        """What the variables say; of both spellings the one in capitals counts."""
        return cls(*(environment.get(name) or environment.get(name.lower(), "") for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")))

    def or_else(self, other: Proxies) -> Proxies:
        """These, and of `other` what these leave open."""
        return Proxies(self.http or other.http, self.https or other.https, self.exempt or other.exempt)

    def check(self) -> None:
        """Raises InvalidProxy: a proxy's address is not one."""
        for text in filter(None, (self.http, self.https)):
            _parsed(text)

    def of(self, url: str) -> str:
        """The address of the proxy for `url`; "" where it is asked directly. Raises InvalidProxy."""
        parts = urlsplit(url)
        text = {"http": self.http, "https": self.https}.get(parts.scheme, "")
        if not text or self._is_exempt(parts):
            return ""
        return _parsed(text).geturl()

    def environment(self) -> dict[str, str]:
        """The same as variables, for a program."""
        found = {"http_proxy": self.http, "https_proxy": self.https, "no_proxy": self.exempt}
        return {name: value for name, value in found.items() if value}

    def shown(self) -> dict[str, str]:
        """The same as the API's SystemInfo shows it, without users and passwords."""
        return {"HttpProxy": masked(self.http), "HttpsProxy": masked(self.https), "NoProxy": self.exempt}

    def _is_exempt(self, parts: SplitResult) -> bool:
        host, port = (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(parts.scheme, 0)
        address = _address(host)
        if host == "localhost" or (address is not None and address.is_loopback):
            return True
        return any(_covers(entry.strip().lower(), host, address, port) for entry in self.exempt.split(","))


def manager(proxy: str, **options: Any) -> urllib3.PoolManager:
    """Connections through a proxy, or direct ones where that is ""; with the options of urllib3.PoolManager."""
    if not proxy:
        return urllib3.PoolManager(**options)
    user, at, _ = urlsplit(proxy).netloc.rpartition("@")
    headers = urllib3.make_headers(proxy_basic_auth=unquote(user)) if at else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers, **options)


def _parsed(text: str) -> SplitResult:
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        usable = parts.scheme in _PORTS and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise InvalidProxy(f"invalid address of a proxy: {masked(text)[:200]}", hint="write it as http://HOST:PORT or https://HOST:PORT")
    return parts


def masked(text: str) -> str:
    """An address as messages may show it: without user and password."""
    scheme, colon, rest = text.rpartition("://")
    user, at, place = rest.rpartition("@")
    return f"{scheme}{colon}xxxxx:xxxxx@{place}" if user and at else text


def _covers(entry: str, host: str, address: IPv4Address | IPv6Address | None, port: int) -> bool:
    """Whether one entry of NO_PROXY names a host at a port."""
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return address is not None and address in ip_network(entry, strict=False)
        except ValueError:
            return False
    name, colon, number = entry.rpartition(":")
    if colon and number.isdecimal() and (":" not in name or name.startswith("[")):
        if int(number) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*")
    if (own := _address(entry)) is not None:
        return own == address
    if not entry.strip(".") or address is not None:
        return False
    return host.endswith(entry) if entry.startswith(".") else host == entry or host.endswith(f".{entry}")


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
