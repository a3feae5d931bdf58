"""`Engine.sandbox`: commands, states kept and gone back to, branches; by each driver."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

import lamina
from lamina.container.snapshots import SnapshotNotFound
from lamina.daemon.engine import EngineClosed
from lamina.errors import Exhausted, InvalidArgument, LaminaError, Unsupported
from lamina.runtime.launch import CommandNotFound
from tests.harness import busybox_tar, eventually

pytestmark = pytest.mark.root
EXAMPLE = Path(__file__).parents[2] / "examples/branches.py"


@pytest.fixture(scope="module", params=["erofs", "overlay", "native"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[lamina.Engine]:
    """An engine with an image of busybox."""
    base = tmp_path_factory.mktemp("sandbox")
    try:
        with lamina.Engine.open(base / "root", storage_driver=request.param) as engine:
            image = engine.import_tar(busybox_tar(base / "base.tar"), "box")
            engine.build(f'FROM {image.names[0]}\nENV A=1\nVOLUME /data\nENTRYPOINT ["false"]\n', tag="box:full")
            yield engine
    except Unsupported as error:
        pytest.skip(str(error))


def test_commands_share_what_they_write_and_nothing_else(engine: lamina.Engine) -> None:
    with engine.sandbox("box:full") as box:
        first = box.exec("sh", "-c", "echo $A$B; pwd; cat; echo two >&2; sleep 1000 & exit 3", input=b"in\n", env={"B": "2"}, cwd="/tmp")
        assert (first.exit_code, first.text.split()) == (3, ["12", "/tmp", "in", "two"])
        second = box.exec("sh", "-c", "echo -$B-; pwd; pidof sleep || echo none; id -u", user="nobody")
        assert second.text.split() == ["--", "/", "none", "65534"]
        assert box.exec("sh", "-c", "mkdir -p /data; echo kept > /data/file; exit 7").exit_code == 7
        assert box.exec("cat", "/data/file").text == "kept\n"
        assert box.exec("sleep", "1000", timeout=0.2).exit_code == 137
        with pytest.raises(CommandNotFound):
            box.exec("nothing")
        with pytest.raises(TypeError):
            box.exec("cat", input="a text", timeout=10)  # type: ignore[arg-type]
        assert box.exec("true").exit_code == 0
        assert box.changes()["/data/file"] == "A"
        assert "/data/file" in {change.path for change in box.diff()}


def test_an_interrupt_ends_the_command_and_leaves_the_sandbox_free(engine: lamina.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> bytes:
        raise KeyboardInterrupt

    with engine.sandbox("box") as box:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(lamina.Sandbox, "_output", interrupted)
            box.exec("sleep", "1000")
        assert box.exec("pidof", "sleep").exit_code == 1 and box.exec("echo", "free").text == "free\n"


def test_branches_are_made_all_or_none(engine: lamina.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    create, left = engine.containers.create, [True, True]

    def failing(*arguments: object, **options: object) -> object:
        if not left:
            raise OSError(28, "no space left on device")
        left.pop()
        return create(*arguments, **options)  # type: ignore[arg-type]

    with engine.sandbox("box") as box:
        before = len(list(engine.all_containers()))
        with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left"):
            patch.setattr(engine.containers, "create", failing)
            box.branches(3)
        assert left == [] and len(list(engine.all_containers())) == before


def test_what_is_no_command_and_what_is_no_input_are_refused_before_anything_runs(engine: lamina.Engine) -> None:
    with engine.sandbox("box") as box:
        with pytest.raises(InvalidArgument, match="no command"):
            box.exec()
        with pytest.raises(TypeError):
            box.exec("cat", input="text", timeout=20)  # type: ignore[arg-type]
        assert box.exec("cat", input=b"bytes").text == "bytes"
        with pytest.raises(InvalidArgument, match="Env must not hold a NUL"):
            box.exec("env", env={"A": "b\0c"})
        with pytest.raises(InvalidArgument, match="Cmd must not hold a NUL"):
            box.exec("echo", "b\0c")
        with pytest.raises(InvalidArgument, match="invalid environment variable: =c"):
            box.exec("env", env={"": "c"})
        with pytest.raises(InvalidArgument, match="the working directory 'data' is invalid"):
            box.exec("pwd", cwd="data")


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf")])
def test_a_timeout_that_is_no_time_is_refused(engine: lamina.Engine, timeout: float) -> None:
    with engine.sandbox("box") as box:
        with pytest.raises(InvalidArgument, match=f"cannot have {timeout} seconds"):
            box.exec("touch", "/ran", timeout=timeout)
        with pytest.raises(TypeError):
            box.exec("touch", "/ran", timeout="1")  # type: ignore[arg-type]
        assert box.changes() == {}


def test_a_container_is_started_and_stopped_once(engine: lamina.Engine) -> None:
    image = engine.image("box")
    with pytest.raises(InvalidArgument, match=r"a list of words, not a text: 'sleep 1000'"):
        image.create("sleep 1000")
    container = image.create(["sleep", "1000"])
    try:
        assert container.start().start().status == "running"
        container.stop()
        container.stop()
        assert container.status == "exited"
    finally:
        container.remove(force=True)


def test_who_waits_while_the_engine_is_closed_is_told(tmp_path: Path) -> None:
    told: list[BaseException] = []

    def waits(for_end: Callable[[], object]) -> threading.Thread:
        def run() -> None:
            try:
                for_end()
            except EngineClosed as error:
                told.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    with lamina.Engine.open(tmp_path / "root") as engine:
        box = engine.sandbox(engine.import_tar(busybox_tar(tmp_path / "base.tar"), "box"))
        container = engine.image("box").create(["sleep", "1000"]).start()
        threads = [waits(lambda: box.exec("sleep", "1000")), waits(container.wait)]
        eventually(lambda: box.container.status == "running", "the command runs")
    for thread in threads:
        thread.join(60)
    assert len(told) == 2
    with lamina.Engine.open(tmp_path / "root") as engine:
        engine.container(container.id).remove(force=True)


@pytest.mark.parametrize(("name", "value"), [("memory", -1), ("cpus", float("nan")), ("cpus", float("inf")), ("pids", -5), ("size", -1)])
def test_what_is_no_limit_is_refused(name: str, value: float) -> None:
    with pytest.raises(InvalidArgument, match=f"cannot have {value} as its limit of {name}"):
        lamina.Limits(**{name: value})  # type: ignore[arg-type]


def test_states_are_kept_and_gone_back_to(engine: lamina.Engine) -> None:
    with engine.sandbox("box") as box:
        box.exec("sh", "-c", "echo 1 > /state")
        one = box.snapshot("one")
        box.exec("sh", "-c", "echo 2 > /state; rm -r /etc")
        two = box.snapshot()
        assert {change.path for change in box.diff(one)} >= {"/state", "/etc/passwd"}
        box.rollback(one)
        assert box.exec("sh", "-c", "cat /state; ls /etc/passwd").text.split() == ["1", "/etc/passwd"]
        box.rollback(two)
        assert box.exec("cat", "/state").text == "2\n"
        box.rollback()
        assert box.changes() == {} and box.exec("cat", "/state").exit_code == 1


def test_a_branch_can_go_back_to_what_it_began_as_wherever_it_went_and_whatever_was_closed(engine: lamina.Engine) -> None:
    with engine.sandbox("box") as box:
        box.exec("touch", "/early")
        early = box.snapshot()
        box.exec("touch", "/common")
        with box.branch() as branch:
            branch.exec("touch", "/own")
            branch.rollback(early)
            box.close()
            assert {change.path: change.kind for change in branch.diff()} == {"/common": "D"}
            branch.rollback()
            assert branch.exec("ls", "/early", "/common").exit_code == 0 and branch.changes() == {"/common": "A", "/early": "A"}
            with pytest.raises(SnapshotNotFound):
                branch.diff(replace(early, id="f" * 64))
    assert os.listdir(f"{engine.containers._parts.root}/.snapshots") == []


def test_what_the_root_is_like_is_part_of_a_state(engine: lamina.Engine) -> None:
    def root(box: lamina.Sandbox) -> str:
        return box.exec("stat", "-c", "%a %u", "/").text.strip()

    with engine.sandbox("box") as box:
        box.exec("sh", "-c", "chmod 700 /; chown 5 /")
        with box.branch() as one, one.branch() as two:
            one.exec("chmod", "711", "/")
            with one.branch() as three:
                assert [root(each) for each in (box, one, two, three)] == ["700 5", "711 5", "700 5", "711 5"]
            one.rollback()
            assert root(one) == "700 5"


def test_a_rollback_that_fails_leaves_what_was_written_as_it_was_told(engine: lamina.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with engine.sandbox("box") as box:
        box.exec("sh", "-c", "echo 1 > /state; chmod 700 /bin; touch -d @0 /etc/passwd")
        written = box.changes()
        with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output"):
            patch.setattr(engine.containers.snapshots, "_record", refused)
            box.rollback()
        assert box.changes() == written and box.exec("cat", "/state").text == "1\n"


def test_branches_go_on_apart_and_outlive_what_they_came_from(engine: lamina.Engine) -> None:
    with ExitStack() as closing:
        box = closing.enter_context(engine.sandbox("box"))
        box.exec("sh", "-c", "echo common > /common")
        branches = [closing.enter_context(branch) for branch in box.branches(3)]
        for number, branch in enumerate(branches):
            branch.exec("sh", "-c", f"echo {number} > /own; cat /common >> /own")
        again = closing.enter_context(branches[1].branch())
        box.close()
        assert [branch.exec("cat", "/own").text for branch in branches] == [f"{number}\ncommon\n" for number in range(3)]
        assert again.exec("cat", "/own").text == "1\ncommon\n"
        assert {change.path for change in branches[2].diff()} == {"/own"}
        assert [change.path for change in branches[2].diff(branches[1])] == ["/own"]
        branches[2].rollback()
        assert branches[2].exec("ls", "/own").exit_code != 0 and branches[2].exec("cat", "/common").text == "common\n"
    assert list(engine.all_containers()) == []
    kept = f"{engine.containers._parts.root}/.snapshots"
    assert not os.path.isdir(kept) or os.listdir(kept) == []


def test_hundreds_of_branches_share_their_directories(engine: lamina.Engine) -> None:
    if engine.system.details()["driver"] == "native":
        pytest.skip("a container is a copy")
    with engine.sandbox("box") as box:
        box.exec("sh", "-c", "dd if=/dev/zero of=/big bs=1M count=16 2>/dev/null")
        branches = box.branches(300)
        rows = engine.containers.usage()
        assert len(rows) == 301 and sum(int(row["SizeRw"]) for row in rows) < 40 << 20
        assert branches[-1].exec("stat", "-c", "%s", "/big").text == "16777216\n"
        for branch in branches:
            branch.close()


def test_a_sandbox_whose_disk_is_full_can_be_emptied_and_rolled_back(engine: lamina.Engine) -> None:
    with engine.sandbox("box", lamina.Limits(size=16 << 20)) as box:
        box.exec("sh", "-c", "cat /dev/zero > /big")
        assert box.exec("sh", "-c", "rm /big && echo free > /x && cat /x").text == "free\n"
        box.exec("sh", "-c", "n=0; while : > /$n; do n=$((n + 1)); done")
        for _ in range(3):
            with suppress(LaminaError):  # ext4 gives an inode to nobody else for seconds
                box.exec("true")
        if engine.system.details()["driver"] == "native":  # needs room for another copy
            with pytest.raises(Exhausted, match="no space left"):
                box.rollback()
            return
        box.rollback()
        assert box.exec("sh", "-c", "echo free > /x && cat /x").text == "free\n"


def test_what_a_killed_program_leaves_is_removed_by_the_next(tmp_path: Path) -> None:
    base = busybox_tar(tmp_path / "base.tar")
    program = (
        "import lamina, os, signal\n"
        f"engine = lamina.Engine.open({str(tmp_path / 'root')!r})\n"
        f"box = engine.sandbox(engine.import_tar({str(base)!r}, 'box'))\n"
        "box.exec('touch', '/x'); box.branches(3)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=300).returncode == -9
    with lamina.Engine.open(tmp_path / "root") as engine:
        assert list(engine.all_containers()) == []
        assert sorted(name for name in os.listdir(tmp_path / "root/containers") if name not in (".init", ".scratch")) in (
            [],
            [".snapshots"],
        )
        assert os.listdir(tmp_path / "root/containers/.snapshots") == []


def test_a_command_that_runs_while_its_program_is_killed_is_ended_by_the_next(tmp_path: Path) -> None:
    base = busybox_tar(tmp_path / "base.tar")
    program = (
        "import glob, json, lamina, os, signal, threading, time\n"
        f"engine = lamina.Engine.open({str(tmp_path / 'root')!r})\n"
        f"box = engine.sandbox(engine.import_tar({str(base)!r}, 'box'))\n"
        "threading.Thread(target=box.exec, args=('sh', '-c', 'echo > /started; exec sleep 4711')).start()\n"
        "while '/started' not in box.changes(): time.sleep(0.01)\n"
        f"print(json.load(open(glob.glob({str(tmp_path / 'root/containers/*/monitor.json')!r})[0]))['pid'], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=300, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    with lamina.Engine.open(tmp_path / "root") as engine:
        assert list(engine.all_containers()) == []
        assert not Path(f"/proc/{done.stdout.strip()}").exists()


def test_the_example_compares_what_twenty_branches_changed(tmp_path: Path) -> None:
    base = busybox_tar(tmp_path / "base.tar")
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), "--root", str(tmp_path / "root"), str(base)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("branch") >= 20 and "/var/cache/answer" in done.stdout and "only in" in done.stdout
