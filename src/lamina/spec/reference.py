"""References to images (distribution/reference): `[domain/]path[:tag][@digest]`, with Docker's defaults."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from lamina.errors import InvalidArgument
from lamina.spec.digest import Digest

DEFAULT_DOMAIN = "docker.io"
_OFFICIAL = "library"
_DOMAIN_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_COMPONENT}(?:\.{_DOMAIN_COMPONENT})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?\Z")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z")
_TAG = re.compile(r"\w[\w.-]{0,127}\Z", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[+._-][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}\Z")
_HEX64 = re.compile(r"[a-f0-9]{64}\Z")


class InvalidReference(InvalidArgument):
    """The text is not a reference to an image."""


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """A repository, and in it a tag, a digest, both or neither. `str()` is the full spelling."""

    domain: str
    path: str
    tag: str = ""
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read what a user types; `busybox` becomes `docker.io/library/busybox`. No tag is added.

        Raises:
            InvalidReference: the text breaks the grammar.
            InvalidDigest: what follows the @ looks like a digest and is none.
        """
        if _HEX64.match(text):
            raise InvalidReference(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
        name, at, digest_text = text.partition("@")
        if at and not _DIGEST.match(digest_text):
            raise InvalidReference(f"invalid reference format: {text[:300]!r}", hint="what follows the @ is a digest: sha256:…")
        digest = Digest.parse(digest_text) if at else None
        tag = ""
        slash, colon = name.rfind("/"), name.rfind(":")
        if colon > slash:
            name, tag = name[:colon], name[colon + 1 :]
            if not _TAG.match(tag):
                raise InvalidReference(
                    f"invalid reference format: {text[:300]!r}", hint="a tag is at most 128 letters, digits, '_', '.' and '-'"
                )
        domain, path = _split(name)
        if path != path.lower():
            raise InvalidReference(f"invalid reference format: repository name ({path[:200]}) must be lowercase")
        if not _DOMAIN.match(domain) or not _PATH.match(path) or len(f"{domain}/{path}") > 255:
            raise InvalidReference(f"invalid reference format: {text[:300]!r}")
        return cls(domain, path, tag, digest)

    @classmethod
    def of(cls, repository: str, tag: str) -> Reference:
        """Read a repository and its tag, or its digest, as the API has them; without one the repository may bring its own.

        Raises:
            InvalidReference, InvalidDigest: see `parse`.
        """
        parsed = cls.parse(repository)
        if _DIGEST.match(tag):
            return replace(parsed, tag="", digest=Digest.parse(tag))
        return replace(cls.parse(f"{parsed.name}:{tag}"), digest=parsed.digest) if tag else parsed

    @property
    def name(self) -> str:
        """The repository in full: `docker.io/library/busybox`."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The repository as people write it: `busybox`."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        head, _, rest = self.path.partition("/")
        return rest if head == _OFFICIAL and rest and "/" not in rest else self.path

    @property
    def familiar(self) -> str:
        """The reference as people write it: `busybox:1.36`."""
        return self._with_suffix(self.familiar_name)

    def with_default_tag(self) -> Reference:
        """This reference, with `latest` where it has neither tag nor digest."""
        return self if self.tag or self.digest else replace(self, tag="latest")

    def _with_suffix(self, name: str) -> str:
        return name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self._with_suffix(self.name)


def _split(name: str) -> tuple[str, str]:
    """Domain and path of a repository's name; a first part is a domain by its dot, colon, case or being localhost."""
    head, slash, rest = name.partition("/")
    if not slash or not (set(".:") & set(head) or head == "localhost" or head != head.lower()):
        domain, path = DEFAULT_DOMAIN, name
    else:
        domain, path = head, rest
    if domain in ("index.docker.io", "registry-1.docker.io"):
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"{_OFFICIAL}/{path}"
    return domain, path
