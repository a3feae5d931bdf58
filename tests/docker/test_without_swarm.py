"""What only a swarm, a plugin or an experimental daemon has: the real docker CLI is told so, as by a dockerd outside a swarm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.asking import asked
from tests.docker.conftest import BASE, serving
from tests.harness import Daemon

NO_MANAGER = 'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.'


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon: storage drivers change nothing here."""
    with serving(tmp_path_factory) as daemon:
        yield daemon


@pytest.mark.docker_cli(23)
@pytest.mark.refuses("cli:node *", "cli:service *", "cli:secret *", "cli:config *", "cli:stack *", "cli:swarm *")
def test_commands_of_a_swarm_say_that_there_is_none(engine: Daemon, tmp_path: Path) -> None:
    (tmp_path / "compose.yml").write_text("services: {web: {image: busybox}}\n")
    (tmp_path / "secret").write_text("hidden")
    for words in (
        "node ls", "node inspect x", "node promote x", "node demote x", "node ps x", "node update --role worker x",
        "service ls", "service create -d busybox", "service inspect x", "service logs x", "service ps x", "service rm x", "service update x",
        "secret ls", "secret create s secret", "secret inspect x", "config ls", "config create c secret", "config inspect x",
        "stack ls", "stack ps x", "stack services x", "stack deploy -c compose.yml --resolve-image never x", "stack rm x",
        "swarm ca", "swarm join-token worker", "swarm update --autolock", "swarm unlock-key",
    ):  # fmt: skip
        said = engine.docker(*words.split(), code=1, cwd=tmp_path).stderr
        assert "his node is not a swarm manager" in said, (words, said)
    assert "This node is not part of a swarm" in engine.docker("swarm", "leave", code=1).stderr
    for words in ("swarm init", "swarm join --token x 127.0.0.1:1"):
        assert "it has no swarm mode" in engine.docker(*words.split(), code=1).stderr
    assert engine.docker("info", "--format", "{{.Swarm.LocalNodeState}}").stdout == "inactive\n"


@pytest.mark.covers("cli:stack config", "cli:stack config --compose-file", "cli:stack config --skip-interpolation")
def test_a_stack_is_rendered_by_the_client_alone(engine: Daemon, tmp_path: Path) -> None:
    (tmp_path / "compose.yml").write_text("services:\n  web:\n    image: busybox:$TAG\n")
    assert "image: busybox:$TAG" in engine.docker("stack", "config", "--skip-interpolation", "-c", "compose.yml", cwd=tmp_path).stdout


@pytest.mark.refuses("api:* /swarm*", "api:* /nodes*", "api:* /services*", "api:* /tasks*", "api:* /secrets*", "api:* /configs*")
def test_operations_of_a_swarm_are_503_with_dockerds_words(engine: Daemon) -> None:
    for operation in (
        "GET /swarm", "POST /swarm/update", "GET /swarm/unlockkey", "POST /swarm/unlock",
        "GET /nodes", "GET /nodes/x", "DELETE /nodes/x", "POST /nodes/x/update", "GET /tasks", "GET /tasks/x", "GET /tasks/x/logs",
        "GET /services/x/logs",
        *(f"{what}" for kind in ("services", "secrets", "configs") for what in (
            f"GET /{kind}", f"POST /{kind}/create", f"GET /{kind}/x", f"DELETE /{kind}/x", f"POST /{kind}/x/update",
        )),
    ):  # fmt: skip
        assert asked(engine, operation) == (503, NO_MANAGER), operation
    assert asked(engine, "POST /swarm/leave") == (503, "This node is not part of a swarm")
    assert asked(engine, "POST /swarm/init")[0] == asked(engine, "POST /swarm/join")[0] == 501


@pytest.mark.covers(
    "cli:plugin ls", "cli:plugin ls --filter", "cli:plugin ls --format", "cli:plugin ls --no-trunc", "cli:plugin ls --quiet"
)
@pytest.mark.covers("api:GET /plugins")
def test_no_plugins_are_listed(engine: Daemon) -> None:
    assert engine.docker("plugin", "ls", "--no-trunc").stdout.split() == ["ID", "NAME", "DESCRIPTION", "ENABLED"]
    assert engine.docker("plugin", "ls", "-q", "--filter", "enabled=true", "--format", "{{.Name}}").stdout == ""
    assert "invalid filter" in engine.docker("plugin", "ls", "--filter", "x=y", code=1).stderr


@pytest.mark.docker_cli(23)
@pytest.mark.refuses(
    "cli:plugin create*", "cli:plugin disable*", "cli:plugin enable*", "cli:plugin inspect*", "cli:plugin install*", "cli:plugin push*",
    "cli:plugin rm*", "cli:plugin set*", "cli:plugin upgrade*", "api:* /plugins/*",
)  # fmt: skip
def test_no_plugin_is_found_or_taken(engine: Daemon, tmp_path: Path) -> None:
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "config.json").write_text(json.dumps({"description": "x", "interface": {"types": [], "socket": ""}}))
    for words in ("inspect x", "enable x", "disable x", "rm x", "set x a=b", "upgrade --grant-all-permissions x", "push x"):
        assert 'plugin "x' in engine.docker("plugin", *words.split(), code=1).stderr, words
    for words in ("install --grant-all-permissions x", f"create x {tmp_path}"):
        assert "Lamina takes no plugins" in engine.docker("plugin", *words.split(), code=1).stderr, words


@pytest.mark.refuses("cli:checkpoint *")
def test_checkpoints_are_experimental(engine: Daemon) -> None:
    for words in ("create c x", "ls c", "rm c x"):
        assert "experimental" in engine.docker("checkpoint", *words.split(), code=1).stderr
    made = engine.docker("create", BASE, "true").stdout.strip()
    assert "experimental" in engine.docker("start", "--checkpoint", "x", made, code=1).stderr
    engine.docker("rm", made)
