"""cp: out of and into containers that run and that do not, with every driver."""

from __future__ import annotations

import calendar
import errno
import gzip
import io
import os
import shutil
import stat
import struct
import subprocess
import tarfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lamina.container.refusals import BadArchive, CannotOverwrite, NotADirectory, PathBusy, PathNotFound, ReadOnlyPath
from lamina.container.tarunpack import Unpacker
from lamina.errors import Exhausted, InvalidArgument, LaminaError
from lamina.linux.removing import remove_tree
from tests.container.conftest import SECRET, Box, House, received

pytestmark = pytest.mark.root
Make = Callable[..., Box]
DIR, LINK, SETUID = 1 << 31, 1 << 27, 1 << 23


def made(*members: tuple[str, Any], size: int | None = None, **changes: Any) -> bytes:
    """A tar: names with bytes (a file), None (a directory), `-> x` (a symlink) or `== x` (a hard link)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = 0o644, 1_500_000_000
            data = content if isinstance(content, bytes) else b""
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, str):
                info.type = tarfile.SYMTYPE if content.startswith("->") else tarfile.LNKTYPE
                info.linkname = content[3:]
            info.size = len(data) if size is None else size
            for key, value in changes.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def entries(tar: bytes) -> dict[str, tarfile.TarInfo]:
    """Its members by name."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return {member.name: member for member in archive}


