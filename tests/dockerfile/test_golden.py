"""Dockerfiles after the manner of well-known projects parse to what BuildKit's own parser gives (golden/README.md)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.dockerfile.shape import shape

from lamina.dockerfile.parser import parse

GOLDEN = Path(__file__).parent / "golden"
RECORDS = {record["file"]: record for record in map(json.loads, (GOLDEN / "parsed.jsonl").read_text().splitlines())}


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_the_instructions_are_buildkits(name: str) -> None:
    assert shape(parse((GOLDEN / "files" / name).read_text())) == RECORDS[name]["parsed"]


def test_every_file_is_recorded() -> None:
    assert sorted(path.name for path in (GOLDEN / "files").iterdir()) == sorted(RECORDS)
    assert len(RECORDS) >= 20
