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
    assert {name, BASE, "bridge"} <= set(_words(daemon, "inspect", ""))
    assert _words(daemon, "nonsense", "x") == []


def test_values_of_flags_are_completed_and_are_no_arguments(daemon: Daemon, name: str) -> None:
    daemon.docker("create", "--name", name, BASE, "true")
    assert "bridge" in _words(daemon, "run", "--network", "") and BASE not in _words(daemon, "run", "--network", "")
    assert _words(daemon, "run", "--network=br") == ["--network=bridge"]
    assert _words(daemon, "run", "--restart", "un") == ["unless-stopped"]
    assert name in _words(daemon, "run", "--volumes-from", "")
    assert _words(daemon, "run", "--memory", "") == []
    assert BASE in _words(daemon, "run", "--rm", "-it", "--name", "x", "")
    assert _words(daemon, "run", BASE, "") == [] and name in _words(daemon, "rm", "other", "")


def test_bash_completes_names_with_colons_as_they_are_typed(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "completion").write_text(daemon.lamina("completion", "bash").stdout)
    (tmp_path / "lamina").write_text(f'#!/bin/sh\nexec {" ".join(script("lamina"))} "$@"\n')
    (tmp_path / "lamina").chmod(0o755)
    daemon.docker("tag", BASE, "colons:one")
    line = "lamina rmi colons:o"
    # as bash calls it: ':' breaks words, and what is answered replaces the last of them
    asked = (
        f'COMP_WORDS=(lamina rmi colons : o); COMP_CWORD=4; COMP_LINE="{line}"; COMP_POINT={len(line)}; _lamina; echo "${{COMPREPLY[@]}}"'
    )
    env = daemon.environment()
    done = subprocess.run(
        ["bash", "-c", f". {tmp_path}/completion; {asked}"], env=env | {"PATH": f"{tmp_path}:{env['PATH']}"}, capture_output=True, text=True
    )
    daemon.docker("rmi", "colons:one")
    assert done.stdout == "one\n"


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