def content(tar: bytes, name: str) -> bytes:
    """What one member holds."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        file = archive.extractfile(name)
        assert file is not None
        return file.read()


# ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_is_told_as_docker_tells_it(box: Box) -> None:
    told = box.containers.archive_stat(box.id, "/folder/file")
    assert (told.name, told.size, told.mode, told.link_target) == ("file", 5, SETUID | 0o751, "")
    assert told.mtime == "2020-09-13T12:26:40.123456789Z"
    assert box.containers.archive_stat(box.id, "folder").mode == DIR | 0o755


def test_a_last_link_is_told_not_followed(box: Box) -> None:
    told = box.containers.archive_stat(box.id, "/to-folder")
    assert (told.name, told.mode, told.link_target) == ("to-folder", LINK | 0o777, "/folder")
    assert box.containers.archive_stat(box.id, "/folder/relative").link_target == "/folder/deep/big"
    assert box.containers.archive_stat(box.id, "/circle").mode & LINK


@pytest.mark.parametrize("path", ["/nothing", "/folder/file/below", "/nothing/at/all", "/circle/x", "/folder/nothing/"])
def test_an_absent_path_is_named(box: Box, path: str) -> None:
    with pytest.raises(PathNotFound, match="Could not find the file"):
        box.containers.archive_stat(box.id, path)
    with pytest.raises(PathNotFound):
        box.read(path)


@pytest.mark.parametrize("path", ["/folder/./", "folder/./", "folder//."])
def test_a_dot_at_the_end_is_the_folders_content_with_a_slash_too(box: Box, path: str) -> None:
    assert sorted(entries(box.read(path))) == sorted(entries(box.read("/folder/.")))


def test_a_file_is_no_directory_and_the_container_is_called_as_it_was_asked_for(box: Box) -> None:
    with pytest.raises(NotADirectory, match=f"/folder/file/ is not a directory in container {box.id}"):
        box.containers.archive_stat(box.id, "/folder/file/")
    for ref in (box.id, box.id[:12]):
        with pytest.raises(PathNotFound, match=f"Could not find the file /nothing in container {ref}$"):
            box.containers.archive_stat(ref, "/nothing")


def test_a_folder_comes_out_with_everything_it_has(box: Box) -> None:
    tar = box.read("/folder")
    found = entries(tar)
    assert sorted(found) == [
        "folder", "folder/deep", "folder/deep/big", "folder/fifo", "folder/file", "folder/null", "folder/relative", "folder/twin",
    ]  # fmt: skip
    assert (found["folder/file"].mode, found["folder/file"].uid, found["folder/file"].gid) == (0o4751, 1000, 1001)
    assert (found["folder/twin"].type, found["folder/twin"].linkname) == (tarfile.LNKTYPE, "folder/file")
    assert found["folder/relative"].linkname == "deep/big"
    assert found["folder/fifo"].isfifo() and found["folder/null"].ischr()
    assert found["folder/deep/big"].size == 3 << 20
    assert found["folder/file"].pax_headers["mtime"] == "1600000000.123456789"


@pytest.mark.parametrize(
    ("path", "first"),
    [("/folder/file", "file"), ("/folder/", "folder"), ("/folder/.", "."), ("/to-folder/", "to-folder"), ("/to-folder", "to-folder")],
)
def test_names_in_the_archive_begin_with_the_last_part_asked_for(box: Box, path: str, first: str) -> None:
    assert next(iter(entries(box.read(path)))) == first


def test_attributes_and_bytes_come_out_and_go_in_again_as_they_are(box: Box) -> None:
    taken = box.read("/folder/.")
    box.write("/tmp", taken)
    again = box.read("/tmp/.")
    assert content(again, "./deep/big") == content(taken, "./deep/big")
    before, after = entries(taken), entries(again)
    before.pop(".")  # the directory that is extracted into stays as it is
    assert {name: _facts(after[name]) for name in before} == {name: _facts(member) for name, member in before.items()}


def _facts(member: tarfile.TarInfo) -> tuple[Any, ...]:
    marks = {key: value for key, value in member.pax_headers.items() if key.startswith("SCHILY.xattr.user")}
    return member.type, member.mode, member.uid, member.gid, member.size, member.linkname, int(member.mtime), marks


def test_holes_stay_holes_on_the_way_out_and_in(box: Box) -> None:
    upper = Path(box.containers.get(box.id).upper)
    with open(upper / "sparse", "wb") as file:
        for at in (0, 5 << 20, 9 << 20):
            file.seek(at)
            file.write(b"data %d" % at * 1000)
        file.truncate(32 << 20)
    assert os.stat(upper / "sparse").st_blocks * 512 < 1 << 20
    archive = box.read("/sparse")
    assert len(archive) < 1 << 20
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        content = tar.extractfile("sparse")
        assert content is not None
        assert content.read() == (upper / "sparse").read_bytes()
    box.write("/tmp", archive)
    assert (upper / "tmp/sparse").read_bytes() == (upper / "sparse").read_bytes()
    assert os.stat(upper / "tmp/sparse").st_blocks * 512 < 1 << 20
    exported = received(lambda out: box.containers.export(box.id, out))
    with tarfile.open(fileobj=io.BytesIO(exported)) as tar:
        assert tar.getmember("sparse").size == 32 << 20
        assert tar.getmember("sparse").issparse()


def test_directories_deep_in_one_another_come_out_and_go(box: Box) -> None:
    """A container makes as many as it likes. What no archive could name is refused, the rest is not."""
    upper = Path(box.containers.get(box.id).upper)
    here = os.open(upper, os.O_RDONLY | os.O_DIRECTORY)
    for level in range(3000):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
        if level == 1500:
            os.close(os.open("half", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    archive = box.read("/d")
    assert archive.count(b"/half\n") + archive.count(b"/half\0") >= 1
    assert len(received(lambda out: box.containers.export(box.id, out))) > len(archive)
    assert len(box.containers.changes(box.id)) >= 3000
    remove_tree(str(upper / "d"))  # pytest's own removal would find it too deep


def test_times_keep_their_nanoseconds_on_the_way_in(box: Box) -> None:
    box.write("/tmp", made(("stamped", b"x"), pax_headers={"mtime": "1600000000.123456789"}))
    assert box.containers.archive_stat(box.id, "/tmp/stamped").mtime == "2020-09-13T12:26:40.123456789Z"


@pytest.mark.parametrize("year", [1823, 2117, 2400])
def test_a_file_of_another_century_goes_in_with_its_time(box: Box, year: int) -> None:
    box.write("/tmp", made(("far", b"x"), pax_headers={"mtime": str(calendar.timegm((year, 1, 2, 3, 4, 5)))}))
    told = int(box.containers.archive_stat(box.id, "/tmp/far").mtime[:4])
    assert told in (year, 1901, 2038)  # those of a file system that knows none before or after


@pytest.mark.parametrize("mtime", ["99999999999", "-99999999999"])
def test_a_time_that_nobody_could_tell_is_the_senders_fault(box: Box, mtime: str) -> None:
    with pytest.raises(InvalidArgument, match="time out of range"):
        box.write("/tmp", made(("far", b"x"), pax_headers={"mtime": mtime}))


def test_no_link_leads_onto_the_host_on_the_way_out(box: Box, house: House) -> None:
    for path in ("/out/secret", "/up/secret", f"/out/../..{house.host}/secret", f"/../../../..{house.host}/secret"):
        with pytest.raises(PathNotFound):
            box.read(path)
    assert SECRET.encode() not in box.read("/out") + box.read("/up")


def test_the_root_comes_out_whole_without_what_is_mounted_on_it(box: Box) -> None:
    names = {name.strip("/") for name in entries(box.read("/"))}
    assert {"folder/file", "bin/busybox", "etc/passwd"} <= names
    assert "proc" in names and not [name for name in names if name.startswith(("proc/", "sys/"))]


def test_what_the_kernel_makes_up_is_not_found(make: Make) -> None:
    """Its files say that they are empty, or a page long."""
    box = make(True)
    for path in ("/proc/version", "/proc/1", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/fs/cgroup/x"):
        with pytest.raises(PathNotFound, match="Could not find the file"):
            box.containers.archive_stat(box.id, path)
        with pytest.raises(PathNotFound, match="Could not find the file"):
            box.read(path)
    assert len(entries(box.read("/proc"))) == len(entries(box.read("/sys/."))) == 1


def test_what_a_running_container_writes_is_seen_at_once_and_after_its_end(make: Make) -> None:
    box = make(True, {"Cmd": ["sh", "-c", "echo written > /tmp/x; rm -r /stock; echo done; sleep 1000"]})
    log = box.containers.logs(box.id, _following())
    assert b"done" in next(chunk for chunk in log if chunk)
    log.close()  # type: ignore[attr-defined]
    assert content(box.read("/tmp/x"), "x") == b"written\n"
    box.containers.kill(box.id)
    assert content(box.read("/tmp/x"), "x") == b"written\n"
    with pytest.raises(PathNotFound):
        box.read("/stock")


def _following() -> Any:
    from lamina.container.requests import LogQuery

    return LogQuery(follow=True)


def test_a_reader_that_goes_away_ends_the_copy(box: Box) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with pytest.raises(LaminaError):
            box.containers.archive_get(box.id, "/", writer)
    finally:
        os.close(writer)
    assert box.containers.archive_stat(box.id, "/folder").name == "folder"


# ── in ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("compression", ["plain", "gzip", "zstd"])
def test_an_archive_goes_in_however_it_is_compressed(box: Box, compression: str) -> None:
    data = made(("a", None), ("a/b", b"content"), ("implied/c", b"c"), ("a/link", "-> b"), ("a/twin", "== a/b"))
    if compression == "gzip":
        data = gzip.compress(data)
    if compression == "zstd":
        if shutil.which("zstd") is None:
            pytest.skip("no zstd here")
        data = subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout
    box.write("/tmp", data)
    found = entries(box.read("/tmp/."))
    assert content(box.read("/tmp/."), "./a/b") == b"content"
    assert found["./a/twin"].islnk() or found["./a/b"].islnk()
    assert {"./implied", "./implied/c", "./a/link"} <= set(found)
    assert found["./a"].mtime == 1_500_000_000


def test_a_file_object_is_a_source_too(box: Box) -> None:
    box.containers.archive_put(box.id, "/tmp", io.BytesIO(made(("x", b"y" * (3 << 20)))))
    assert content(box.read("/tmp/x"), "x") == b"y" * (3 << 20)


def test_a_writer_of_a_pipe_is_not_left_with_padding(box: Box) -> None:
    """GNU tar fills its last record with zeros, up to 10 KiB; and a gigabyte of them is no reason to fail."""
    reader, writer = os.pipe()
    failures: list[OSError] = []

    def feed() -> None:
        try:
            with open(writer, "wb") as out:
                out.write(made(("x", b"y")) + bytes(1 << 20))
        except OSError as error:
            failures.append(error)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        box.containers.archive_put(box.id, "/tmp", reader)
    finally:
        os.close(reader)
        feeder.join()
    assert content(box.read("/tmp/x"), "x") == b"y"
    assert all(error.errno == errno.EPIPE for error in failures)


def test_owners_and_modes_go_in_and_set_id_bits_survive(box: Box) -> None:
    box.write("/tmp", made(("tool", b"x"), mode=0o6755, uid=123, gid=456))
    found = entries(box.read("/tmp/tool"))["tool"]
    assert (found.mode, found.uid, found.gid) == (0o6755, 123, 456)


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o644, 0o666, 0o777, 0o1777, 0o2755, 0o4711])
def test_every_mode_goes_in_whatever_the_umask_is(box: Box, mode: int) -> None:
    box.write("/tmp", made(("theirs", b"x"), mode=mode, uid=12, gid=34))
    box.write("/tmp", made(("roots", b"x"), mode=mode))
    found = entries(box.read("/tmp/theirs")) | entries(box.read("/tmp/roots"))
    assert (found["theirs"].mode, found["theirs"].uid, found["theirs"].gid) == (mode, 12, 34)
    assert (found["roots"].mode, found["roots"].uid, found["roots"].gid) == (mode, 0, 0)


def test_a_directory_that_gives_its_group_away_does_not_change_what_goes_in(make: Make, tmp_path: Path) -> None:
    os.chown(tmp_path, 0, 77)
    os.chmod(tmp_path, 0o2777)
    make(Binds=[f"{tmp_path}:/mnt"]).write("/mnt", made(("x", b"y"), mode=0o664))
    found = os.stat(tmp_path / "x")
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, 0, 0o664)


@pytest.mark.parametrize(("mode", "mask"), [(0o664, 6), (0o644, 4), (0o600, 0)])
def test_a_default_acl_does_not_change_the_mode_of_what_goes_in(make: Make, tmp_path: Path, mode: int, mask: int) -> None:
    rights = [(0x01, 7, -1), (0x02, 7, 77), (0x04, 5, -1), (0x10, 7, -1), (0x20, 0, -1)]  # owner, user 77, group, mask, others
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in rights)
    try:
        os.setxattr(tmp_path, "system.posix_acl_default", acl)
    except OSError as error:
        pytest.skip(f"no ACLs here: {error}")
    make(Binds=[f"{tmp_path}:/mnt"]).write("/mnt", made(("x", b"y"), mode=mode))
    assert stat.S_IMODE(os.stat(tmp_path / "x").st_mode) == mode
    given = os.getxattr(tmp_path / "x", "system.posix_acl_access")
    assert struct.pack("<HHi", 0x10, mask, -1) in given


def test_what_is_full_is_not_said_to_be_the_disk_of_the_data_root(make: Callable[..., Box]) -> None:
    box = make(True, Tmpfs={"/small": "size=64k"})
    with pytest.raises(Exhausted, match=r'^cannot extract "large": no space left on device$'):
        box.write("/small", made(("large", bytes(1 << 20))))


def test_the_containers_user_owns_what_goes_in_where_that_is_asked(make: Make) -> None:
    box = make(config={"User": "nobody"})
    box.write("/tmp", made(("x", b"y"), uid=7, gid=7), copy_uid_gid=True)
    found = entries(box.read("/tmp/x"))["x"]
    assert (found.uid, found.gid) == (65534, 65534)


def test_what_goes_into_a_stopped_container_is_there_when_it_runs(make: Make, house: House) -> None:
    box = make(config={"Cmd": ["cat", "/folder/file", "/tmp/new"]})
    box.write("/", made(("folder/file", b"changed "), ("tmp/new", b"fresh")))
    with house.containers.wait(box.id, "next-exit") as waiter:
        house.containers.start(box.id)
        result = waiter.result(60)
    assert result is not None and result.status_code == 0
    log = b"".join(house.containers.logs(box.id, type(_following())()))
    assert b"changed fresh" in log.replace(b"\n", b"")


def test_no_link_leads_onto_the_host_on_the_way_in(box: Box, house: House) -> None:
    attempts = [
        ("/", made(("out/planted", b"x"))),
        ("/", made(("up/planted", b"x"))),
        ("/out", made(("planted", b"x"))),
        ("/tmp", made(("trap", f"-> {house.host}"), ("trap/planted", b"x"))),
        ("/tmp", made(("trap2", f"-> {house.host}/planted"), ("trap2", b"x"))),
        ("/tmp", made(("stolen", f"== ../..{house.host}/secret"))),
        ("/tmp", made(("stolen", "== ../../../out/secret"))),
        ("/", made(("stolen", "== out/secret"))),
        ("/tmp", made((f"../../../../../..{house.host}/planted", b"x"))),
        ("/tmp", made((f"{house.host}/planted", b"x"))),
        ("/tmp", made(("proc-root", "-> /proc/self/root"), (f"proc-root{house.host}/planted", b"x"))),
        ("/tmp", made(("proc-root", "-> /proc/1/root"), (f"proc-root{house.host}/planted", b"x"))),
        ("/tmp", made(("cwd", "-> /proc/self/cwd"), ("cwd/planted", b"x"))),
    ]
    for path, tar in attempts:
        try:
            box.write(path, tar)
        except LaminaError as error:
            assert error.http_status < 500, f"{path}: {error!r} is our own failure"
    assert os.listdir(house.host) == ["secret"]
    assert (house.host / "secret").read_text() == SECRET
    for root in ("/", "/tmp"):
        assert not (Path(root) / "planted").exists()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"this is no archive" * 100, id="garbage"),
        pytest.param(made(("x", b"y" * 5000))[:3000], id="cut in a file"),
        pytest.param(made(("x", b"y" * 512))[:700], id="cut in a block"),
        pytest.param(gzip.compress(made(("x", os.urandom(5000))))[:2000], id="gzip cut"),
        pytest.param(gzip.compress(made(("x", b"y")))[:-4], id="gzip cut at its end"),
        pytest.param(made(("../x", b"y")), id="upwards"),
        pytest.param(made(("a", "== nothing")), id="link to nothing"),
        pytest.param(made(("a", "== a")), id="link to itself"),
        pytest.param(made(("a", b"x"), ("a/b", b"y")), id="below a file"),
        pytest.param(made(("n" * 300, b"y")), id="name too long"),
        pytest.param(made(("loop", "-> loop"), ("loop/x", b"y")), id="through a circle"),
    ],
)
def test_a_bad_archive_is_the_senders_fault(box: Box, data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        box.write("/tmp", data)


def test_entries_before_the_bad_one_were_written(box: Box) -> None:
    with pytest.raises(BadArchive):
        box.write("/tmp", made(("good", b"x"), ("../bad", b"y")))
    assert box.containers.archive_stat(box.id, "/tmp/good").size == 1


def test_only_a_directory_can_be_extracted_into(box: Box) -> None:
    with pytest.raises(NotADirectory):
        box.write("/folder/file", made(("x", b"y")))
    for path in ("/nothing", "/circle"):
        with pytest.raises(PathNotFound):
            box.write(path, made(("x", b"y")))


def test_a_directory_and_a_file_do_not_replace_each_other_where_that_is_asked(box: Box) -> None:
    for tar in (made(("file", None)), made(("deep", b"x")), made(("relative", None))):
        with pytest.raises(CannotOverwrite):
            box.write("/folder", tar, no_overwrite_dir_non_dir=True)
    assert entries(box.read("/folder"))["folder/deep"].isdir()
    box.write("/folder", made(("deep", None), ("file", b"x")), no_overwrite_dir_non_dir=True)
    assert "folder/deep/big" in entries(box.read("/folder"))
    box.write("/folder", made(("deep", b"x"), ("file", None)))
    found = entries(box.read("/folder"))
    assert found["folder/deep"].isfile() and found["folder/file"].isdir()


def test_a_link_in_the_way_is_replaced_not_followed(box: Box) -> None:
    box.write("/folder", made(("relative", b"mine")))
    assert entries(box.read("/folder"))["folder/deep/big"].size == 3 << 20
    assert content(box.read("/folder/relative"), "relative") == b"mine"


@pytest.mark.parametrize("running", [False, True])
def test_a_read_only_root_is_refused(make: Make, running: bool) -> None:
    box = make(running, ReadonlyRootfs=True)
    with pytest.raises(ReadOnlyPath, match="container rootfs is marked read-only"):
        box.write("/folder", made(("x", b"y")))
    assert box.containers.archive_stat(box.id, "/folder/file").size == 5


@pytest.mark.parametrize("running", [False, True])
def test_a_read_only_mount_is_refused_also_through_a_link(make: Make, tmp_path: Path, running: bool) -> None:
    box = make(running, Binds=[f"{tmp_path}:/mnt:ro", f"{tmp_path}:/folder/deep:ro"])
    with pytest.raises(ReadOnlyPath):
        box.write("/mnt", made(("x", b"y")))
    with pytest.raises(ReadOnlyPath):
        box.write("/", made(("mnt/x", b"y")))
    with pytest.raises(ReadOnlyPath):
        box.write("/to-folder/deep", made(("x", b"y")))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("running", [False, True])
def test_binds_and_volumes_are_part_of_the_container(make: Make, tmp_path: Path, running: bool) -> None:
    (tmp_path / "host-file").write_text("bound")
    box = make(running, Binds=[f"{tmp_path}:/mnt", "files-volume:/data"])
    assert content(box.read("/mnt/host-file"), "host-file") == b"bound"
    assert content(box.read("/mnt/."), "./host-file") == b"bound"
    box.write("/mnt", made(("sent", b"here")))
    assert (tmp_path / "sent").read_text() == "here"
    box.write("/data", made(("kept", b"kept")))
    assert content(box.read("/data/kept"), "kept") == b"kept"


@pytest.mark.parametrize("running", [False, True])
def test_a_mount_is_found_below_and_through_links_too(make: Make, tmp_path: Path, running: bool) -> None:
    (tmp_path / "host-file").write_text("bound")
    box = make(running, Binds=[f"{tmp_path}:/folder/deep"])
    assert content(box.read("/to-folder/deep/host-file"), "host-file") == b"bound"
    assert content(box.read("/folder"), "folder/deep/host-file") == b"bound"
    box.write("/", made(("folder/deep/sent", b"here")))
    assert (tmp_path / "sent").read_text() == "here"


@pytest.mark.parametrize("running", [False, True])
def test_a_bind_whose_links_lead_to_the_host_gives_nothing_away(make: Make, house: House, tmp_path: Path, running: bool) -> None:
    (tmp_path / "out").symlink_to(house.host)
    (tmp_path / "up").symlink_to(os.path.relpath(house.host, tmp_path))
    box = make(running, Binds=[f"{tmp_path}:/mnt"])
    for link in ("out", "up"):
        with pytest.raises(PathNotFound):
            box.read(f"/mnt/{link}/secret")
        with pytest.raises(LaminaError):
            box.write(f"/mnt/{link}", made(("planted", b"x")))
    assert os.listdir(house.host) == ["secret"]


def test_the_engines_own_files_come_out(box: Box) -> None:
    assert b"localhost" in content(box.read("/etc/hosts"), "hosts") or not box.running


def mounts(house: House) -> set[str]:
    """All mounts at or of something of the engine's. Others on this machine come and go as they like."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line for line in lines if str(house.host.parent) in line}


