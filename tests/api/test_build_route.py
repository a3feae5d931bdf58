"""The parameters of POST /build."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from tests.api.conftest import Client, FakeEngine


def test_limits_and_surroundings_are_read(api: Client, engine: FakeEngine) -> None:
    ulimits = quote(json.dumps([{"Name": "nofile", "Soft": 1, "Hard": 2}]))
    query = "memory=67108864&memswap=-1&cpushares=2&cpuquota=3000&cpuperiod=4000&cpusetcpus=0&cpusetmems=0&shmsize=5&cgroupparent=/p"
    query += f"&ulimits={ulimits}&securityopt={quote(json.dumps(['no-new-privileges']))}&extrahosts=a:10.0.0.1&extrahosts={quote(json.dumps(['b:::2', 'c:host-gateway']))}"
    assert api.ask("POST", f"/build?{query}&squash=1&explain=1&networkmode=bridge&cachefrom={quote(json.dumps(['x']))}", b"")[0] == 200
    request = engine.builder.asked[0][0]
    limits = request.run.limits
    assert (limits.memory, limits.memory_swap, limits.cpu_shares, limits.cpu_quota, limits.cpu_period) == (1 << 26, -1, 2, 3000, 4000)
    assert (limits.cpuset_cpus, limits.cpuset_mems, dict(limits.rlimits)) == ("0", "0", {"nofile": (1, 2)})
    assert (request.run.shm_size, request.run.security, request.run.cgroup_parent) == (5, ("no-new-privileges",), "/p")
    assert (request.extra_hosts, request.cache_from, request.network) == (("a:10.0.0.1", "b:::2", "c:172.17.0.1"), ("x",), "")
    assert request.squash and request.explain


def test_a_remote_context_needs_no_body(api: Client, engine: FakeEngine) -> None:
    assert api.ask("POST", f"/build?remote={quote('https://example.org/r.git#v1:sub', safe='')}", b"")[0] == 200
    assert engine.builder.asked[0][0].context.remote == "https://example.org/r.git#v1:sub"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("memory=much", "invalid value for memory"),
        ("memory=-5", "invalid value for memory"),
        ("memswap=-2", "invalid value for memswap"),
        (f"cpushares={1 << 63}", "number out of range"),
        ("cgroupparent=a%0Ab", "cannot hold a line break or a NUL"),
        ("cgroupparent=a%00b", "cannot hold a line break or a NUL"),
        ("memory=1024", "Minimum memory limit allowed is 6MB"),
        ("memswap=10485760", "You should always set the Memory limit"),
        ("cpuperiod=5", "CPU cfs period"),
        ("cpusetcpus=99", "Requested CPUs are not available - requested 99, available: 0"),
        ("cpusetcpus=x", "Invalid value x for cpuset cpus"),
        ("shmsize=-1", "invalid value for shmsize"),
        ("ulimits={}x", "invalid value for ulimits"),
        ("ulimits=[1]", "invalid value for ulimits"),
        (f"ulimits={quote(json.dumps([{'Name': 'foo', 'Soft': 1, 'Hard': 1}]))}", "invalid ulimit type: foo"),
        (f"ulimits={quote(json.dumps([{'Name': 'core', 'Soft': 2, 'Hard': 1}]))}", "must be less than or equal to hard limit: 2 > 1"),
        ("extrahosts=nobody", "bad format for add-host"),
        ("extrahosts=a:b", "invalid IP address in add-host"),
        ("securityopt=[1]", "invalid list"),
        ("isolation=hyperv", "invalid isolation"),
        ("labels=[]x", "invalid value for labels"),
        ("t=UPPER", "invalid reference"),
        (f"t=a@sha256:{'a' * 64}", "build tag cannot contain a digest"),
        (f"buildargs={quote(json.dumps({'A': True}))}", "invalid value for buildargs: A is not a text"),
        (f"labels={quote(json.dumps({'A': 1}))}", "invalid value for labels: A is not a text"),
    ],
)
def test_what_is_malformed_is_400_and_one_sentence(api: Client, engine: FakeEngine, query: str, words: str) -> None:
    status, body = api.ask("POST", f"/build?{query}", b"")
    assert (status, engine.builder.asked) == (400, [])
    assert words in json.loads(body)["message"] and "\n" not in json.loads(body)["message"]
