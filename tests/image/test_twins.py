"""Twin copies at start."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.image.model import StoreDamaged
from lamina.image.twins import reconcile


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, str]:
    """Five documents, as rows and as files."""
    found = {f"sha256:{number:064x}": f"document {number}" for number in range(5)}
    for key, text in found.items():
        (tmp_path / f"{key[7:]}.json").write_text(text)
    return found


def decode(data: bytes) -> str:
    if not data.startswith(b"document"):
        raise StoreDamaged("unreadable")
    return data.decode()


def test_equal_copies_are_decoded_once(tmp_path: Path, rows: dict[str, str]) -> None:
    decoded: list[bytes] = []

    def counted(data: bytes) -> str:
        decoded.append(data)
        return decode(data)

    twins = reconcile(str(tmp_path), rows, counted, removed=set(), what="x", warn=pytest.fail)
    assert (twins.values, twins.to_rows, len(decoded)) == (rows, (), len(rows))


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "directory"])
def test_a_file_that_is_missing_or_unreadable_is_found_at_start(tmp_path: Path, rows: dict[str, str], damage: str) -> None:
    key = next(iter(rows))
    path = tmp_path / f"{key[7:]}.json"
    path.unlink() if damage in ("missing", "directory") else path.write_bytes(b"" if damage == "empty" else b"doc")
    if damage == "directory":
        (path / "in it").mkdir(parents=True)
    warnings: list[str] = []
    twins = reconcile(str(tmp_path), rows, decode, removed=set(), what="x", warn=warnings.append)
    assert (twins.values, twins.to_rows, path.read_text(), len(warnings)) == (rows, (), rows[key], 1)


def test_a_row_that_is_missing_or_other_is_taken_from_the_file(tmp_path: Path, rows: dict[str, str]) -> None:
    first, second, *rest = rows
    known = {first: "document of old", **{key: rows[key] for key in rest}}
    warnings: list[str] = []
    twins = reconcile(str(tmp_path), known, decode, removed=set(), what="x", warn=warnings.append)
    assert (twins.values, set(twins.to_rows), len(warnings)) == (rows, {first, second}, 2)


def test_neither_copy_is_readable(tmp_path: Path, rows: dict[str, str]) -> None:
    key = next(iter(rows))
    (tmp_path / f"{key[7:]}.json").write_bytes(b"x")
    twins = reconcile(str(tmp_path), {**rows, key: "y"}, decode, removed=set(), what="x", warn=lambda _: None)
    assert key not in twins.values and len(twins.values) == len(rows) - 1


def test_a_directory_without_a_row_is_no_document(tmp_path: Path, rows: dict[str, str]) -> None:
    (tmp_path / f"{99:064x}.json").mkdir()
    twins = reconcile(str(tmp_path), rows, decode, removed=set(), what="x", warn=pytest.fail)
    assert twins.values == rows and len(list(tmp_path.iterdir())) == len(rows)
