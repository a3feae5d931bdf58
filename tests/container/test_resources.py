"""Limits of a request: refused, dropped with a warning, completed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.container import resources
from lamina.container.resources import InvalidLimit, checked, merged, ranges
from lamina.errors import LaminaError
from lamina.runtime.abilities import Abilities, numbers

V1 = Abilities(version="v1", swappiness=True, oom_kill_disable=True, realtime=True, cpus=frozenset(range(4)), processors=4)
NOTHING = Abilities(
    memory=False, swap=False, reservation=False, shares=False, quota=False, cpuset=False, pids=False, weight=False, weight_device=False, throttle=False
)  # fmt: skip


def test_memory_alone_gets_as_much_swap_again() -> None:
    host, warnings = checked({"Memory": 64 << 20}, V1)
    assert (host["MemorySwap"], warnings) == (128 << 20, ())


def test_what_is_not_limited_is_null_and_no_number_is_more_than_clients_can_read() -> None:
    for unlimited in (0, -1, -5):
        assert checked({"PidsLimit": unlimited}, V1)[0]["PidsLimit"] is None
    assert checked({"Memory": (1 << 63) - 1}, V1)[0]["MemorySwap"] == (1 << 63) - 1


def test_what_the_kernel_cannot_do_is_dropped_with_dockers_words() -> None:
    asked = {"Memory": 64 << 20, "MemoryReservation": 32 << 20, "CpuShares": 5, "CpuQuota": 2000, "PidsLimit": 3, "CpusetCpus": "0", "BlkioWeight": 20,
             "BlkioWeightDevice": [{"Path": "/dev/x", "Weight": 5}], "BlkioDeviceReadBps": [{"Path": "/dev/x", "Rate": 5}], "MemorySwappiness": 5, "OomKillDisable": True,
             "KernelMemory": 1 << 30}  # fmt: skip
    host, warnings = checked(asked, NOTHING)
    assert not any(host.get(key) for key in asked)
    assert len(warnings) == 12
    assert "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded." in warnings
    assert checked(asked, NOTHING)[1] == warnings


def test_without_swap_accounting_memory_is_limited_without_swap() -> None:
    host, warnings = checked({"Memory": 64 << 20}, replace(V1, swap=False))
    assert (host["Memory"], host["MemorySwap"]) == (64 << 20, -1)
    assert warnings[0].endswith("Memory limited without swap.")


def test_what_the_engine_may_not_raise_is_told_and_kept() -> None:
    host, warnings = checked(
        {"Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 5000}], "OomScoreAdj": -10},
        replace(V1, hard_limits={"nofile": 4096}, lowest_oom_score=0),
    )
    assert host["Ulimits"][0]["Hard"] == 5000
    assert [word in line for word, line in zip(("out of memory", "4096, not 5000"), warnings, strict=True)] == [True, True]


@pytest.mark.parametrize(
    "asked",
    [
        {"Memory": 1}, {"Memory": 64 << 20, "MemorySwap": 1 << 20}, {"MemorySwap": 64 << 20}, {"MemoryReservation": 5}, {"MemorySwappiness": 101}, {"NanoCpus": 5 * 10**9},
        {"BlkioDeviceReadIOps": [{"Path": "/dev/vda", "Rate": -4}]}, {"NanoCpus": -1}, {"NanoCpus": 10**6}, {"PidsLimit": 10**18}, {"PidsLimit": (1 << 22) + 1}, {"NanoCpus": 1, "CpuPeriod": 1000}, {"CpuQuota": 1}, {"CpuPeriod": 2_000_000}, {"CpuShares": -1}, {"CpuShares": 1}, {"CpuShares": 262145}, {"CpusetCpus": "9"}, {"CpusetCpus": "a-b"}, {"CpusetCpus": "1-0"},
        {"BlkioWeight": 5}, {"IOMaximumIOps": 5}, {"CpuRealtimeRuntime": 20, "CpuRealtimePeriod": 10}, {"OomScoreAdj": -1001},
        {"Ulimits": [{"Name": "nofile", "Soft": 5, "Hard": 4}]}, {"Ulimits": [{"Name": "x", "Soft": 1, "Hard": 1}]},
    ],
    ids=str,
)  # fmt: skip
def test_what_makes_no_sense_is_refused(asked: dict[str, object]) -> None:
    with pytest.raises(InvalidLimit):
        checked(asked, V1)


def test_an_update_replaces_what_is_given_and_keeps_the_rest() -> None:
    now = {"Memory": 64 << 20, "MemorySwap": 128 << 20, "PidsLimit": 5, "CpuShares": 10, "Binds": ["a:/b"]}
    assert merged(now, {"CpuShares": 20, "PidsLimit": 0, "Memory": 0}) == {**now, "CpuShares": 20, "PidsLimit": 0}
    with pytest.raises(InvalidLimit, match="already set memoryswap limit"):
        merged(now, {"Memory": 256 << 20})
    with pytest.raises(InvalidLimit, match="CPU Quota cannot be updated"):
        merged({"NanoCpus": 1}, {"CpuQuota": 2000})


@pytest.mark.parametrize("limit", [0, -1, -2])
def test_an_update_to_no_limit_of_processes_is_shown_as_zero(limit: int) -> None:
    assert checked({"PidsLimit": limit}, V1, update=True)[0]["PidsLimit"] == 0
    assert checked({"PidsLimit": limit}, V1)[0]["PidsLimit"] is None


@given(st.frozensets(st.integers(0, 300)))
def test_numbers_and_ranges_are_each_others_reverse(values: frozenset[int]) -> None:
    assert numbers(ranges(values)) == values


@given(
    st.dictionaries(
        st.sampled_from(sorted(resources.KEYS)),
        st.one_of(st.integers(-2, 1 << 40), st.text(max_size=5), st.none(), st.lists(st.dictionaries(st.just("Name"), st.text()))),
    )
)
def test_any_limits_are_accepted_or_refused(asked: dict[str, object]) -> None:
    try:
        checked(asked, V1)
    except LaminaError as error:
        assert error.http_status == 400
