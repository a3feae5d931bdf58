"""`lamina completion`: what a real shell shows after TAB; and what is said to somebody who mistypes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.docker.conftest import BASE
from tests.harness import Daemon, script


def _words(daemon: Daemon, *words: str) -> list[str]:
    return daemon.lamina("completion", "_", *words).stdout.split()


def test_commands_flags_and_names_are_completed(daemon: Daemon, name: str) -> None:
    daemon.docker("create", "--name", name, BASE, "true")
    assert _words(daemon, "ima") == ["image", "images"]
    assert _words(daemon, "image", "sq") == ["squash"]
    assert _words(daemon, "-H", daemon.host, "volume", "cr") == ["create"]
    assert _words(daemon, "run", "--vol") == ["--volume", "--volume-driver", "--volumes-from"]
    assert name in _words(daemon, "rm", "-f", "")
    assert name in _words(daemon, "container", "stop", name, "")
    assert BASE in _words(daemon, "which", "")
    assert "bridge" in _words(daemon, "network", "inspect", "b")
    assert _words(daemon, "nonsense", "x") == []


def test_no_engine_is_started_to_complete_a_name(daemon: Daemon, tmp_path: Path) -> None:
    assert daemon.lamina("-H", f"unix://{tmp_path}/absent.sock", "completion", "_", "rm", "").stdout.strip() == ""


def test_bash_completes_by_the_script(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "completion").write_text(daemon.lamina("completion", "bash").stdout)
    (tmp_path / "lamina").write_text(f'#!/bin/sh\nexec {" ".join(script("lamina"))} "$@"\n')
    (tmp_path / "lamina").chmod(0o755)
    line = f'. {tmp_path}/completion; COMP_WORDS=(lamina image pru); COMP_CWORD=2; _lamina; echo "${{COMPREPLY[@]}}"'
    env = daemon.environment()
    done = subprocess.run(["bash", "-c", line], env=env | {"PATH": f"{tmp_path}:{env['PATH']}"}, capture_output=True, text=True, check=True)
    assert done.stdout == "prune\n"
    for shell in ("zsh", "fish"):
        assert "lamina completion _" in daemon.lamina("completion", shell).stdout
    assert "bash, fish or zsh" in daemon.lamina("completion", "tcsh", code=125).stderr


@pytest.mark.parametrize(("typed", "meant"), [("runn", "run"), ("imgaes", "images"), ("find", "image find"), ("volume lss", "volume ls")])
def test_who_mistypes_is_told_what_may_be_meant(daemon: Daemon, typed: str, meant: str) -> None:
    assert f"Did you mean 'lamina {meant}'" in daemon.lamina(*typed.split(), code=1).stderr
