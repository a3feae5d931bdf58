"""Containers at random by many clients, while daemon, zygote and monitors are killed: nothing remains, no exit code is untrue."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.system.conftest import started
from tests.torture.churn import BASE, Churn
from tests.torture.remains import check_nothing_remains


@pytest.mark.parametrize("driver", ["erofs", "overlay"])
def test_nothing_remains_and_no_exit_code_is_untrue(driver: str, tmp_path: Path, base: Path) -> None:
    seed = int(os.environ.get("LAMINA_TORTURE_SEED", "0")) or int(time.time())
    lives = int(os.environ.get("LAMINA_TORTURE_LIVES", "500"))
    daemon = started(tmp_path / "d", driver)
    try:
        daemon.docker("import", str(base), BASE)
        churn = Churn(daemon, tmp_path / "witness", lives=lives, seed=seed)
        churn.run()
        print(f"seed {seed}: lives {churn.seen}, killed {churn.blows}")
        check_nothing_remains(daemon, churn.ids)
    except BaseException:
        print(f"seed {seed}; the daemon said:\n{daemon.log[-5000:]}")
        raise
    finally:
        daemon.remove()
