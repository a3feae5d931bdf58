"""The zygote as a process of its own: started when needed, again when it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from lamina.runtime import interpreter
from lamina.runtime.client import Zygote
from lamina.runtime.launch import RuntimeFailed

_start = interpreter.start_sealed


def ending(monkeypatch: pytest.MonkeyPatch, times: int, last_words: str) -> list[int]:
    """The first zygotes end so before they are ready; how many were started."""
    started: list[int] = []

    def start(module: str, stdin: int, log: int) -> subprocess.Popen[bytes]:
        started.append(1)
        if len(started) > times:
            return _start(module, stdin, log)
        return subprocess.Popen(["sh", "-c", last_words], stdin=stdin)

    monkeypatch.setattr(interpreter, "start_sealed", start)
    return started


@pytest.fixture
def zygote(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = Zygote(str(tmp_path / "zygote.log"))
    yield made
    made.close()


def test_one_that_is_killed_while_it_starts_is_started_again(zygote: Zygote, monkeypatch: pytest.MonkeyPatch) -> None:
    started = ending(monkeypatch, 3, "kill -9 $$")
    zygote.send(b"{}", [])
    assert len(started) == 4
    assert not zygote.died()


def test_warming_up_does_not_fail_where_it_is_killed(zygote: Zygote, monkeypatch: pytest.MonkeyPatch) -> None:
    started = ending(monkeypatch, 1, "kill -9 $$")
    zygote.warm()
    zygote.send(b"{}", [])
    assert len(started) == 2


def test_one_that_is_killed_between_two_messages_is_started_again(zygote: Zygote) -> None:
    zygote.send(b"{}", [])
    assert zygote._process is not None
    os.kill(zygote._process.pid, signal.SIGKILL)
    assert zygote.died()
    zygote.send(b"{}", [])
    assert not zygote.died()


@pytest.mark.parametrize(("last_words", "starts"), [("exit 3", 1), ("kill -9 $$", 5)])
def test_one_that_cannot_start_is_an_error_that_names_its_log(
    zygote: Zygote, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, last_words: str, starts: int
) -> None:
    started = ending(monkeypatch, 99, last_words)
    with pytest.raises(RuntimeFailed, match="the zygote does not start") as error:
        zygote.send(b"{}", [])
    assert len(started) == starts
    assert str(tmp_path / "zygote.log") in (error.value.hint or "")
