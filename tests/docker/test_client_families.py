"""Commands of the docker CLI that it does by itself, against the registry on this machine: manifest lists, keys of content trust."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.conftest import BASE, serving
from tests.docker.test_registry import registry
from tests.harness import Daemon, docker_cli, run

__all__ = ["registry"]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon: storage drivers change nothing here."""
    with serving(tmp_path_factory) as daemon:
        yield daemon


@pytest.mark.docker_cli(23)
@pytest.mark.covers(
    "cli:manifest create", "cli:manifest create --amend", "cli:manifest create --insecure", "cli:manifest annotate", "cli:manifest annotate --arch",
    "cli:manifest annotate --os", "cli:manifest annotate --os-features", "cli:manifest annotate --os-version", "cli:manifest annotate --variant",
    "cli:manifest inspect", "cli:manifest inspect --insecure", "cli:manifest inspect --verbose", "cli:manifest push",
    "cli:manifest push --insecure", "cli:manifest push --purge", "cli:manifest rm",
)  # fmt: skip
def test_a_manifest_list_of_pushed_images_is_made_pushed_and_pulled(engine: Daemon, registry: str, tmp_path: Path) -> None:
    names = [f"{registry}/several:{name}" for name in ("one", "two")]
    for name in names:
        (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo {name} > /which\n")
        engine.docker("build", "-q", "--network", "none", "-t", name, str(tmp_path))
        engine.docker("push", name)
    whole = f"{registry}/several:all"
    engine.docker("manifest", "create", "--insecure", whole, names[0])
    engine.docker("manifest", "create", "--insecure", "--amend", whole, *names)
    strange = ("--arch", "arm64", "--os", "linux", "--variant", "v8", "--os-version", "1", "--os-features", "x")
    engine.docker("manifest", "annotate", *strange, whole, names[1])
    shown = json.loads(engine.docker("manifest", "inspect", whole).stdout)
    assert sorted(row["platform"]["architecture"] for row in shown["manifests"]) == ["amd64", "arm64"]
    engine.docker("manifest", "push", "--insecure", "--purge", whole)
    told = json.loads(engine.docker("manifest", "inspect", "--insecure", "--verbose", whole).stdout)
    assert {row["Descriptor"]["platform"]["architecture"] for row in told} == {"amd64", "arm64"}
    engine.docker("rmi", *names)
    assert "does not provide the specified platform" in engine.docker("pull", "--platform", "linux/arm64", whole, code=1).stderr
    engine.docker("pull", "--platform", "linux/amd64", whole)
    assert engine.docker("run", "--rm", "--network", "none", whole, "cat", "/which").stdout == f"{names[0]}\n"
    engine.docker("manifest", "create", "--insecure", whole, names[0])
    engine.docker("manifest", "rm", whole)


@pytest.mark.covers("cli:trust key generate", "cli:trust key generate --dir", "cli:trust key load", "cli:trust key load --name")
@pytest.mark.docker_cli(0, 29)
def test_keys_of_content_trust_are_the_clients(engine: Daemon, tmp_path: Path) -> None:
    env = engine.environment() | {"DOCKER_CONTENT_TRUST_REPOSITORY_PASSPHRASE": "a passphrase"}
    run([docker_cli(), "trust", "key", "generate", "somebody", "--dir", str(tmp_path)], env)
    assert "BEGIN PUBLIC KEY" in (tmp_path / "somebody.pub").read_text()
    [private] = list((Path(env["DOCKER_CONFIG"]) / "trust/private").iterdir())
    copy = tmp_path / "copy.key"
    copy.write_bytes(private.read_bytes())
    copy.chmod(0o600)
    assert "Successfully imported key" in run([docker_cli(), "trust", "key", "load", "--name", "somebody", str(copy)], env).stdout


@pytest.mark.refuses("cli:trust inspect*", "cli:trust revoke*", "cli:trust sign*", "cli:trust signer *")
@pytest.mark.docker_cli(0, 29)
def test_signatures_need_a_notary_which_a_registry_is_not(engine: Daemon, registry: str, tmp_path: Path) -> None:
    env = engine.environment() | {"DOCKER_CONTENT_TRUST_SERVER": f"http://{registry}"}
    engine.docker("tag", BASE, f"{registry}/signed:1")
    for words in (
        ("inspect", f"{registry}/signed:1"),
        ("revoke", "--yes", f"{registry}/signed:1"),
        ("sign", f"{registry}/signed:1"),
        ("signer", "remove", "--force", "x", f"{registry}/signed"),
    ):
        said = run([docker_cli(), "trust", *words], env, code=1).stderr.lower()
        assert "trust" in said or "signatures" in said or "notary" in said, (words, said)
