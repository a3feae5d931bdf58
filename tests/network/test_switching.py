"""The daemon's side of the switchboard: whoever finds out that it is gone has it told everything again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.linux.channel import Channel, ChannelTimeout
from lamina.network.switching import Switching
from tests.harness import eventually, helpers


class House:
    """Asks a switchboard, and counts how often one was lost."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.lock, self.lost = directory, threading.RLock(), 0
        self.asked = Switching(str(directory), self.lock, self._lost)

    def _lost(self) -> None:
        self.lost += 1
        self.tell("other")

    def tell(self, name: str) -> None:
        self.asked.names(name, [], links={}, servers=[], outside=False)

    def kill(self) -> None:
        for pid in helpers(self.directory):
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not helpers(self.directory))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.tell("first")
    yield made
    made.asked.close()
    made.kill()


def test_who_lets_a_container_go_finds_out_too(house: House) -> None:
    with house.lock:  # before the thread that waits for its end
        house.kill()
        house.asked.drop("first")
    assert (house.lost, set(house.asked.containers())) == (1, {"other"})


def test_who_asks_when_none_is_known_any_more_finds_out_too(house: House) -> None:
    house.asked.close()  # it had not answered in time
    house.kill()
    house.tell("second")
    assert (house.lost, set(house.asked.containers())) == (1, {"other", "second"})


def test_of_a_silent_one_an_answer_is_waited_for_at_length_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    (pid,) = helpers(house.directory)
    waited: list[float | None] = []

    def impatient(found: Channel, timeout: float | None = None) -> bytes:
        waited.append(timeout)
        return recv(found, 0.01 if stopped else timeout)

    recv, stopped = Channel.recv_bytes, True
    monkeypatch.setattr(Channel, "recv_bytes", impatient)
    monkeypatch.setattr("lamina.network.switching._AFTER_SILENCE", 0.2)
    os.kill(pid, signal.SIGSTOP)
    try:
        for name in ("second", "third", *("more",) * 70):  # more than wait to be taken
            with pytest.raises(ChannelTimeout, match="the switchboard is silent: no answer came"):
                house.tell(name)
    finally:
        os.kill(pid, signal.SIGCONT)
    stopped = False
    eventually(lambda: {"first", "second", "third"} <= set(house.asked.containers()))
    house.asked.drop("second")
    assert waited[:2] == [10, 0.2] and waited[-1] == 10


def test_a_first_one_has_nothing_to_be_told_again(house: House) -> None:
    assert house.lost == 0