def test_nothing_is_left_mounted(make: Make, house: House) -> None:
    box = make()
    before = mounts(house)
    box.read("/folder")
    box.write("/tmp", made(("x", b"y")))
    assert mounts(house) <= before


def test_a_paused_container_is_reached(make: Make) -> None:
    box = make(True)
    box.containers.pause(box.id)
    box.write("/tmp", made(("x", b"y")))
    assert stat.S_IMODE(entries(box.read("/tmp/x"))["x"].mode) == 0o644
    box.containers.unpause(box.id)


@pytest.mark.parametrize("running", [True, False])
def test_what_is_mounted_is_not_replaced(make: Make, tmp_path: Path, running: bool) -> None:
    for folder in ("volume", "nested"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "kept").write_text("kept")
    (tmp_path / "file").write_text("kept")
    binds = ("volume:/volume", "nested:/above/nested", "file:/etc/file", "file:/aside/deep/file")
    box = make(running, Binds=[f"{tmp_path}/{bind}" for bind in binds])
    for entry in ("volume", "above", "etc/file", "aside", *(["etc/hosts"] if running else [])):
        with pytest.raises(PathBusy):
            box.write("/", made((entry, b"instead")))
    if not running:
        box.containers.start(box.id)
    pid = box.containers.inspect(box.id)["State"]["Pid"]
    mounted = {line.split()[4] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()}
    assert mounted >= {"/volume", "/above/nested", "/etc/file", "/aside/deep/file", "/etc/hosts"}
    kept = [Path(f"/proc/{pid}/root/{place}").read_text() for place in ("volume/kept", "above/nested/kept", "etc/file")]
    assert kept == ["kept"] * 3
    box.write("/", made(("volume", None), ("volume/more", b"more"), mode=0o755))
    assert (tmp_path / "volume/more").read_bytes() == b"more"


def opened(place: Path) -> list[str]:
    """This process's descriptors of a place and what lies below it: others belong to other threads, or to what was not collected yet."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            if f"{os.readlink(f'/proc/self/fd/{name}')}/".startswith(f"{place}/"):
                found.append(name)
    return found


def test_what_cannot_be_made_on_the_way_leaves_nothing_open(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "small", str(tmp_path)], check=True)
    root = os.open(tmp_path, os.O_RDONLY)
    try:
        before = opened(tmp_path)
        with pytest.raises(ReadOnlyPath):
            Unpacker(root, "/").extract(iter([made(("missing/file", b"x"))]))
        assert opened(tmp_path) == before == [str(root)]
    finally:
        os.close(root)
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
