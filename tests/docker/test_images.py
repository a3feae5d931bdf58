"""Images by the real docker CLI."""

from __future__ import annotations

import gzip
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.builder.webserver import Web, serving
from tests.docker.conftest import BASE
from tests.harness import Daemon, busybox_tar


@pytest.mark.covers("cli:import", "cli:import --message", "cli:import --change", "api:POST /images/create")
def test_import_makes_an_image_of_a_tar(daemon: Daemon, tag: str, tmp_path: Path) -> None:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/motd").write_text("hello")
    archive = tmp_path / "root.tar"
    subprocess.run(["tar", "-C", str(tmp_path / "root"), "-cf", str(archive), "."], check=True)
    done = daemon.docker("import", "-m", "from a tar", "-c", 'CMD ["cat", "/etc/motd"]', "-c", "ENV A=b", str(archive), tag)
    assert done.stdout.strip().startswith("sha256:")
    facts = json.loads(daemon.docker("inspect", tag).stdout)[0]
    assert facts["Id"] == done.stdout.strip()
    assert (facts["Config"]["Cmd"], facts["Config"]["Env"], facts["Comment"]) == (["cat", "/etc/motd"], ["A=b"], "from a tar")
    assert len(facts["RootFS"]["Layers"]) == 1


@pytest.mark.covers("cli:import", "cli:images --quiet", "cli:images --no-trunc")
def test_import_reads_standard_input_and_images_shows_the_id(daemon: Daemon, tag: str, tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    with tarfile.open(archive, "w"):
        pass
    identity = daemon.docker("import", "-", tag, stdin=archive.read_bytes()).stdout.strip()
    assert daemon.docker("images", "-q", "--no-trunc", tag).stdout.strip() == identity
    assert daemon.docker("images", "-q", tag).stdout.strip() == identity[7:19]


@pytest.mark.covers(
    "cli:images", "cli:images --format", "cli:images --filter", "cli:images --digests", "cli:images --all", "api:GET /images/json"
)
def test_images_lists_with_formats_and_filters(daemon: Daemon, tag: str) -> None:
    daemon.docker("tag", BASE, tag)
    repository = tag.split(":")[0]
    assert daemon.docker("images", "--format", "{{.Repository}}:{{.Tag}}", "-f", f"reference={repository}").stdout.strip() == tag
    assert daemon.docker("images", "-f", "reference=made/*", "--format", "{{.Repository}}").stdout.split().count(repository) == 1
    assert daemon.docker("images", "-f", "reference=nothing/*", "-q").stdout == ""
    table = daemon.docker("images", "--digests", "-a").stdout.splitlines()
    assert table[0].split() == ["REPOSITORY", "TAG", "DIGEST", "IMAGE", "ID", "CREATED", "SIZE"]
    assert any(line.split()[:3] == [repository, "1", "<none>"] for line in table)


@pytest.mark.covers("cli:tag", "cli:rmi", "api:POST /images/{name}/tag", "api:DELETE /images/{name}")
def test_rmi_of_one_of_two_names_only_untags(daemon: Daemon, tag: str) -> None:
    daemon.docker("tag", BASE, tag)
    assert daemon.docker("rmi", tag).stdout.strip() == f"Untagged: {tag}"
    daemon.docker("inspect", BASE)


@pytest.mark.parametrize("name", ["x:", "x@", ":v", "a" * 64])
def test_a_name_that_cannot_be_is_given_to_no_image(daemon: Daemon, name: str) -> None:
    for run in (daemon.docker, daemon.lamina):
        assert run("tag", BASE, name, code=1).stderr
    assert len(json.loads(daemon.docker("inspect", BASE).stdout)[0]["RepoTags"]) == 1


@pytest.mark.covers("cli:rmi", "cli:rmi --force")
def test_rmi_by_id_of_two_names_needs_force(daemon: Daemon, tag: str, tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    with tarfile.open(archive, "w") as tar:
        tar.addfile(tarfile.TarInfo("only-here"))
    identity = daemon.docker("import", str(archive), tag).stdout.strip()
    daemon.docker("tag", tag, "made/second:1")
    refused = daemon.docker("rmi", identity[7:19], code=1)
    assert "image is referenced in multiple repositories" in refused.stderr
    removed = daemon.docker("rmi", "-f", identity[7:19]).stdout
    assert removed.count("Untagged: ") == 2
    assert f"Deleted: {identity}" in removed


@pytest.mark.covers("cli:rmi")
def test_rmi_refuses_an_image_in_use_and_names_the_container(daemon: Daemon, name: str, tag: str, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE}\nLABEL made=here\n")
    daemon.docker("build", "-q", "-t", tag, str(context))
    container = daemon.docker("create", "--name", name, tag, "true").stdout.strip()
    refused = daemon.docker("rmi", tag, code=1)
    assert container[:12] in refused.stderr
    daemon.docker("inspect", tag)


def test_an_unknown_image_is_one_clear_sentence(daemon: Daemon, tmp_path: Path) -> None:
    for command in (["rmi"], ["history"], ["tag"], ["save", "-o", str(tmp_path / "x")]):
        extra = ["other:1"] if command == ["tag"] else []
        done = daemon.docker(*command, "not/here:1", *extra, code=1)
        assert "no such image" in done.stderr.lower()
        assert "not/here:1" in done.stderr


@pytest.mark.covers(
    "cli:history", "cli:history --no-trunc", "cli:history --quiet", "cli:history --format", "api:GET /images/{name}/history"
)
def test_history_has_an_entry_an_instruction(daemon: Daemon, tag: str, context: Path) -> None:
    (context / "Dockerfile").write_text(f'FROM {BASE}\nRUN echo one > /one\nENV A=b\nCMD ["cat", "/one"]\n')
    daemon.docker("build", "-q", "-t", tag, str(context))
    lines = daemon.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Size}}", tag).stdout.splitlines()
    assert lines[0] == '/bin/sh -c #(nop)  CMD ["cat" "/one"]|0B' or lines[0] == '/bin/sh -c #(nop)  CMD ["cat", "/one"]|0B'
    assert lines[1].startswith("/bin/sh -c #(nop)  ENV A=b|0B")
    assert lines[2] == "/bin/sh -c echo one > /one|4B"
    assert len(daemon.docker("history", "-q", tag).stdout.split()) == len(lines)


