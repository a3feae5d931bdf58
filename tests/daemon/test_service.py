"""The systemd unit."""

from __future__ import annotations

import pytest

from lamina.daemon import service


def test_the_unit_leaves_containers_alone_and_quotes_its_command() -> None:
    text = service.unit(["/opt/a b/laminad", "--root", "/x%y"])
    assert "KillMode=process\n" in text
    assert "TimeoutStartSec=infinity\n" in text
    assert "Delegate=yes\n" in text
    assert 'ExecStart="/opt/a b/laminad" --root /x%%y\n' in text


def test_print_shows_the_unit(capsys: pytest.CaptureFixture[str]) -> None:
    assert service.main(["print", "--root", "/data"]) == 0
    assert "--root /data" in capsys.readouterr().out


def test_an_unknown_word_is_refused() -> None:
    assert service.main(["start"]) == 2
