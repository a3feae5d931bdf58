"""What the README shows works as it stands there, and the documentation's links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import SCRIPTS, Daemon

ROOT = Path(__file__).parents[2]


def blocks(language: str) -> list[str]:
    """The README's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def test_the_first_two_blocks_hold_just_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    first, second = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[:2]
    assert (first, second) == ("./dev tour\n", "./dev test\n")


def anchor(heading: str) -> str:
    """What a heading's link is called, as code hosts make it."""
    return re.sub(r"[^\w\- ]", "", heading.lstrip("# ").strip().lower().replace("`", "")).replace(" ", "-")


def test_every_link_of_the_documentation_leads_somewhere() -> None:
    pages = [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/**/*.md"),
        *ROOT.glob("bench/*.md"),
    ]
    astray = []
    for page in pages:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            path, _, place = link.partition("#")
            target = page.parent / path if path else page
            headings = (
                [anchor(line) for line in target.read_text().splitlines() if line.startswith("#")] if place and target.is_file() else []
            )
            if not target.exists() or (place and place not in headings):
                astray.append(f"{page.relative_to(ROOT)}: {link}")
    assert astray == []


def test_dev_lists_just_its_commands_and_refuses_others() -> None:
    listed = subprocess.run([ROOT / "dev"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert listed[0].startswith("The project's commands") and all(line.startswith("  ") for line in listed[2:])
    known = set(re.findall(r"^  (\w+)\)", (ROOT / "dev").read_text(), re.MULTILINE))
    assert {line.split()[0] for line in listed[2:]} == known
    assert subprocess.run([ROOT / "dev", "tset"], capture_output=True, check=False).returncode == 2


INTERPRETER = r"""#!/bin/sh
here=$(dirname "$0")
case "$*" in
  *sys.executable*) echo "$0" ;;
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  "-c import hatchling") [ -e "$here/hatchling" ] ;;
  "-m pip install "*hatchling*) [ -z "$NO_NETWORK" ] && touch "$here/hatchling" ;;
  "-m pip install "*) [ -e "$here/hatchling" ] ;;
esac
"""
"""A Python that makes environments of itself; what pip does is done where NO_NETWORK is not set."""


def test_an_environment_whose_making_was_interrupted_is_completed(tmp_path: Path) -> None:
    interpreter, venv = tmp_path / "python", tmp_path / "venv"
    interpreter.write_text(INTERPRETER)
    interpreter.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(interpreter), "LAMINA_VENV": str(venv)}
    cut = subprocess.run([ROOT / "dev", "setup"], capture_output=True, check=False, env={**environment, "NO_NETWORK": "1"})
    assert cut.returncode != 0 and (venv / "bin/python").exists()
    done = subprocess.run([ROOT / "dev", "setup"], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert (venv / "stamptest").exists()


@pytest.mark.timeout(900)
def test_the_tour_plays_to_its_end() -> None:
    environment = {**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/tour.py")], capture_output=True, text=True, check=False, env=environment, timeout=800
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "happiness.txt",
        "A /happiness.txt",
        "found happiness",
        "Loaded image: tour/happy:1",
        "Digest: sha256:",
        "touch happiness.txt",
    ):
        assert words in done.stdout


def test_the_library_example_runs(tmp_path: Path, base: Path) -> None:
    example = blocks("python")[0].replace("/var/lib/lamina-example", str(tmp_path / "root")).replace('"base.tar"', repr(str(base)))
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "sha256:" in done.stdout


def test_the_library_refuses_a_root_that_a_daemon_holds(daemon: Daemon) -> None:
    import lamina
    from lamina.errors import Conflict

    with pytest.raises(Conflict, match="daemon"):
        lamina.Engine.open(str(daemon.data))
