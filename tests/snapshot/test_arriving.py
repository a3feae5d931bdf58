"""Layers that come from a client: it may pause wherever it likes."""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lamina.layer.errors import InvalidArchive
from lamina.snapshot.arriving import stage_erofs, stage_overlay
from tests.contracts.snapshotter import file, tar
from tests.harness import eventually


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("job", [stage_erofs, stage_overlay])
def test_a_damaged_layer_is_refused_while_the_client_pauses(
    tmp_path: Path, job: Callable[..., Any], compress: Callable[[bytes], bytes]
) -> None:
    here, there = os.pipe()
    os.write(there, compress(tar(file("a", b"x"))[:1024] + b"z" * 2048))
    refused: list[InvalidArchive] = []

    def run() -> None:
        try:
            job({"scratch": str(tmp_path), "length": None}, [here], lambda told: None)
        except InvalidArchive as error:
            refused.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        eventually(lambda: bool(refused))
    finally:
        os.close(there)
        thread.join(60)
        os.close(here)
    assert not list(tmp_path.iterdir())
