from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lamina.builder.context import opened, receive
from lamina.builder.copying import CopyFailed
from lamina.builder.owner import InvalidOwner, Owner
from lamina.builder.placement import CannotPlace, Placement
from lamina.builder.request import Context
from lamina.errors import LaminaError
from lamina.layer.errors import InvalidArchive
from lamina.worker.workers import InlineWorkers

WORKERS = InlineWorkers()
EMPTY = {"kind": "empty"}


class Copies:
    """COPY from a directory onto a root that is a directory too, without layers."""

    def __init__(self, base: Path) -> None:
        self.context, self.root, self.scratch = base / "context", base / "root", base / "scratch"
        for path in (self.context, self.root, self.scratch):
            path.mkdir()
        self.ignore = ""

    def put(self, name: str, content: str = "", mode: int = 0o644) -> Path:
        path = self.context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
        return path

    def params(self, paths: list[str], target: str, **more: Any) -> dict[str, Any]:
        files = {"kind": "directory", "path": str(self.context), "ignore": self.ignore}
        return {
            "keyword": "COPY", "sources": [{"files": files, "paths": paths}], "target": target, "chown": "", "chmod": "", "unpack": False,
            "root": {"kind": "directory", "path": str(self.root)}, "scratch": str(self.scratch), "time": 10**9,
            "path": str(self.scratch / "layer.tar"), **more,
        }  # fmt: skip

    def copy(self, paths: list[str], target: str, **more: Any) -> dict[str, tarfile.TarInfo]:
        """The members of the layer by name."""
        params = self.params(paths, target, **more)
        if not WORKERS.run("lamina.builder.copying:write_job", params)["entries"]:
            return {}
        with tarfile.open(params["path"]) as tar:
            return {member.name: member for member in tar.getmembers()}

    def content(self, name: str) -> bytes:
        with tarfile.open(self.scratch / "layer.tar") as tar:
            file = tar.extractfile(name)
            assert file is not None
            return file.read()

    def digest(self, paths: list[str], **more: Any) -> Mapping[str, Any]:
        return WORKERS.run("lamina.builder.copying:digest_job", self.params(paths, "/x/", **more))


@pytest.fixture
def copies(tmp_path: Path) -> Iterator[Copies]:
    yield Copies(tmp_path)


def test_a_file_goes_to_its_target_and_belongs_to_root(copies: Copies) -> None:
    copies.put("a", "hello", 0o755)
    members = copies.copy(["a"], "/opt/b")
    assert list(members) == ["opt", "opt/b"]
    assert (members["opt/b"].mode, members["opt/b"].uid, members["opt"].mode, members["opt"].mtime) == (0o755, 0, 0o755, 1)
    assert copies.content("opt/b") == b"hello"


def test_a_time_before_1970_is_copied_to_the_nanosecond(copies: Copies) -> None:
    copies.put("a")
    os.utime(copies.context / "a", ns=(-1_500_000_000, -1_500_000_000))
    assert copies.copy(["a"], "/opt/b")["opt/b"].mtime == -1.5


def test_a_trailing_slash_or_a_directory_there_keeps_the_name(copies: Copies) -> None:
    copies.put("d/a")
    assert list(copies.copy(["d/a"], "/x/")) == ["x", "x/a"]
    (copies.root / "there").mkdir(mode=0o700)
    members = copies.copy(["d/a"], "/there")
    assert list(members) == ["there", "there/a"]
    assert members["there"].mode == 0o700


def test_a_directory_gives_its_content(copies: Copies) -> None:
    copies.put("d/a")
    copies.put("d/e/b")
    assert list(copies.copy(["d"], "/t")) == ["t", "t/a", "t/e", "t/e/b"]
    assert list(copies.copy(["."], "/t")) == ["t", "t/d", "t/d/a", "t/d/e", "t/d/e/b"]


def test_wildcards_stop_at_slashes(copies: Copies) -> None:
    for name in ("a.c", "b.c", "b.h", "d/c.c"):
        copies.put(name)
    assert list(copies.copy(["*.c"], "/t/")) == ["t", "t/a.c", "t/b.c"]
    assert list(copies.copy(["*/c.c"], "/t/")) == ["t", "t/c.c"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("**.c", ["a.c", "ab.c"]),
        ("a**c", ["a.c", "ab.c"]),
        ("d/**.c", ["c.c"]),
        ("b\\s", ["b\\s"]),
        ("a\\.*", ["a.c"]),
        ("x\\**", ["x*"]),
        ("[*][*]", []),
    ],
)
def test_two_stars_are_one_and_a_backslash_is_no_wildcard(copies: Copies, source: str, expected: list[str]) -> None:
    for name in ("a.c", "ab.c", "d/c.c", "b\\s", "bs", "x*", "xy"):
        copies.put(name)
    assert [name.removeprefix("t/") for name in copies.copy([source], "/t/", may_be_empty=True) if name != "t"] == expected


