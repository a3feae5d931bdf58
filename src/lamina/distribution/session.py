"""Requests to one registry host with one set of credentials: finds how it is spoken to, and answers its challenges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from urllib.parse import urlsplit

from lamina.distribution.auth import Auth, Grant, TokenRefused, basic, read_grant, token_request
from lamina.distribution.protocol import Challenge, challenges, is_insecure
from lamina.distribution.transport import (
    Body,
    RegistryFailed,
    RegistryUnreachable,
    Response,
    TlsFailed,
    Transport,
    discard,
    failure,
    resolved,
    whole,
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How a host is reached: `base` is scheme and authority, `challenges` what its /v2/ asked for."""

    base: str
    verify: bool
    challenges: tuple[Challenge, ...]


@dataclass(slots=True)
class Endpoints:
    """What is known of hosts, asked once each. Thread-safe."""

    transport: Transport
    _known: dict[str, Endpoint] = field(default_factory=dict)

    def find(self, host: str) -> Endpoint:
        """How to reach `host` (host[:port], or with a scheme): TLS, and for insecure hosts TLS unverified, then plain HTTP.

        Raises:
            RegistryUnreachable, TlsFailed: it cannot be reached in any way allowed.
            RegistryFailed: what answers there is no registry.
        """
        known = self._known.get(host)
        if known is None:
            known = self._known[host] = self._ask(host)
        return known

    def forget(self, host: str) -> None:
        """Ask again next time: it has changed, or gone."""
        self._known.pop(host, None)

    def _ask(self, host: str) -> Endpoint:
        failed: RegistryUnreachable | TlsFailed | None = None
        for base, verify in self._candidates(host):
            try:
                # Nobody listening is told at once; the patience of retries is for work that has begun.
                response = self.transport.send("GET", f"{base}/v2/", verify=verify, at_once=True)
            except (RegistryUnreachable, TlsFailed) as error:
                failed = error
                continue
            if response.status not in (200, 401):
                raise failure(response, urlsplit(base).netloc, "/v2/")
            asked = challenges(response.headers.getlist("WWW-Authenticate")) if response.status == 401 else ()
            discard(response)
            return Endpoint(base, verify, asked)
        raise failed or RegistryFailed(f"registry {host} has no usable address")

    def _candidates(self, host: str) -> list[tuple[str, bool]]:
        if "://" in host:
            base = host.rstrip("/")
            return [(base, not is_insecure(urlsplit(base).netloc, self.transport.options.insecure))]
        if is_insecure(host, self.transport.options.insecure):
            return [(f"https://{host}", False), (f"http://{host}", False)]
        return [(f"https://{host}", True)]


