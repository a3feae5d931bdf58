"""The docker CLI's global flags: where the engine is, by which files, over TCP and TLS; the own CLI's the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.conftest import BASE, serving
from tests.harness import Daemon, docker_cli, docker_cli_version, free_port, run, script

CERTIFICATES = Path(__file__).parent.parent / "tls" / "certificates"
ENGINE = ("--tlscacert", f"{CERTIFICATES}/ca.pem", "--tlscert", f"{CERTIFICATES}/engine.pem", "--tlskey", f"{CERTIFICATES}/engine-key.pem")
CLIENT = ("--tlscacert", f"{CERTIFICATES}/ca.pem", "--tlscert", f"{CERTIFICATES}/client.pem", "--tlskey", f"{CERTIFICATES}/client-key.pem")
STRANGER = (
    "--tlscacert",
    f"{CERTIFICATES}/ca.pem",
    "--tlscert",
    f"{CERTIFICATES}/stranger.pem",
    "--tlskey",
    f"{CERTIFICATES}/stranger-key.pem",
)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, str]]:
    """A daemon that also listens on TCP, with TLS, for clients that the authority signed; its address."""
    address = f"tcp://127.0.0.1:{free_port()}"
    with serving(tmp_path_factory, options=("--host", address, "--tlsverify", *ENGINE)) as daemon:
        yield daemon, address


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, str]]:
    """A daemon that also listens on TCP without TLS, as it was told."""
    address = f"tcp://127.0.0.1:{free_port()}"
    with serving(tmp_path_factory, options=("--host", address, "--tlsverify=false")) as daemon:
        yield daemon, address


def _bare(daemon: Daemon) -> dict[str, str]:
    """The environment without addresses: only flags say where the engine is."""
    return {name: value for name, value in daemon.environment().items() if not name.endswith("_HOST")}


@pytest.mark.covers("cli:--tlsverify", "cli:--tlscacert", "cli:--tlscert", "cli:--tlskey", "cli:--host")
def test_commands_and_streams_go_through_tls(secure: tuple[Daemon, str], tmp_path: Path) -> None:
    daemon, address = secure
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nCOPY big /\n")
    (tmp_path / "big").write_bytes(bytes(range(256)) * 8192)
    for program in ([docker_cli()], script("lamina")):
        words = [*program, "-H", address, "--tlsverify", *CLIENT]
        env = _bare(daemon)
        assert run([*words, "version", "--format", "{{.Server.Os}}"], env).stdout == "linux\n"
        assert (
            run([*words, "run", "--rm", "-i", BASE, "sh", "-c", "cat; exit 3"], env, stdin="through\n" * 50_000, code=3).stdout.count("\n")
            == 50_000
        )
        built = run([*words, "build", "-q", str(tmp_path)], env).stdout.strip()
        assert run([*words, "run", "--rm", built, "wc", "-c", "/big"], env).stdout.split()[0] == str(2 << 20)
        run([*words, "rmi", "-f", built], env)


def test_whoever_the_authority_did_not_sign_is_not_let_in(secure: tuple[Daemon, str]) -> None:
    daemon, address = secure
    env = _bare(daemon)
    for program in ([docker_cli()], script("lamina")):
        assert "certificate" in run([*program, "-H", address, "--tlsverify", *STRANGER, "ps"], env, code=1).stderr.replace("_", " ")
        assert run([*program, "-H", address, "ps"], env, code=1).stderr
    unverified = run([*script("lamina"), "-H", address, "--tlsverify", "ps"], env, code=1).stderr
    assert "certificate" in unverified


@pytest.mark.covers("cli:--tls")
def test_tls_without_verifying_the_engine(secure: tuple[Daemon, str]) -> None:
    daemon, address = secure
    for program in ([docker_cli()], script("lamina")):
        assert (
            BASE in run([*program, "-H", address, "--tls", *CLIENT, "images", "--format", "{{.Repository}}:{{.Tag}}"], _bare(daemon)).stdout
        )


def test_certificates_lie_where_docker_has_them(secure: tuple[Daemon, str], tmp_path: Path) -> None:
    daemon, address = secure
    for name, source in (("ca.pem", "ca.pem"), ("cert.pem", "client.pem"), ("key.pem", "client-key.pem")):
        (tmp_path / name).write_bytes((CERTIFICATES / source).read_bytes())
    env = _bare(daemon) | {"DOCKER_HOST": address, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(tmp_path)}
    for program in ([docker_cli()], script("lamina")):
        assert BASE in run([*program, "images", "--format", "{{.Repository}}:{{.Tag}}"], env).stdout


def test_plain_tcp_is_served_where_it_was_asked_for(plain: tuple[Daemon, str]) -> None:
    daemon, address = plain
    assert "whoever reaches the port is root" in daemon.log
    for program in ([docker_cli()], script("lamina")):
        assert run([*program, "-H", address, "run", "--rm", "-i", BASE, "cat"], _bare(daemon), stdin="over tcp").stdout == "over tcp"


def test_tcp_is_refused_until_somebody_says_who_may(tmp_path: Path) -> None:
    words = [*script("laminad"), "--root", str(tmp_path / "root"), "--host", "tcp://127.0.0.1:0"]
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": "src"}
    assert "is root on this machine" in run(words, env, code=1).stderr
    assert "cannot be set up" in run([*words, "--tlsverify", "--tlscert", "/nonexistent"], env, code=1).stderr


@pytest.mark.covers("cli:--config", "cli:--context", "cli:--debug", "cli:--log-level", "cli:--version")
@pytest.mark.covers(
    "cli:context create", "cli:context create --docker", "cli:context create --description", "cli:context create --from", "cli:context export",
    "cli:context import", "cli:context inspect", "cli:context inspect --format", "cli:context ls", "cli:context ls --format",
    "cli:context ls --quiet", "cli:context rm", "cli:context rm --force", "cli:context show", "cli:context update",
    "cli:context update --docker", "cli:context update --description", "cli:context use",
)  # fmt: skip
def test_contexts_name_engines(secure: tuple[Daemon, str], tmp_path: Path) -> None:
    daemon, _ = secure
    env = {**_bare(daemon), "HOME": str(tmp_path)}
    env.pop("DOCKER_CONFIG")

    def docker(*words: str, code: int = 0) -> str:
        done = run([docker_cli(), "--config", f"{tmp_path}/config", *words], env, code=code)
        return done.stdout + done.stderr

    docker("context", "create", "here", "--docker", f"host={daemon.host}", "--description", "first")
    docker("context", "create", "copy", "--from", "here")
    docker("context", "update", "copy", "--docker", "host=unix:///nonexistent.sock", "--description", "second")
    assert BASE in docker("--context", "here", "images", "--format", "{{.Repository}}:{{.Tag}}")
    assert "nonexistent.sock" in docker("--context", "copy", "images", code=1)
    assert docker("context", "ls", "-q").split() == ["copy", "default", "here"]
    assert "second" in docker("context", "ls", "--format", "{{.Description}}")
    docker("context", "use", "here")
    if docker_cli_version() >= 23:
        assert docker("context", "show") == "here\n"
    assert docker("context", "inspect", "--format", "{{.Endpoints.docker.Host}}") == f"{daemon.host}\n"
    assert docker("--debug", "--log-level", "debug", "version", "--format", "{{.Server.Os}}").splitlines().count("linux") == 1
    docker("context", "export", "here", f"{tmp_path}/here.tar")
    docker("context", "import", "again", f"{tmp_path}/here.tar")
    assert BASE in docker("--context", "again", "images", "--format", "{{.Repository}}:{{.Tag}}")
    docker("context", "rm", "again", "copy")
    docker("context", "rm", "--force", "here")
    assert json.loads((tmp_path / "config/config.json").read_text()).get("currentContext", "") in ("", "default")
    assert re.match(r"Docker version \d+", docker("--version"))
