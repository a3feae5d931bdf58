"""Log drivers through the real docker CLI, with receivers of our own."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from lamina.container.destinations import JOURNAL
from tests.docker.conftest import BASE, serving
from tests.harness import Daemon, eventually, run

NONE = ("--network", "none")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon: storage drivers make no difference here."""
    with serving(tmp_path_factory) as daemon:
        yield daemon


class Receiver:
    """Whatever comes to a socket, as bytes; connections are accepted one after the other."""

    def __init__(self, family: int, kind: int, address: object) -> None:
        self.received = b""
        self.answer: Callable[[bytes], bytes] = lambda data: b""
        self._socket = socket.socket(family, kind)
        self._socket.bind(address)  # type: ignore[arg-type]
        self.port = self._socket.getsockname()[1] if family == socket.AF_INET else 0
        if kind == socket.SOCK_STREAM:
            self._socket.listen()
        target = self._streams if kind == socket.SOCK_STREAM else self._datagrams
        threading.Thread(target=target, daemon=True).start()

    def _datagrams(self) -> None:
        try:
            while True:
                self.received += self._socket.recv(65536)
        except OSError:
            return

    def _streams(self) -> None:
        try:
            while True:
                with self._socket.accept()[0] as connection:
                    while data := connection.recv(65536):
                        self.received += data
                        connection.sendall(self.answer(data))
        except OSError:
            return

    def close(self) -> None:
        self._socket.close()


def log_path(daemon: Daemon, name: str) -> str:
    return daemon.docker("inspect", "-f", "{{.LogPath}}", name).stdout.strip()


@pytest.mark.covers("cli:run --log-driver", "cli:run --log-opt", "cli:create --log-driver", "cli:create --log-opt")
@pytest.mark.parametrize("cli", ["docker", "lamina"])
def test_labels_variables_and_a_tag_are_added_to_each_line(daemon: Daemon, name: str, cli: str) -> None:
    flags = ["--log-driver", "json-file", "--log-opt", "labels=a", "--log-opt", "labels-regex=^x", "--log-opt", "env=E", "--log-opt", "env-regex=^no$",
             "--log-opt", "tag={{.Name}}/{{.ImageName}}/{{.ID}}"]  # fmt: skip
    run = daemon.docker if cli == "docker" else daemon.lamina
    run(
        "create",
        "--name",
        name,
        *flags,
        "--label",
        "a=1",
        "--label",
        "b=2",
        "--label",
        "x1=3",
        "-e",
        "E=4",
        "-e",
        "F=5",
        *NONE,
        BASE,
        "echo",
        "said",
    )
    run("start", "-a", name)
    (line,) = Path(log_path(daemon, name)).read_text().splitlines()
    entry = json.loads(line)
    tag = entry["attrs"].pop("tag")
    assert (list(entry), entry["attrs"]) == (["log", "stream", "attrs", "time"], {"a": "1", "x1": "3", "E": "4"})
    assert re.fullmatch(rf"{name}/{BASE}/[0-9a-f]{{12}}", tag)
    assert "E=4" in run("logs", "--details", name).stdout


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_rotated_parts_are_compressed_and_read_with_the_rest(daemon: Daemon, name: str, driver: str) -> None:
    options = ["--log-opt", "max-size=20k", "--log-opt", "max-file=50", "--log-opt", "compress=true"]
    daemon.docker("run", "--name", name, "--log-driver", driver, *options, *NONE, BASE, "seq", "1", "3000")
    expected = [str(number) for number in range(1, 3001)]
    assert daemon.docker("logs", name).stdout.split() == expected
    assert daemon.docker("logs", "-n", "2000", name).stdout.split() == expected[1000:]
    folder = Path(daemon.docker("inspect", "-f", "{{.ResolvConfPath}}", name).stdout.strip()).parent
    packed = list(folder.rglob("*.gz"))
    assert len(packed) > 5 and all(gzip.decompress(path.read_bytes()).startswith(b'{"log":') for path in packed)
    assert bool(log_path(daemon, name)) == (driver == "json-file")


