"""The facade over registries elsewhere: pull, push, login, search (`engine.registry`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamina.distribution.auth import Auth
from lamina.distribution.protocol import registry_host, server_host
from lamina.distribution.search import SearchHit, search, split_term
from lamina.distribution.session import log_in
from lamina.spec import config
from lamina.spec.descriptor import Descriptor
from lamina.spec.manifest import Index, parse
from lamina.spec.platform import Platform
from lamina.spec.progress import Sink, silent
from lamina.spec.reference import Reference

if TYPE_CHECKING:
    from lamina.distribution.client import Registries, RegistryClient
    from lamina.image.model import Image
    from lamina.image.pull import Puller
    from lamina.image.push import Pusher


@dataclass(frozen=True, slots=True)
class LoginResult:
    """As Docker's API answers POST /auth: `status` is "Login Succeeded"."""

    status: str
    identity_token: str = ""


@dataclass(frozen=True, slots=True)
class RegistryService:
    """Everything the engine does with registries that are not its own process."""

    registries: Registries
    puller: Puller
    pusher: Pusher

    def pull(
        self,
        reference: str | Reference,
        *,
        platform: Platform | None = None,
        all_tags: bool = False,
        auth: Auth | None = None,
        sink: Sink = silent,
        verify: bool = False,
    ) -> list[Image]:
        """See Puller.pull."""
        return self.puller.pull(_parsed(reference), platform=platform, all_tags=all_tags, auth=auth, sink=sink, verify=verify)

    def push(
        self,
        reference: str | Reference,
        *,
        platform: Platform | None = None,
        all_tags: bool = False,
        auth: Auth | None = None,
        sink: Sink = silent,
    ) -> list[Descriptor]:
        """See Pusher.push."""
        return self.pusher.push(_parsed(reference), platform=platform, all_tags=all_tags, auth=auth, sink=sink)

    def login(self, auth: Auth) -> LoginResult:
        """Check `auth` with the registry `auth.server` (Docker's own where it is empty).

        Raises:
            Unauthorized: the registry refuses these credentials.
            Unavailable: it does not answer.
        """
        host = registry_host(server_host(auth.server))
        session = self.registries.session(host, auth)
        return LoginResult("Login Succeeded", log_in(session))

    def search(
        self, term: str, *, limit: int = 25, filters: Mapping[str, Sequence[str]] | None = None, auth: Auth | None = None
    ) -> list[SearchHit]:
        """Repositories whose name or description holds `term`, which may begin with `host:port/`.

        `filters` are Docker's: `is-official`, `is-automated` (true|false) and `stars` (at least).

        Raises:
            InvalidArgument: the limit or a filter makes no sense.
        """
        host, words = split_term(term)
        return search(self.registries.session(host, auth), words, limit, filters or {})

    def distribution(self, reference: str | Reference, *, auth: Auth | None = None) -> tuple[Descriptor, list[Platform]]:
        """What a name stands for at its registry, without pulling: GET /distribution/{name}/json.

        Raises:
            NotFound, Unauthorized, Unavailable: what the registry said.
        """
        parsed = _parsed(reference).with_default_tag()
        client = self.registries.repository(parsed, auth)
        descriptor, data = client.resolve(parsed)
        manifest = parse(data, descriptor.media_type)
        if isinstance(manifest, Index):
            return descriptor, [row.platform for row in manifest.manifests if row.platform]
        if not manifest.of_image:
            return descriptor, []
        return descriptor, [_platform(client, manifest.config)]


def _platform(client: RegistryClient, row: Descriptor) -> Platform:
    """What an image's configuration says it is for. Raises InvalidConfig, and what `RegistryClient.blob` raises."""
    if row.size > config.LIMIT:
        raise config.InvalidConfig(f"a configuration of {row.size} bytes: at most {config.LIMIT} are taken")
    return config.parse(client.blob(row)).platform


def _parsed(reference: str | Reference) -> Reference:
    return Reference.parse(reference) if isinstance(reference, str) else reference
