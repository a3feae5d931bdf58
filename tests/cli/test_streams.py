"""A client beside its container."""

from __future__ import annotations

import subprocess
import sys

from tests.client.fake_engine import FakeEngine, reply

INTERRUPTED = """
import os, signal, sys
from lamina.cli.streams import pass_signals
from lamina.client.transport import Address, Transport

def interrupt(event, given):
    if event == "exec" and given[0].co_filename.endswith("client/containers.py"):
        os.kill(os.getpid(), signal.SIGTERM)

pass_signals(Transport(Address.parse(sys.argv[1])), "c")
sys.addaudithook(interrupt)
import lamina.client.containers
"""


def test_a_signal_amid_an_import_is_passed_on(engine: FakeEngine) -> None:
    """With a terminal more is loaded once signals are passed on."""
    engine.routes = {"POST /containers/c/kill": reply(status=204)}
    subprocess.run([sys.executable, "-c", INTERRUPTED, engine.host], check=True, timeout=60)
    assert [(request.path, request.query) for request in engine.requests] == [("/containers/c/kill", "signal=15")]
