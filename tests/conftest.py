"""What every test shares: markers that explain themselves where the machine cannot serve them."""

from __future__ import annotations

import os

import hypothesis
import pytest

# How long an example takes says something of the machine, nothing of the code.
hypothesis.settings.register_profile("lamina", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("lamina")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `root` where the run is not root's."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root: mounts and namespaces"))
