"""ADD by address, and the flags of COPY and ADD, over faked commands."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.builder.gitsource import Checkout, Git, GitAddress, InvalidGitAddress, parse_git
from lamina.builder.request import Cancellation, Context
from lamina.distribution.proxies import Proxies
from lamina.errors import Cancelled, LaminaError
from lamina.image.model import Image
from tests.builder.lab import Lab
from tests.builder.webserver import MODIFIED, Web, committed, git, repository, serving
from tests.harness import eventually

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


@pytest.fixture
def web() -> Iterator[Web]:
    with serving(Web()) as web:
        yield web


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def paths(lab: Lab, image: Image, folder: str) -> list[str]:
    """All files below a folder of an image, relative to it."""
    found: list[str] = []
    for row in lab.images.ls(str(image.id), folder):
        inside = f"{folder.rstrip('/')}/{row.name}"
        found += [f"{row.name}/{path}" for path in paths(lab, image, inside)] if row.type == "directory" else [row.name]
    return found


def write(lab: Lab, *names: str) -> None:
    for name in names:
        (lab.context / name).parent.mkdir(parents=True, exist_ok=True)
        (lab.context / name).write_text(name)


def test_an_address_is_put_as_a_file_of_root_alone_with_the_servers_time(lab: Lab, web: Web) -> None:
    lab.base()
    web.files["/files/a%20b.txt"] = b"content"
    image, _ = lab.build(f"FROM base\nADD {web.url('/files/a%20b.txt')} /dir/\nADD {web.url('/files/a%20b.txt')} /named\n")
    (row,) = lab.images.ls(str(image.id), "/dir")
    assert (row.name, row.mode & 0o7777, row.uid, row.mtime_ns // 10**9) == ("a b.txt", 0o600, 0, 1714557600)
    assert lab.read(image, "/named") == "content"


def test_what_the_server_says_did_not_change_is_not_fetched_again(lab: Lab, web: Web) -> None:
    lab.base()
    web.files["/a"] = b"one"
    text = f"FROM base\nADD {web.url('/a')} /a\n"
    first, _ = lab.build(text)
    second, told = lab.build(text)
    assert (second.id, told.count("Using cache")) == (first.id, 1)
    assert web.asked == [("/a", 200), ("/a", 304)]
    web.files["/a"] = b"two"
    third, told = lab.build(text)
    assert "Using cache" not in told and lab.read(third, "/a") == "two"
    assert web.asked[2:] == [("/a", 200)]


def test_the_same_files_under_other_words_are_the_same_image(lab: Lab, web: Web) -> None:
    lab.base()
    write(lab, "file1.txt")
    web.files["/a"] = web.files["/b/a"] = b"one"
    image, _ = lab.build(f"FROM base\nCOPY file1.txt /d/\nADD {web.url('/a')} /e/\n")
    again, told = lab.build(f"FROM base\nCOPY file*.txt /d/\nADD {web.url('/b/a')} /e/\n")
    assert (again.id, told.count("Using cache")) == (image.id, 2)
    other, _ = lab.build("FROM base\nCOPY file*.txt /d/\nCOPY file1.txt /e/\n")
    assert other.id != image.id


def test_without_validators_the_bytes_decide(lab: Lab, web: Web) -> None:
    lab.base()
    web.files["/a"], web.plain = b"one", {"/a"}
    text = f"FROM base\nADD {web.url('/a')} /a\n"
    first, _ = lab.build(text)
    second, _ = lab.build(text)
    assert second.id == first.id
    assert web.asked == [("/a", 200), ("/a", 200)]


def test_without_an_etag_time_and_size_tell_whether_a_file_is_what_it_was(lab: Lab, web: Web) -> None:
    lab.base()
    text = f"FROM base\nADD {web.url('/a')} /a\n"
    web.plain = {"/a"}

    def added(content: bytes, modified: str) -> str:
        web.files["/a"], web.headers["Last-Modified"] = content, modified
        return lab.read(lab.build(text)[0], "/a")

    assert added(b"one", MODIFIED) == "one"
    assert added(b"two", MODIFIED) == "one"  # not fetched
    assert added(b"three", MODIFIED) == "three"
    assert added(b"older", "Mon, 01 Apr 2024 10:00:00 GMT") == "older"
    soon = "Fri, 01 Jan 2100 00:00:00 GMT"  # changed in the second of the answer, or after it
    assert [added(b"first", soon), added(b"again", soon)] == ["first", "again"]


def test_a_known_address_is_fetched_when_its_layer_is_to_be_made_anew(lab: Lab, web: Web) -> None:
    lab.base()
    web.files["/a"] = b"one"
    lab.build(f"FROM base\nADD {web.url('/a')} /a\n")
    image, _ = lab.build(f"FROM base\nADD {web.url('/a')} /elsewhere\n")
    assert lab.read(image, "/elsewhere") == "one"
    assert web.asked == [("/a", 200), ("/a", 304), ("/a", 200)]


def test_a_checksum_is_kept_or_the_build_fails_and_leaves_nothing(lab: Lab, web: Web) -> None:
    lab.base()
    web.files["/a"] = b"one"
    good = f"FROM base\nADD --checksum={sha256(b'one')} {web.url('/a')} /a\n"
    lab.build(good)
    lab.build(good)
    assert web.asked == [("/a", 200)], "a checksum that is known needs no server"
    before = [image.id for image in lab.images.list(all=True)]
    with pytest.raises(LaminaError) as caught:
        lab.build(f"FROM base\nADD --checksum={sha256(b'two')} {web.url('/a')} /b\n")
    assert caught.value.message == f"Dockerfile:2: digest mismatch of {web.url('/a')}: it is {sha256(b'one')}, not {sha256(b'two')}"
    assert [image.id for image in lab.images.list(all=True)] == before
    assert list((lab.root / "run").glob("build-*")) == []


def test_an_archive_by_address_is_unpacked_only_when_asked(lab: Lab, web: Web) -> None:
    lab.base()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        info = tarfile.TarInfo("inside")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"in"))
    web.files["/a.tgz"] = out.getvalue()
    (lab.context / "b.tgz").write_bytes(out.getvalue())
    image, _ = lab.build(
        f"FROM base\nADD {web.url('/a.tgz')} /as-is/\nADD --unpack=true {web.url('/a.tgz')} /unpacked/\nADD --unpack=false b.tgz /b/\nADD b.tgz /c/\n"
    )
    assert [paths(lab, image, folder) for folder in ("/as-is", "/unpacked", "/b", "/c")] == [["a.tgz"], ["inside"], ["b.tgz"], ["inside"]]


def test_an_address_that_gives_nothing_is_one_sentence_with_its_line(lab: Lab, web: Web) -> None:
    lab.base()
    with pytest.raises(LaminaError) as caught:
        lab.build(f"FROM base\n\nADD {web.url('/none')} /a\n")
    assert caught.value.message == f"Dockerfile:3: cannot fetch {web.url('/none')}: the server answered 404 Not Found"
    web.files["/"] = b"page"
    with pytest.raises(LaminaError, match="cannot determine filename from url"):
        lab.build(f"FROM base\nADD {web.url('/')} /a/\n")


@needs_git
def test_a_git_repository_counts_by_its_commit(lab: Lab, web: Web, tmp_path: Path) -> None:
    lab.base()
    first = repository(tmp_path / "r.git", {"a": "1", "sub/b": "2"})
    web.folders["/r.git"] = tmp_path / "r.git"
    url = web.url("/r.git")
    text = f"FROM base\nADD {url}#v1 /all/\nADD {url}#main:sub /sub/\nADD --keep-git-dir=true {url}#{first} /kept/\n"
    image, _ = lab.build(text)
    assert (paths(lab, image, "/all"), paths(lab, image, "/sub")) == (["a", "sub/b"], ["b"])
    assert "HEAD" in [row.name for row in lab.images.ls(str(image.id), "/kept/.git")]
    assert {row.mtime_ns // 10**9 for row in lab.images.ls(str(image.id), "/sub")} == {1714557600}
    fetched = len(web.asked)
    again, told = lab.build(text)
    assert (again.id, told.count("Using cache")) == (image.id, 3)
    assert len(web.asked) - fetched <= 8, "only refs are asked for"
    work = tmp_path / "r.git.work"
    (work / "a").write_text("new")
    committed(work, "second")
    git(work, "push", "--quiet", str(tmp_path / "r.git"), "main")
    git(tmp_path / "r.git", "update-server-info")
    image, told = lab.build(f"FROM base\nADD {url} /all/\n")
    assert lab.read(image, "/all/a") == "new"
    image, told = lab.build(f"FROM base\nADD --checksum={first[:12]} {url}?ref={first}&subdir=sub /x/\n")
    assert paths(lab, image, "/x") == ["b"]


@needs_git
@pytest.mark.parametrize(
    ("address", "flags", "message"),
    [
        ("#nowhere", "", "no such ref in URL: nowhere"),
        ("#main:nowhere", "", "file not found in build context"),
        ("?tag=v1&branch=main&subdir=../..", "", "invalid folder of a git repository"),
        ("", "--checksum=0123456789 ", "no such ref"),
        ("#main", "--checksum=0123456789 ", "expected checksum to match 0123456789"),
    ],
)
def test_a_git_address_that_gives_nothing_is_one_sentence(
    lab: Lab, web: Web, tmp_path: Path, address: str, flags: str, message: str
) -> None:
    lab.base()
    repository(tmp_path / "r.git", {"a": "1"})
    web.folders["/r.git"] = tmp_path / "r.git"
    with pytest.raises(LaminaError) as caught:
        lab.build(f"FROM base\nADD {flags}{web.url('/r.git')}{address} /x/\n")
    assert caught.value.message.startswith("Dockerfile:2: ")
    assert message.replace("URL", web.url("/r.git")) in caught.value.message
    assert list((lab.root / "run").glob("build-*")) == []


@needs_git
def test_a_context_by_git_address_with_ref_and_folder(lab: Lab, web: Web, tmp_path: Path) -> None:
    lab.base()
    files = {"sub/Dockerfile": "FROM base\nCOPY . /all/\n", "sub/a": "1", "sub/.dockerignore": "b\n", "sub/b": "2", "c": "3"}
    repository(tmp_path / "r.git", files)
    web.folders["/r.git"] = tmp_path / "r.git"
    context = Context(remote=web.url("/r.git") + "#v1:sub")
    image, _ = lab.build(None, context=context)  # type: ignore[arg-type]
    assert paths(lab, image, "/all") == [".dockerignore", "Dockerfile", "a"]
    with pytest.raises(LaminaError, match="the repository has no folder nowhere"):
        lab.build(None, context=Context(remote=web.url("/r.git") + "#v1:nowhere"))  # type: ignore[arg-type]


@needs_git
@pytest.mark.parametrize("leads", ["{host}", "../../../../../../../../..{host}"])
def test_a_folder_of_a_git_repository_that_is_a_link_leads_nowhere_else(lab: Lab, web: Web, tmp_path: Path, leads: str) -> None:
    """CVE-2026-33748: it was opened by its path, and could be any of the host's."""
    lab.base()
    host = tmp_path / "host"
    host.mkdir()
    (host / "Dockerfile").write_text("FROM base\n")
    (host / "secret").write_text("of the host")
    (tmp_path / "r.git.work").mkdir()
    (tmp_path / "r.git.work/sub").symlink_to(leads.format(host=host))
    repository(tmp_path / "r.git", {"a": "1"})
    web.folders["/r.git"] = tmp_path / "r.git"
    url = web.url("/r.git") + "#main:sub"
    with pytest.raises(LaminaError, match="the repository has no folder sub"):
        lab.build(None, context=Context(remote=url))  # type: ignore[arg-type]
    try:
        image, _ = lab.build(f"FROM base\nADD {url} /x/\n")
    except LaminaError:
        return
    assert "secret" not in paths(lab, image, "/x")


