"""What the engine tells of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.daemon.system import security_options
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
