"""The installed `lamina` finds its python and its package wherever an installer put them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import lamina

REPOSITORY = Path(__file__).parents[2]
PACKAGE = Path(lamina.__file__).parent


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An installation: bin/lamina, bin/laminad as pip writes it, the package among the libraries."""
    place = tmp_path / "pre fix"
    libraries = place / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    libraries.mkdir(parents=True)
    (libraries / "lamina").symlink_to(PACKAGE)
    (place / "bin").mkdir()
    shutil.copy(REPOSITORY / "scripts" / "lamina", place / "bin" / "lamina")
    (place / "bin" / "laminad").write_text(f"#!{sys.executable}\nimport sys\n")
    return place


def version(*command: str | Path, **options: object) -> str:
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=300, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


SAID = f"lamina version {lamina.__version__}\n"


def test_it_runs_by_the_interpreter_its_neighbour_names(prefix: Path) -> None:
    assert version(prefix / "bin" / "lamina") == SAID


def test_it_runs_through_a_link_and_by_the_path(prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(prefix / "bin" / "lamina")
    assert version(tmp_path / "link") == SAID
    assert version("lamina", env={"PATH": f"{prefix}/bin:{os.environ['PATH']}"}) == SAID


def test_it_reads_the_form_that_pip_writes_for_paths_with_blanks(prefix: Path) -> None:
    python = prefix / "py thon"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (prefix / "bin" / "laminad").write_text(f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n")
    assert version(prefix / "bin" / "lamina") == SAID


def test_it_passes_on_every_argument_as_it_is(prefix: Path) -> None:
    done = subprocess.run([prefix / "bin" / "lamina", "no such", "", "*"], capture_output=True, text=True, timeout=300)
    assert done.stderr.startswith("lamina: unknown command: lamina no such\n")


def test_the_environment_and_directory_change_nothing(prefix: Path, tmp_path: Path) -> None:
    (tmp_path / "lamina.py").write_text("raise SystemExit('wrong lamina')")
    assert version(prefix / "bin" / "lamina", cwd=tmp_path, env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}) == SAID


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str]:
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=300)[1]
    return process.returncode, said


def test_an_interrupt_while_modules_load_ends_it_without_a_word(prefix: Path) -> None:
    package = next((prefix / "lib").glob("*/site-packages")) / "lamina"
    package.unlink()
    package.mkdir()
    (package / "__init__.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(300)\n")
    with subprocess.Popen([prefix / "bin" / "lamina"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "loading\n"
        assert interrupted(process) == (-signal.SIGINT, "")


def test_an_interrupt_while_a_command_runs_is_its_exit_code(prefix: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()
        command = [prefix / "bin" / "lamina", "--host", f"unix://{tmp_path}/sock", "events"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            with listener.accept()[0] as connection:
                connection.recv(1)
                assert interrupted(process) == (130, "")