def test_following_passes_rotations_and_restarts(daemon: Daemon, name: str) -> None:
    import subprocess

    from tests.harness import docker_cli

    options = ["--log-opt", "max-size=5k", "--log-opt", "max-file=900", "--log-opt", "compress=true"]
    script = "cat; seq 1 2000"
    daemon.docker("create", "-i", "--name", name, *options, *NONE, BASE, "sh", "-c", script)
    command = [docker_cli(), "start", "-a", "-i", name]
    started = subprocess.Popen(command, env=daemon.environment(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    eventually(lambda: daemon.docker("inspect", "-f", "{{.State.Running}}", name).stdout == "true\n")
    follower = subprocess.Popen([docker_cli(), "logs", "-f", name], env=daemon.environment(), stdout=subprocess.PIPE, text=True)
    started.communicate("first\n", timeout=300)
    out, _ = follower.communicate(timeout=300)
    assert out.split() == ["first", *map(str, range(1, 2001))]
    daemon.docker("start", "-a", "-i", name, stdin="second\n")
    told = daemon.docker("logs", name).stdout.split()
    assert told == [*out.split(), "second", *map(str, range(1, 2001))]


def test_the_own_follower_goes_on_over_restarts_by_policy_and_dockers_ends_with_the_run(daemon: Daemon, name: str) -> None:
    script = "n=$(cat /n 2>/dev/null || echo 0); n=$((n + 1)); echo $n > /n; echo run $n; sleep 1; exit 1"
    daemon.docker("run", "-d", "--name", name, "--restart", "on-failure:3", *NONE, BASE, "sh", "-c", script)
    docker = daemon.docker("logs", "-f", name).stdout.split("\n")
    assert daemon.lamina("logs", "-f", name).stdout.split("\n") == ["run 1", "run 2", "run 3", "run 4", ""]
    assert docker[0] == "run 1" and len(docker) < 5
    assert daemon.docker("inspect", "-f", "{{.State.Status}} {{.RestartCount}}", name).stdout == "exited 3\n"
    assert daemon.lamina("logs", "-f", name).stdout == daemon.docker("logs", name).stdout


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--log-driver", "gelf9"], "logger: no log driver named 'gelf9' is registered"),
        (["--log-opt", "colour=blue"], "unknown log opt 'colour' for json-file log driver"),
        (["--log-opt", "max-size=many"], "invalid size: 'many'"),
        (["--log-opt", "max-file=0"], "invalid value for max-file: 0"),
        (["--log-opt", "compress=true"], "compress cannot be true"),
        (["--log-opt", "mode=sometimes"], "logging mode not supported: sometimes"),
        (["--log-opt", "max-buffer-size=1m"], "max-buffer-size option is only supported with 'mode=non-blocking'"),
        (["--log-opt", "labels-regex=("], "invalid value for labels-regex"),
        (["--log-driver", "syslog", "--log-opt", "syslog-facility=nobody"], "invalid syslog facility"),
        (["--log-driver", "syslog", "--log-opt", "syslog-format=rfc1"], "Invalid syslog format"),
        (
            ["--log-driver", "syslog", "--log-opt", "syslog-address=127.0.0.1:514"],
            "syslog-address should be in form proto://address, got 127.0.0.1:514",
        ),
        (["--log-driver", "syslog", "--log-opt", "syslog-address=tls://a:1"], "syslog-address should be in form proto://address"),
        (["--log-driver", "fluentd", "--log-opt", "fluentd-address=http://a"], "invalid fluentd-address http://a: unsupported scheme"),
    ],
)
def test_drivers_and_options_that_are_none_are_refused(daemon: Daemon, flags: list[str], reason: str) -> None:
    assert reason in daemon.docker("create", *flags, *NONE, BASE, "true", code=1).stderr


def test_a_container_without_a_log_says_so(daemon: Daemon, name: str) -> None:
    assert daemon.docker("run", "--name", name, "--log-driver", "none", *NONE, BASE, "echo", "seen").stdout == "seen\n"
    assert "configured logging driver does not support reading" in daemon.docker("logs", name, code=1).stderr
    options = daemon.lamina("create", "--log-driver", "none", "--log-opt", "max-size=1m", *NONE, BASE, "true", code=125).stderr
    assert "invalid logging opts for driver none" in options


