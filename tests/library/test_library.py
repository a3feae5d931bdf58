"""The library: docs/library.md's examples as one program, and what notebooks show."""

from __future__ import annotations

import inspect
import io
import os
import re
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import lamina
from lamina.daemon.engine import EngineClosed
from lamina.errors import InvalidArgument
from lamina.image.model import PathNotFound
from tests.harness import busybox_tar

pytestmark = pytest.mark.root
PAGE = Path(__file__).parents[2] / "docs/library.md"


def test_the_examples_of_the_page_run_one_after_the_other(tmp_path: Path) -> None:
    base = busybox_tar(tmp_path / "base.tar")
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    program = program.replace("/var/lib/lamina-example", str(tmp_path / "root")).replace('"base.tar"', repr(str(base)))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "RUN echo first" in done.stdout and "A /greeting" in done.stdout


def test_type_checkers_see_what_is_opened_as_the_librarys_engine() -> None:
    for opened in (lamina.Engine.open, lamina.Engine.__enter__):
        assert inspect.signature(opened).return_annotation == "Self"


@pytest.fixture
def image(tmp_path: Path) -> Iterator[lamina.Image]:
    """An image with a file whose name is HTML."""
    with tarfile.open(tmp_path / "base.tar", "w") as tar:
        for name, content in (("<b>bold", b"0123456789"), ("etc/hosts", b"x")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with lamina.Engine.open(tmp_path / "root") as engine:
        yield engine.import_tar(tmp_path / "base.tar", "evil:1")


def test_a_file_is_a_python_file_and_the_union_a_tree(image: lamina.Image) -> None:
    with image.open("/<b>bold") as file:
        assert (file.read(3), file.seek(-2, os.SEEK_END), file.read(), file.tell()) == (b"012", 8, b"89", 10)
        assert file.read() == b"" and file.seekable()
    with io.TextIOWrapper(image.open("etc/hosts")) as text:
        assert text.read() == "x"
    assert [entry.path for entry in image.root.walk()] == ["/", "/<b>bold", "/etc", "/etc/hosts"]
    assert (image.root / "etc" / "hosts").open().read() == b"x"
    with pytest.raises(PathNotFound):
        image.open("/nothing")
    with pytest.raises(InvalidArgument):
        image.open("/etc")
    with pytest.raises(KeyError):
        image.root / "nothing"


def test_notebooks_get_tables_and_never_the_images_own_html(image: lamina.Image) -> None:
    other = image._engine.build("FROM scratch\nLABEL a=<script>\nCOPY x /etc/hosts\n", files={"x": b"<i>\n"}, tag="other:1")
    shown = [image._repr_html_(), image.layers[0]._repr_html_(), image.diff(other)._repr_html_()]
    assert all(text.startswith("<table>") for text in shown)
    assert "&lt;b&gt;bold" in shown[2] and "&lt;i&gt;" in shown[2]
    assert not any("<b>" in text or "<i>" in text or "<script>" in text for text in shown)
    assert image == image._engine.image("evil:1") != other
    assert {each.id for each in image._engine.all_images()} == {image.id, other.id}


@pytest.mark.parametrize("form", ["docker", "oci", "v1"])
def test_an_image_is_saved_under_the_names_it_has_and_comes_back(image: lamina.Image, tmp_path: Path, form: str) -> None:
    engine = image._engine
    assert isinstance(engine, lamina.Engine)
    image.tag("evil:2")
    other = engine.build("FROM scratch\nCOPY x /x\n", files={"x": b"x"})
    engine.save(tmp_path / "all.tar", image, other, form=form)
    engine.save(tmp_path / "one.tar", "evil:2", form=form)
    for each in (image, other):
        each.remove(force=True)
    assert [each.names for each in engine.load(tmp_path / "one.tar")] == [("evil:2",)]
    assert {each.names for each in engine.load(tmp_path / "all.tar")} == {("evil:1", "evil:2"), ()}
    with pytest.raises(InvalidArgument, match="no image to save"):
        engine.save(tmp_path / "none.tar")
    with pytest.raises(InvalidArgument, match="unknown archive format"):
        engine.save(tmp_path / "bad.tar", "evil:1", form="zip")
    assert sorted(path.name for path in tmp_path.glob("*.tar*")) == ["all.tar", "base.tar", "one.tar"]


def test_what_an_archive_cannot_be_written_to_is_named_as_it_was_given(image: lamina.Image, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for path, kind in ((tmp_path / "no" / "x.tar", FileNotFoundError), (tmp_path / "folder", IsADirectoryError)):
        with pytest.raises(kind) as caught:
            image._engine.save(path, image)  # type: ignore[attr-defined]
        assert (caught.value.filename, caught.value.filename2) == (str(path), None)


def test_a_device_and_a_pipe_are_written_to_and_stay(image: lamina.Image, tmp_path: Path) -> None:
    engine = image._engine
    assert isinstance(engine, lamina.Engine)
    nothing, pipe, copy = tmp_path / "null", tmp_path / "pipe", tmp_path / "copy.tar"
    os.mknod(nothing, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.mkfifo(pipe)
    engine.save(nothing, image)
    with open(copy, "wb") as file, subprocess.Popen(["cat", pipe], stdout=file) as reader:
        engine.save(pipe, image)
    assert reader.returncode == 0 and nothing.is_char_device() and pipe.is_fifo()
    assert engine.load(copy) == (image,)


def test_after_close_every_object_says_that_the_engine_is_closed(image: lamina.Image) -> None:
    engine, root = image._engine, image.root
    assert isinstance(engine, lamina.Engine)
    container, box = image.create(("true",)), engine.sandbox(image)
    engine.close()
    engine.close()
    for use in (
        *(image.run, image.create, lambda: image.layers, lambda: list(root), lambda: image.open("/etc/hosts"), lambda: image.tag("x:1")),
        *(container.start, container.commit, container.remove, lambda: container.name, box.snapshot, box.branch, lambda: box.exec("true")),
        *(lambda: engine.image("evil:1"), lambda: list(engine.all_images()), lambda: engine.build("FROM scratch\nLABEL a=b\n")),
    ):
        with pytest.raises(EngineClosed):
            use()
    box.close()


def test_files_of_a_build_stay_in_its_context(image: lamina.Image, tmp_path: Path) -> None:
    engine = image._engine
    assert isinstance(engine, lamina.Engine)
    for path in (f"..{tmp_path}/out", "../../../../../.." + str(tmp_path / "out"), "a/../b", "", "/", "a\0"):
        with pytest.raises(InvalidArgument, match="not a path of a file in the context"):
            engine.build("FROM scratch\nCOPY . /\n", files={path: b"x"})
    for paths in (("a", "a/b"), ("a/b", "a"), ("a", "a/b/c")):
        with pytest.raises(InvalidArgument, match="that of a file and of a directory"):
            engine.build("FROM scratch\nCOPY . /\n", files=dict.fromkeys(paths, b"x"))
    assert not (tmp_path / "out").exists()
    built = engine.build("FROM scratch\nCOPY . /\n", files={"/a/./b": b"x"})
    assert [entry.path for entry in built.root.walk()] == ["/", "/a", "/a/b"]
