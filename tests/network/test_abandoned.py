"""Whose a bridge is, read from its remark."""

from __future__ import annotations

import pytest

from lamina.network import abandoned
from lamina.network.firewall import tag_of
from lamina.network.interfaces import Interfaces
from lamina.network.model import Network


class Found:
    """A bridge as the kernel lists it."""

    def __init__(self, alias: str, kind: str = "bridge") -> None:
        self.alias, self.kind = alias, kind


@pytest.mark.parametrize("root", ["/no/such/root", "/no/such /root", "/var/lib/lamina", "/no/" + "x" * 200])
def test_a_remark_tells_the_root_whole_or_not_at_all(root: str) -> None:
    tag = tag_of(root) or "default"
    for name in ("mine", "my own", "a /b", "n" * 300):
        alias = Interfaces(tag, "", print, root)._remark(Network("a" * 64, name))
        link = Found(alias)
        assert len(alias.encode()) <= 255
        assert abandoned.root_of(link) in (root, "")  # type: ignore[arg-type]
        assert name != "mine" or abandoned.root_of(link) == root or len(root) > 200  # type: ignore[arg-type]
        assert abandoned.by_engine([link, Found(alias, "veth"), Found("another")]) == {tag: [link]}  # type: ignore[list-item, comparison-overlap]


def test_a_path_that_is_not_the_engines_is_not_believed() -> None:
    assert abandoned.root_of(Found("lamina abcdef mine /etc")) == ""  # type: ignore[arg-type]
