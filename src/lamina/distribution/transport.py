"""HTTP to registries: connection pools, TLS, timeouts, redirects, retries, and failures as one sentence each."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from lamina.distribution.piped import MovingPool
from lamina.distribution.protocol import error_details
from lamina.distribution.proxies import Proxies, manager
from lamina.errors import Forbidden, LaminaError, NotFound, Unauthorized, Unavailable

Body = bytes | Callable[[], Iterable[bytes]] | None
"""What a request carries; a callable gives the stream anew at each attempt, its length is in the headers."""

Response = urllib3.BaseHTTPResponse
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({429, 500, 502, 503, 504})
_MAX_REDIRECTS = 10
_LONGEST_WAIT = 30.0


class RegistryTrouble(Unavailable):
    """A registry does not do its part. Docker's status is 500: clients (testcontainers) ask for minutes again after a 503."""

    http_status = 500


class RegistryUnreachable(RegistryTrouble):
    """No connection to the registry, or it was lost."""


class TlsFailed(RegistryTrouble):
    """The registry's certificate or its TLS is not acceptable."""


class RateLimited(Unavailable):
    """The registry asks to be left alone for a while."""

    http_status = 429


class RegistryFailed(RegistryTrouble):
    """The registry answered something other than what the protocol allows."""


class RegistryUnauthorized(Unauthorized):
    """The registry wants other credentials."""


class RegistryDenied(Forbidden):
    """The registry does not allow it with these credentials."""


class RegistryUnknown(NotFound):
    """The registry has no such thing."""


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """dockerd's settings of the same names; times in seconds.

    `insecure` holds host[:port] or CIDR texts; loopback is always insecure. `certificates` are directories
    with HOST[:PORT]/ca.crt, client.cert and client.key, as dockerd's /etc/docker/certs.d.
    """

    insecure: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    connect_timeout: float = 15.0
    read_timeout: float = 60.0
    retries: int = 5
    certificates: tuple[str, ...] = ()
    proxies: Proxies = field(default_factory=Proxies)


@dataclass(slots=True)
class Transport:
    """Sends requests. Thread-safe; a connection is used again by whoever asks next."""

    options: RegistryOptions = field(default_factory=RegistryOptions)
    user_agent: str = "lamina"
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _pools: dict[tuple[str, bool, str], urllib3.PoolManager] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        *,
        verify: bool = True,
        at_once: bool = False,
    ) -> Response:
        """The answer's head, redirects followed; its body is still on the connection, and the caller closes it.

        Tried again with growing pauses (the options' retries) while the answer is one that may pass, or there is none, which `at_once` tells
        at once; a stream as body is tried once. Credentials do not follow a redirect to another host.

        Raises:
            RegistryUnreachable, TlsFailed: there is no answer.
            RegistryFailed: the URL, or what it redirects to, is none that can be asked.
        """
        resolved(url, "")
        attempts = 1 if callable(body) else self.options.retries
        for attempt in range(attempts):
            last = attempt + 1 == attempts
            try:
                response = self._follow(method, url, {"User-Agent": self.user_agent, **(headers or {})}, body, verify)
            except RegistryUnreachable:
                if last or at_once:
                    raise
                self.pause(attempt)
                continue
            if response.status not in _PASSING or last:
                return response
            wait = retry_after(response.headers.get("Retry-After", ""))
            if wait > _LONGEST_WAIT:
                return response
            discard(response)
            self.pause(attempt, wait)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def pause(self, attempt: int, at_least: float = 0.0) -> None:
        """Wait before attempt number `attempt` + 1: 0.2 s, doubled each time, at most ten."""
        self.sleep(max(at_least, min(0.2 * 2**attempt, 10.0)))

    def close(self) -> None:
        """Close idle connections; later requests open new ones."""
        with self._lock:
            pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            pool.clear()

    def _follow(self, method: str, url: str, headers: dict[str, str], body: Body, verify: bool) -> Response:
        for _ in range(_MAX_REDIRECTS):
            response = self._once(method, url, headers, body, verify)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                return response
            discard(response)
            target = resolved(url, location)
            if _origin(target) != _origin(url):
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
                verify = True if urlsplit(target).netloc != urlsplit(url).netloc else verify
            if response.status == 303 and method != "HEAD":
                method, body = "GET", None
            url = target
        raise RegistryFailed(f"registry {urlsplit(url).netloc} redirects without end")

    def _once(self, method: str, url: str, headers: dict[str, str], body: Body, verify: bool) -> Response:
        host = urlsplit(url).netloc
        timeout = urllib3.Timeout(connect=self.options.connect_timeout, read=self.options.read_timeout)
        data = body() if callable(body) else body
        try:
            return self._pool(url, verify).urlopen(
                method,
                url,
                redirect=False,
                body=data,
                headers=headers,
                retries=False,
                timeout=timeout,
                preload_content=False,
                decode_content=False,
            )
        except (HTTPError, OSError) as error:
            raise translated(error, host) from error

    def _pool(self, url: str, verify: bool) -> urllib3.PoolManager:
        host, proxy = urlsplit(url).netloc, self.options.proxies.of(url)
        folders = [folder for place in self.options.certificates if (folder := Path(place, host)).is_dir()]
        key = (host if folders else "", verify, proxy)
        with self._lock:
            pool = self._pools.get(key)
            if pool is None:
                # One context for all connections: loading the system's certificates takes tens of milliseconds.
                pool = manager(proxy, num_pools=32, maxsize=8, ssl_context=_tls_context(folders, verify), blocksize=1 << 18)
                pool.pool_classes_by_scheme = {**pool.pool_classes_by_scheme, "http": MovingPool}
                self._pools[key] = pool
        return pool


