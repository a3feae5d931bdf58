"""watch: what a container adds, modifies and deletes is told as it happens, with the layer below; by each driver."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue

import pytest

from lamina.container.containers import Containers
from lamina.container.watching import Seen
from lamina.linux import fanotify
from tests.container.conftest import Box

pytestmark = pytest.mark.root
_LONG = 120
"""Seconds. An emulated machine takes over ten for what takes one otherwise."""


class Watched:
    """A watch that a thread reads; `until` gives what was told up to a path."""

    def __init__(self, containers: Containers, ref: str, *, existing: bool = False) -> None:
        self._told: Queue[Seen | None] = Queue()
        self._ended = threading.Event()
        self._found = containers.watch(ref, existing=existing)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert existing or self._told.get(timeout=_LONG) is None

    def _read(self) -> None:
        for seen in self._found:
            self._told.put(seen)
            if self._ended.is_set():
                break

    def until(self, path: str, kind: str) -> dict[str, list[Seen]]:
        """By path all that was told of it: where a look falls between making a file and writing to it, there is more than one."""
        found: dict[str, list[Seen]] = {}
        while path not in found or found[path][-1].kind != kind:
            seen = self._told.get(timeout=_LONG)
            if seen is not None:
                found.setdefault(seen.path, []).append(seen)
        return found

    def next(self) -> Seen | None:
        return self._told.get(timeout=_LONG)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(_LONG)
        self._found.close()  # type: ignore[attr-defined]


@pytest.fixture
def watching() -> Iterator[Callable[..., Watched]]:
    """Makes watches, which end with the test."""
    made: list[Watched] = []

    def make(*arguments: object, **options: object) -> Watched:
        made.append(Watched(*arguments, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_changes_are_told_with_the_layer_that_had_the_path(make: Callable[..., Box], watching: Callable[..., Watched]) -> None:
    box = make(True)
    watch = watching(box.containers, box.id)

    def step(number: int, script: str) -> dict[str, list[Seen]]:
        made = box.containers.exec_create(box.id, {"Cmd": ["sh", "-c", f"{script}; touch /zz{number}"]})
        box.containers.exec_start(made)
        return watch.until(f"/zz{number}", "A")

    first = step(1, "echo new > /made; echo more >> /folder/file")
    assert (first["/made"][0].kind, first["/made"][-1].size, {seen.layer for seen in first["/made"]}) == ("A", 4, {-1})
    changed = first["/folder/file"][0]
    assert (changed.kind, changed.layer, changed.copied, changed.type) == ("M", 0, box.containers.get(box.id).driver != "native", "file")
    assert {seen.kind for seen in first.get("/folder", ())} <= {"M"}
    second = step(2, "echo again >> /made; rm /folder/null; mkdir /own; touch /own/file")
    assert (second["/made"][0].kind, second["/folder/null"][0].kind, second["/folder/null"][0].layer) == ("M", "D", 0)
    assert (second["/own"][0].kind, second["/own"][0].type, second["/own/file"][0].kind) == ("A", "directory", "A")
    third = step(3, "rm -r /own; rm /made")
    assert {third[path][-1].kind for path in ("/own", "/own/file", "/made")} == {"D"}
    box.containers.snapshots.create(box.id, "one")
    assert step(4, "echo x > /after")["/after"][0].kind == "A"


def test_what_lies_in_a_snapshot_is_copied_up_from_it(make: Callable[..., Box], watching: Callable[..., Watched]) -> None:
    box = make(config={"Cmd": ["sh", "-c", "echo x >> /word; touch /zz$(wc -l < /word)"]})
    if box.containers.get(box.id).driver == "native":
        pytest.skip("nothing is stacked")
    watch = watching(box.containers, box.id)
    box.containers.start(box.id)
    assert watch.until("/zz1", "A")["/word"][0].kind == "A"
    with box.containers.wait(box.id) as waiter:
        assert waiter.result(_LONG) is not None
    box.containers.snapshots.create(box.id, "one")
    again = watching(box.containers, box.id)
    box.containers.start(box.id)
    told = again.until("/zz2", "A")["/word"][0]
    assert (told.kind, told.copied, told.layer, told.instruction) == ("M", True, 1, "snapshot one")


def test_what_is_there_already_is_told_where_that_is_wanted(make: Callable[..., Box], watching: Callable[..., Watched]) -> None:
    box = make(config={"Cmd": ["sh", "-c", "echo x > /word; rm /folder/file"]})
    box.containers.start(box.id)
    with box.containers.wait(box.id) as waiter:
        assert waiter.result(_LONG) is not None
    if box.containers.get(box.id).driver == "native":
        pytest.skip("the directory holds everything")
    told = watching(box.containers, box.id, existing=True).until("/word", "A")
    assert told["/folder/file"][0].kind == "D"


def test_a_watch_ends_with_its_container(make: Callable[..., Box]) -> None:
    box = make()
    found = box.containers.watch(box.id)
    assert next(found) is None
    box.containers.remove(box.id)
    assert [seen for seen in found if seen is not None] == []


def test_what_comes_and_goes_between_two_looks_is_told(make: Callable[..., Box], watching: Callable[..., Watched], tmp_path: Path) -> None:
    try:
        os.close(fanotify.arrivals(str(tmp_path)))
    except OSError as error:
        pytest.skip(f"this kernel does not tell: {error.strerror}")
    box = make(True)
    watch = watching(box.containers, box.id)
    script = "cd /; for n in 1 2 3; do echo x > gone$n; rm gone$n; done; mkdir -p passing/deep; rm -r passing; echo x > kept; mv kept moved; rm folder/file; touch zz"
    box.containers.exec_start(box.containers.exec_create(box.id, {"Cmd": ["sh", "-c", script]}))
    told: list[tuple[str, str, str]] = []
    while ("A", "/zz", "file") not in told:
        seen = watch.next()
        told += [(seen.kind, seen.path, seen.type)] if seen else []
    for path, kind in (("/gone1", "other"), ("/gone2", "other"), ("/gone3", "other"), ("/passing", "directory"), ("/kept", "other")):
        # Where a look falls between, it sees the entry itself.
        assert [each[0] for each in told if each[1] == path] == ["A", "D"]
        assert any(each[2] in (kind, "file") for each in told if each[1] == path)
    assert [each[0] for each in told if each[1] in ("/folder/file", "/moved", "/zz")].count("D") == 1
    assert len([each for each in told if each[1] == "/folder/file"]) == 1


def test_a_kernel_that_does_not_tell_changes_nothing_else(
    make: Callable[..., Box], watching: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> int:
        raise OSError(errno.EPERM, path)

    monkeypatch.setattr(fanotify, "arrivals", refuse)
    box = make(True)
    watch = watching(box.containers, box.id)
    box.containers.exec_start(box.containers.exec_create(box.id, {"Cmd": ["sh", "-c", "touch /a"]}))
    assert watch.until("/a", "A")["/a"][0].type == "file"