@dataclass(slots=True)
class Session:
    """One host, one set of credentials. Thread-safe. `scopes` are asked of token servers for every request."""

    transport: Transport
    endpoints: Endpoints
    host: str
    auth: Auth
    scopes: tuple[str, ...] = ()
    _grants: dict[tuple[str, ...], Grant] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    @property
    def name(self) -> str:
        """The host as messages say it."""
        return urlsplit(self.host).netloc if "://" in self.host else self.host

    @property
    def judged(self) -> bool:
        """Whether the registry itself looks at the credentials, so that a 401 says that they are wrong: a token server has looked at
        those that it is given, and a 401 to its token is about rights."""
        basic_alone = all(challenge.scheme == "basic" for challenge in self._endpoint().challenges)
        return bool(self.auth.registry_token or (self.auth.username and basic_alone))

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        *,
        also: Sequence[str] = (),
    ) -> Response:
        """Send to a path of this host, or to an absolute URL it gave; `also` are scopes for this request alone.

        Answers a 401 once, with a new token. The caller looks at the status and closes the response.
        """
        endpoint = self._endpoint()
        url = resolved(endpoint.base, path)
        scopes = (*self.scopes, *also)
        own = _same_origin(url, endpoint.base)
        authorization = self.authorize(endpoint.challenges, scopes) if own else ""
        response = self._send(method, url, headers, body, endpoint, authorization)
        if response.status != 401 or callable(body) or not own:
            return response
        asked = challenges(response.headers.getlist("WWW-Authenticate"))
        renewable = authorization.startswith("Bearer ") and not self.auth.registry_token
        if not asked or (asked == endpoint.challenges and not renewable):
            return response
        self._drop(scopes, authorization)
        discard(response)
        return self._send(method, url, headers, body, endpoint, self.authorize(asked, scopes))

    def authorize(self, asked: Sequence[Challenge], scopes: tuple[str, ...]) -> str:
        """The `Authorization` value that answers the first challenge understood; empty where none is needed or possible.

        Raises:
            TokenRefused: the token server does not accept the credentials.
            ChallengeUnusable: the demand or the answer makes no sense.
        """
        if self.auth.registry_token:
            return f"Bearer {self.auth.registry_token}"
        for challenge in asked:
            if challenge.scheme == "bearer":
                return f"Bearer {self._token(challenge, scopes)}"
            if challenge.scheme == "basic" and self.auth.username:
                return basic(self.auth)
        return ""

    def grant(self, challenge: Challenge, scopes: tuple[str, ...], *, offline: bool = False) -> Grant:
        """A new token from the challenge's realm; with `offline`, as a login asks, also an identity token, where the server gives them."""
        asked = token_request(challenge, scopes, self.auth, offline=offline)
        headers = {"Authorization": asked.authorization} if asked.authorization else {}
        verify = not is_insecure(urlsplit(asked.url).netloc, self.transport.options.insecure)
        if asked.body:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        method = "POST" if asked.body else "GET"
        response = self.transport.send(method, asked.url, headers, asked.body or None, verify=verify)
        if response.status in (400, 401, 403):
            discard(response)
            raise TokenRefused(f"registry {self.name} refuses the credentials", hint="" if offline else f"lamina login {self.name}")
        if response.status != 200:
            raise failure(response, urlsplit(asked.url).netloc, "a token")
        return read_grant(whole(response, urlsplit(asked.url).netloc), self.transport.clock())

    def _endpoint(self) -> Endpoint:
        return self.endpoints.find(self.host)

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        body: Body,
        endpoint: Endpoint,
        authorization: str,
    ) -> Response:
        sent = {**(headers or {}), **({"Authorization": authorization} if authorization else {})}
        try:
            return self.transport.send(method, url, sent, body, verify=endpoint.verify)
        except (RegistryUnreachable, TlsFailed):
            self.endpoints.forget(self.host)
            raise

    def _drop(self, scopes: tuple[str, ...], refused: str) -> None:
        """Forget the token that was refused, but not one that another thread has got in its place."""
        with self._lock:
            grant = self._grants.get(scopes)
            if grant is not None and refused == f"Bearer {grant.token}":
                del self._grants[scopes]

    def _token(self, challenge: Challenge, scopes: tuple[str, ...]) -> str:
        with self._lock:
            grant = self._grants.get(scopes)
            if grant is None or grant.expires <= self.transport.clock():
                grant = self._grants[scopes] = self.grant(challenge, scopes)
            return grant.token


def log_in(session: Session) -> str:
    """Check the session's credentials against /v2/; the identity token to keep in place of the password, where one is given.

    Raises:
        TokenRefused, RegistryUnauthorized: the registry does not accept them.
        RegistryUnreachable, TlsFailed: it does not answer.
    """
    session.endpoints.forget(session.host)  # what it asked for before says nothing of what it asks for now
    endpoint = session.endpoints.find(session.host)
    identity, authorization = "", ""
    for challenge in endpoint.challenges:
        if challenge.scheme == "bearer" and not session.auth.registry_token:
            grant = session.grant(challenge, (), offline=True)
            identity, authorization = grant.identity_token, f"Bearer {grant.token}"
            break
    authorization = authorization or session.authorize(endpoint.challenges, ())
    headers = {"Authorization": authorization} if authorization else {}
    response = session.transport.send("GET", f"{endpoint.base}/v2/", headers, verify=endpoint.verify)
    if response.status != 200:
        refused = failure(response, session.name, "/v2/ with these credentials")
        refused.hint = ""  # it advises to log in, which is what fails here
        raise refused
    discard(response)
    return identity


def _same_origin(url: str, base: str) -> bool:
    return urlsplit(url)[:2] == urlsplit(base)[:2]
