"""Search: Docker's old /v1/search, and the catalog for registries that have only that."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from lamina.distribution.protocol import DOCKER_INDEX_HOST, PAGES_LIMIT, next_link
from lamina.distribution.session import Session
from lamina.distribution.transport import RegistryFailed, RegistryUnknown, discard, failure, whole
from lamina.errors import InvalidArgument

CATALOG_LIMIT = 10_000
"""Repositories of a catalog that are looked through at most."""


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One repository found."""

    name: str
    description: str = ""
    star_count: int = 0
    is_official: bool = False
    is_automated: bool = False


def split_term(term: str) -> tuple[str, str]:
    """Host and words of a search term: `localhost:5000/web` asks that registry, `web` Docker's."""
    head, slash, rest = term.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        return (DOCKER_INDEX_HOST if head in ("docker.io", DOCKER_INDEX_HOST) else head), rest
    return DOCKER_INDEX_HOST, term


def search(session: Session, words: str, limit: int, filters: Mapping[str, Sequence[str]]) -> list[SearchHit]:
    """At most `limit` repositories (1 to 100) that match, best first as the registry orders them.

    Raises:
        InvalidArgument: a filter or the limit makes no sense.
        RegistryFailed: the registry can neither search nor list.
    """
    if not 1 <= limit <= 100:
        raise InvalidArgument(f"limit {limit} is outside the range of [1, 100]")
    accept = _filter(filters)
    response = session.request("GET", "/v1/search?" + urlencode({"q": words, "n": limit}))
    if response.status == 200:
        return [hit for hit in _hits(whole(response, session.name, 4 << 20)) if accept(hit)][:limit]
    if response.status not in (400, 401, 403, 404, 405, 501):
        raise failure(response, session.name, "search")
    discard(response)
    found = (SearchHit(name) for name in catalog(session) if words.lower() in name)
    return [hit for hit, _ in zip(filter(accept, found), range(limit), strict=False)]


def catalog(session: Session) -> Iterator[str]:
    """Names of all repositories, page by page, in the registry's order ("_catalog" of Docker's registry API).

    Raises:
        RegistryUnknown: the registry has no catalog.
    """
    path, seen, pages = "/v2/_catalog?n=1000", 0, 0
    while path and seen < CATALOG_LIMIT and pages < PAGES_LIMIT:
        pages += 1
        response = session.request("GET", path, also=("registry:catalog:*",))
        if response.status == 404:
            discard(response)
            raise RegistryUnknown(f"registry {session.name} can neither search nor list its repositories")
        if response.status != 200:
            raise failure(response, session.name, "catalog")
        names = _names(whole(response, session.name, 16 << 20))
        seen += len(names)
        yield from names
        following = next_link(response.headers.getlist("Link"), path)
        path = "" if following == path else following


def _names(body: bytes) -> list[str]:
    try:
        return [name for name in json.loads(body)["repositories"] or [] if isinstance(name, str)]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise RegistryFailed("registry answered without a list of repositories") from None


def _hits(body: bytes) -> list[SearchHit]:
    try:
        rows = json.loads(body)["results"] or []
        return [
            SearchHit(
                str(row["name"]),
                str(row.get("description") or ""),
                int(row.get("star_count") or 0),
                bool(row.get("is_official")),
                bool(row.get("is_automated")),
            )
            for row in rows
        ]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise RegistryFailed("registry answered without search results") from None


class _Filter:
    """Whether a hit passes Docker's search filters."""

    def __init__(self, official: bool | None, automated: bool | None, stars: int) -> None:
        self._official, self._automated, self._stars = official, automated, stars

    def __call__(self, hit: SearchHit) -> bool:
        return self._official in (None, hit.is_official) and self._automated in (None, hit.is_automated) and hit.star_count >= self._stars


def _filter(filters: Mapping[str, Sequence[str]]) -> _Filter:
    unknown = set(filters) - {"is-official", "is-automated", "stars"}
    if unknown:
        raise InvalidArgument(f"invalid filter '{min(unknown)}'")
    stars = [text for text in filters.get("stars", ()) if not (text.isascii() and text.isdigit() and len(text) < 20)]
    if stars:
        raise InvalidArgument(f"invalid filter 'stars={stars[0][:100]}'")
    return _Filter(
        _truth(filters, "is-official"), _truth(filters, "is-automated"), max((int(text) for text in filters.get("stars", ())), default=0)
    )


def _truth(filters: Mapping[str, Sequence[str]], key: str) -> bool | None:
    values = filters.get(key, ())
    if not values:
        return None
    if values[0].lower() not in ("true", "false", "1", "0"):
        raise InvalidArgument(f"invalid filter '{key}={values[0]}'")
    return values[0].lower() in ("true", "1")
