"""The tag stays, the digest changes: what is where, who still runs it, and what a digest fixes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.docker.conftest import BASE
from tests.docker.test_registry import registry
from tests.harness import Daemon

__all__ = ["registry"]


def pushed(daemon: Daemon, name: str, context: Path, text: str) -> tuple[str, str]:
    """Build and push an image that prints `text`; its ID and its digest."""
    (context / "Dockerfile").write_text(f'FROM {BASE}\nRUN echo {text} > /text\nCMD ["sh", "-c", "cat /text; sleep 1000"]\n')
    identity = daemon.docker("build", "-q", "--network", "none", "-t", name, str(context)).stdout.strip()
    digest = daemon.docker("push", name).stdout.split("digest: ")[1].split()[0]
    daemon.docker("rmi", name)
    return identity, digest


@pytest.mark.covers("cli:ps --filter", "cli:pull --platform", "cli:push --quiet")
@pytest.mark.docker_cli(0, 29)
def test_a_tag_moves_and_leaves_the_old_image_to_who_runs_it(daemon: Daemon, registry: str, name: str, context: Path) -> None:
    repository = f"{registry}/{daemon.driver}/story"
    tag = f"{repository}:1"
    old, old_digest = pushed(daemon, tag, context, "old")
    daemon.docker("pull", "--platform", "linux/amd64", tag)
    container = daemon.docker("run", "-d", "--name", name, "--network", "none", tag).stdout.strip()
    # somebody pushes a new image under the old tag
    daemon.docker("tag", tag, "keep:1")
    new, new_digest = pushed(daemon, tag, context, "new")
    daemon.docker("rmi", "keep:1")
    daemon.docker("pull", f"{repository}@{old_digest}")
    assert f"Status: Downloaded newer image for {tag}" in daemon.docker("pull", tag).stdout
    rows = daemon.docker("images", "--digests", "--no-trunc", "--format", "{{.Tag}} {{.Digest}} {{.ID}}", repository).stdout.split("\n")
    assert {f"1 {new_digest} {new}", f"<none> {old_digest} {old}"} <= set(rows)
    # who still runs the old one
    for text in (old, old[7:19], old_digest, f"{repository}@{old_digest}"):
        assert daemon.docker("ps", "-q", "--no-trunc", "--filter", f"ancestor={text}").stdout.strip() == container
        assert daemon.lamina("ps", "-q", "--no-trunc", "--filter", f"ancestor={text}").stdout.strip() == container
    assert daemon.docker("ps", "-q", "--filter", f"ancestor={new}").stdout == ""
    facts = json.loads(daemon.docker("inspect", container).stdout)[0]
    assert (facts["Image"], facts["Config"]["Image"]) == (old, tag)
    assert json.loads(daemon.docker("image", "inspect", old).stdout)[0]["RepoDigests"] == [f"{repository}@{old_digest}"]
    # a prune leaves what runs; a digest fixes what is pulled
    daemon.docker("image", "prune", "-f")
    assert daemon.docker("image", "inspect", "--format", "{{.Id}}", f"{repository}@{old_digest}").stdout.strip() == old
    daemon.docker("rm", "-f", name)
    daemon.docker("rmi", "-f", tag, f"{repository}@{old_digest}")
    daemon.docker("pull", "-q", f"{repository}@{old_digest}")
    assert daemon.docker("run", "--rm", "--network", "none", f"{repository}@{old_digest}", "cat", "/text").stdout == "old\n"
    daemon.docker("rmi", f"{repository}@{old_digest}")


@pytest.mark.covers(
    "cli:pull --disable-content-trust", "cli:push --disable-content-trust", "cli:run --disable-content-trust", "cli:create --disable-content-trust"
)  # fmt: skip
@pytest.mark.docker_cli(0, 29)
def test_content_trust_is_never_passed_over(daemon: Daemon, registry: str, context: Path) -> None:
    name = f"{registry}/{daemon.driver}/trusted:1"
    pushed(daemon, name, context, "trusted")
    daemon.docker("pull", "-q", "--disable-content-trust", name)
    daemon.docker("push", "-q", "--disable-content-trust=true", name)
    daemon.docker("rmi", name)
    for run in (daemon.docker, daemon.lamina):
        for command in (["pull"], ["create", "--network", "none"], ["run", "--rm", "--network", "none"]):
            done = run(*command, "--disable-content-trust=false", name, code=None)
            assert done.returncode != 0
            assert daemon.docker("images", "-q", name).stdout == ""
    assert "cannot be verified" in daemon.lamina("pull", "--disable-content-trust=false", name, code=1).stderr
    daemon.lamina("pull", "-q", name)
    assert "cannot be signed" in daemon.lamina("push", "--disable-content-trust=false", name, code=1).stderr
    assert daemon.docker("push", "--disable-content-trust=false", name, code=None).returncode != 0
    daemon.docker("rmi", name)
