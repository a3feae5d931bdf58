"""Each test of a published escape fails where the defence that it is about is taken away: in a copy of the sources."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from defences import DEFENCES, Defence, Edit

from lamina.runtime.interpreter import SOURCE

REPOSITORY = Path(__file__).parents[2]
MADE = ("/lamina-made-outside", "/run/lamina-mutant")
"""What lands on the host where defences are away."""


def edited(text: str, edit: Edit) -> str:
    name, old, new = edit
    assert text.count(old) == 1, f"{name}: {old!r} stands there {text.count(old)} times"
    return text.replace(old, new)


@pytest.mark.parametrize("defence", DEFENCES, ids=lambda defence: defence.name)
def test_every_edit_meets_the_sources(defence: Defence) -> None:
    for edit in defence.edits:
        compile(edited(Path(SOURCE, "lamina", edit[0]).read_text(), edit), edit[0], "exec")


@pytest.mark.skipif(not (REPOSITORY / "docs/security.md").exists(), reason="the documentation is not here")
def test_every_escape_in_the_documentation_has_a_defence_that_is_tried() -> None:
    """And the other way round. What is left out is what nothing has to be done against."""
    table = (REPOSITORY / "docs/security.md").read_text().partition("## Escapes of the past")[2].partition("\n## ")[0]
    written = set(re.findall(r"CVE-\d+-\d+", table.partition("### ")[0]))
    assert written == {name for defence in DEFENCES for name in defence.escapes if name.startswith("CVE-")}


@pytest.mark.root
@pytest.mark.defences
@pytest.mark.parametrize("defence", DEFENCES, ids=lambda defence: defence.name)
def test_without_its_defence_an_escape_is_noticed(defence: Defence, tmp_path: Path) -> None:
    copy = tmp_path / "src"
    # With their times, and so with what is compiled of them.
    shutil.copytree(Path(SOURCE, "lamina"), copy / "lamina", symlinks=True)
    for edit in defence.edits:
        path = copy / "lamina" / edit[0]
        path.write_text(edited(path.read_text(), edit))
    try:
        unnoticed = {test: said for test in defence.tests if (said := passes(test, copy))}
    finally:
        for path in map(Path, MADE):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    assert not unnoticed, "\n".join(unnoticed.values())


def passes(test: str, sources: Path) -> str:
    """What pytest says where the test passes with these sources, or could not be run; nothing where it fails as it should."""
    environment = {**os.environ, "PYTHONPATH": f"{sources}:{REPOSITORY}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "--timeout", "240", test]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False, timeout=500)
    failed = re.search(r"\d+ failed", done.stdout)
    return "" if done.returncode == 1 and failed else f"{test}\n{done.stdout[-1500:]}"
