"""What cannot be meant: one sentence and Docker's exit code by both command lines, and nothing is left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.docker.conftest import BASE, serving
from tests.harness import Daemon, docker_cli_version, free_port

RUN = "run --rm --network none"
ALONE = "run --rm"
# before the image, the command, the exit code, words of the sentence
RUNS = [
    (RUN, "nosuch", 127, 'exec: "nosuch": executable file not found in $PATH'),
    (RUN, "''", 127, 'exec: "": executable file not found in $PATH'),
    (RUN, "/etc", 126, 'exec: "/etc": permission denied'),
    (RUN, "/etc/passwd", 126, 'exec: "/etc/passwd": permission denied'),
    (f"{RUN} -d", "nosuch", 127, "executable file not found"),
    (RUN, "", 125, "no command specified"),
    (f"{RUN} -a foo", "true", 125, "valid streams are STDIN, STDOUT and STDERR"),
    (f"{RUN} --env-file /nonexistent", "true", 125, "open /nonexistent: no such file or directory"),
    (f"{RUN} -e =x", "true", 125, "invalid environment variable: =x"),
    (f"{RUN} -v /nonexistent/x:/x:zz", "true", 125, "invalid mode: zz"),
    (f"{RUN} --mount type=bind,src=/nonexistent,dst=/x", "true", 125, "bind source path does not exist: /nonexistent"),
    (f"{RUN} -v /etc/hostname:/etc", "true", 125, "not a directory: unknown: Are you trying to mount a directory onto a file"),
    (f"{RUN} -v aa:/b -v cc:/b", "true", 125, "Duplicate mount point: /b"),
    (f"{RUN} -v /x:relative", "true", 125, "mount path must be absolute"),
    (f"{RUN} -m 1k", "true", 125, "Minimum memory limit allowed is 6MB"),
    (f"{RUN} -m 10m --memory-swap 1m", "true", 125, "memoryswap limit should be larger than memory limit"),
    (f"{RUN} --cpus 100000", "true", 125, "range of CPUs is from 0.01 to"),
    (f"{RUN} --cpuset-cpus 900", "true", 125, "Requested CPUs are not available"),
    (f"{RUN} --restart always", "true", 125, "restart"),
    (f"{RUN} -u nouser", "true", 125, "unable to find user nouser: no matching entries in passwd file"),
    (f"{RUN} --group-add nogroup0", "true", 125, "unable to find group nogroup0: no matching entries in group file"),
    (f"{RUN} -w relative", "true", 125, "it needs to be an absolute path"),
    (f"{RUN} --cap-add NOPE", "true", 125, 'unknown capability: "CAP_NOPE"'),
    (f"{RUN} --security-opt foo=bar", "true", 125, "invalid --security-opt 2"),
    (f"{RUN} --security-opt seccomp=/nonexistent", "true", 125, "opening seccomp profile (/nonexistent) failed"),
    (f"{RUN} --runtime nope", "true", 125, "unknown or invalid runtime name: nope"),
    (f"{RUN} --log-driver nope", "true", 125, "no log driver named 'nope' is registered"),
    (f"{RUN} --ipc foo", "true", 125, "invalid IPC mode: foo"),
    (f"{RUN} --pid container:nope", "true", 125, "No such container: nope"),
    (f"{RUN} --volumes-from nope", "true", 125, "No such container: nope"),
    (f"{RUN} --gpus all", "true", 125, 'could not select device driver "" with capabilities: [[gpu]]'),
    (f"{RUN} --name a/b", "true", 125, "Invalid container name (a/b)"),
    (f"{RUN} --stop-signal FOO", "true", 125, "invalid signal: FOO"),
    (f"{RUN} --oom-score-adj 5000", "true", 125, "range for oom score adj is [-1000, 1000]"),
    (f"{RUN} --nonsense", "true", 125, "unknown flag: --nonsense"),
    (f"{ALONE} --network nonet", "true", 125, "network nonet not found"),
    (f"{ALONE} --ip 1.2.3.4", "true", 125, "user specified IP address is supported on user defined networks only"),
    (f"{ALONE} -p 99999:1", "true", 125, "99999"),
    (f"{ALONE} -p PORT:80 -p PORT:81", "true", 125, "port is already allocated"),
    (f"{ALONE} --network-alias x", "true", 125, "network-scoped alias"),
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon of this module."""
    with serving(tmp_path_factory) as daemon:
        yield daemon


@pytest.mark.parametrize(("flags", "command", "code", "words"), RUNS, ids=[f"{flags} {command}" for flags, command, _, _ in RUNS])
def test_a_run_that_cannot_be_leaves_nothing(engine: Daemon, flags: str, command: str, code: int, words: str) -> None:
    image = [BASE, *([command.replace("''", "")] if command else [])]
    flags = flags.replace("PORT", str(free_port()))
    unsent = docker_cli_version() < 23 and flags.split()[-2] in ("--ip", "--network-alias")  # by that client, on the default network
    for run in (engine.lamina,) if unsent else (engine.docker, engine.lamina):
        told = run(*flags.split(), *image, code=code).stderr
        assert words in " ".join(told.split()), told
        assert "Traceback" not in told
    assert engine.docker("ps", "-aq").stdout == ""
    assert [name for name in os.listdir(engine.data / "containers") if not name.startswith(".")] == []


def test_volumes_that_a_refused_run_named_are_none(engine: Daemon) -> None:
    engine.docker("run", "--rm", "-v", "named:/v", "-v", "/anonymous", "--network", "none", BASE, "nosuch", code=127)
    assert engine.docker("volume", "ls", "-q").stdout in ("", "named\n"), "a named one may stay, as with Docker; the anonymous one goes"


@pytest.mark.parametrize(
    ("name", "text"),
    [("empty", b""), ("marked", b"\xef\xbb\xbfA=b\n"), ("binary", b"\xff\xfe\n"), ("long", b"A=" + b"x" * 60_000 + b"\n")],
)
def test_files_of_variables(engine: Daemon, tmp_path_factory: pytest.TempPathFactory, name: str, text: bytes) -> None:
    path = tmp_path_factory.mktemp("env") / name
    path.write_bytes(text)
    words = (*RUN.split(), "--env-file", str(path), BASE, "sh", "-c", "echo ${#A}")
    ours, theirs = engine.lamina(*words, code=None), engine.docker(*words, code=None)
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout), ours.stderr
