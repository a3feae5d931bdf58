"""The engine in one process."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lamina import Engine
from lamina.builder.request import BuildRequest, Context
from lamina.daemon.root import RootHeld
from lamina.errors import InvalidArgument
from lamina.image.store import ImageNotFound
from lamina.spec.reference import Reference
from tests.harness import eventually

pytestmark = pytest.mark.root


@pytest.fixture(params=["erofs", "overlay", "native"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An engine on a root of its own, with an image of one file."""
    from lamina.errors import Unsupported

    try:
        opened = Engine.open(tmp_path / "root", storage_driver=request.param)
    except Unsupported as error:
        pytest.skip(str(error))
    with opened as engine:
        _import(engine, "one:1")
        yield engine


def _import(engine: Engine, name: str) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo("etc/motd")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"hi\n"))
    data.seek(0)
    engine.images.import_(data, name=Reference.parse(name))


def test_a_second_opening_fails_and_says_who_holds_the_root(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(RootHeld, match=rf"pid {os.getpid()}"):
        Engine.open(tmp_path / "root")
    assert engine.images.resolve("one:1").names


def test_an_empty_root_is_not_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidArgument, match="data root is an empty text"):
        Engine.open("")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [b"\xff", b"a\nb"])
def test_a_root_whose_name_is_no_text_is_refused(tmp_path: Path, name: bytes) -> None:
    with pytest.raises(InvalidArgument, match="name a directory of printable characters"):
        Engine.open(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    assert not list(tmp_path.iterdir())


def test_info_and_version_tell_of_experiments(tmp_path: Path) -> None:
    for experimental in (False, True):
        with Engine.open(tmp_path / "root", experimental=experimental) as engine:
            assert engine.system.info()["ExperimentalBuild"] is experimental
            assert engine.system.version().get("Experimental", False) is experimental


def test_what_was_done_is_there_when_it_is_opened_again(engine: Engine, tmp_path: Path) -> None:
    image, driver = engine.images.resolve("one:1"), engine.system.details()["driver"]
    engine.close()
    engine.close()
    with Engine.open(tmp_path / "root", storage_driver=driver) as again:
        assert again.images.resolve("one:1").id == image.id
        assert b"".join(again.images.cat("one:1", "/etc/motd")[1]) == b"hi\n"


def test_events_and_disk_usage_tell_what_happened(engine: Engine) -> None:
    with engine.events.subscribe({"type": ["image"]}) as events:
        engine.images.tag("one:1", Reference.parse("two:2"))
        told = events.get(60)
    assert told is not None
    assert (told.action, told.attributes["name"]) == ("tag", "two:2")
    usage = engine.system.disk_usage()
    assert usage["LayersSize"] > 0
    assert usage["Images"][0]["RepoTags"] == ["one:1", "two:2"]


def test_an_image_that_is_made_under_a_name_is_told_as_tagged(engine: Engine) -> None:
    with engine.events.subscribe({"type": ["image"]}) as events:
        _import(engine, "three")
        told = [events.get(60), events.get(60)]
    assert [event and (event.action, event.attributes["name"]) for event in told] == [("tag", "three:latest"), ("import", "three")]


def test_an_image_that_is_built_is_told_once(engine: Engine) -> None:
    request = BuildRequest(context=Context(), text="FROM one:1\nENV A=b\nLABEL c=d\n", tags=(Reference.parse("built"),))
    with engine.events.subscribe({"type": ["image"]}) as events:
        image = engine.builder.build(request, lambda update: None)
        engine.builder.build(request, lambda update: None)
        told = [events.get(60) for _ in range(3)]
    assert [event and (event.action, event.attributes["name"]) for event in told] == [
        ("create", str(image.id)),
        ("tag", "built:latest"),
        ("tag", "built:latest"),
    ]


def test_an_image_is_removed_with_its_names(engine: Engine) -> None:
    removed = engine.system.remove_image("one:1", force=False, prune=True)
    assert removed[0] == {"Untagged": "one:1"}
    with pytest.raises(ImageNotFound):
        engine.images.resolve("one:1")


def helpers() -> list[str]:
    """Names of this process's children. Threads and children may end while one looks."""
    found = []
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        with suppress(OSError):
            for pid in (task / "children").read_text().split():
                with suppress(OSError):
                    found.append(Path(f"/proc/{pid}/comm").read_text().strip())
    return found


@pytest.mark.parametrize(("what", "expected"), [("daemon", True), ("library", False)])
def test_a_daemon_has_its_zygote_before_the_first_container_and_a_library_has_none(tmp_path: Path, what: str, expected: bool) -> None:
    with Engine.open(tmp_path / "root", what=what):
        if expected:
            eventually(lambda: "lamina-zygote" in helpers(), "no zygote was started")
            eventually(lambda: any(name.startswith("seccomp-") for name in os.listdir(tmp_path / "root/run")), "no filter was compiled")
        assert ("lamina-zygote" in helpers()) == expected
    assert "lamina-zygote" not in helpers()
