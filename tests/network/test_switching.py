"""The daemon's side of the switchboard: whoever finds out that it is gone has it told everything again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

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


def test_a_first_one_has_nothing_to_be_told_again(house: House) -> None:
    assert house.lost == 0
