"""Worker processes: answers, errors, crashes, idleness, cancelling."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lamina.errors import Internal, InvalidArgument, LaminaError, NotFound, Unavailable
from lamina.linux.scheduling import turns
from lamina.spec.digest import InvalidDigest
from lamina.worker import InlineWorkers, WorkerCrashed, WorkerPool, Workers
from lamina.worker.failure import described, raised

JOBS = "lamina.worker_jobs_for_tests"
SOURCE = """
import os, time
from lamina.errors import NotFound
from lamina.spec.digest import Digest

def echo(params, fds, report):
    report({"got": len(fds)})
    return {"params": params, "read": [os.read(fd, 100).decode() for fd in fds], "pid": os.getpid()}

def lost(params, fds, report):
    raise NotFound("no such thing: x", hint="look elsewhere")

def leaf(params, fds, report):
    Digest.parse("nonsense")

def bug(params, fds, report):
    return {"x": params["absent"]}

def crash(params, fds, report):
    os.kill(os.getpid(), 9)

def endless(params, fds, report):
    while True:
        report({"tick": 1})
        time.sleep(0.01)

def waits(params, fds, report):
    report({"began": True})
    os.read(fds[0], 1)
    return {}

def works(params, fds, report):
    report({"began": True})
    os.set_blocking(fds[0], False)
    while True:
        try:
            os.read(fds[0], 1)
            return {}
        except BlockingIOError:
            pass

def hoard(params, fds, report):
    global kept
    kept = b"x" * (100 << 20)
    return {}

def full(params, fds, report):
    raise OSError(28, "No space left on device")
"""


@pytest.fixture
def path(tmp_path: Path) -> list[str]:
    """A sys.path on which the jobs above are a module of the package."""
    import lamina

    package = tmp_path / "lamina"
    package.mkdir()
    (package / "__init__.py").write_text(f"__path__.append({str(Path(lamina.__file__).parent)!r})\n")
    (package / "worker_jobs_for_tests.py").write_text(SOURCE)
    return [str(tmp_path), *sys.path]


@pytest.fixture
def pool(path: list[str]) -> Iterator[WorkerPool]:
    pool = WorkerPool(2, path=path, idle=60)
    yield pool
    pool.close()


@pytest.fixture
def impatient(path: list[str]) -> Iterator[WorkerPool]:
    """A pool whose workers end soon."""
    pool = WorkerPool(2, path=path, idle=0.2)
    yield pool
    pool.close()


def until(condition: object, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def test_a_job_gets_parameters_and_descriptors_and_answers(pool: WorkerPool) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"hello")
    updates: list[dict[str, object]] = []
    answer = pool.run(f"{JOBS}:echo", {"a": [1, "ü"]}, [reader], updates.append)
    assert answer["params"] == {"a": [1, "ü"]}
    assert answer["read"] == ["hello"]
    assert answer["pid"] != os.getpid()
    assert updates == [{"got": 1}]
    os.close(reader), os.close(writer)


def test_a_worker_is_used_again(pool: WorkerPool) -> None:
    assert len({pool.run(f"{JOBS}:echo", {})["pid"] for _ in range(5)}) == 1


def test_errors_keep_kind_message_and_hint(pool: WorkerPool) -> None:
    with pytest.raises(NotFound) as caught:
        pool.run(f"{JOBS}:lost", {})
    assert (caught.value.message, caught.value.hint) == ("no such thing: x", "look elsewhere")
    with pytest.raises(InvalidDigest):
        pool.run(f"{JOBS}:leaf", {})
    with pytest.raises(Internal, match="KeyError"):
        pool.run(f"{JOBS}:bug", {})
    with pytest.raises(LaminaError) as told:
        pool.run(f"{JOBS}:full", {})
    assert told.value.code == "exhausted"


def test_a_crash_fails_its_own_job_only(pool: WorkerPool) -> None:
    reader, writer = os.pipe()
    done: list[object] = []
    other = threading.Thread(target=lambda: done.append(pool.run(f"{JOBS}:waits", {}, [reader])))
    other.start()
    with pytest.raises(WorkerCrashed, match="crash"):
        pool.run(f"{JOBS}:crash", {})
    os.write(writer, b"x")
    other.join(60)
    assert done == [{}]
    assert pool.run(f"{JOBS}:echo", {})["read"] == []
    os.close(reader), os.close(writer)


def ended(pid: int) -> bool:
    """Whether a process is a zombie, and its last thread gone, with which its descriptors go."""
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "Z" and os.listdir(f"/proc/{pid}/task") == [str(pid)]


def test_a_worker_that_is_killed_while_it_rests_fails_no_job(pool: WorkerPool) -> None:
    pid = pool.run(f"{JOBS}:echo", {})["pid"]
    os.kill(pid, 9)
    until(lambda: ended(pid))
    assert pool.run(f"{JOBS}:echo", {})["pid"] != pid
    assert len(pool.pids) == 1


def test_what_on_update_raises_ends_the_job(pool: WorkerPool) -> None:
    def refuse(update: dict[str, object]) -> None:
        raise InvalidArgument("enough")

    with pytest.raises(InvalidArgument, match="enough"):
        pool.run(f"{JOBS}:endless", {}, (), refuse)
    assert pool.pids == ()


def test_idle_workers_end(impatient: WorkerPool) -> None:
    pid = impatient.run(f"{JOBS}:echo", {})["pid"]
    until(lambda: not impatient.pids)
    until(lambda: not Path(f"/proc/{pid}").exists())


def test_the_last_one_that_rests_stays_longer(path: list[str]) -> None:
    reader, writer = os.pipe()
    with closing(WorkerPool(2, path=path, idle=0.2, stay=60)) as pool:
        threads = [threading.Thread(target=pool.run, args=(f"{JOBS}:waits", {}, [reader])) for _ in range(2)]
        for thread in threads:
            thread.start()
        until(lambda: len(pool.pids) == 2)
        os.write(writer, b"..")
        for thread in threads:
            thread.join()
        until(lambda: len(pool.pids) == 1)
        [pid] = pool.pids
        assert pool.run(f"{JOBS}:echo", {})["pid"] == pid
    os.close(reader)
    os.close(writer)


def test_one_that_holds_much_does_not_stay(path: list[str]) -> None:
    with closing(WorkerPool(1, path=path, idle=0.2, stay=60)) as pool:
        pool.run(f"{JOBS}:hoard", {})
        until(lambda: not pool.pids)


def test_more_jobs_than_workers_wait_their_turn(path: list[str]) -> None:
    answers: list[object] = []
    # On a busy machine it looks as if a worker waited that was not heard yet: here no more may be started for such.
    with closing(WorkerPool(2, most=2, path=path)) as pool:
        threads = [threading.Thread(target=lambda: answers.append(pool.run(f"{JOBS}:echo", {})["pid"])) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert len(answers) == 8
    assert len(set(answers)) <= 2


def held(pool: WorkerPool, job: str, count: int) -> tuple[list[threading.Thread], list[int]]:
    """So many jobs that run until their pipe is closed: the threads that wait for them, and the pipes' ends."""
    threads, ends = [], []
    began: list[object] = []
    for _ in range(count):
        reader, writer = os.pipe()
        threads.append(threading.Thread(target=pool.run, args=(f"{JOBS}:{job}", {}, [reader], began.append)))
        ends += [reader, writer]
        threads[-1].start()
    until(lambda: len(began) == count)
    return threads, ends


