"""save, load and import by both CLIs and docker-py: layouts, platforms, directories."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.spec.digest import Digest
from tests.docker.conftest import BASE
from tests.harness import Daemon
from tests.image.tars import tar
from tests.image.test_layouts import old_chain, several


@pytest.fixture
def multi(daemon: Daemon, tmp_path: Path) -> Iterator[Path]:
    """An archive of multi:1 for linux/amd64 and linux/arm64, loaded."""
    path = tmp_path / "multi.tar"
    path.write_bytes(tar(dict(several())))
    daemon.docker("load", "-i", str(path))
    yield path
    daemon.docker("rmi", "-f", "multi:1", code=None)


def identity(daemon: Daemon, name: str, *options: str) -> str:
    return daemon.docker("image", "inspect", "--format", "{{.Id}}", *options, name).stdout.strip()


@pytest.mark.covers("cli:images --tree", "cli:image inspect --platform", "cli:image inspect --format", "cli:history --platform")
def test_all_platforms_are_shown(daemon: Daemon, multi: Path) -> None:
    text = daemon.docker("images", "--tree").stdout
    assert "linux/amd64" in text and "linux/arm64" in text
    assert daemon.docker("images", "multi", "--format", "{{.Tag}}").stdout.split() == ["1"]
    arm = json.loads(daemon.docker("image", "inspect", "--platform", "linux/arm64", "multi:1").stdout)[0]
    assert (arm["Architecture"], arm["Config"]["Cmd"]) == ("arm64", ["arm64"])
    assert json.loads(daemon.lamina("image", "inspect", "--platform", "linux/arm64", "multi:1").stdout)[0] == arm
    for run in (daemon.docker, daemon.lamina):
        assert run("history", "--platform", "linux/arm64", "--format", "{{.CreatedBy}}", "multi:1").stdout == "ADD arm64\n"
        assert "does not provide the specified platform" in run("history", "--platform", "linux/s390x", "multi:1", code=1).stderr


@pytest.mark.covers("cli:save --platform", "cli:load --platform", "cli:rmi --platform", "api:GET /images/{name}/get")
def test_a_platform_is_chosen_in_save_load_and_rmi(daemon: Daemon, multi: Path, tmp_path: Path) -> None:
    arm = identity(daemon, "multi:1", "--platform", "linux/arm64")
    for number, run in enumerate((daemon.docker, daemon.lamina)):
        path = tmp_path / f"arm{number}.tar"
        run("save", "--platform", "linux/arm64", "-o", str(path), "multi:1")
        assert f"Deleted: {arm}" in run("rmi", "--platform", "linux/arm64", "multi:1").stdout
        assert identity(daemon, "multi:1") != arm
        daemon.docker("rmi", "multi:1")
        run("load", "-i", str(path))
        assert identity(daemon, "multi:1") == arm
        daemon.docker("rmi", "multi:1")
        run("load", "--platform", "linux/arm64", "-i", str(multi))
        assert identity(daemon, "multi:1") == arm
        daemon.docker("load", "-i", str(multi))
        assert identity(daemon, "multi:1", "--platform", "linux/arm64") == arm


def test_a_container_and_a_build_take_the_platform_that_is_asked_for(
    daemon: Daemon, multi: Path, name: str, context: Path, tag: str
) -> None:
    arm = identity(daemon, "multi:1", "--platform", "linux/arm64")
    for run in (daemon.docker, daemon.lamina):
        run("create", "--platform", "linux/arm64", "--pull", "never", "--name", name, "multi:1", "arm64")
        assert daemon.docker("inspect", "--format", "{{.Image}}", name).stdout.strip() == arm
        daemon.docker("rm", name)
        context.joinpath("Dockerfile").write_text("FROM --platform=linux/arm64 multi:1\nCOPY Dockerfile /\n")
        run("build", "-t", tag, str(context))
        assert daemon.docker("image", "inspect", "--format", "{{.Architecture}} {{.Config.Cmd}}", tag).stdout == "arm64 [arm64]\n"


def test_each_layout_goes_to_a_file_or_a_directory_and_comes_back(daemon: Daemon, tag: str, context: Path, tmp_path: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo moved > /moved\n")
    made = daemon.docker("build", "-q", "-t", tag, str(context)).stdout.strip()
    for form in ("docker", "oci", "v1"):
        path = tmp_path / f"{form}.tar"
        daemon.lamina("save", "--format", form, "-o", str(path), tag)
        assert daemon.lamina("save", "--format", form, tag, code=0).returncode == 0
        daemon.docker("rmi", tag)
        assert f"Loaded image: {tag}" in daemon.docker("load", "-i", str(path)).stdout
        assert form == "v1" or identity(daemon, tag) == made
        assert daemon.docker("run", "--rm", "--network", "none", tag, "cat", "/moved").stdout == "moved\n"
    directory = tmp_path / "layout"
    directory.mkdir()
    daemon.docker("load", "-i", str(tmp_path / "oci.tar"))
    daemon.lamina("save", "--format", "oci", "-o", str(directory), tag)
    index = json.loads((directory / "index.json").read_text())
    assert (directory / "blobs/sha256" / index["manifests"][0]["digest"].partition(":")[2]).exists()
    daemon.docker("rmi", tag)
    daemon.lamina("load", "-i", str(directory))
    assert identity(daemon, tag) == made
    for form in ("docker", "v1", "oci"):
        daemon.lamina("save", "--format", form, "-o", str(directory), tag)
        daemon.docker("rmi", tag)
        assert f"Loaded image: {tag}" in daemon.lamina("load", "-i", str(directory)).stdout
    (directory / "mine").touch()
    assert "holds mine that no save" in daemon.lamina("save", "-o", str(directory), tag, code=1).stderr
    assert "unknown archive format" in daemon.lamina("save", "--format", "zip", "-o", str(tmp_path / "x"), tag, code=1).stderr


def test_a_chain_of_2014_is_loaded_by_docker_py_too(daemon: Daemon) -> None:
    import docker

    client = docker.DockerClient(base_url=daemon.host)
    try:
        images = client.images.load(tar(dict(old_chain())))
        assert {tag for image in images for tag in image.tags} == {"old/app:1.0", "old/app:base"}
        data = b"".join(client.images.get("old/app:1.0").save(named=True))
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            [row] = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
            assert row["RepoTags"] == ["old/app:1.0"]
            assert str(Digest.of(archive.extractfile(row["Config"]).read())) == client.images.get("old/app:1.0").id  # type: ignore[union-attr]
    finally:
        client.close()
        daemon.docker("rmi", "-f", "old/app:1.0", "old/app:base", code=None)


CHANGES = {
    'CMD ["a", "b"]': ("Cmd", ["a", "b"]),
    "CMD a b": ("Cmd", ["/bin/sh", "-c", "a b"]),
    'ENTRYPOINT ["/e"]': ("Entrypoint", ["/e"]),
    "ENV A=b C=$A": ("Env", ["A=b", "C="]),
    "EXPOSE 80 53/udp": ("ExposedPorts", {"80/tcp": {}, "53/udp": {}}),
    "HEALTHCHECK --interval=5s CMD true": ("Healthcheck", {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000}),
    'LABEL a=b c="d e"': ("Labels", {"a": "b", "c": "d e"}),
    "ONBUILD RUN true": ("OnBuild", ["RUN true"]),
    "STOPSIGNAL SIGUSR1": ("StopSignal", "SIGUSR1"),
    "USER me:us": ("User", "me:us"),
    "VOLUME /data /more": ("Volumes", {"/data": {}, "/more": {}}),
    "WORKDIR /w/../x": ("WorkingDir", "/x"),
}


@pytest.mark.covers("cli:import --change", "cli:import --platform", "cli:commit --change")
def test_every_instruction_that_is_allowed_changes_an_import_and_a_commit(daemon: Daemon, tag: str, name: str, tmp_path: Path) -> None:
    archive = tmp_path / "empty.tar"
    archive.write_bytes(tar({"x": b"y"}))
    options = [word for change in CHANGES if change != "CMD a b" for word in ("-c", change)]
    daemon.docker("import", "--platform", "linux/arm64", *options, str(archive), tag)
    facts = json.loads(daemon.docker("inspect", tag).stdout)[0]
    assert facts["Architecture"] == "arm64"
    for change, (field, value) in CHANGES.items():
        if change != "CMD a b":
            assert facts["Config"][field] == value, change
    daemon.docker("create", "--name", name, "--network", "none", BASE, "true")
    daemon.docker("commit", *options, name, "committed:1")
    config = json.loads(daemon.docker("inspect", "committed:1").stdout)[0]["Config"]
    daemon.docker("rmi", "committed:1")
    for change, (field, value) in CHANGES.items():
        if field not in ("Cmd", "Env"):
            assert config[field] == value, change
    assert config["Cmd"] == ["a", "b"]


def test_a_change_of_several_lines_is_several_changes(daemon: Daemon, tag: str, tmp_path: Path) -> None:
    archive = tmp_path / "empty.tar"
    archive.write_bytes(tar({"x": b"y"}))
    for run in (daemon.docker, daemon.lamina):
        run("import", "-c", 'ENV A=1\nCMD ["a"]', "-c", "ENV B=$A", str(archive), tag)
        assert daemon.docker("inspect", "--format", "{{.Config.Env}} {{.Config.Cmd}}", tag).stdout == "[A=1 B=1] [a]\n"


@pytest.mark.parametrize("change", ["RUN true", "COPY a b", "FROM x", "ADD a b", "ARG a", "NONSENSE x", "ENV", "EXPOSE 99999"])
def test_other_instructions_are_refused_in_one_sentence(daemon: Daemon, change: str, tmp_path: Path) -> None:
    archive = tmp_path / "empty.tar"
    archive.write_bytes(tar({"x": b"y"}))
    for run in (daemon.docker, daemon.lamina):
        done = run("import", "-c", change, str(archive), "refused:1", code=1)
        assert len(done.stderr.strip().splitlines()) <= 2, done.stderr
        assert "Traceback" not in done.stderr


def test_the_layers_of_an_archive_are_drawn_without_loading_it(daemon: Daemon, tag: str, context: Path, tmp_path: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo outlined > /outlined\n")
    made = daemon.docker("build", "-q", "--network", "none", "-t", tag, str(context)).stdout.strip()
    [layers] = json.loads(daemon.docker("image", "inspect", "--format", "[{{json .RootFS.Layers}}]", tag).stdout)
    paths = {form: tmp_path / f"{form}.tar" for form in ("docker", "oci", "v1")}
    for form, path in paths.items():
        daemon.lamina("save", "--format", form, "-o", str(path), tag, BASE)
    daemon.docker("rmi", tag)
    before = (daemon.docker("images", "-aq", "--no-trunc").stdout, daemon.lamina("images", "--tree", "--no-trunc").stdout)
    for form, path in paths.items():
        lines = daemon.lamina("images", "--tree", "-i", str(path)).stdout.splitlines()
        assert len(lines) == 3 and f"[{BASE}]" in lines[1], form
        assert f"[{tag}]" in lines[2] and "RUN echo outlined > /outlined" in lines[2]
        assert daemon.lamina("images", "-tree", "--input", str(path)).stdout.splitlines() == lines
        assert daemon.lamina("image", "tree", "-i", "-", stdin=path.read_bytes()).stdout.splitlines() == lines
        root, child = json.loads(daemon.lamina("images", "--tree", "--format", "json", "-i", str(path)).stdout)["layers"]
        assert (root["shared_by"], root["parent"], child["parent"]) == (2, None, root["layer"])
        assert [root["diff_id"], child["diff_id"]] == layers
    assert before == (daemon.docker("images", "-aq", "--no-trunc").stdout, daemon.lamina("images", "--tree", "--no-trunc").stdout)
    assert made not in before[0]


def test_what_is_no_archive_is_one_sentence_to_the_tree(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "none.tar"
    for data in (b"this is no archive " * 100_000, b"\x1f\x8b" + bytes(2000), b"", tar({"file": b"of a root"})):
        path.write_bytes(data)
        done = daemon.lamina("images", "--tree", "-i", str(path), code=1)
        assert done.stdout == "" and done.stderr.startswith("lamina: ") and ("archive" in done.stderr or "damaged" in done.stderr)
        assert "Traceback" not in done.stderr
    assert daemon.lamina("images", "--tree", "-i", str(tmp_path / "absent"), code=1).stderr.count("\n") == 1