@pytest.mark.parametrize("kind", ["udp", "tcp", "unixgram", "unix"])
def test_lines_go_to_a_syslog_daemon_and_can_still_be_read(daemon: Daemon, name: str, tmp_path: Path, kind: str) -> None:
    family = socket.AF_UNIX if kind.startswith("unix") else socket.AF_INET
    place = str(tmp_path / "log") if family == socket.AF_UNIX else ("127.0.0.1", 0)
    with closing(Receiver(family, socket.SOCK_STREAM if kind in ("tcp", "unix") else socket.SOCK_DGRAM, place)) as receiver:
        address = f"{kind}://{place}" if family == socket.AF_UNIX else f"{kind}://127.0.0.1:{receiver.port}"
        flags = ["--log-driver", "syslog", "--log-opt", f"syslog-address={address}", "--log-opt", "syslog-facility=local3", "--log-opt", "tag={{.Name}}",
                 "--log-opt", f"syslog-format={'rfc5424' if kind == 'tcp' else 'rfc3164'}"]  # fmt: skip
        daemon.docker("run", "--name", name, *flags, *NONE, BASE, "sh", "-c", "echo to out; echo to err >&2")
        eventually(lambda: b"to out" in receiver.received and b"to err" in receiver.received, "the receiver got nothing")
    lines = sorted(receiver.received.decode().splitlines())
    assert [line.partition(">")[0] for line in lines] == [f"<{19 * 8 + 3}", f"<{19 * 8 + 6}"]
    pattern = rf">1 \d{{4}}-\S+Z \S+ {name} \d+ {name} - to err$" if kind == "tcp" else rf">\w{{3}} [ \d]\d \S+ \S+ {name}\[\d+\]: to err$"
    assert re.search(pattern, lines[0])
    assert sorted(daemon.docker("logs", name).stdout.splitlines()) == ["to out"]


@pytest.mark.skipif(not (shutil.which("journalctl") and os.path.exists(JOURNAL)), reason="no journald runs here")
def test_lines_go_to_the_machines_own_journal(daemon: Daemon, name: str) -> None:
    unique = f"{name}-{os.getpid()}"
    flags = ["--log-driver", "journald", "--log-opt", "tag={{.Name}}/t", "--log-opt", "labels=some.label", "--label", "some.label=x"]
    daemon.docker("run", "--name", name, *flags, *NONE, BASE, "sh", "-c", f"echo {unique} out; echo {unique} err >&2; printf {unique}-part")

    def entries() -> list[dict[str, str]]:
        identity = daemon.docker("inspect", "-f", "{{.Id}}", name).stdout.strip()
        found = run(["journalctl", "-o", "json", f"CONTAINER_ID_FULL={identity}"], dict(os.environ)).stdout
        return [json.loads(line) for line in found.splitlines()]

    eventually(lambda: len(entries()) == 3, "the journal has not got the lines")
    said = {entry["MESSAGE"]: entry for entry in entries()}
    assert set(said) == {f"{unique} out", f"{unique} err", f"{unique}-part"}
    out, err = said[f"{unique} out"], said[f"{unique} err"]
    assert (out["PRIORITY"], err["PRIORITY"]) == ("6", "3")
    assert (out["CONTAINER_NAME"], out["SYSLOG_IDENTIFIER"], out["IMAGE_NAME"], out["SOME_LABEL"]) == (name, f"{name}/t", BASE, "x")
    assert daemon.docker("logs", name).stdout == f"{unique} out\n{unique}-part"


def test_lines_go_to_fluentd_with_acknowledgements(daemon: Daemon, name: str) -> None:
    def acknowledged(data: bytes) -> bytes:
        return msgspec.msgpack.encode({"ack": msgspec.msgpack.decode(data)[2]["chunk"]})

    with closing(Receiver(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))) as receiver:
        receiver.answer = acknowledged
        flags = ["--log-driver", "fluentd", "--log-opt", f"fluentd-address=127.0.0.1:{receiver.port}", "--log-opt", "fluentd-request-ack=true",
                 "--log-opt", "fluentd-sub-second-precision=true", "--log-opt", "env=E", "--log-opt", "cache-disabled=true"]  # fmt: skip
        daemon.docker("run", "--name", name, *flags, "-e", "E=1", *NONE, BASE, "echo", "said")
        eventually(lambda: b"said" in receiver.received, "the receiver got nothing")
    tag, [[moment, record]], _ = msgspec.msgpack.decode(receiver.received)
    identity = daemon.docker("inspect", "-f", "{{.Id}}", name).stdout.strip()
    assert (tag, moment.code, len(moment.data)) == (identity[:12], 0, 8)
    assert record == {"container_id": identity, "container_name": f"/{name}", "source": "stdout", "log": "said", "E": "1"}
    assert "does not support reading" in daemon.docker("logs", name, code=1).stderr