def translated(error: Exception, host: str) -> LaminaError:
    """What went wrong with a connection to `host`, said once, in Lamina's words."""
    if isinstance(error, LaminaError):
        return error
    if isinstance(error, ProxyError):
        return RegistryUnreachable(f"registry {host} is unreachable through the proxy: {_reason(error)}")
    if isinstance(error, NameResolutionError):
        return RegistryUnreachable(f"registry {host} is unreachable: no such host")
    if isinstance(error, SSLError | ssl.SSLError):
        hint = "name it with --insecure-registry, or install its certificate, if it is to be trusted"
        return TlsFailed(f"TLS with registry {host} failed: {_reason(error)}", hint=hint)
    if isinstance(error, NewConnectionError):
        return RegistryUnreachable(f"registry {host} is unreachable: {_reason(error)}")
    if isinstance(error, ConnectTimeoutError | ReadTimeoutError | TimeoutError):
        return RegistryUnreachable(f"registry {host} did not answer in time")
    return RegistryUnreachable(f"connection to registry {host} was lost: {_reason(error)}")


def _reason(error: BaseException) -> str:
    """The system's own words at the bottom of a chain of exceptions."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, ssl.SSLCertVerificationError):
            return f"certificate verify failed: {inner.verify_message}"
        if isinstance(inner, ssl.SSLError) and inner.reason:
            return inner.reason.lower().replace("_", " ")
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror.lower()
        wrapped = next((arg for arg in inner.args if isinstance(arg, BaseException)), None)
        inner = wrapped or inner.__cause__ or inner.__context__
    while wrapped := next((arg for arg in error.args if isinstance(arg, BaseException)), None):
        error = wrapped
    words = " ".join(str(error).split())[:200] or type(error).__name__
    return words[0].lower() + words[1:]


def failure(response: Response, host: str, what: str) -> LaminaError:
    """The error that an answer to a request for `what` means; the answer is read and closed."""
    code, message = error_details(drained(response))
    detail = f": {message or code.lower()}" if message or code else ""
    status = response.status
    if status == 401:
        return RegistryUnauthorized(f"registry {host} refuses access to {what}{detail}", hint=f"lamina login {host}")
    if status == 403:
        return RegistryDenied(f"registry {host} denies access to {what}{detail}")
    if status == 404:
        return RegistryUnknown(f"registry {host} has no {what}{detail}")
    if status == 429:
        return RateLimited(f"registry {host} limits the rate of requests{detail}", hint="try again later, or log in")
    return RegistryFailed(f"registry {host} answered {status} {response.reason or ''}".rstrip() + f" for {what}{detail}")


def drained(response: Response, limit: int = 1 << 20) -> bytes:
    """The rest of an answer, as far as `limit` bytes; its connection can be used again if that was all."""
    try:
        data = response.read(limit)
        rest = response.read(1)
    except (HTTPError, OSError):
        response.close()
        return b""
    if rest:
        response.close()
    response.release_conn()
    return data


def whole(response: Response, host: str, limit: int = 1 << 20) -> bytes:
    """All of an answer; its connection can be used again.

    Raises:
        RegistryUnreachable: the connection was cut before its end.
        RegistryFailed: it is longer than `limit` bytes.
    """
    data = bytearray()
    try:
        # To its end: only there it is told that the connection was cut.
        while len(data) <= limit and (piece := response.read(limit + 1 - len(data))):
            data += piece
    except (HTTPError, OSError) as error:
        response.close()
        raise translated(error, host) from error
    if len(data) > limit:
        response.close()
        raise RegistryFailed(f"registry {host} answered with more than {limit} bytes")
    response.release_conn()
    return bytes(data)


def discard(response: Response) -> None:
    """Have done with an answer whose body nobody reads."""
    drained(response, 65536)


def resolved(base: str, location: str) -> str:
    """The URL that `location` means to who was told it at the URL `base`.

    Raises:
        RegistryFailed: it is none that can be asked.
    """
    try:
        url = urljoin(base, location)
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise RegistryFailed(f"unusable address of a registry: {(location or base)[:200]!r}")
    return url


def retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for; 0 for a date or anything else."""
    return float(value) if value.strip().isdecimal() and value.isascii() and len(value) < 10 else 0.0


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _tls_context(folders: Iterable[Path], verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for folder in folders:
        for authority in sorted(folder.glob("*.crt")):
            context.load_verify_locations(authority)
        for certificate in sorted(folder.glob("*.cert")):
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return context
