"""What the commands that start every day's work load before their request is sent: C modules and our own, nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import lamina
from tests.client.fake_engine import UPGRADED, FakeEngine, Request, reply

SOURCE = os.path.dirname(os.path.dirname(lamina.__file__))
# what a bare `python -I -S` has loaded, and the C modules that the hot path may use
ALLOWED = {"_socket", "_json", "select", "termios", "time", "posix", "_signal", "__future__"}
PROGRAM = """
import sys
sys.path.append({source!r})
bare = set(sys.modules)
from lamina.cli.main import main
code = main()
sys.stdout.flush()
sys.stderr.write("\\nLOADED " + " ".join(sorted(set(sys.modules) - bare)))
"""


def loaded(engine: FakeEngine, *words: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM.format(source=SOURCE), "--host", engine.host, *words],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "LOADED" in done.stderr, done.stderr
    return set(done.stderr.rsplit("LOADED ", 1)[1].split())


def hijacked(request: Request, connection: object) -> None:
    connection.sendall(UPGRADED)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "words",
    [
        ["version"],
        ["ps"],
        ["images"],
        ["run", "--rm", "-e", "A=1", "-v", "/a:/b", "bb", "true"],
        ["run", "-d", "bb"],
        ["exec", "c", "true"],
        ["layers", "bb"],
        ["which", "bb", "/f"],
        ["blame", "bb"],
        ["image", "diff", "bb", "cc"],
        ["image", "find", "f"],
    ],
    ids=" ".join,
)
def test_a_hot_command_loads_c_modules_and_our_own_only(engine: FakeEngine, words: list[str]) -> None:
    engine.routes |= {
        "GET /version": reply({"Version": "1"}),
        "GET /containers/json": reply([{"Id": "a" * 64, "Names": ["/x"], "Created": 1, "Image": "bb", "Command": "sh"}]),
        "GET /images/json": reply([{"Id": "sha256:" + "a" * 64, "RepoTags": ["bb:latest"], "Created": 1, "Size": 5}]),
        "POST /containers/create": reply({"Id": "c"}, status=201),
        "POST /containers/c/attach": hijacked,
        "POST /containers/c/wait": reply({"StatusCode": 0}),
        "POST /containers/c/start": reply(status=204),
        "POST /containers/c/exec": reply({"Id": "e"}, status=201),
        "POST /exec/e/start": hijacked,
        "GET /lamina/images/bb/blame": reply(raw=b"0  IMPORT  /\n", type="text/plain"),
        "GET /lamina/images/diff": reply(raw=b"A /f\n", type="text/plain"),
        "GET /lamina/images/find": reply(raw=b"bb\n  layer a\n    /f\n", type="text/plain"),
        "GET /lamina/images/bb/which": reply({"found": True, "layer": {}}),
        "GET /lamina/images/bb/layers": reply({"layers": [{"id": "a", "created": "2026-01-02T03:04:05.6Z"}]}),
        "GET /lamina/images/bb/ls": reply({"entries": [{"name": "f", "mtime": 5}]}),
        "GET /lamina/images/tree": reply({"layers": [{"layer": "a"}]}),
        "GET /exec/e/json": reply({"ExitCode": 0}),
    }
    found = loaded(engine, *words)
    assert {name for name in found if not name.startswith("lamina")} <= ALLOWED
    ours = {name for name in found if name.startswith("lamina")}
    assert len(ours) < 20 and all(name.startswith(("lamina.cli", "lamina.client")) or name in ("lamina", "lamina.errors") for name in ours)