def test_a_wildcard_may_match_nothing_where_something_else_is_named(copies: Copies) -> None:
    copies.put("package.json")
    assert list(copies.copy(["package.json", "lock*.json"], "/t/", several=True)) == ["t", "t/package.json"]
    with pytest.raises(CopyFailed, match="no source files were specified") as caught:
        copies.copy(["lock*", "x?"], "/t/")
    assert caught.value.hint == "nothing in the build context matches lock*, x?"
    assert copies.copy(["lock*"], "/t/", may_be_empty=True) == {}


@pytest.mark.parametrize("packed", [False, True])
def test_names_of_one_file_stay_so_only_within_a_source(copies: Copies, packed: bool) -> None:
    copies.put("d/a", "x")
    (copies.context / "d/b").hardlink_to(copies.context / "d/a")
    (copies.context / "d/link").symlink_to("a")
    (copies.context / "again").symlink_to("d")
    files = copies.params([], "")["sources"][0]["files"]
    if packed:
        with tarfile.open(copies.scratch / "context.tar", "w") as tar:
            tar.add(copies.context, ".")
        files |= {"kind": "tar", "path": str(copies.scratch / "context.tar")}
    each = copies.copy([], "/t/", sources=[{"files": files, "paths": ["d/*"]}])
    assert list(each) == ["t", "t/a", "t/b", "t/link"] and not any(member.islnk() for member in each.values())
    members = copies.copy([], "/t/", sources=[{"files": files, "paths": ["d", "again/a", "again/../d"]}])
    assert [name for name, member in members.items() if member.islnk()] == ["t/b"]


def test_links_in_the_way_are_followed_inside_and_inner_links_are_kept(copies: Copies) -> None:
    copies.put("real/a", "x")
    (copies.context / "way").symlink_to("real")
    (copies.context / "real/inner").symlink_to("/etc/passwd")
    (copies.context / "out").symlink_to("/../../real/a")
    assert list(copies.copy(["way/a"], "/t")) == ["t"]
    assert copies.copy(["way"], "/t")["t/inner"].linkname == "/etc/passwd"
    copies.copy(["out"], "/t")
    assert copies.content("t") == b"x"


