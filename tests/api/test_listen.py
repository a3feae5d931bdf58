"""Addresses that a daemon is to listen on."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.api.listen import listen
from lamina.errors import InvalidArgument


def test_a_socket_that_the_system_refuses_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, why in ((tmp_path / ("a" * 150), "path too long"), (tmp_path / "file" / "sock", "not a directory")):
        with pytest.raises(InvalidArgument, match=f"^unix://{path} cannot be listened on: .*{why}$"):
            listen(f"unix://{path}")


def test_a_descriptor_that_is_not_open_is_one_sentence() -> None:
    with pytest.raises(InvalidArgument, match=r"^fd://9999 cannot be listened on: bad file descriptor$"):
        listen("fd://9999")
