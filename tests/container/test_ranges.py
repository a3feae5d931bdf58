"""Ids of user namespaces: each running container has its own, or all the same."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from lamina.container.model import Container
from lamina.container.ranges import AUTO, COUNT, HOST, REMAP, NoUserNamespace, Ranges, UserNamespaces, check_user_namespace, remapped
from lamina.errors import InvalidArgument


def container(number: int, mode: str = "") -> Container:
    identity = f"{number:08x}" + "0" * 56
    return Container(
        id=identity, name="", created_ns=0, image="", image_name="", layer="", path="true", args=(), config={}, host_config={"UsernsMode": mode},
        networking={}, mounts=(), directory="/nonexistent",
    )  # fmt: skip


def test_no_two_that_run_have_an_id_in_common() -> None:
    ranges = Ranges(UserNamespaces(AUTO))
    same = [container(7 + (number << 14)) for number in range(20)]
    for each in same:
        ranges.take(each)
    found = sorted(ids for each in same if (ids := ranges.of(each)))
    assert len(found) == 20 and all(after[0] - before[0] >= before[1] == COUNT for before, after in pairwise(found))
    ranges.release(same[0])
    assert ranges.of(same[0]) is None
    ranges.take(same[0])
    assert ranges.of(same[0]) in found


def test_the_mode_says_whose_ids() -> None:
    ranges = Ranges(UserNamespaces(REMAP, (5000, 100)))
    for number, (mode, ids) in enumerate([("", (5000, 100)), (HOST, None)]):
        each = container(number, mode)
        ranges.take(each)
        assert ranges.of(each) == ids
    own = container(9, AUTO)
    ranges.take(own)
    assert ranges.of(own) not in (None, (5000, 100))
    assert Ranges().of(container(1)) is None


def test_what_runs_on_the_hosts_ids_stays_there() -> None:
    ranges = Ranges(UserNamespaces(AUTO))
    ranges.restore(container(1), os.getpid())
    ranges.restore(container(2), 1 << 30)
    assert ranges.of(container(1)) is None and ranges.of(container(2)) is None


def test_remapping_reads_subordinate_ids(tmp_path: Path) -> None:
    path = tmp_path / "subuid"
    path.write_text("# comment\nada:100000:65536\nbob:x:y\nbob:300000:10\n")
    assert remapped("ada", str(path)) == UserNamespaces(REMAP, (100000, 65536))
    assert remapped("bob:group", str(path)).remap == (300000, 10)
    assert remapped("default").default == REMAP
    for wrong in ("eve", ""):
        with pytest.raises(InvalidArgument, match="has no range for"):
            remapped(wrong, str(path))
    with pytest.raises(InvalidArgument, match="there is no"):
        remapped("ada", str(tmp_path / "absent"))


@pytest.mark.parametrize("host", [{"Privileged": True}, {"PidMode": "host"}, {"IpcMode": "host"}, {"NetworkMode": "host"}])
def test_what_excludes_a_user_namespace(host: dict[str, object]) -> None:
    check_user_namespace(host, HOST)
    with pytest.raises(NoUserNamespace):
        check_user_namespace(host, AUTO)
