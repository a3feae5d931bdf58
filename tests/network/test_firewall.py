"""The engine's table, while several threads change it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from lamina.linux import nftables
from lamina.linux.netlink import Request
from lamina.network import firewall, ruleset
from lamina.network.firewall import Firewall
from lamina.network.model import Published
from lamina.network.ruleset import Rules

PORT = Published("tcp", "0.0.0.0", 8080, "172.17.0.2", 80)


def plain(requests: Sequence[Request]) -> list[tuple[int, bytes]]:
    """Requests as values that can be compared."""
    return [(request.kind, request.body) for request in requests]


def test_a_port_that_is_published_while_the_table_is_made_anew_stays_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[list[tuple[int, bytes]]] = []
    monkeypatch.setattr(firewall, "Netlink", lambda _family: None)
    monkeypatch.setattr(nftables, "commit", lambda _connection, requests: written.append(plain(requests)))
    published: list[Published] = []

    def state() -> tuple[Sequence[Rules], Sequence[Published], bool]:
        answer = (), tuple(published), True
        if not published:  # another thread's container starts just after the question
            published.append(PORT)
            table.publish(published)
        return answer

    table = Firewall("lamina-test", state)
    table.renew()
    whole = ruleset.table("lamina-test", (), [PORT], loopback=True)
    assert written == [plain(ruleset.publish("lamina-test", [PORT])), plain(whole)]
