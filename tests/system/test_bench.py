"""bench/ as a program: what it can measure is there to be asked."""

from __future__ import annotations

import subprocess
import sys


def test_the_bench_tells_its_rows() -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(row in done.stdout for row in ("import", "pull", "push", "run", "lives", "memory"))
