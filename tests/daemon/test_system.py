"""What the engine tells of itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lamina.daemon.system import kept, security_options
from lamina.runtime import apparmor


def test_apparmor_is_named_where_the_kernel_has_the_default_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = tmp_path / "profiles"
    monkeypatch.setattr(apparmor, "_LOADED", str(loaded))
    without = ["name=seccomp,profile=builtin", "name=userns", "name=cgroupns"]
    assert list(security_options(user_namespaces=True)) == without
    loaded.write_text("docker-default (enforce)\n")
    assert list(security_options(user_namespaces=True)) == without
    loaded.write_text("docker-default (enforce)\nlamina-default (enforce)\n")
    assert list(security_options(user_namespaces=False)) == ["name=apparmor", without[0], without[2]]


@pytest.mark.parametrize(
    ("reserved", "most", "free", "stays"),
    [(0, 40, 0, 40), (0, 400, 0, 100), (60, 40, 0, 60), (0, 0, 30, 80), (0, 0, 5, 100), (0, 50, 30, 50), (0, 90, 30, 80), (0, 0, 500, 1)],
)
def test_what_stays_of_a_build_cache_is_what_buildkit_keeps(reserved: int, most: int, free: int, stays: int) -> None:
    assert kept(100, 10, reserved=reserved, most=most, free=free) == stays


def test_a_profile_that_takes_too_long_to_load_does_not_keep_the_engine_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 60)

    monkeypatch.setattr(apparmor, "enabled", lambda: True)
    monkeypatch.setattr(shutil, "which", lambda name, path: f"/sbin/{name}")
    monkeypatch.setattr(subprocess, "run", late)
    assert apparmor.load() == apparmor.is_loaded(apparmor.DEFAULT)
