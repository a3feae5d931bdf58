"""The limit of open files, raised in a process of its own."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from lamina.linux.openfiles import MOST

SHOW = "import resource; from lamina.linux.openfiles import allow_many; allow_many(); print(*resource.getrlimit(resource.RLIMIT_NOFILE))"


@pytest.mark.parametrize(("soft", "hard", "found"), [(256, 1024, 1024), (1024, 1024, 1024), (64, 4096, 4096)])
def test_the_soft_limit_rises_to_the_hard_one(soft: int, hard: int, found: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(found), str(hard)]


def test_one_that_is_high_enough_stays() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[0]) >= min(soft, MOST) and done.stdout.split()[1] == str(hard)
