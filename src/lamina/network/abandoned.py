"""Bridges and tables of engines whose data root was deleted. They stay when an engine ends, for its next start: here there will be none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from lamina.linux import links
from lamina.network import neighbours
from lamina.network.firewall import Firewall, table_of, tag_of
from lamina.network.interfaces import Interfaces


def clear(interfaces: Interfaces) -> None:
    """Remove what such engines left. Nothing is touched of one that has a bridge whose remark does not tell its root, or has containers."""
    every = interfaces.every()
    for tag, bridges in by_engine(every).items():
        root = root_of(bridges[0])
        used = {link.master for link in every}
        if root and not os.path.lexists(root) and all(root_of(link) == root and link.index not in used for link in bridges):
            for link in bridges:
                with suppress(OSError):
                    interfaces.perform(links.delete_link(link.name))
                neighbours.dismiss(link.name)
                neighbours.distrust(link.name)
            firewall = Firewall(table_of("" if tag == "default" else tag), lambda: ((), (), False))
            try:
                firewall.remove()
            finally:
                firewall.close()


def by_engine(found: Sequence[links.Link]) -> dict[str, list[links.Link]]:
    """Engines' bridges by the word that stands for the engine."""
    engines: dict[str, list[links.Link]] = {}
    for link in found:
        words = link.alias.split(" ", 2)
        if link.kind == "bridge" and words[0] == "lamina" and len(words) == 3:
            engines.setdefault(words[1], []).append(link)
    return engines


def root_of(link: links.Link) -> str:
    """The data root that a bridge's remark tells whole; "" where it does not."""
    engine, slash, path = link.alias.partition(" /")
    root = f"/{path}"
    return root if slash and engine.split(" ")[1] == (tag_of(root) or "default") else ""
