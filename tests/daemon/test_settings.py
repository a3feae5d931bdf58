"""Flags and daemon.json in dockerd's spelling."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lamina.daemon.settings import InvalidSettings, parse


def _config(tmp_path: Path, **values: object) -> list[str]:
    path = tmp_path / "daemon.json"
    path.write_text(json.dumps({key.replace("_", "-"): value for key, value in values.items()}))
    return ["--config-file", str(path)]


def test_flags_and_file_come_together(tmp_path: Path) -> None:
    file = _config(tmp_path, data_root="/data", registry_mirrors=["https://m"], debug=True, live_restore=True)
    settings, version = parse([*file, "-H", "unix:///a", "--host", "unix:///b", "--insecure-registry", "r:1"])
    assert not version
    assert (settings.root, settings.hosts, settings.debug) == ("/data", ("unix:///a", "unix:///b"), True)
    assert (settings.registry_mirrors, settings.insecure_registries) == (("https://m",), ("r:1",))


def test_defaults() -> None:
    settings, _ = parse([])
    assert (settings.root, settings.hosts, settings.storage_driver) == ("/var/lib/lamina", ("unix:///run/lamina.sock",), "")


@pytest.mark.parametrize("values", [{"nonsense": 1}, {"hosts": "unix:///a"}, {"storage_driver": "zfs"}, {"debug": "yes"}])
def test_a_wrong_file_is_refused(tmp_path: Path, values: dict[str, object]) -> None:
    with pytest.raises(InvalidSettings):
        parse(_config(tmp_path, **values))


def test_what_is_said_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="said both"):
        parse([*_config(tmp_path, data_root="/a"), "--root", "/b"])


def test_a_missing_file_that_was_named_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="no such configuration file"):
        parse(["--config-file", "/nonexistent/daemon.json"])
