"""RUN --mount with real commands, on every driver."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.builder.cachemounts import CacheMounts
from lamina.builder.execute import Execution, Executor, StepFailed
from lamina.builder.request import BuildRequest, Cancellation, Context, RunOptions
from lamina.dockerfile.mounts import parse_mount
from lamina.errors import LaminaError, Unavailable
from lamina.linux.removing import discard_tree
from lamina.runtime.launch import Limits
from lamina.snapshot.protocol import RootMount
from lamina.spec.progress import Update
from lamina.worker.workers import InlineWorkers
from tests.builder.lab import FakeRuntime, Lab
from tests.builder.real import BUSYBOX, real_lab

pytestmark = [pytest.mark.root, pytest.mark.skipif(BUSYBOX is None, reason="needs a static busybox")]


@pytest.fixture(scope="module", params=["erofs", "overlay", "native"])
def lab(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Lab]:
    with real_lab(tmp_path_factory.mktemp("real") / request.param, request.param) as lab:
        (lab.context / "sub").mkdir()
        (lab.context / "sub/a").write_text("from the context\n")
        (lab.context / ".dockerignore").write_text("ignored\n")
        (lab.context / "ignored").write_text("")
        yield lab
        assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{lab.root}/run/build" in line]
        assert list(lab.root.glob("run/build/*")) == []


def names(lab: Lab, image: object, path: str = "/") -> list[str]:
    return [row.name for row in lab.images.ls(str(image.id), path)]  # type: ignore[attr-defined]


def test_the_context_is_mounted_read_only_and_leaves_nothing(lab: Lab) -> None:
    image, told = lab.build(
        "FROM busybox\nWORKDIR /work\nRUN --mount=target=src ls -A src; cat src/sub/a; touch src/new 2>&1; mount | grep -c /work/src; cp src/sub/a copy\n"
    )
    assert "\n.dockerignore\nsub\nfrom the context\n" in told
    assert "Read-only file system" in told
    assert names(lab, image, "/work") == ["copy"]


def test_what_is_written_to_a_writable_bind_is_dropped(lab: Lab) -> None:
    text = "FROM busybox\nRUN --mount=source=sub,target=/mnt,rw echo x >> /mnt/a; touch /mnt/b; cat /mnt/a; ls /mnt\nRUN --mount=source=sub,target=/mnt ls /mnt\n"
    image, told = lab.build(text)
    assert "\nfrom the context\nx\na\nb\nRemoving" in told
    assert told.count("\na\nRemoving") == 1
    assert (lab.context / "sub/a").read_text() == "from the context\n"
    assert "mnt" not in names(lab, image)


def test_a_file_and_a_folder_of_a_stage_or_an_image_are_mounted(lab: Lab) -> None:
    text = """FROM busybox AS maker
RUN mkdir /out && echo made > /out/file && ln -s out /link
FROM busybox
RUN --mount=from=maker,source=/link/file,target=/etc/one --mount=from=maker,source=/out,target=/two \\
    --mount=from=busybox,target=/three,rw cat /etc/one /two/file; ls /three | head -1; rm /three/bin/vi
