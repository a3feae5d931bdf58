"""Pull, push and login by the real docker CLI, against Lamina's own registry on this machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.api.asking import asked
from tests.docker.conftest import BASE
from tests.harness import Daemon
from tests.image.tars import tar
from tests.image.test_layouts import several

_repositories = count(1)


@contextmanager
def listening(root: Path, *options: str) -> Iterator[str]:
    """A registry's address."""
    command = [sys.executable, "-m", "lamina.registry", "--root", str(root), "--listen", "127.0.0.1:0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        told = re.match(r"registry listens on (127\.0\.0\.1:\d+),", process.stdout.readline())
        assert told is not None, "the registry did not start"
        yield told[1]
        process.terminate()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry's address."""
    with listening(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def repository(daemon: Daemon, registry: str, context: Path) -> Iterator[str]:
    """A repository's name in the registry; here it has an image of two layers, tagged 1."""
    repository = f"{registry}/{daemon.driver}/app{next(_repositories)}"
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo {repository} > /pushed\n")
    daemon.docker("build", "-q", "--network", "none", "-t", f"{repository}:1", str(context))
    yield repository
    daemon.docker("rmi", "-f", *daemon.docker("images", "-q", repository).stdout.split(), code=None)


def test_a_pull_that_verifies_brings_back_what_was_damaged_unseen(daemon: Daemon, repository: str) -> None:
    name = f"{repository}:1"
    daemon.docker("push", name)
    daemon.docker("rmi", name)
    daemon.docker("pull", name)
    top = json.loads(daemon.docker("inspect", name).stdout)[0]["RootFS"]["Layers"][-1]
    known = [json.loads(path.read_text()) for path in daemon.data.glob("layers/*.json")]
    layer = next(facts for facts in known if facts["diff_id"] == top)
    blobs = [layer["diff_id"], *(source["digest"] for source in layer["sources"])]
    paths = [daemon.data / "content/blobs/sha256" / digest.removeprefix("sha256:") for digest in blobs]
    paths += list((daemon.data / "layers" / layer["name"]).glob("pushed"))
    before = {path: path.read_bytes() for path in paths if path.exists()}
    for path, data in before.items():
        moment = path.stat().st_mtime_ns
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        os.utime(path, ns=(moment, moment))
    assert "Image is up to date" in daemon.docker("pull", name).stdout
    assert "Pull complete" in daemon.lamina("pull", "--verify", name).stdout
    assert {path: path.read_bytes() for path in before} == before
    assert daemon.lamina("system", "check").stdout == "everything is sound\n"


@pytest.mark.covers("cli:push", "cli:pull", "api:POST /images/{name}/push", "cli:images --digests")
def test_push_then_pull_by_tag_and_by_digest(daemon: Daemon, repository: str) -> None:
    name = f"{repository}:1"
    identity = daemon.docker("images", "-q", "--no-trunc", name).stdout.strip()
    digest = daemon.docker("push", name).stdout.split("digest: ")[1].split()[0]
    assert daemon.docker("images", "--digests", "--format", "{{.Digest}}", repository).stdout.strip() == digest
    daemon.docker("rmi", name)
    told = daemon.docker("pull", name).stdout
    for words in (f"Digest: {digest}", f"Status: Downloaded newer image for {name}", "Already exists"):
        assert words in told
    assert daemon.docker("images", "-q", "--no-trunc", name).stdout.strip() == identity
    assert f"Status: Image is up to date for {name}" in daemon.docker("pull", name).stdout
    daemon.docker("rmi", name)
    daemon.docker("pull", "-q", f"{repository}@{digest}")
    assert daemon.docker("run", "--rm", "--network", "none", f"{repository}@{digest}", "cat", "/pushed").stdout.strip() == repository


@pytest.mark.covers("cli:pull --all-tags", "cli:push --all-tags", "cli:pull --quiet")
def test_all_tags_travel(daemon: Daemon, repository: str) -> None:
    daemon.docker("tag", f"{repository}:1", f"{repository}:2")
    daemon.docker("push", "-a", repository)
    daemon.docker("rmi", f"{repository}:1", f"{repository}:2")
    daemon.docker("pull", "-aq", repository)
    assert sorted(daemon.docker("images", "--format", "{{.Tag}}", repository).stdout.split()) == ["1", "2"]


def test_a_second_push_sends_nothing(daemon: Daemon, repository: str) -> None:
    daemon.docker("push", f"{repository}:1")
    assert "Layer already exists" in daemon.docker("push", f"{repository}:1").stdout


@pytest.mark.parametrize("suffix", [":absent", "@sha256:" + "00" * 32])
def test_what_is_not_there_is_one_sentence(daemon: Daemon, registry: str, suffix: str) -> None:
    done = daemon.docker("pull", f"{registry}/nothing{suffix}", code=1)
    assert "nothing" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_push_of_what_is_not_here_says_so_in_the_stream(daemon: Daemon, repository: str) -> None:
    for name, words in (
        ("absent", "An image does not exist locally with the tag: absent"),
        (f"{repository}:2", f"tag does not exist: {repository}:2"),
    ):
        refused = daemon.docker("push", name, code=1)
        assert words in refused.stderr and "The push refers to repository" in refused.stdout
        assert words in daemon.lamina("push", name, code=1).stderr


def test_a_registry_that_does_not_answer_is_one_sentence(daemon: Daemon) -> None:
    assert "127.0.0.1:1" in daemon.docker("pull", "127.0.0.1:1/app:1", code=1).stderr
    # not 503, after which clients try again
    assert asked(daemon, "POST /images/create?fromImage=127.0.0.1:1/app&tag=1") == (
        500,
        "registry 127.0.0.1:1 is unreachable: connection refused",
    )


def test_a_push_of_what_is_not_here_says_so_as_dockers(daemon: Daemon, repository: str) -> None:
    assert f"tag does not exist: {repository}:absent" in daemon.docker("push", f"{repository}:absent", code=1).stderr
    for words in ((), ("-q",), ("-a",)):
        said = daemon.docker("push", *words, "no/image", code=1).stderr
        assert "An image does not exist locally with the tag: no/image" in said, words


@pytest.mark.covers(
    "cli:login", "cli:login --username", "cli:login --password", "cli:login --password-stdin", "cli:logout", "api:POST /auth"
)
def test_login_checks_and_keeps_credentials(daemon: Daemon, registry: str) -> None:
    done = daemon.docker("login", "-u", "somebody", "--password-stdin", registry, stdin="secret")
    assert "Login Succeeded" in done.stdout
    daemon.docker("logout", registry)
    for run in (daemon.docker, daemon.lamina):
        done = run("login", "--username", "somebody", "--password", "secret", registry)
        assert "Login Succeeded" in done.stdout and "--password-stdin" in done.stderr
        assert "secret" not in (Path(daemon.environment()["DOCKER_CONFIG"]) / "config.json").read_text()
    daemon.docker("logout", registry)


def test_a_pull_without_the_credentials_that_a_registry_wants_is_refused_without_a_question(daemon: Daemon, tmp_path: Path) -> None:
    users = tmp_path / "users"
    command = [sys.executable, "-m", "lamina.registry", "passwd", "--users", str(users), "--password-stdin", "somebody"]
    subprocess.run(command, input="secret\n", text=True, check=True)
    with listening(tmp_path / "data", "--users", str(users)) as address:
        refused = daemon.docker("pull", f"{address}/private:1", stdin="", code=1)  # a docker CLI that asks for a name waits for it
    words = f"pull access denied for {address}/private, repository does not exist or may require 'docker login'"
    assert words in refused.stderr and "Username" not in refused.stdout


@pytest.mark.covers("api:GET /distribution/{name}/json")
def test_what_a_name_stands_for_is_told_without_a_pull(daemon: Daemon, repository: str) -> None:
    digest = daemon.docker("push", f"{repository}:1").stdout.split("digest: ")[1].split()[0]
    daemon.docker("rmi", f"{repository}:1")
    before = daemon.docker("images", "-aq").stdout
    told = json.loads(daemon.curl(f"/distribution/{repository}:1/json"))
    assert told["Descriptor"]["digest"] == digest
    assert told["Descriptor"]["mediaType"].endswith("manifest.v1+json") and told["Descriptor"]["size"] > 0
    [platform] = told["Platforms"]
    assert platform["os"] == "linux" and platform["architecture"]
    assert json.loads(daemon.curl(f"/distribution/{repository}@{digest}/json")) == told
    assert "message" in json.loads(daemon.curl(f"/distribution/{repository}:absent/json"))
    assert daemon.docker("images", "-aq").stdout == before


@pytest.mark.covers("cli:push --platform")
def test_one_of_several_platforms_is_pushed(daemon: Daemon, registry: str, tmp_path: Path) -> None:
    name, files = f"{registry}/{daemon.driver}/several:1", several(f"{registry}/{daemon.driver}/several:1")
    (tmp_path / "several.tar").write_bytes(tar(dict(files)))
    daemon.docker("load", "-i", str(tmp_path / "several.tar"))
    shown = daemon.docker("images", "-aq", "--no-trunc").stdout
    for run, architecture in ((daemon.docker, "arm64"), (daemon.lamina, "amd64")):
        digest = run("push", "--platform", f"linux/{architecture}", name).stdout.split("digest: ")[1].split()[0]
        told = json.loads(daemon.curl(f"/distribution/{name}/json"))
        assert told["Descriptor"]["digest"] == digest
        assert [platform["architecture"] for platform in told["Platforms"]] == [architecture]
        assert "does not provide the specified platform" in run("push", "--platform", "linux/s390x", name, code=1).stderr
    index = json.loads(files["index.json"])["manifests"][0]["digest"]
    for run in (daemon.docker, daemon.lamina):
        assert run("push", name).stdout.split("digest: ")[1].split()[0] == index
    told = json.loads(daemon.curl(f"/distribution/{name}/json"))
    assert told["Descriptor"]["digest"] == index
    assert [platform["architecture"] for platform in told["Platforms"]] == ["arm64", "amd64", "unknown"]
    assert daemon.docker("images", "-aq", "--no-trunc").stdout == shown
    daemon.docker("rmi", name)
    daemon.docker("pull", "-q", name)
    assert daemon.docker("image", "inspect", "--format", "{{.Architecture}}", name).stdout == "amd64\n"
    daemon.docker("rmi", name)


def test_what_a_registry_has_not_is_a_plain_error(daemon: Daemon, repository: str) -> None:
    from docker.errors import NotFound

    import docker

    done = daemon.docker("pull", f"{repository}/absent:1", code=1)
    assert done.stderr.startswith("Error response from daemon: ") and done.stdout == ""
    client = docker.DockerClient(base_url=daemon.host)
    with pytest.raises(NotFound):
        client.images.pull(f"{repository}/absent", tag="1")
    client.close()
