"""References and platforms as the command line spells them."""

from __future__ import annotations

from lamina.client.text import encode


def split_name(name: str) -> tuple[str, str]:
    """Repository, and tag or digest, of a reference; the second empty where it has none.

    What ends in the sign before them (`x:`), has two tags, or what is no digest behind the `@`, is taken for a repository, as a whole: the
    engine refuses it.
    """
    if "@" in name:
        repository, _, digest = name.partition("@")
        return (repository, digest) if ":" in digest else (name, "")
    if name.rsplit("/", 1)[-1].count(":") == 1:
        repository, _, tag = name.rpartition(":")
        return (repository, tag) if tag else (name, "")
    return name, ""


def familiar(name: str) -> str:
    """The reference in full, as pull prints it last."""
    head, slash, rest = name.partition("/")
    if not slash:
        return f"docker.io/library/{name}"
    return name if "." in head or ":" in head or head == "localhost" else f"docker.io/{head}/{rest}"


def platform_json(text: str) -> str:
    """A platform `os[/arch[/variant]]` as newer engines take it; empty for none."""
    if not text:
        return ""
    names = ("os", "architecture", "variant")
    parts = text.split("/") if "/" in text or text in ("linux", "windows") else ["linux", text]
    return encode(dict(zip(names, parts, strict=False))).decode()