def test_a_link_never_leads_out_of_the_context(copies: Copies) -> None:
    (copies.context / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(CopyFailed, match="file not found in build context"):
        copies.copy(["passwd"], "/t")
    with pytest.raises(CopyFailed, match="forbidden path outside the build context"):
        copies.copy(["../root"], "/t")


def test_a_target_behind_a_link_of_the_image_lies_where_the_link_leads(copies: Copies) -> None:
    copies.put("a")
    (copies.root / "run").mkdir()
    (copies.root / "var").mkdir()
    (copies.root / "var/run").symlink_to("/run")
    assert list(copies.copy(["a"], "/var/run/a")) == ["run", "run/a"]


@pytest.mark.parametrize("target", ["/etc", "/etc/"])
def test_a_link_of_the_name_that_a_file_gets_in_a_directory_is_replaced(copies: Copies, target: str) -> None:
    copies.put("localtime")
    (copies.root / "etc").mkdir()
    (copies.root / "zone").write_text("of the image")
    (copies.root / "etc/localtime").symlink_to("/zone")
    members = copies.copy(["localtime"], target)
    assert list(members) == ["etc", "etc/localtime"] and members["etc/localtime"].isfile()
    assert list(copies.copy(["localtime"], "/etc/localtime")) == ["zone"]


def test_as_with_buildkit_a_tree_never_changes_the_kind_of_what_is_there(copies: Copies) -> None:
    copies.put("tree/lib/x")
    (copies.root / "usr/lib").mkdir(parents=True)
    (copies.root / "lib").symlink_to("usr/lib")
    assert copies.copy(["tree"], "/")["lib"].isdir()
    with pytest.raises(CannotPlace, match="cannot copy to non-directory: /lib"):
        copies.copy(["tree"], "/", kinds_kept=True)
    copies.put("other/usr")
    with pytest.raises(CannotPlace, match="cannot copy to directory: /usr"):
        copies.copy(["other"], "/", kinds_kept=True)
    assert list(copies.copy(["tree/lib"], "/lib", kinds_kept=True)) == ["usr", "usr/lib", "usr/lib/x"]


def test_a_wildcard_that_matches_a_link_to_nothing_fails(copies: Copies) -> None:
    copies.put("a")
    (copies.context / "away").symlink_to("/nowhere")
    with pytest.raises(CopyFailed, match="stat away: file does not exist"):
        copies.copy(["a*"], "/t/")


def test_owner_and_mode_are_set_on_what_is_new(copies: Copies) -> None:
    copies.put("d/a")
    (copies.root / "etc").mkdir()
    (copies.root / "etc/passwd").write_text("me:x:7:8::/:\n")
    (copies.root / "etc/group").write_text("us:x:9:\n")
    members = copies.copy(["d"], "/t", chown="me:us", chmod="640")
    assert {(member.uid, member.gid) for member in members.values()} == {(7, 9)}
    assert members["t/a"].mode == 0o640
    assert {(member.uid, member.gid) for member in copies.copy(["d"], "/t", chown="me").values()} == {(7, 8)}
    assert {(member.uid, member.gid) for member in copies.copy(["d"], "/t", chown="5").values()} == {(5, 5)}
    assert {(member.uid, member.gid) for member in copies.copy(["d"], "/t", chown="root:root").values()} == {(0, 0)}


def test_an_account_whose_numbers_are_none_is_not_there(copies: Copies) -> None:
    copies.put("a")
    (copies.root / "etc").mkdir()
    (copies.root / "etc/passwd").write_text("one:x:7:us::/:\ntwo:x:99999999999:1::/:\nthree:x:7:4294967295::/:\nfour:x:7\none:x:5:6::/:\n")
    (copies.root / "etc/group").write_text("us:x:99999999999:\n")
    for chown in ("two", "three", "four", "0:us"):
        with pytest.raises(InvalidOwner, match="unable to find"):
            copies.copy(["a"], "/t", chown=chown)
    assert (copies.copy(["a"], "/t", chown="one")["t"].uid, copies.copy(["a"], "/t", chown="one")["t"].gid) == (5, 6)


def test_an_octal_mode_is_that_of_new_folders_on_the_way_too(copies: Copies) -> None:
    copies.put("d/a")
    (copies.root / "there").mkdir(mode=0o755)
    modes = {name: oct(member.mode) for name, member in copies.copy(["d"], "/there/t/u", chmod="2750").items()}
    assert modes == {"there": "0o755", "there/t": "0o750", "there/t/u": "0o750", "there/t/u/a": "0o2750"}
    assert copies.copy(["d"], "/t", chmod="go=")["t"].mode == 0o755


@pytest.mark.parametrize("more", [{"chown": "nobody"}, {"chown": ":x"}, {"chown": "1:nogroup"}, {"chown": "99999999999"}, {"chmod": "u+q"}])
def test_an_owner_or_mode_that_is_none_is_refused(copies: Copies, more: dict[str, str]) -> None:
    copies.put("a")
    with pytest.raises(InvalidOwner):
        copies.copy(["a"], "/t", **more)


def test_what_dockerignore_leaves_out_is_not_there(copies: Copies) -> None:
    for name in ("a.log", "d/b.log", "d/keep.log", "d/c"):
        copies.put(name)
    copies.ignore = "**/*.log\n!d/keep.log\n"
    assert list(copies.copy(["."], "/t")) == ["t", "t/d", "t/d/c", "t/d/keep.log"]
    with pytest.raises(CopyFailed, match=r"\.dockerignore"):
        copies.copy(["a.log"], "/t")


def test_a_file_over_a_directory_and_a_directory_over_a_file_are_refused(copies: Copies) -> None:
    copies.put("a")
    (copies.root / "f").write_text("")
    with pytest.raises(CannotPlace):
        copies.copy(["a"], "/f/a")
    with pytest.raises(CannotPlace, match="name"):
        copies.copy(["a"], "/.wh.a")


def test_a_target_of_many_parts_takes_no_time_and_one_that_no_kernel_takes_is_refused(copies: Copies) -> None:
    copies.put("f")
    deep = "/a" * 900 + "/f"
    assert list(copies.copy(["f"], deep))[-1] == deep[1:]
    with pytest.raises(CopyFailed, match="the target is longer than 4095 bytes: '/a/a/a"):
        copies.copy(["f"], "/a" * 100_000)


def test_the_holes_of_a_file_take_no_room_in_the_layer(copies: Copies) -> None:
    os.truncate(copies.put("f", "begin"), 1 << 24)
    assert copies.copy(["f"], "/f")["f"].size == 1 << 24
    assert copies.content("f") == b"begin" + bytes((1 << 24) - 5)
    assert (copies.scratch / "layer.tar").stat().st_blocks * 512 < 1 << 20


def test_a_file_that_was_put_hides_what_the_root_has_below_its_path(copies: Copies) -> None:
    copies.put("d")
    (copies.root / "d").mkdir()
    (copies.root / "d/x").touch()
    files = {"kind": "directory", "path": str(copies.context)}
    with opened({"kind": "directory", "path": str(copies.root)}) as root, opened(files) as context:
        placement = Placement(root, 1, Owner(0, 0), None)
        assert placement.lookup(b"d/x") is not None
        placement.tree(context, b"", b"", own=False)
        assert placement.lookup(b"d/x") is None


def test_several_sources_need_a_slash(copies: Copies) -> None:
    copies.put("a")
    copies.put("b")
    with pytest.raises(CopyFailed, match="must be a directory and end with a /"):
        copies.copy(["a", "b"], "/t")


def test_hard_links_stay_one_file(copies: Copies) -> None:
    first = copies.put("d/a", "x")
    os.link(first, copies.context / "d/b")
    assert copies.copy(["d"], "/t")["t/b"].linkname == "t/a"


def test_the_digest_is_of_content_and_names_not_of_times(copies: Copies) -> None:
    path = copies.put("d/a", "x")
    digest = copies.digest(["d"])["digest"]
    os.utime(path, (1, 1))
    assert copies.digest(["d"])["digest"] == digest
    path.write_text("y")
    changed = copies.digest(["d"])["digest"]
    path.chmod(0o755)
    assert len({digest, changed, copies.digest(["d"])["digest"]}) == 3


def archive(compression: str, *members: tuple[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{compression}" if compression != "zst" else "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size, info.uid = len(content), 42
            tar.addfile(info, io.BytesIO(content.encode()))
    if compression == "zst":
        from backports import zstd

        return zstd.compress(out.getvalue())
    return out.getvalue()


@pytest.mark.parametrize("compression", ["gz", "xz", "zst"])
def test_an_archive_that_ends_too_early_is_refused_and_not_put_as_a_file(copies: Copies, compression: str) -> None:
    (copies.context / "a").write_bytes(archive(compression, ("a", "1"), ("b", os.urandom(1 << 18).hex()))[:-2000])
    with pytest.raises(InvalidArchive):
        copies.copy(["a"], "/lib/", unpack=True)


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz", "zst"])
def test_add_unpacks_archives_and_copy_does_not(copies: Copies, compression: str) -> None:
    (copies.context / "a").write_bytes(archive(compression, ("in/x", "1")))
    (copies.root / "lib").mkdir()
    members = copies.copy(["a"], "/lib/", unpack=True)
    assert list(members) == ["lib", "lib/in", "lib/in/x"]
    assert members["lib/in/x"].uid == 42
    assert copies.copy(["a"], "/lib/", unpack=True, chown="3")["lib/in/x"].uid == 3
    for chown in ("", "3"):
        assert copies.copy(["a"], "/lib/", unpack=True, chown=chown, chmod="700")["lib/in/x"].mode == 0o644
    assert list(copies.copy(["a"], "/lib/")) == ["lib", "lib/a"]


def test_an_archive_goes_through_links_of_the_image_like_tar(copies: Copies) -> None:
    (copies.context / "a.tar").write_bytes(archive("", ("lib/x", "1")))
    (copies.root / "usr/lib").mkdir(parents=True)
    (copies.root / "lib").symlink_to("usr/lib")
    assert list(copies.copy(["a.tar"], "/", unpack=True)) == ["usr", "usr/lib", "usr/lib/x"]


def test_add_of_what_is_no_archive_copies_it(copies: Copies) -> None:
    copies.put("a.tar.gz", "not really")
    assert list(copies.copy(["a.tar.gz"], "/x/", unpack=True)) == ["x", "x/a.tar.gz"]


def test_a_directory_that_is_there_makes_no_layer(copies: Copies) -> None:
    (copies.root / "work").mkdir()
    assert copies.copy([], "/work", sources=[]) == {}
    assert list(copies.copy([], "/work/deep", sources=[])) == ["work", "work/deep"]


def received(tmp_path: Path, data: bytes) -> dict[str, Any]:
    path = tmp_path / "sent"
    path.write_bytes(data)
    with open(path, "rb") as file:
        return receive(Context(fd=file.fileno()), str(tmp_path), WORKERS, ["x"])[0].describe()


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz", "zst"])
def test_a_context_may_come_as_a_tar(copies: Copies, tmp_path: Path, compression: str) -> None:
    files = received(tmp_path, archive(compression, ("./d/x", "1"), ("y", "2")))
    assert list(copies.copy([], "/t", sources=[{"files": files, "paths": ["."]}])) == ["t", "t/d", "t/d/x", "t/y"]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a/.."])
def test_a_context_that_reaches_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArchive, match="escapes"):
        received(tmp_path, archive("", (name, "1")))


@pytest.mark.parametrize(
    "data", [b"not a tar" * 100, archive("gz", ("a", "b"))[:-20], b"\x1f\x8b" + bytes(100)], ids=["text", "cut", "zeros"]
)
def test_a_context_that_is_none_is_one_sentence(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(LaminaError):
        received(tmp_path, data)


def test_an_empty_context_is_one_without_files(copies: Copies, tmp_path: Path) -> None:
    files = received(tmp_path, b"")
    with pytest.raises(CopyFailed):
        copies.copy([], "/t", sources=[{"files": files, "paths": ["a"]}])
