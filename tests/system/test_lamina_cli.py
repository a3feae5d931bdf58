"""What Docker has not: layers people can see, by Lamina's own CLI; and the same commands as docker's by it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.harness import Daemon
from tests.system.conftest import BASE

NONE = ("--network", "none")


@pytest.fixture
def app(daemon: Daemon, tmp_path: Path) -> str:
    """An image whose layers add, change, hide and delete."""
    context = tmp_path / "app"
    context.mkdir()
    (context / "file").write_text("from the context\n")
    (context / "Dockerfile").write_text(
        f'FROM {BASE}\nRUN echo first > /changed\nRUN echo second > /changed; rm /etc/group\nCOPY file /srv/file\nCMD ["cat", "/srv/file"]\n'
    )
    daemon.lamina("build", "-t", "app:1", *NONE, str(context))
    return "app:1"


def test_which_names_layer_and_instruction_and_the_older_versions(daemon: Daemon, app: str) -> None:
    told = daemon.lamina("which", app, "/srv/file").stdout
    assert "COPY" in told
    told = daemon.lamina("which", app, "/changed").stdout
    assert told.index("echo second") < told.index("echo first")
    assert "rm /etc/group" in daemon.lamina("which", app, "/etc/group", code=1).stderr
    missing = daemon.lamina("which", app, "/not/here", code=1)
    assert "/not/here" in missing.stderr


def test_layers_lists_instructions_base_first(daemon: Daemon, app: str) -> None:
    lines = daemon.lamina("layers", app).stdout.splitlines()
    assert len(lines) == 5
    assert "echo first" in lines[2] and "COPY" in lines[4]


def test_ls_and_cat_read_inside_an_image(daemon: Daemon, app: str) -> None:
    assert daemon.lamina("cat", f"{app}:/srv/file").stdout == "from the context\n"
    assert daemon.lamina("cat", f"{app}:/changed").stdout == "second\n"
    listed = daemon.lamina("ls", f"{app}:/etc").stdout
    assert "passwd" in listed and "group" not in listed.split()
    assert "/nothing" in daemon.lamina("cat", f"{app}:/nothing", code=1).stderr


def test_the_tree_has_the_base_at_its_root_and_shows_shared_bytes(daemon: Daemon, app: str) -> None:
    told = daemon.lamina("images", "--tree").stdout
    assert told.index(BASE) < told.index(app)


def test_image_diff_tells_what_differs(daemon: Daemon, app: str) -> None:
    told = daemon.lamina("image", "diff", BASE, app).stdout
    for line in ("A /changed", "D /etc/group", "A /srv/file"):
        assert line in told
    assert "A /bin/busybox" not in told


def test_the_own_cli_runs_what_dockers_runs(daemon: Daemon, app: str) -> None:
    assert daemon.lamina("run", "--rm", *NONE, app).stdout == "from the context\n"
    assert daemon.lamina("run", "--rm", *NONE, app, "sh", "-c", "exit 7", code=7).returncode == 7
    assert daemon.lamina("run", "--rm", *NONE, app, "not-there", code=127).stderr
    identity = daemon.lamina("run", "-d", "--name", "own", *NONE, app, "sleep", "1000").stdout.strip()
    assert daemon.lamina("ps", "-q", "--no-trunc").stdout.strip() == identity
    assert daemon.lamina("exec", "own", "echo", "inside").stdout == "inside\n"
    assert json.loads(daemon.lamina("inspect", "own").stdout)[0]["Id"] == identity
    daemon.lamina("stop", "-t", "0", "own")
    assert daemon.lamina("rm", "own").stdout == "own\n"
    assert daemon.lamina("images", "--format", "{{.Repository}}:{{.Tag}}", "app").stdout == "app:1\n"


def test_info_says_which_driver_and_why(daemon: Daemon) -> None:
    told = daemon.lamina("info").stdout
    assert daemon.driver in told
    assert "reason" in told.lower() or "because" in told.lower() or "asked for" in told.lower()


def test_a_bad_flag_or_command_is_one_sentence(daemon: Daemon) -> None:
    for arguments in (["ps", "--no-such-flag"], ["no-such-command"], ["images", "--format", "{{.Nothing}}"], ["run"]):
        done = daemon.lamina(*arguments, code=None)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert done.stderr.strip()
