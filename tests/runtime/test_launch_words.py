"""What is said of a launch that the system refuses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lamina.runtime.launcher import words


def test_the_file_that_was_refused_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        os.open(tmp_path / "memory.max", os.O_WRONLY)
    assert words(raised.value) == f"{tmp_path}/memory.max: No such file or directory"


@pytest.mark.parametrize(("error", "said"), [(OSError(1, "no"), "no"), (OSError("all"), "all"), (ValueError("bad"), "bad")])
def test_what_names_no_file_is_said_as_it_is(error: Exception, said: str) -> None:
    assert words(error) == said