def test_jobs_that_wait_for_somebody_else_do_not_hold_others_up(impatient: WorkerPool) -> None:
    threads, ends = held(impatient, "waits", 4)
    assert impatient.run(f"{JOBS}:echo", {"number": 5})["params"] == {"number": 5}
    for end in ends:
        os.close(end)
    for thread in threads:
        thread.join()
    until(lambda: len(impatient.pids) <= 1)


def test_jobs_that_work_keep_others_waiting(pool: WorkerPool) -> None:
    threads, ends = held(pool, "works", 2)
    answered = threading.Event()
    third = threading.Thread(target=lambda: (pool.run(f"{JOBS}:echo", {}), answered.set()))
    third.start()
    assert not answered.wait(1)
    assert len(pool.pids) == 2
    for end in ends:
        os.close(end)
    for thread in (*threads, third):
        thread.join()
    assert answered.is_set()


def test_a_closed_pool_refuses_and_leaves_no_process(path: list[str]) -> None:
    pool = WorkerPool(1, path=path)
    pid = pool.run(f"{JOBS}:echo", {})["pid"]
    pool.close()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(Unavailable):
        pool.run(f"{JOBS}:echo", {})


def test_workers_die_when_the_pool_is_gone(pool: WorkerPool) -> None:
    reader, writer = os.pipe()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            pool.run(f"{JOBS}:waits", {}, [reader])
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: bool(pool.pids))
    pool.close()
    thread.join(60)
    assert len(failed) == 1
    os.close(reader), os.close(writer)


@pytest.mark.parametrize("job", ["os:system", "lamina.errors", "lamina.worker.main:x y", "json:loads"])
def test_only_our_own_jobs_are_found(job: str) -> None:
    workers: Workers = InlineWorkers()
    with pytest.raises(Internal, match="no such job"):
        workers.run(job, {})


def test_an_unknown_leaf_comes_back_as_its_kind() -> None:
    told = described(NotFound("gone"))
    assert type(raised({**told, "leaf": "lamina.nowhere:Gone"})) is NotFound
    assert type(raised({"code": "?", "leaf": "os:error", "message": "m"})) is Internal


def test_workers_stand_back_within_the_pools_own_session(pool: WorkerPool) -> None:
    pid = int(pool.run(f"{JOBS}:echo", {})["pid"])
    policy, nice, _ = turns(pid)
    assert (policy, nice > 0) == (os.SCHED_BATCH, True)
    assert (os.getsid(pid), os.getpgid(pid)) == (os.getsid(0), pid)