"""
    image, told = lab.build(text)
    assert "\nmade\nmade\nbin\n" in told
    assert names(lab, image) == names(lab, lab.images.resolve("busybox"))
    with pytest.raises(LaminaError, match="RUN --mount: /none cannot be mounted: no such file"):
        lab.build("FROM busybox AS a\nRUN touch /x\nFROM busybox\nRUN --mount=from=a,source=/none,target=/x true\n")
    with pytest.raises(LaminaError, match="Dockerfile:2: RUN --mount failed: file not found in build context"):
        lab.build("FROM busybox\nRUN --mount=source=none,target=/x true\n")
    with pytest.raises(LaminaError, match="/etc/passwd is a file, what is mounted there is a folder"):
        lab.build("FROM busybox\nRUN --mount=target=/etc/passwd true\n")


def test_a_mounted_context_counts_for_the_cache(lab: Lab) -> None:
    text = "FROM busybox\nRUN --mount=source=sub,target=/s cat /s/a > /counted\n"
    first, _ = lab.build(text)
    assert lab.build(text)[0].id == first.id
    (lab.context / "sub/a").write_text("changed\n")
    second, _ = lab.build(text)
    assert lab.read(second, "/counted") == "changed\n"
    (lab.context / "sub/a").write_text("from the context\n")
    assert lab.build(text)[0].id == first.id


def test_a_cache_folder_stays_from_one_build_to_the_next(lab: Lab) -> None:
    text = "FROM busybox\nARG N\nRUN --mount=type=cache,target=/root/.cache,id=one,mode=0700,uid=7 echo $N >> /root/.cache/log; cat /root/.cache/log; stat -c %a:%u /root/.cache\n"
    image, told = lab.build(text, build_args={"N": "1"})
    assert "\n1\n700:7\n" in told
    image, told = lab.build(text, build_args={"N": "2"})
    assert "\n1\n2\n700:7\n" in told
    assert "root" not in names(lab, image)
    folders = CacheMounts(f"{lab.root}/caches")
    assert "one" in [folder.id for folder in folders.list()]
    assert folders.prune() > 0
    assert folders.list() == ()
    assert "\n3\n700:7\n" in lab.build(text, build_args={"N": "3"})[1]


def test_a_cache_folder_begins_with_what_from_names_and_may_be_read_only(lab: Lab) -> None:
    text = "FROM busybox AS seed\nRUN mkdir /seed && echo seed > /seed/a\nFROM busybox\nRUN --mount=type=cache,target=/c,from=seed,source=/seed,ro cat /c/a; touch /c/b 2>&1 || true\n"
    _, told = lab.build(text)
    assert "\nseed\n" in told and "Read-only file system" in told


def test_a_tmpfs_is_empty_of_the_size_asked_for_and_leaves_no_trace(lab: Lab) -> None:
    text = "FROM busybox\nRUN mkdir /t && touch /t/below\nRUN --mount=type=tmpfs,target=/t,size=1m ls -A /t; df -k /t | tail -1; touch /t/x\nRUN ls /t\n"
    image, told = lab.build(text)
    assert " 1024 " in told
    assert names(lab, image, "/t") == ["below"]


def test_mounts_inside_of_mounts(lab: Lab) -> None:
    text = "FROM busybox\nRUN --mount=type=tmpfs,target=/a --mount=type=cache,target=/a/b/c --mount=source=sub/a,target=/a/file touch /a/b/c/x; cat /a/file; ls /a\n"
    image, told = lab.build(text)
    assert "\nfrom the context\nb\nfile\n" in told
    assert "a" not in names(lab, image)


def test_each_run_has_a_volume_of_its_own_where_the_configuration_says_so(lab: Lab) -> None:
    text = """FROM busybox
