"""What groups have used, read from fake files of version 1 and 2."""

from __future__ import annotations

from lamina.runtime.usage import interfaces, system_usage, usage

V1 = {
    "pids.current": "3", "pids.max": "max", "cpuacct.usage": "5000", "cpuacct.stat": "user 2\nsystem 1\n", "cpuacct.usage_percpu": "2000 3000",
    "cpu.stat": "nr_periods 4\nnr_throttled 2\nthrottled_time 99\n", "memory.limit_in_bytes": "9223372036854771712", "memory.usage_in_bytes": "700", "memory.max_usage_in_bytes": "900",
    "memory.stat": "cache 5\ntotal_inactive_file 100\n", "memory.failcnt": "0", "blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n",
}  # fmt: skip
V2 = {
    "pids.current": "3", "pids.max": "50", "cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 4\nnr_throttled 2\nthrottled_usec 9\n", "memory.max": "1000",
    "memory.current": "700", "memory.stat": "anon 5\ninactive_file 100\n", "memory.events": "oom 2\noom_kill 1\n", "io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n",
}  # fmt: skip


class Fake:
    def __init__(self, files: dict[str, str], *, unified: bool) -> None:
        self._files, self._unified = files, unified

    def read(self, controller: str, file: str) -> str:
        del controller
        return self._files.get(file, "")

    def unified(self, controller: str) -> bool:
        del controller
        return self._unified


def test_both_versions_read_to_the_same_shape() -> None:
    old, new = usage(Fake(V1, unified=False), 2000), usage(Fake(V2, unified=True), 2000)
    assert (old["pids_stats"], new["pids_stats"]) == ({"current": 3, "limit": (1 << 64) - 1}, {"current": 3, "limit": 50})
    assert old["cpu_stats"]["cpu_usage"] == {
        "total_usage": 5000,
        "usage_in_kernelmode": 10_000_000,
        "usage_in_usermode": 20_000_000,
        "percpu_usage": [2000, 3000],
    }
    assert new["cpu_stats"]["cpu_usage"] == {"total_usage": 5000, "usage_in_kernelmode": 2000, "usage_in_usermode": 3000}
    assert (old["cpu_stats"]["throttling_data"]["throttled_time"], new["cpu_stats"]["throttling_data"]["throttled_time"]) == (99, 9000)
    assert (old["memory_stats"]["limit"], new["memory_stats"]["limit"], new["memory_stats"]["failcnt"]) == (2000, 1000, 2)
    assert old["blkio_stats"]["io_service_bytes_recursive"][:2] == new["blkio_stats"]["io_service_bytes_recursive"]


def test_a_group_that_is_gone_has_used_nothing() -> None:
    for unified in (False, True):
        assert usage(Fake({}, unified=unified), 5)["cpu_stats"]["cpu_usage"]["total_usage"] == 0


def test_the_machine_and_its_interfaces() -> None:
    assert system_usage("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1\ncpu1 1\nintr 5\n") == (28 * 10_000_000, 2)
    text = "Inter-| Receive\n face |bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 10 2 3 4 0 0 0 0 50 6 7 8 0 0 0 0\n"
    assert interfaces(text) == {
        "eth0": {
            "rx_bytes": 10,
            "rx_packets": 2,
            "rx_errors": 3,
            "rx_dropped": 4,
            "tx_bytes": 50,
            "tx_packets": 6,
            "tx_errors": 7,
            "tx_dropped": 8,
        }
    }
