"""The small version of tests/torture/test_churn.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import Daemon
from tests.torture.churn import Churn
from tests.torture.remains import check_nothing_remains


@pytest.mark.timeout(1200)
def test_containers_at_random_leave_nothing_whoever_is_killed(daemon: Daemon, tmp_path: Path) -> None:
    churn = Churn(daemon, tmp_path / "witness", lives=40, seed=7, clients=4)
    churn.run()
    check_nothing_remains(daemon, churn.ids)
