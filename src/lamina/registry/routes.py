"""Which thing of the registry a path names ("Endpoints" of the distribution specification). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lamina.registry.errors import NameInvalid

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_PATHS = (
    ("upload", re.compile(r"/v2/(.+)/blobs/uploads/([A-Za-z0-9]+)\Z")),
    ("uploads", re.compile(r"/v2/(.+)/blobs/uploads/?()\Z")),
    ("blob", re.compile(r"/v2/(.+)/blobs/([^/]+)\Z")),
    ("manifest", re.compile(r"/v2/(.+)/manifests/([^/]+)\Z")),
    ("tags", re.compile(r"/v2/(.+)/tags/list()\Z")),
    ("referrers", re.compile(r"/v2/(.+)/referrers/([^/]+)\Z")),
)


@dataclass(frozen=True, slots=True)
class Route:
    """`kind` is root, catalog, search, upload, uploads, blob, manifest, tags, referrers, or "" for nothing."""

    kind: str
    repository: str = ""
    reference: str = ""


def route(path: str) -> Route:
    """What `path` (without its query) names.

    Raises:
        NameInvalid: the repository's name breaks the grammar.
    """
    if path in ("/v2", "/v2/"):
        return Route("root")
    if path == "/v2/_catalog":
        return Route("catalog")
    if path == "/v1/search":
        return Route("search")
    for kind, pattern in _PATHS:
        if match := pattern.match(path):
            name, reference = match.groups()
            if len(name) > 255 or not _NAME.match(name):
                raise NameInvalid(f"invalid repository name: {name[:100]!r}")
            return Route(kind, name, reference)
    return Route("")


def is_name(text: str) -> bool:
    """Whether a repository can have that name."""
    return len(text) <= 255 and bool(_NAME.match(text))


def is_tag(text: str) -> bool:
    """Whether a tag can be called that."""
    return bool(_TAG.match(text))
