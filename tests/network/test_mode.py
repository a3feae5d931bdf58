"""What a container's network mode means."""

from __future__ import annotations

import pytest

from lamina.network.mode import network_mode


@pytest.mark.parametrize(
    ("asked", "kind", "shown"),
    [
        ("none", "none", "none"),
        ("host", "host", "host"),
        ("", "bridge", "bridge"),
        ("default", "bridge", "bridge"),
        ("mine", "bridge", "mine"),
    ],
)
def test_everything_but_none_host_and_another_container_is_a_network(asked: str, kind: str, shown: str) -> None:
    mode = network_mode(asked)
    assert (mode.kind, mode.shown) == (kind, shown)


def test_another_containers_network_is_named() -> None:
    mode = network_mode("container:abc")
    assert (mode.kind, mode.name, mode.shown, mode.own) == ("container", "abc", "container:abc", False)
    assert (network_mode("container").kind, network_mode("container").name) == ("container", "")
