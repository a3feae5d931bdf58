"""What is said of the engine as a whole, and of things one by one; the search of a registry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.docker.conftest import BASE
from tests.docker.test_registry import registry, repository
from tests.harness import Daemon

__all__ = ["registry", "repository"]


@pytest.mark.covers("cli:info --format", "cli:version --format", "cli:history --human")
def test_formats_of_info_version_and_history(daemon: Daemon) -> None:
    assert daemon.docker("info", "--format", "{{.Driver}} {{.OSType}}").stdout == f"{daemon.driver} linux\n"
    assert daemon.lamina("info", "--format", "{{.Driver}}").stdout == f"{daemon.driver}\n"
    assert daemon.docker("version", "--format", "{{.Server.Os}}").stdout == daemon.lamina("version", "--format", "{{.Server.Os}}").stdout
    for run in (daemon.docker, daemon.lamina):
        [size, created] = run("history", "--human=false", "--format", "{{.Size}} {{.CreatedAt}}", BASE).stdout.split(" ", 1)
        assert int(size) > 1_000_000 and created.startswith("20")


@pytest.mark.covers("cli:events --format")
def test_events_by_template(daemon: Daemon, tag: str) -> None:
    before = json.loads(daemon.docker("info", "--format", "{{json .SystemTime}}").stdout)
    daemon.docker("tag", BASE, tag)
    daemon.docker("rmi", tag)
    until = json.loads(daemon.docker("info", "--format", "{{json .SystemTime}}").stdout)
    for run in (daemon.docker, daemon.lamina):
        words = (
            "events",
            "--since",
            before,
            "--until",
            until,
            "--filter",
            "type=image",
            "--format",
            "{{.Action}} {{.Actor.Attributes.name}}",
        )
        assert run(*words).stdout.splitlines() == [f"tag {tag}", f"untag {tag}"]


@pytest.mark.covers(
    "cli:inspect --type", "cli:inspect --size", "cli:container inspect", "cli:container inspect --format", "cli:container inspect --size"
)
def test_inspect_takes_a_type_and_tells_sizes(daemon: Daemon, name: str) -> None:
    daemon.docker("run", "--name", name, "--network", "none", BASE, "sh", "-c", "echo x > /x")
    for run in (daemon.docker, daemon.lamina):
        assert run("inspect", "--type", "container", "--format", "{{.Name}}", name).stdout == f"/{name}\n"
        assert "o such image" in run("inspect", "--type", "image", name, code=1).stderr.replace("No", "no")
        facts = json.loads(run("inspect", "--size", name).stdout)[0]
        assert 0 < facts["SizeRw"] < facts["SizeRootFs"]
        assert run("container", "inspect", "--size", "--format", "{{.SizeRw}}", name).stdout == f"{facts['SizeRw']}\n"


@pytest.mark.covers(
    "cli:search", "cli:search --filter", "cli:search --format", "cli:search --limit", "cli:search --no-trunc", "api:GET /images/search"
)
def test_search_finds_repositories_of_a_registry(daemon: Daemon, registry: str, repository: str) -> None:
    daemon.docker("push", "-q", f"{repository}:1")
    path = repository.partition("/")[2]
    for run in (daemon.docker, daemon.lamina):
        found = run("search", "--format", "{{.Name}}", "--no-trunc", "--limit", "5", f"{registry}/{path}").stdout
        assert path in found
        assert run("search", "--format", "{{.Name}}", "--filter", "stars=3", f"{registry}/{path}").stdout == ""
        assert run("search", f"{registry}/nothing-like-it").stdout.split()[:2] == ["NAME", "DESCRIPTION"]
    import docker

    client = docker.DockerClient(base_url=daemon.host)
    try:
        assert any(path in row["name"] for row in client.images.search(f"{registry}/{path}"))
    finally:
        client.close()


@pytest.mark.covers("cli:push --quiet")
def test_push_is_quiet_on_wish(daemon: Daemon, repository: str, context: Path) -> None:
    for run in (daemon.docker, daemon.lamina):
        assert run("push", "-q", f"{repository}:1").stdout.splitlines() == [f"{repository}:1"]