RUN mkdir -p /full && echo image > /full/a && chown 7:8 /full && chmod 750 /full && ln -s full /link
VOLUME /link /v/sub /../w
RUN echo x > /v/sub/f && echo y >> /full/a && echo z > /w/f && cat /v/sub/f /full/a /w/f && stat -c %u:%g:%a /full && echo kept > /kept
RUN ls -A /v/sub /w && cat /full/a && echo late > /v/beside
"""
    image, told = lab.build(text)
    assert "\nx\nimage\ny\nz\n7:8:750\nRemoving" in told
    assert "\n/v/sub:\n\n/w:\nimage\nRemoving" in told
    assert lab.read(image, "/full/a") == "image\n"
    assert {"kept", "v", "full"} <= set(names(lab, image)) and "w" not in names(lab, image)
    assert names(lab, image, "/v") == ["beside"]
    with pytest.raises(LaminaError, match="cannot mount volume over existing file, file exists /etc/passwd"):
        lab.build("FROM busybox\nVOLUME /etc/passwd\nRUN true\n")


def test_as_with_buildkit_what_is_written_below_a_volume_can_stay(lab: Lab) -> None:
    text = "FROM busybox\nVOLUME /v\nRUN mkdir /v && echo x > /v/f\n"
    kept, _ = lab.build(text, buildkit=True)
    assert lab.read(kept, "/v/f") == "x\n"
    with pytest.raises(StepFailed):  # the folder is there already; and what BuildKit made is no cache for this
        lab.build(text)


def test_a_mount_goes_before_a_volume_and_lies_in_one(lab: Lab) -> None:
    text = "FROM busybox\nVOLUME /s /v\nRUN --mount=source=sub,target=/s --mount=source=sub,target=/v/in cat /s/a /v/in/a; touch /s/b 2>&1 || touch /v/b\n"
    _, told = lab.build(text)
    assert "\nfrom the context\nfrom the context\n" in told
    assert "Read-only" in told


def test_a_script_reads_what_is_mounted(lab: Lab) -> None:
    _, told = lab.build(
        "FROM busybox\nRUN --mount=source=sub,target=/s <<EOF\nset -e\ncat /s/a\nEOF\nRUN --network=none --security=sandbox true\n"
    )
    assert "\nfrom the context\n" in told


def test_limits_of_the_build_hold_for_commands(lab: Lab) -> None:
    options = RunOptions(
        Limits(memory=64 << 20, cpu_shares=512, rlimits={"nofile": (100, 200)}), 1 << 20, ("no-new-privileges",), "/lamina-builds"
    )
    text = "FROM busybox\nRUN ulimit -n; ulimit -Hn; df -k /dev/shm | tail -1; grep NoNewPrivs /proc/self/status; cat /etc/hosts\n"
    _, told = lab.build(text, run=options, extra_hosts=("there:10.1.2.3",))
    assert "\n100\n200\n" in told and " 1024 " in told and "NoNewPrivs:\t1" in told and "10.1.2.3\tthere" in told


def test_what_a_killed_daemon_left_mounted_is_unmounted_and_deleted(lab: Lab, tmp_path: Path) -> None:
    if lab.driver == "native":
        pytest.skip("nothing is mounted")
    place = lab.root / "run/build/left/mounts/0"
    for name in ("root", "upper", "work"):
        (place / name).mkdir(parents=True)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    lab.workers.run("lamina.builder.mounting:mount_job", {"place": str(place), "paths": [str(tmp_path / "one"), str(tmp_path / "two")]})
    assert str(place) in Path("/proc/self/mountinfo").read_text()
    Executor(lab.runtime, f"{lab.root}/run/build", lab.workers).sweep()
    assert str(place) not in Path("/proc/self/mountinfo").read_text()
    assert not place.exists() and (tmp_path / "one").is_dir()


def test_a_client_that_goes_right_before_a_command_begins_leaves_nothing_open(lab: Lab) -> None:
    def sink(update: Update) -> None:
        if "Running in" in update.stream:
            raise BrokenPipeError

    def attempt() -> int:
        """Build in vain; the pipes that are open then."""
        request = BuildRequest(context=Context(directory=str(lab.context)), text="FROM busybox\nRUN true\n", no_cache=True)
        with pytest.raises(BrokenPipeError):
            lab.builder.build(request, sink)
        return sum(pipe(int(fd)) for fd in os.listdir("/proc/self/fd"))

    before = attempt()
    assert attempt() <= before  # what was not collected until then may go meanwhile


def pipe(fd: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:  # it was closed meanwhile
        return False


def test_a_folder_that_is_pruned_while_a_build_waits_for_it_is_made_anew(tmp_path: Path) -> None:
    folders = CacheMounts(str(tmp_path))
    locked = parse_mount("type=cache,target=/x,sharing=locked")
    make = lambda path: Path(path).mkdir()  # noqa: E731
    first = folders.used(locked, make, lambda: None)
    place = Path(first.__enter__()).parent

    def waits() -> None:
        """The other build ends, and a prune comes before this one has looked again."""
        if place.exists():
            first.__exit__(None, None, None)
            assert folders.prune() > 0 and not place.exists()

    with folders.used(locked, make, waits) as path:
        assert Path(path).is_dir() and folders.prune() == 0


def test_a_locked_folder_is_one_builds_at_a_time_and_a_private_one_is_another(tmp_path: Path) -> None:
    folders = CacheMounts(str(tmp_path))
    locked = parse_mount("type=cache,target=/x,sharing=locked")
    private = parse_mount("type=cache,target=/y,sharing=private")
    make = lambda path: Path(path).mkdir()  # noqa: E731
    entered: list[str] = []

    def second() -> None:
        with folders.used(locked, make, lambda: None) as path:
            entered.append(path)

    with folders.used(locked, make, lambda: None) as first:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        assert entered == []
        assert folders.prune() == 0 and Path(first).is_dir(), "a folder in use stays"
    thread.join(120)
    assert entered == [first]
    with folders.used(private, make, lambda: None) as one, folders.used(private, make, lambda: None) as other:
        assert one != other
    with folders.used(private, make, lambda: None) as again:
        assert again == one


def test_a_folder_that_is_wanted_while_it_is_pruned_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders, shared = CacheMounts(str(tmp_path)), parse_mount("type=cache,target=/x")
    make = lambda path: Path(path).mkdir()  # noqa: E731
    with folders.used(shared, make, lambda: None) as path:
        (Path(path) / "old").touch()
    begun: list[Path] = []

    def discarded(path: str) -> None:
        os.unlink(f"{path}/lock")  # as it happens to come first
        monkeypatch.undo()
        begun.append(Path(wanted.__enter__()))
        (begun[0] / "new").touch()
        discard_tree(path)

    wanted = folders.used(shared, make, lambda: None)
    monkeypatch.setattr("lamina.builder.cachemounts.discard_tree", discarded)
    assert folders.prune() > 0
    assert os.listdir(begun[0]) == ["new"] and [folder.id for folder in folders.list()] == ["/x"]
    wanted.__exit__(None, None, None)
    assert folders.prune() > 0 and os.listdir(tmp_path) == []


def test_a_step_whose_network_cannot_be_left_leaves_no_directory(tmp_path: Path) -> None:
    class Networks:
        def leave(self, container: str) -> None:
            raise Unavailable("the kernel does not answer")

    gone: list[str] = []
    executor = Executor(FakeRuntime(), str(tmp_path / "run"), InlineWorkers(), Networks(), gone.append)  # type: ignore[arg-type]
    execution = Execution(("true",), (), "/", "", "none")
    run = executor.run(execution, lambda own: RootMount((), own.upper), started=lambda _: None, output=print, cancellation=Cancellation())
    with pytest.raises(Unavailable), run:
        pass
    assert gone == [str(path) for path in (tmp_path / "run").iterdir()]
