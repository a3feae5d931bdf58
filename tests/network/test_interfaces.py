"""What bridges need of the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.network.interfaces import see_to_bridge_filter
from lamina.network.model import NetworkUnavailable


def test_a_network_that_cannot_be_filtered_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NetworkUnavailable, match="cannot restrict inter-container communication"):
        see_to_bridge_filter(str(tmp_path / "bridge"), lambda: None)


def test_a_filter_that_is_loaded_for_it_filters_no_other_bridge(tmp_path: Path) -> None:
    where, names = tmp_path / "bridge", ("iptables", "ip6tables", "arptables")

    def load() -> None:
        where.mkdir()
        for name in names:
            (where / f"bridge-nf-call-{name}").write_text("1\n")

    see_to_bridge_filter(str(where), load)
    assert [(where / f"bridge-nf-call-{name}").read_text() for name in names] == ["0"] * 3
    (where / "bridge-nf-call-iptables").write_text("1\n")
    see_to_bridge_filter(str(where), load)  # the host's own wish, where it was there before
    assert (where / "bridge-nf-call-iptables").read_text() == "1\n"
