"""Proxies that the client's config.json names for containers and builds, handed on to them as docker does."""

from __future__ import annotations

from lamina.errors import LaminaError

TYPE_CHECKING = False  # see session
if TYPE_CHECKING:
    from collections.abc import Collection

    from lamina.cli.session import Session

_KEYS = (
    ("httpProxy", "HTTP_PROXY"),
    ("httpsProxy", "HTTPS_PROXY"),
    ("noProxy", "NO_PROXY"),
    ("ftpProxy", "FTP_PROXY"),
    ("allProxy", "ALL_PROXY"),
)


def variables(session: Session, given: Collection[str]) -> dict[str, str]:
    """The variables, in capitals and in small letters, that `proxies` of config.json stands for: its entry for this engine's address, else
    `default`; without those that are `given` already."""
    try:
        with open(f"{session.config_directory}/config.json", "rb") as file:
            data = file.read()
        if b'"proxies"' not in data:
            return {}
        from lamina.client.text import document

        entries = document(data).get("proxies")
    except (OSError, LaminaError):
        return {}
    if not isinstance(entries, dict):
        return {}
    chosen = entries.get(str(session.engine.address), entries.get("default"))
    found = {}
    for key, name in _KEYS:
        value = chosen.get(key) if isinstance(chosen, dict) else None
        if isinstance(value, str) and value:
            found.update({spelling: value for spelling in (name, name.lower()) if spelling not in given})
    return found
