"""A dockerd beside: its chain for others is used where it is there, and nothing else."""

from __future__ import annotations

from lamina.network.neighbours import admit, dismiss, distrust, trust


class Filter:
    """iptables in memory: the rules of DOCKER-USER, None where there is no such chain."""

    def __init__(self, rules: list[str] | None) -> None:
        self.rules = rules
        self.changes = 0

    def __call__(self, operation: str, *words: str) -> bool:
        if self.rules is None:
            return False
        if operation == "-n":
            return True
        rule = " ".join(words[1:])
        if operation == "-C":
            return rule in self.rules
        self.changes += 1
        if operation == "-I":
            self.rules.insert(0, rule)
        elif rule in self.rules:
            self.rules.remove(rule)
        return True


def test_a_bridge_is_admitted_once_before_what_users_said() -> None:
    table = Filter(["-s 10.0.0.1 -j DROP"])
    assert admit("lamina0", table) and admit("lamina0", table)
    assert table.rules == ["-o lamina0 -j ACCEPT", "-i lamina0 -j ACCEPT", "-s 10.0.0.1 -j DROP"]
    assert table.changes == 2


def test_it_is_dismissed_and_what_users_said_stays() -> None:
    table = Filter(["-i lamina0 -j ACCEPT", "-s 10.0.0.1 -j DROP", "-o lamina0 -j ACCEPT"])
    dismiss("lamina0", table)
    assert table.rules == ["-s 10.0.0.1 -j DROP"]


def test_without_a_dockerd_nothing_is_done() -> None:
    table = Filter(None)
    assert not admit("lamina0", table)
    dismiss("lamina0", table)
    assert table.changes == 0


def test_firewalld_is_asked_once_for_all_bridges_and_not_at_all_for_none() -> None:
    asked: list[tuple[str, ...]] = []

    def firewall_cmd(*words: str) -> bool:
        asked.append(words)
        return True

    trust([], firewall_cmd)
    trust(["lamina0", "br-1"], firewall_cmd)
    distrust("br-1", firewall_cmd)
    assert asked == [("--zone=trusted", "--add-interface=lamina0", "--add-interface=br-1"), ("--zone=trusted", "--remove-interface=br-1")]