@pytest.mark.covers(
    "cli:save", "cli:save --output", "cli:load", "cli:load --input", "cli:load --quiet", "api:GET /images/get", "api:POST /images/load"
)
def test_save_and_load_keep_the_id(daemon: Daemon, tag: str, context: Path, tmp_path: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo moved > /moved\n")
    identity = daemon.docker("build", "-q", "-t", tag, str(context)).stdout.strip()
    archive = tmp_path / "saved.tar"
    daemon.docker("save", "-o", str(archive), tag, BASE)
    again = tmp_path / "again.tar"
    daemon.docker("save", "-o", str(again), tag, BASE)
    assert archive.read_bytes() == again.read_bytes()
    daemon.docker("rmi", tag)
    assert f"Loaded image: {tag}" in daemon.docker("load", "-i", str(archive)).stdout
    assert daemon.docker("images", "-q", "--no-trunc", tag).stdout.strip() == identity
    assert daemon.docker("run", "--rm", "--network", "none", tag, "cat", "/moved").stdout == "moved\n"


@pytest.mark.covers("cli:image prune", "cli:image prune --force", "cli:image prune --all", "api:POST /images/prune")
def test_prune_removes_what_has_no_name(daemon: Daemon, tag: str, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo first > /x\n")
    first = daemon.docker("build", "-q", "--no-cache", "-t", tag, str(context)).stdout.strip()
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo second > /x\n")
    daemon.docker("build", "-q", "-t", tag, str(context))
    assert first in daemon.docker("images", "-q", "--no-trunc", "-f", "dangling=true").stdout
    assert first in daemon.docker("image", "prune", "-f").stdout
    daemon.docker("inspect", first, code=1)
    daemon.docker("inspect", tag)


@pytest.mark.covers(
    "cli:system df", "cli:system df --verbose", "api:GET /system/df", "cli:info", "cli:version", "api:GET /info", "api:GET /version"
)
def test_df_info_and_version_answer(daemon: Daemon) -> None:
    assert [line.split()[0] for line in daemon.docker("system", "df").stdout.splitlines()] == [
        "TYPE",
        "Images",
        "Containers",
        "Local",
        "Build",
    ]
    assert "busybox" in daemon.docker("system", "df", "-v").stdout
    facts = json.loads(daemon.docker("info", "--format", "{{json .}}").stdout)
    assert (facts["Driver"], facts["OSType"]) == (daemon.driver, "linux")
    assert daemon.docker("version", "--format", "{{.Server.APIVersion}}").stdout.strip() == "1.51"


@pytest.mark.covers("cli:image inspect", "cli:inspect", "api:GET /images/{name}/json")
def test_inspect_finds_by_name_id_and_prefix(daemon: Daemon) -> None:
    identity = daemon.docker("image", "inspect", "--format", "{{.Id}}", BASE).stdout.strip()
    for way in (identity, identity[7:], identity[7:19]):
        assert daemon.docker("image", "inspect", "--format", "{{.Id}}", way).stdout.strip() == identity
    assert "no such object: nothing-of-that-name" in daemon.docker("inspect", "nothing-of-that-name", code=1).stderr.lower()


@pytest.mark.parametrize("damage", ["empty", "truncated", "no-manifest", "escape", "not-a-tar"])
def test_a_bad_archive_is_one_sentence_and_changes_nothing(daemon: Daemon, damage: str, tmp_path: Path) -> None:
    archive = tmp_path / "bad.tar"
    daemon.docker("save", "-o", str(archive), BASE)
    data = archive.read_bytes()
    match damage:
        case "empty":
            archive.write_bytes(b"")
        case "truncated":
            archive.write_bytes(data[: len(data) // 2])
        case "not-a-tar":
            archive.write_bytes(b"this is not a tar\n" * 1000)
        case "no-manifest" | "escape":
            with tarfile.open(archive, "w") as tar:
                tar.addfile(tarfile.TarInfo("../../escape" if damage == "escape" else "nothing"))
    before = sorted(daemon.docker("images", "-aq", "--no-trunc").stdout.split())
    done = daemon.docker("load", "-i", str(archive), code=1)
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert sorted(daemon.docker("images", "-aq", "--no-trunc").stdout.split()) == before


@pytest.mark.covers("cli:import")
def test_import_fetches_an_address(daemon: Daemon, tag: str, tmp_path: Path) -> None:
    archive = busybox_tar(tmp_path / "root.tar").read_bytes()
    with serving(Web(files={"/root.tar.gz": gzip.compress(archive, 1)})) as web:
        for run in (daemon.docker, daemon.lamina):
            done = run("import", "-c", 'CMD ["echo", "fetched"]', web.url("/root.tar.gz"), tag)
            assert f"Downloading from {web.url('/root.tar.gz')}" in done.stdout + done.stderr
            assert daemon.docker("run", "--rm", "--network", "none", tag).stdout == "fetched\n"
            assert daemon.docker("inspect", "-f", "{{.Comment}}", tag).stdout.strip() == f"Imported from {web.url('/root.tar.gz')}"
        refused = daemon.docker("import", web.url("/none.tar"), f"{tag}x", code=1)
        assert f"cannot fetch {web.url('/none.tar')}: the server answered 404" in refused.stderr
    assert "cannot fetch" in daemon.docker("import", web.url("/root.tar.gz"), f"{tag}x", code=1).stderr
    assert "urllib3" not in daemon.log
    assert daemon.docker("images", "-q", f"{tag}x").stdout == ""
