"""Suites that every driver of an interface passes; a driver's own tests subclass them."""

import pytest

# Asserts in suites show their values only if pytest rewrites them too.
pytest.register_assert_rewrite("tests.contracts.snapshotter")