def test_a_file_is_copied_into_the_root_of_an_image_that_has_nothing_yet(lab: Lab) -> None:
    (lab.context / "a").write_text("1")
    for target in (".", "/", "..", "/x/.."):
        image, _ = lab.build(f"FROM scratch\nCOPY a {target}\n")
        assert lab.read(image, "/a") == "1"


def test_a_context_by_address_is_a_tar_or_a_dockerfile(lab: Lab, web: Web) -> None:
    lab.base()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in {"Other": b"FROM base\nCOPY a /a\n", "a": b"1"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    web.files = {"/c.tgz": out.getvalue(), "/Dockerfile": b"FROM base\nCOPY <<a /b\nhere\na\n", "/binary": bytes(2000)}
    image, _ = lab.build(None, context=Context(remote=web.url("/c.tgz")), dockerfile="Other")  # type: ignore[arg-type]
    assert lab.read(image, "/a") == "1"
    web.files["/c.tar"] = gzip.decompress(web.files["/c.tgz"])
    plain, _ = lab.build(None, context=Context(remote=web.url("/c.tar")), dockerfile="Other")  # type: ignore[arg-type]
    assert plain.layers == image.layers
    image, _ = lab.build(None, context=Context(remote=web.url("/Dockerfile")))  # type: ignore[arg-type]
    assert lab.read(image, "/b") == "here\n"
    for address, message in {
        web.url("/binary"): "neither a tar nor a Dockerfile",
        web.url("/none"): "the server answered 404",
        "ftp://example.org/x": "no such build context",
    }.items():
        with pytest.raises(LaminaError, match=message):
            lab.build(None, context=Context(remote=address))  # type: ignore[arg-type]


def test_parents_keep_the_folders_of_a_source_from_the_pivot_on(lab: Lab) -> None:
    lab.base()
    write(lab, "a/b/c.txt", "a/b/d/e.txt", "a/f.md", "g.txt")
    (lab.context / "a/b").chmod(0o750)
    image, _ = lab.build(
        "FROM base\nCOPY --parents a/b/c.txt g.txt /one/\nCOPY --parents a/./b /two/\nCOPY --parents ./a/./**/*.txt /three/\n"
        "COPY --parents **/*.md /four/\nCOPY --parents none* /five/\n"
    )
    assert paths(lab, image, "/one") == ["a/b/c.txt", "g.txt"]
    assert paths(lab, image, "/two") == ["b/c.txt", "b/d/e.txt"]
    assert paths(lab, image, "/three") == ["b/c.txt", "b/d/e.txt"]
    assert paths(lab, image, "/four") == ["a/f.md"]
    assert {row.name: row.mode & 0o777 for row in lab.images.ls(str(image.id), "/one/a")}["b"] == 0o750
    with pytest.raises(LaminaError, match="file not found in build context"):
        lab.build("FROM base\nCOPY --parents none /x/\n")


def test_a_pivot_of_parents_stands_behind_wildcards_too_and_the_target_is_made_in_any_case(lab: Lab) -> None:
    lab.base()
    write(lab, "a/b/c/d/e/one", "a/b2/c/d/e/two", "a/b/c2/d/three", "a/x/c/d/four")
    (lab.context / "a/link").symlink_to("b2")
    image, _ = lab.build(
        "FROM base\nCOPY --parents a/b*/./c/**/e /one/\nCOPY --parents a/b/c*/./d/**/three a/[x]/./c/**/four /two/\n"
        "COPY --parents a/l*/./c/d /three/\nCOPY --parents a/none*/./c /four/\n"
    )
    assert paths(lab, image, "/one") == ["c/d/e/one", "c/d/e/two"]
    assert paths(lab, image, "/two") == ["c/d/four", "d/three"]
    assert paths(lab, image, "/three") == ["c/d/e/two"]
    assert paths(lab, image, "/four") == []
    with pytest.raises(LaminaError, match="file not found in build context"):
        lab.build("FROM base\nCOPY --parents a/none/./c /x/\n")


def test_to_buildkit_matches_of_one_wildcard_need_no_slash_behind_the_target(lab: Lab) -> None:
    lab.base()
    write(lab, "d1/one", "d2/two", "f1", "f2")
    text = "FROM base\nCOPY d* /both\nCOPY f* /file\n"
    image, _ = lab.build(text, buildkit=True)
    assert paths(lab, image, "/both") == ["one", "two"]
    assert lab.read(image, "/file") == "f2"
    for refused, buildkit in ((text, False), ("FROM base\nCOPY d1 d2 /both\n", True)):
        with pytest.raises(LaminaError, match="the destination must be a directory and end with a /"):
            lab.build(refused, buildkit=buildkit)


def owned(lab: Lab) -> None:
    """A tar in the context of a folder and a file that are 42's and 43's."""
    with tarfile.open(lab.context / "owned.tar", "w") as tar:
        for name, kind in (("d", tarfile.DIRTYPE), ("d/a", tarfile.REGTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.uid, info.gid, info.mode = kind, 42, 43, 0o750
            tar.addfile(info)


def owners(lab: Lab, image: Image, folder: str) -> dict[str, tuple[int, int]]:
    return {row.name: (row.uid, row.gid) for row in lab.images.ls(str(image.id), folder)}


def test_files_of_a_stage_stay_whose_they_are_unless_chown_says_otherwise(lab: Lab) -> None:
    lab.base()
    owned(lab)
    image, _ = lab.build(
        "FROM scratch AS one\nADD owned.tar /\nFROM base\nCOPY --from=one / /all\nCOPY --from=one --chmod=700 /d /new\n"
        "COPY --from=one --chown=me /d /mine\nCOPY --from=one --link /d/a /linked/\nCOPY --from=one --parents /d/a /p/\n"
    )
    assert owners(lab, image, "/all") == owners(lab, image, "/p") == {"d": (42, 43)}
    assert owners(lab, image, "/new") == owners(lab, image, "/linked") == {"a": (42, 43)}
    assert owners(lab, image, "/mine") == {"a": (7, 8)}
    assert owners(lab, image, "/")["new"] == (0, 0)


def test_an_owner_counts_for_the_cache_where_it_is_kept(lab: Lab) -> None:
    text = "FROM scratch AS one\nCOPY --chown=%s a /\nFROM base\nCOPY --from=one %s /a /b\n"
    lab.base()
    write(lab, "a")
    lab.build(text % ("1", ""))
    assert owners(lab, lab.build(text % ("2", ""))[0], "/")["b"] == (2, 2)
    lab.build(text % ("1", "--chown=5"))
    assert "Using cache" in lab.build(text % ("3", "--chown=5"))[1]


def test_as_with_buildkit_sources_need_not_be_there_and_nothing_lies_above_the_root(lab: Lab) -> None:
    lab.base()
    write(lab, "a", "d/b")
    text = "FROM base\nCOPY none* /none/\nCOPY ../a ../../x/../d /t/\nCOPY --from=base /../etc/passwd /p\n"
    image, _ = lab.build(text, buildkit=True)
    assert paths(lab, image, "/t") == ["a", "b"]
    assert lab.read(image, "/p") == "me:x:7:8::/:\n"
    assert "none" not in [row.name for row in lab.images.ls(str(image.id), "/")]
    with pytest.raises(LaminaError, match="forbidden path outside the build context"):
        lab.build("FROM base\nCOPY --from=base /../etc/passwd /p\n")


def test_as_with_buildkit_the_folder_of_a_workdir_is_the_users(lab: Lab) -> None:
    lab.base()
    text = "FROM base\nUSER %s\nWORKDIR /w/x\n"
    found = {user: lab.build(text % user, buildkit=True)[0] for user in ("me", "5", "me:9", "nobody")}
    assert [owners(lab, image, "/")["w"] for image in found.values()] == [(7, 8), (5, 5), (7, 9), (0, 0)]
    assert owners(lab, found["me"], "/w") == {"x": (7, 8)}
    assert owners(lab, lab.build(text % "me")[0], "/")["w"] == (0, 0)


def test_as_with_buildkit_a_default_sees_the_arguments_before_it_and_one_that_is_given_is_not_looked_at(lab: Lab) -> None:
    lab.base()
    text = "ARG O=${X:?x}\nFROM base\nARG A=1 B=${A}2\nARG C=${X:?x}3\nARG O\nLABEL l=$A$B$C$O\n"
    given = {"C": "c", "O": "o"}
    assert lab.build(text, buildkit=True, build_args=given)[0].config.config.labels["l"] == "112co"
    for text in ("ARG O=${X:?x}\nFROM base\n", "FROM base\nARG C=${X:?x}\n"):
        with pytest.raises(LaminaError, match="X: x"):
            lab.build(text, buildkit=True)
        with pytest.raises(LaminaError, match="X: x"):
            lab.build(text, build_args=given)
    assert lab.build("FROM base\nARG A=1 B=${A}2\nLABEL l=$A$B\n")[0].config.config.labels["l"] == "12"


def test_as_with_buildkit_an_argument_below_a_variable_hides_it_from_commands(lab: Lab) -> None:
    lab.base()
    text = "FROM base AS one\nENV V=env\nARG V\nLABEL l=$V\nRUN x\nFROM one\nRUN y\n"
    image, _ = lab.build(text, buildkit=True, build_args={"V": "given"})
    first, second = ([each for each in launch.spec["process"]["env"] if each.startswith("V=")] for launch in lab.runtime.launches)
    assert (first, second) == (["V=given"], ["V=env"])
    assert (image.config.config.labels, image.config.config.environment()["V"]) == ({"l": "given"}, "env")


@pytest.mark.parametrize("target", ['""', "$UNSET"])
def test_an_empty_target_is_the_working_directory(lab: Lab, target: str) -> None:
    lab.base()
    (lab.context / "a").write_text("a")
    image, _ = lab.build(f"FROM base\nARG UNSET\nCOPY a {target}\nWORKDIR /w\nADD a {target}\n")
    assert (paths(lab, image, "/w"), "a" in paths(lab, image, "/")) == (["a"], True)


def test_exclude_leaves_out_inside_of_folders_and_files_by_name(lab: Lab) -> None:
    lab.base()
    write(lab, "d/a.txt", "d/b.md", "d/sub/c.txt", "h1.txt", "h2.md")
    image, _ = lab.build(
        "FROM base\nCOPY --exclude=*.txt d /one/\nCOPY --exclude=**/*.txt --exclude=b.md d /two/\nADD --exclude=*.md h* /three/\n"
        "ARG P=*.txt\nCOPY --exclude=$P --parents d h* /four/\n"
    )
    assert paths(lab, image, "/one") == ["b.md", "sub/c.txt"]
    assert paths(lab, image, "/two") == []
    assert paths(lab, image, "/three") == ["h1.txt"]
    assert paths(lab, image, "/four") == ["d/b.md", "d/sub/c.txt", "h2.md"]


def test_what_is_excluded_does_not_count_for_the_cache(lab: Lab) -> None:
    lab.base()
    write(lab, "d/a.txt", "d/b.md")
    text = "FROM base\nCOPY --exclude=*.txt d /d/\n"
    lab.build(text)
    (lab.context / "d/a.txt").write_text("changed")
    assert lab.build(text)[1].count("Using cache") == 1
    (lab.context / "d/b.md").write_text("changed")
    assert lab.build(text)[1].count("Using cache") == 0


def test_a_link_is_the_same_layer_on_every_stack_and_changes_no_folder(lab: Lab) -> None:
    lab.base("one")
    lab.base("two", **{"srv/x": "x", "tmp/y": "y"})
    write(lab, "a", "d/b")
    text = "COPY --link a /tmp/\nCOPY --link --chown=7:8 d /new/deep/\n"
    first, _ = lab.build(f"FROM one\n{text}")
    second, told = lab.build(f"FROM two\n{text}")
    assert told.count("Using cache") == 2
    assert [lab.layers.get(layer).diff_id for layer in second.layers[1:]] == [lab.layers.get(layer).diff_id for layer in first.layers[1:]]
    assert paths(lab, second, "/tmp") == ["a", "y"]
    assert [(row.uid, row.gid) for row in lab.images.ls(str(second.id), "/new/deep")] == [(7, 8)]


def test_here_documents_may_stand_beside_files(lab: Lab) -> None:
    lab.base()
    write(lab, "a")
    image, _ = lab.build('FROM base\nENV X=1\nCOPY a <<b <<-"c" /d/\nb $X\nb\n\tc $X\n\tc\nADD --chmod=600 <<e /e\nin e\ne\n')
    assert paths(lab, image, "/d") == ["a", "b", "c"]
    assert (lab.read(image, "/d/b"), lab.read(image, "/d/c"), lab.read(image, "/e")) == ("b 1\n", "c $X\n", "in e\n")


def test_empty_folders_with_parents_are_told_apart_and_so_are_the_modes_above(lab: Lab) -> None:
    lab.base()
    for name in ("logs/app", "logs/web"):
        (lab.context / name).mkdir(parents=True)
    for name in ("app", "web"):
        image, _ = lab.build(f"FROM base\nCOPY --parents logs/{name} /srv/\n")
        assert [row.name for row in lab.images.ls(str(image.id), "/srv/logs")] == [name]
    (lab.context / "logs").chmod(0o700)
    image, _ = lab.build("FROM base\nCOPY --parents logs/web /srv/\n")
    assert [row.mode & 0o777 for row in lab.images.ls(str(image.id), "/srv")] == [0o700]


@needs_git
def test_a_checkout_without_submodules_is_another(lab: Lab, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.base()
    repository(tmp_path / "r.git", {"a": "1"})
    web.folders["/r.git"] = tmp_path / "r.git"
    asked: list[bool] = []
    checkout = Git.checkout

    def noted(self: Git, address: GitAddress, commit: str, path: str) -> Checkout:
        asked.append(address.submodules)
        return checkout(self, address, commit, path)

    monkeypatch.setattr(Git, "checkout", noted)
    lab.build(f"FROM base\nADD {web.url('/r.git')}?submodules=false /x/\nADD {web.url('/r.git')} /y/\n")
    lab.build(f"FROM base\nADD {web.url('/r.git')} /x/\n")
    assert asked == [False, True, True]


def test_a_cancelled_build_ends_git_with_all_that_it_has_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "git"
    program.write_text(f"#!/bin/sh\nsleep 600 &\ntouch {tmp_path}/started\nwait\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    cancellation, told = Cancellation(), list[BaseException]()

    def asks() -> None:
        try:
            Git(str(tmp_path), cancellation, Proxies()).commit(GitAddress("https://example.org/r.git"))
        except Cancelled as error:
            told.append(error)

    asking = threading.Thread(target=asks, daemon=True)
    asking.start()
    eventually((tmp_path / "started").exists, "git does not run")
    cancellation.cancel()
    asking.join(30)
    assert not asking.is_alive() and len(told) == 1


@pytest.mark.parametrize("checksum", [True, False])
def test_the_name_of_an_address_counts_where_the_target_is_a_folder(lab: Lab, web: Web, checksum: bool) -> None:
    lab.base(**{"opt/x": ""})
    web.files |= {"/a": b"same", "/b": b"same"}
    flag = f"--checksum={sha256(b'same')} " if checksum else ""
    for name in ("a", "b"):
        image, _ = lab.build(f"FROM base\nADD {flag}{web.url(f'/{name}')} /opt\n")
        assert [row.name for row in lab.images.ls(str(image.id), "/opt")] == [name, "x"]


@pytest.mark.parametrize("text", ["http://[", "https://[::1/x.git", "git://[x"])
def test_an_address_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidGitAddress, match="invalid address"):
        parse_git(text)