def test_a_receiver_that_is_not_there_ends_the_start_in_one_sentence(daemon: Daemon, name: str, tmp_path: Path) -> None:
    flags = ["--log-driver", "fluentd", "--log-opt", f"fluentd-address=unix://{tmp_path}/none"]
    failed = daemon.docker("run", "--name", name, *flags, *NONE, BASE, "true", code=None)
    assert "failed to initialize logging driver: dial unix" in failed.stderr and failed.returncode in (125, 127)
    later = ["--log-driver", "fluentd", "--log-opt", f"fluentd-address=unix://{tmp_path}/none", "--log-opt", "fluentd-async=true"]
    # More than the pipe to who would send it takes, and the entries that wait for that.
    much = "seq 1 40000 >&2; echo goes on"
    assert daemon.docker("run", "--rm", *later, *NONE, BASE, "sh", "-c", much).stdout == "goes on\n"


@pytest.mark.timeout(1200)
def test_a_container_that_writes_as_fast_as_it_can_loses_no_line(daemon: Daemon, name: str) -> None:
    daemon.docker(
        "run",
        "-d",
        "--name",
        name,
        *NONE,
        BASE,
        "sh",
        "-c",
        "yes 0123456789012345678901234567890123456789 | head -n 1000000; echo done; sleep 1000",
    )
    pid = int(daemon.docker("inspect", "-f", "{{.State.Pid}}", name).stdout)
    monitor = int(re.search(r"^PPid:\s*(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)[1])  # type: ignore[index]
    most, path = 0, Path(log_path(daemon, name))

    def ended() -> bool:
        nonlocal most
        most = max(most, int(re.search(r"^RssAnon:\s*(\d+)", Path(f"/proc/{monitor}/status").read_text(), re.M)[1]))  # type: ignore[index]
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 200))
            return b'"done\\n"' in file.read()

    eventually(path.exists, "there is no log")
    eventually(ended, "the end did not come", seconds=900)
    with open(path, "rb") as file:
        assert sum(1 for _ in file) == 1_000_001
    assert most < 16 << 10, f"the monitor took {most} KB"
    assert os.path.getsize(path) > 90_000_000


def test_the_daemons_log_options_hold_where_a_container_says_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    words = ("--log-opt", "max-size=1k", "--log-opt", "max-file=2")
    with serving(tmp_path_factory, options=words) as daemon:
        assert daemon.docker("info", "-f", "{{.LoggingDriver}}").stdout == "json-file\n"
        script = "i=0; while [ $i -lt 100 ]; do echo a line of the log; i=$((i+1)); done"
        daemon.docker("run", "--name", "one", *NONE, BASE, "sh", "-c", script)
        daemon.docker("create", "--name", "two", *NONE, "--log-opt", "max-file=4", BASE, "true")
        daemon.docker("create", "--name", "three", *NONE, "--log-driver", "local", BASE, "true")
        kept = [daemon.docker("inspect", "-f", "{{json .HostConfig.LogConfig}}", name).stdout for name in ("one", "two", "three")]
        assert [json.loads(each) for each in kept] == [
            {"Type": "json-file", "Config": {"max-size": "1k", "max-file": "2"}},
            {"Type": "json-file", "Config": {"max-size": "1k", "max-file": "4"}},
            {"Type": "local", "Config": {}},
        ]
        path = Path(daemon.docker("inspect", "-f", "{{.LogPath}}", "one").stdout.strip())
        assert sorted(each.name for each in path.parent.glob("*-json.log*")) == [path.name, f"{path.name}.1"]
        assert daemon.docker("logs", "one").stdout.endswith("a line of the log\n")
