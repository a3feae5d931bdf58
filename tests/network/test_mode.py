"""What a container's network mode means here."""

from __future__ import annotations

import pytest

from lamina.network.mode import built_in_networks, network_mode, network_settings


@pytest.mark.parametrize(("asked", "kind"), [("none", "none"), ("host", "host"), ("bridge", "none"), ("default", "none"), ("mine", "none")])
def test_what_would_be_a_bridge_becomes_none_with_a_warning(asked: str, kind: str) -> None:
    mode = network_mode(asked)
    assert mode.kind == kind
    assert bool(mode.warning) == (asked not in ("none", "host"))


def test_another_containers_network_is_named() -> None:
    mode = network_mode("container:abc")
    assert (mode.kind, mode.container, mode.shown) == ("container", "abc", "container:abc")
    assert network_settings(mode, running=True)["Networks"] == {}


def test_settings_name_the_network_and_its_id_is_the_listed_one() -> None:
    listed = {network["Name"]: network["Id"] for network in built_in_networks()}
    for name in ("none", "host"):
        endpoint = network_settings(network_mode(name), running=True)["Networks"][name]
        assert endpoint["NetworkID"] == listed[name]
        assert len(listed[name]) == 64
