"""Stages side by side: what waits for what, what is told when, and how failures end the rest."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from lamina.builder.execute import StepFailed
from lamina.builder.progress import Classic, Output, StepBegan, Turns
from lamina.builder.request import Cancellation
from lamina.builder.schedule import WIDEST, Stages
from lamina.builder.state import State, empty_config
from lamina.errors import Cancelled
from lamina.runtime.launch import Launch
from lamina.spec.progress import Update
from tests.builder.lab import HOST, Lab

STATE = State(None, empty_config(HOST))


def test_independent_stages_run_at_the_same_time_and_tell_one_after_the_other(lab: Lab) -> None:
    lab.base()
    together = threading.Barrier(3)

    def meet(upper: Path, launch: Launch) -> tuple[int, str]:
        together.wait(120)
        (upper / launch.id).write_text("")
        return 0, f"{launch.spec['process']['args'][-1]} ran\n"

    for name in ("a", "b", "c"):
        lab.runtime.commands[name] = meet
    text = "FROM base AS a\nRUN a\nFROM base AS b\nRUN b\nFROM base AS c\nRUN c\nFROM scratch\nCOPY --from=c / /c/\nCOPY --from=a / /a/\nCOPY --from=b / /b/\n"
    image, told = lab.build(text)
    assert [row.name for row in lab.images.ls(str(image.id), "/")] == ["a", "b", "c"]
    assert re.findall(r"Step (\d+)/10 |(\w) ran", told) == [
        ("1", ""), ("2", ""), ("", "a"), ("3", ""), ("4", ""), ("", "b"), ("5", ""), ("6", ""), ("", "c"), *[(str(n), "") for n in range(7, 11)],
    ]  # fmt: skip


def test_a_stage_that_fails_ends_the_others_and_is_the_one_that_is_told(lab: Lab) -> None:
    lab.base()
    begun = threading.Event()

    def fail(upper: Path, launch: Launch) -> tuple[int, str]:
        begun.wait(120)
        return 5, "why\n"

    def succeed(upper: Path, launch: Launch) -> tuple[int, str]:
        begun.set()
        return 0, "fine\n"

    lab.runtime.commands.update(fail=fail, succeed=succeed)
    text = "FROM base AS a\nRUN succeed\nFROM base AS b\nRUN fail\nFROM base AS c\nCOPY --from=a / /\nCOPY --from=b / /\nRUN never\n"
    with pytest.raises(StepFailed, match="returned a non-zero code: 5"):
        lab.build(text)
    told = "".join(update.stream for update in lab.told)
    assert "fine\n" in told and told.endswith("why\n")
    assert "never" not in [launch.spec["process"]["args"][-1] for launch in lab.runtime.launches]
    assert [path.name for path in (lab.root / "run").glob("build-*")] == ["build-init"]


def test_cancelling_ends_all_stages(lab: Lab) -> None:
    lab.base()
    cancellation = Cancellation()

    def cancel(upper: Path, launch: Launch) -> tuple[int, str]:
        cancellation.cancel()
        return 0, ""

    lab.runtime.commands.update(a=cancel, b=cancel)
    with pytest.raises(Cancelled):
        lab.build("FROM base AS a\nRUN a\nFROM base AS b\nRUN b\nFROM a\nCOPY --from=b / /\nRUN c\n", cancellation)
    assert "c" not in [launch.spec["process"]["args"][-1] for launch in lab.runtime.launches]


def test_a_trigger_may_copy_from_a_stage_that_nothing_else_names(lab: Lab) -> None:
    from lamina.spec.reference import Reference

    lab.base()
    lab.build("FROM base\nONBUILD COPY --from=other /made /made\n", tags=(Reference.parse("parent"),))
    lab.runtime.commands["make"] = lambda upper, launch: ((upper / "made").write_text("made"), (0, ""))[1]
    image, _ = lab.build("FROM base AS other\nRUN make\nFROM parent\n")
    assert lab.read(image, "/made") == "made"


def test_a_stage_begins_only_after_what_it_needs_and_is_built_once() -> None:
    done: list[int] = []
    stages: Stages

    def build(index: int) -> State:
        if index == 3:
            stages.state(1)
        done.append(index)
        return STATE

    stages = Stages(build, lambda: None)
    stages.run({0: frozenset(), 1: frozenset({0}), 2: frozenset({0}), 3: frozenset({2}), 4: frozenset({1, 3})}, lambda index: None)
    assert sorted(done) == [0, 1, 2, 3, 4]
    assert done[0] == 0 and done[-1] == 4 and done.index(2) < done.index(3) and done.index(1) < done.index(3)


def test_more_stages_than_are_built_at_a_time_come_to_an_end() -> None:
    count = WIDEST * 3
    done: list[int] = []
    stages = Stages(lambda index: done.append(index) or STATE, lambda: None)
    stages.run({index: frozenset({0} if index else ()) for index in range(count)}, lambda index: None)
    assert sorted(done) == list(range(count))


def test_what_waits_for_its_turn_is_told_in_order_and_clipped() -> None:
    told: list[object] = []
    turns = Turns(told.append, [0, 2, 5])
    turns.of(2)(StepBegan(3, 5, "later"))
    for _ in range(6):
        turns.of(5)(Output("x" * (1 << 20)))
    turns.of(0)(StepBegan(1, 5, "now"))
    turns.of(7)(StepBegan(9, 5, "never"))
    assert told == [StepBegan(1, 5, "now")]
    turns.ended(2)
    turns.ended(0)
    assert told[1] == StepBegan(3, 5, "later")
    assert len(told) == 7 and "left out" in told[6].text  # type: ignore[attr-defined]
    turns.of(5)(Output("live"))
    assert told[-1] == Output("live")


def test_a_quiet_build_that_fails_tells_the_last_of_what_it_said() -> None:
    told: list[Update] = []
    classic = Classic(told.append, quiet=True)
    for letter in "abcdefgh":
        classic(Output(letter * (1 << 20)))
    assert told == []
    classic.failed()
    assert [update.stream[0] for update in told] == list("efgh")
