"""Containers by the real docker CLI."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pty
import signal
import subprocess
import termios
import time
from pathlib import Path

import pytest

from tests.docker.conftest import BASE
from tests.harness import Daemon, docker_cli, eventually, script

NONE = ("--network", "none")


@pytest.mark.covers("cli:run", "cli:run --rm", "cli:run --network", "api:POST /containers/create", "api:POST /containers/{id}/start",
                    "api:POST /containers/{id}/attach", "api:POST /containers/{id}/wait")  # fmt: skip
def test_run_shows_output_and_gives_the_exit_code(daemon: Daemon) -> None:
    assert daemon.docker("run", "--rm", *NONE, BASE, "echo", "hello").stdout == "hello\n"
    done = daemon.docker("run", "--rm", *NONE, BASE, "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["not-a-command"], 127, "executable file not found in $PATH"),
        (["/etc/passwd"], 126, "permission denied"),
        (["/no/such/file"], 127, "no such file or directory"),
    ],
)
def test_a_command_that_cannot_run_gives_dockers_codes(daemon: Daemon, name: str, command: list[str], code: int, words: str) -> None:
    done = daemon.docker("run", "--name", name, *NONE, BASE, *command, code=code)
    assert words in done.stderr
    assert json.loads(daemon.docker("inspect", name).stdout)[0]["State"]["Status"] == "created"


def test_an_empty_home_is_the_users(daemon: Daemon) -> None:
    assert daemon.docker("run", "--rm", *NONE, "-e", "HOME=", BASE, "sh", "-c", "echo $HOME").stdout == "/root\n"


def test_a_full_host_name_is_found_by_its_first_word_as_well(daemon: Daemon) -> None:
    script = "hostname -f; hostname -s; cat /etc/hosts"
    shown = daemon.docker("run", "--rm", "--hostname", "box.example.org", BASE, "sh", "-c", script).stdout
    assert shown.startswith("box.example.org\nbox\n")
    assert "\tbox.example.org box\n" in shown


def test_a_signal_that_ends_it_gives_128_and_its_number(daemon: Daemon, name: str) -> None:
    daemon.docker("run", "-d", "--name", name, *NONE, BASE, "sleep", "1000")
    daemon.docker("kill", name)
    assert daemon.docker("wait", name).stdout == "137\n"


@pytest.mark.covers(
    "cli:run --env", "cli:run --workdir", "cli:run --user", "cli:run --hostname", "cli:run --entrypoint", "cli:run --volume"
)
def test_runs_flags_reach_the_process(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host\n")
    script = "echo $A; pwd; id -u; hostname; cat /data/file; echo back > /data/written"
    done = daemon.docker("run", "--rm", *NONE, "-e", "A=b", "-w", "/some/where", "-u", "0:0", "--hostname", "named", "-v", f"{tmp_path}:/data",
                         "--entrypoint", "sh", BASE, "-c", script)  # fmt: skip
    assert done.stdout.splitlines() == ["b", "/some/where", "0", "named", "from the host"]
    assert (tmp_path / "written").read_text() == "back\n"


@pytest.mark.covers("cli:run --user")
def test_a_user_is_looked_up_in_the_image(daemon: Daemon) -> None:
    assert (
        daemon.docker("run", "--rm", *NONE, "-u", "nobody", BASE, "id").stdout
        == "uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)\n"
    )
    assert "unable to find user ghost" in daemon.docker("run", "--rm", *NONE, "-u", "ghost", BASE, "id", code=125).stderr


@pytest.mark.covers("cli:run --interactive")
def test_standard_input_reaches_the_process_and_ends(daemon: Daemon) -> None:
    data = "line\n" * 100_000
    assert daemon.docker("run", "--rm", "-i", *NONE, BASE, "cat", stdin=data).stdout == data


def test_ports_on_the_hosts_network_are_warned_of(daemon: Daemon, name: str) -> None:
    done = daemon.docker("create", "--name", name, "--network", "host", "-p", "80:80", BASE, "true")
    assert "WARNING: Published ports are discarded when using host network mode" in done.stderr


def test_input_that_holds_the_detach_keys_is_data_unless_it_comes_from_a_terminal(daemon: Daemon, name: str) -> None:
    data = b"dump \x10\x11 goes on" * 1000
    digest = f"{hashlib.sha256(data).hexdigest()}  -\n"
    for flags in ((), ("--detach-keys", "o")):
        assert daemon.docker("run", "--rm", "-i", *flags, *NONE, BASE, "sha256sum", stdin=data).stdout == digest
    daemon.docker("run", "-d", "--name", name, *NONE, BASE, "sleep", "1000")
    assert daemon.docker("exec", "-i", name, "sha256sum", stdin=data).stdout == digest


@pytest.mark.covers("cli:run --tty", "api:POST /containers/{id}/resize")
def test_an_interactive_shell_runs_on_a_pty(daemon: Daemon) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [docker_cli(), "run", "--rm", "-it", *NONE, BASE, "sh"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=daemon.environment(),
        start_new_session=True,
    )
    os.close(slave)
    seen = b""

    def read_until(text: bytes) -> None:
        nonlocal seen
        while text not in seen:
            seen += os.read(master, 65536)

    read_until(b"# ")
    os.write(master, b"test -t 0 && echo terminal-$((40+2))\n")
    read_until(b"terminal-42")
    os.write(master, b"exit 3\n")
    assert process.wait(120) == 3
    os.close(master)


@pytest.mark.covers("cli:run --detach", "cli:ps", "cli:ps --all", "cli:ps --quiet", "cli:stop", "cli:wait", "cli:rm", "api:GET /containers/json",
                    "api:POST /containers/{id}/stop", "api:DELETE /containers/{id}")  # fmt: skip
def test_a_detached_container_lives_until_stopped(daemon: Daemon, name: str) -> None:
    identity = daemon.docker(
        "run", "-d", "--name", name, *NONE, BASE, "sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    ).stdout.strip()
    assert len(identity) == 64
    assert daemon.docker("ps", "-q", "--no-trunc", "-f", f"name={name}").stdout.strip() == identity
    eventually(lambda: "ready" in daemon.docker("logs", name).stdout, "its trap is not set")
    daemon.docker("stop", "-t", "60", name)
    assert daemon.docker("wait", name).stdout == "5\n"
    assert daemon.docker("ps", "-q", "-f", f"name={name}").stdout == ""
    assert "Exited (5)" in daemon.docker("ps", "-a", "-f", f"name={name}").stdout
    daemon.docker("rm", name)
    assert f"No such container: {name}" in daemon.docker("rm", name, code=1).stderr


@pytest.mark.covers("cli:create", "cli:start", "cli:start --attach", "cli:start --interactive")
def test_create_then_start_attached(daemon: Daemon, name: str) -> None:
    daemon.docker("create", "--name", name, "-i", *NONE, BASE, "sh", "-c", "read x; echo got $x; exit 4")
    assert daemon.docker("start", "-ai", name, stdin="word\n", code=4).stdout == "got word\n"


@pytest.mark.covers("cli:kill", "cli:kill --signal", "api:POST /containers/{id}/kill")
def test_kill_sends_the_signal_named(daemon: Daemon, name: str) -> None:
    daemon.docker(
        "run", "-d", "--name", name, *NONE, BASE, "sh", "-c", "trap 'echo usr1; exit 9' USR1; echo ready; while :; do sleep 0.05; done"
    )
    eventually(lambda: "ready" in daemon.docker("logs", name).stdout, "it never got ready")
    daemon.docker("kill", "-s", "USR1", name)
    assert daemon.docker("wait", name).stdout == "9\n"
    assert "is not running" in daemon.docker("kill", name, code=1).stderr


@pytest.mark.covers("cli:exec", "cli:exec --env", "cli:exec --user", "cli:exec --workdir", "cli:exec --interactive", "cli:exec --detach", "api:POST /containers/{id}/exec",
                    "api:POST /exec/{id}/start", "api:GET /exec/{id}/json")  # fmt: skip
def test_exec_runs_beside_the_first_process(daemon: Daemon, name: str) -> None:
    daemon.docker("run", "-d", "--name", name, *NONE, BASE, "sleep", "1000")
    done = daemon.docker("exec", "-e", "A=b", "-w", "/etc", "-u", "nobody", name, "sh", "-c", "echo $A; pwd; id -u; exit 6", code=6)
    assert done.stdout.splitlines() == ["b", "/etc", "65534"]
    assert daemon.docker("exec", "-i", name, "cat", stdin="through\n").stdout == "through\n"
    daemon.docker("exec", "-d", name, "touch", "/made-by-exec")
    eventually(lambda: daemon.docker("exec", name, "ls", "/made-by-exec", code=None).returncode == 0, "the detached exec did nothing")
    assert "executable file not found" in (done := daemon.docker("exec", name, "not-a-command", code=127)).stderr + done.stdout
    daemon.docker("pause", name)
    assert f"Container {name} is paused, unpause the container before exec" in daemon.docker("exec", name, "true", code=1).stderr


@pytest.mark.parametrize("given", [[], ["-e", "TERM=mine"]])
def test_exec_without_a_terminal_has_no_name_of_one_that_was_not_given(daemon: Daemon, name: str, given: list[str]) -> None:
    daemon.docker("run", "-dt", "--name", name, *given, *NONE, BASE, "sleep", "1000")
    assert daemon.docker("exec", name, "sh", "-c", "echo $TERM").stdout == ("mine\n" if given else "\n")
    assert daemon.docker("exec", "-e", "TERM=own", name, "sh", "-c", "echo $TERM").stdout == "own\n"
    assert daemon.docker("exec", "-t", name, "sh", "-c", "echo $TERM").stdout == ("mine\r\n" if given else "xterm\r\n")


@pytest.mark.covers("cli:exec --tty", "api:POST /exec/{id}/resize")
def test_exec_on_a_terminal(daemon: Daemon, name: str) -> None:
    daemon.docker("run", "-d", "--name", name, *NONE, BASE, "sleep", "1000")
    master, slave = pty.openpty()
    process = subprocess.Popen([docker_cli(), "exec", "-it", name, "sh", "-c", "test -t 1 && echo is-terminal; exit 2"], stdin=slave, stdout=slave, stderr=slave,
                               env=daemon.environment(), start_new_session=True)  # fmt: skip
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the terminal has no other end any more
        while piece := os.read(master, 65536):
            shown += piece
    assert process.wait(120) == 2
    assert b"is-terminal" in shown
    os.close(master)


@pytest.mark.parametrize("cli", [pytest.param("docker", marks=pytest.mark.docker_cli(28)), "lamina"])
@pytest.mark.parametrize("words", [("run", "--rm", "-t", *NONE, BASE), ("exec", "-t")], ids=["run", "exec"])
@pytest.mark.parametrize("userns", ["host", "auto"])
def test_a_terminal_has_its_size_from_the_start(daemon: Daemon, name: str, cli: str, words: tuple[str, ...], userns: str) -> None:
    if words[0] == "run":
        if (cli, userns) == ("docker", "auto"):
            pytest.skip("docker's own CLI takes no --userns but host")
        words = ("run", "--userns", userns, *words[1:])
    if words[0] == "exec":
        daemon.lamina("run", "-d", "--userns", userns, "--name", name, *NONE, BASE, "sleep", "1000")
        words = (*words, name)
    program = [docker_cli()] if cli == "docker" else script("lamina")
    for _ in range(5):  # what is told after the start comes in time now and then
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (33, 99))
        done = subprocess.run(
            [*program, *words, "stty", "size"], stdin=slave, stdout=slave, stderr=slave, env=daemon.environment(), timeout=120, check=False
        )
        shown = os.read(master, 65536)
        os.close(slave)
        os.close(master)
        assert (done.returncode, shown.split()) == (0, [b"33", b"99"])


@pytest.mark.parametrize("cli", [pytest.param("docker", marks=pytest.mark.docker_cli(28)), "lamina"])
def test_a_terminals_size_is_told_when_its_container_is_created(daemon: Daemon, name: str, cli: str) -> None:
    program = [docker_cli()] if cli == "docker" else script("lamina")
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (33, 99))
    subprocess.run(
        [*program, "create", "-t", "--name", name, *NONE, BASE, "stty", "size"],
        stdout=slave,
        env=daemon.environment(),
        timeout=120,
        check=True,
    )
    os.close(slave)
    os.close(master)
    assert daemon.docker("start", "-a", name).stdout.split() == ["33", "99"]


@pytest.mark.covers("cli:logs", "cli:logs --tail", "cli:logs --follow", "cli:logs --timestamps", "api:GET /containers/{id}/logs")
def test_logs_shows_follows_and_tails(daemon: Daemon, name: str) -> None:
    daemon.docker(
        "run",
        "-d",
        "--name",
        name,
        *NONE,
        BASE,
        "sh",
        "-c",
        "for i in 1 2 3 4 5; do echo line $i; echo error $i >&2; done; sleep 0.3; echo last",
    )
    follower = daemon.docker("logs", "-f", name)
    assert follower.stdout.splitlines() == [*(f"line {number}" for number in range(1, 6)), "last"]
    assert follower.stderr.splitlines() == [f"error {number}" for number in range(1, 6)]
    assert daemon.docker("logs", "--tail", "1", name).stdout == "last\n"
    assert daemon.docker("logs", "-t", "--tail", "1", name).stdout.endswith("Z last\n")


@pytest.mark.covers("cli:attach", "cli:attach --no-stdin")
def test_attach_shows_what_comes_from_then_on(daemon: Daemon, name: str) -> None:
    daemon.docker("run", "-d", "-i", "--name", name, *NONE, BASE, "sh", "-c", "read x; echo heard $x; sleep 0.3; exit 8")
    assert daemon.docker("attach", name, stdin="you\n", code=8).stdout == "heard you\n"


@pytest.mark.covers("cli:diff", "api:GET /containers/{id}/changes")
def test_what_a_container_wrote_is_seen_and_found_on_the_host(daemon: Daemon, name: str) -> None:
    script = "touch /happiness.txt; echo more >> /etc/passwd; rm /etc/group"
    identity = daemon.docker("run", "-d", "--name", name, *NONE, BASE, "sh", "-c", f"{script}; sleep 1000").stdout.strip()
    written = daemon.data / "containers" / identity / "diff/happiness.txt"
    eventually(written.exists, f"not on the host: {written}")
    eventually(lambda: "D /etc/group" in daemon.docker("diff", name).stdout, "the deletion never showed")
    assert sorted(daemon.docker("diff", name).stdout.splitlines()) == ["A /happiness.txt", "C /etc", "C /etc/passwd", "D /etc/group"]
    daemon.docker("kill", name)
    assert sorted(daemon.docker("diff", name).stdout.splitlines()) == ["A /happiness.txt", "C /etc", "C /etc/passwd", "D /etc/group"]
    assert written.exists()


@pytest.mark.covers(
    "cli:commit", "cli:commit --message", "cli:commit --author", "cli:commit --change", "cli:commit --pause", "api:POST /commit"
)
def test_commit_makes_the_writable_layer_an_image_layer(daemon: Daemon, name: str, tag: str) -> None:
    daemon.docker("run", "--name", name, *NONE, BASE, "sh", "-c", "echo kept > /kept; rm -r /root; mkdir /root; touch /root/new")
    identity = daemon.docker("commit", "-m", "why", "-a", "who", "-c", 'CMD ["cat", "/kept"]', name, tag).stdout.strip()
    facts = json.loads(daemon.docker("inspect", tag).stdout)[0]
    assert (facts["Id"], facts["Comment"], facts["Author"]) == (identity, "why", "who")
    assert len(facts["RootFS"]["Layers"]) == 2
    assert daemon.docker("run", "--rm", *NONE, tag).stdout == "kept\n"
    assert daemon.docker("run", "--rm", *NONE, tag, "ls", "/root").stdout == "new\n"


def test_two_containers_change_one_file_and_neither_sees_the_others(daemon: Daemon) -> None:
    for word in ("one", "two"):
        daemon.docker("run", "--name", f"twin-{word}", *NONE, BASE, "sh", "-c", f"echo {word} >> /etc/passwd")
    seen = [daemon.docker("cp", f"twin-{word}:/etc/passwd", "-").stdout for word in ("one", "two")]
    daemon.docker("rm", "twin-one", "twin-two")
    assert ("one" in seen[0], "two" in seen[0], "one" in seen[1], "two" in seen[1]) == (True, False, False, True)
    assert "one" not in daemon.docker("run", "--rm", *NONE, BASE, "cat", "/etc/passwd").stdout


@pytest.mark.covers("cli:cp", "api:GET /containers/{id}/archive", "api:PUT /containers/{id}/archive", "api:HEAD /containers/{id}/archive")
@pytest.mark.parametrize("running", [True, False])
def test_cp_both_ways(daemon: Daemon, name: str, tmp_path: Path, running: bool) -> None:
    daemon.docker(*(("run", "-d") if running else ("create",)), "--name", name, *NONE, BASE, "sleep", "1000")
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/deep/file").write_text("there\n")
    daemon.docker("cp", str(tmp_path / "in"), f"{name}:/tmp/in")
    daemon.docker("cp", f"{name}:/tmp/in/deep/file", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "there\n"
    daemon.docker("cp", f"{name}:/etc", str(tmp_path / "etc"))
    assert (tmp_path / "etc/passwd").read_text().startswith("root:")
    assert "nothing-here" in daemon.docker("cp", f"{name}:/nothing-here", str(tmp_path / "x"), code=1).stderr


def test_cp_and_export_of_a_file_with_holes(daemon: Daemon, name: str, tmp_path: Path) -> None:
    """The docker CLI takes what the engine writes; by `lamina cp` holes stay holes both ways."""
    place = tmp_path / "holes"
    with open(place, "wb") as file:
        for at in (3 << 20, 9 << 20):
            file.seek(at)
            file.write(b"data" * 5000)
        file.truncate(40 << 20)
    daemon.docker("create", "--name", name, *NONE, BASE, "true")
    daemon.lamina("cp", str(place), f"{name}:/holes")
    daemon.docker("cp", f"{name}:/holes", str(tmp_path / "theirs"))
    daemon.lamina("cp", f"{name}:/holes", str(tmp_path / "ours"))
    assert (tmp_path / "theirs").read_bytes() == (tmp_path / "ours").read_bytes() == place.read_bytes()
    assert os.stat(tmp_path / "ours").st_blocks * 512 < 1 << 20
    daemon.docker("export", "-o", str(tmp_path / "x.tar"), name)
    assert os.stat(tmp_path / "x.tar").st_size < 20 << 20
    subprocess.run(["tar", "-C", str(tmp_path), "-xf", str(tmp_path / "x.tar"), "holes"], check=True)
    assert place.read_bytes() == (tmp_path / "ours").read_bytes()


def test_cp_never_follows_a_link_out_of_the_container(daemon: Daemon, name: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the host's\n")
    daemon.docker(
        "run", "--name", name, *NONE, BASE, "sh", "-c", f"ln -s {secret} /link; ln -s {tmp_path} /folder; ln -s /../../../..{tmp_path} /up"
    )
    (tmp_path / "new").write_text("x")
    daemon.docker("cp", f"{name}:/folder/secret", str(tmp_path / "stolen"), code=1)
    daemon.docker("cp", "-L", f"{name}:/link", str(tmp_path / "stolen"), code=1)
    daemon.docker("cp", str(tmp_path / "new"), f"{name}:/up/planted", code=None)
    assert not (tmp_path / "stolen").exists()
    assert not (tmp_path / "planted").exists()


@pytest.mark.covers("cli:export", "cli:export --output", "api:GET /containers/{id}/export")
def test_export_is_a_tar_of_the_whole_tree(daemon: Daemon, name: str, tmp_path: Path) -> None:
    daemon.docker("run", "--name", name, *NONE, BASE, "sh", "-c", "echo mine > /mine; rm /etc/group")
    daemon.docker("export", "-o", str(tmp_path / "x.tar"), name)
    listed = subprocess.run(["tar", "-tf", str(tmp_path / "x.tar")], capture_output=True, text=True, check=True).stdout.split()
    assert "mine" in listed
    assert "bin/busybox" in listed
    assert "etc/group" not in listed


@pytest.mark.covers("cli:events", "cli:events --since", "cli:events --until", "cli:events --filter", "api:GET /events")
def test_events_tell_a_containers_life_in_order(daemon: Daemon, name: str) -> None:
    begin = time.time() - 1
    daemon.docker("run", "--name", name, *NONE, BASE, "true")
    daemon.docker("rm", name)
    told = daemon.docker(
        "events",
        "--since",
        f"{int(begin)}",
        "--until",
        f"{int(time.time()) + 1}",
        "-f",
        f"container={name}",
        "-f",
        "type=container",
        "--format",
        "{{.Action}}",
    )
    actions = told.stdout.split()
    assert [action for action in actions if action in ("create", "attach", "start", "die", "destroy")] == [
        "create",
        "attach",
        "start",
        "die",
        "destroy",
    ]


@pytest.mark.covers("cli:run --name", "cli:rename", "api:POST /containers/{id}/rename")
def test_a_name_already_taken_says_by_whom(daemon: Daemon, name: str) -> None:
    identity = daemon.docker("create", "--name", name, BASE, "true").stdout.strip()
    refused = daemon.docker("create", "--name", name, BASE, "true", code=1)
    assert f'The container name "/{name}" is already in use by container "{identity}"' in refused.stderr
    daemon.docker("rename", name, f"{name}-renamed")
    daemon.docker("rm", f"{name}-renamed")


@pytest.mark.covers("cli:rm --force", "cli:rm --volumes")
def test_rm_refuses_a_running_container_unless_forced(daemon: Daemon, name: str) -> None:
    daemon.docker("run", "-d", "--name", name, *NONE, BASE, "sleep", "1000")
    assert (
        "container is running" in daemon.docker("rm", name, code=1).stderr
        or "running container" in daemon.docker("rm", name, code=1).stderr
    )
    daemon.docker("rm", "-f", name)
    assert daemon.docker("ps", "-aq", "-f", f"name={name}").stdout == ""


@pytest.mark.covers("cli:inspect", "api:GET /containers/{id}/json")
def test_inspect_tells_state_and_configuration(daemon: Daemon, name: str) -> None:
    daemon.docker("run", "--name", name, *NONE, "-e", "A=b", BASE, "sh", "-c", "exit 3", code=3)
    facts = json.loads(daemon.docker("inspect", name).stdout)[0]
    assert (facts["Name"], facts["State"]["Status"], facts["State"]["ExitCode"]) == (f"/{name}", "exited", 3)
    assert "A=b" in facts["Config"]["Env"]
    assert facts["Image"] == daemon.docker("image", "inspect", "--format", "{{.Id}}", BASE).stdout.strip()
    assert facts["HostConfig"]["NetworkMode"] == "none"


@pytest.mark.covers(
    "cli:pause",
    "cli:unpause",
    "cli:top",
    "cli:restart",
    "api:POST /containers/{id}/pause",
    "api:POST /containers/{id}/restart",
    "api:GET /containers/{id}/top",
)
def test_pause_top_and_restart(daemon: Daemon, name: str) -> None:
    daemon.docker("run", "-d", "--name", name, *NONE, BASE, "sleep", "1000")
    assert "sleep 1000" in daemon.docker("top", name).stdout
    assert "sleep 1000" in daemon.docker("top", name, "-o", "pid,args").stdout
    daemon.docker("pause", name)
    assert "(Paused)" in daemon.docker("ps", "-f", f"name={name}").stdout
    daemon.docker("unpause", name)
    before = json.loads(daemon.docker("inspect", name).stdout)[0]["State"]["Pid"]
    daemon.docker("restart", "-t", "0", name)
    after = json.loads(daemon.docker("inspect", name).stdout)[0]["State"]
    assert after["Running"] and after["Pid"] != before


@pytest.mark.covers("cli:run --privileged")
def test_privileged_gives_what_a_default_container_lacks(daemon: Daemon) -> None:
    script = "grep CapEff /proc/self/status; grep Seccomp: /proc/self/status; ls /dev | wc -l"
    plain = daemon.docker("run", "--rm", *NONE, BASE, "sh", "-c", script).stdout.split()
    privileged = daemon.docker("run", "--rm", *NONE, "--privileged", BASE, "sh", "-c", script).stdout.split()
    assert int(plain[1], 16) == 0xA80425FB
    assert int(privileged[1], 16) & 0xA80425FB == 0xA80425FB and int(privileged[1], 16) > int(plain[1], 16)
    assert (plain[3], privileged[3]) == ("2", "0")
    assert int(privileged[4]) > int(plain[4])


def test_host_and_none_are_the_networks_they_say(daemon: Daemon) -> None:
    devices = "ls /sys/class/net"
    assert daemon.docker("run", "--rm", *NONE, BASE, "sh", "-c", devices).stdout.split() == ["lo"]
    namespace = daemon.docker("run", "--rm", "--network", "host", BASE, "readlink", "/proc/self/ns/net").stdout.strip()
    assert namespace == os.readlink("/proc/self/ns/net")


def test_no_host_path_shows_in_mountinfo(daemon: Daemon) -> None:
    if daemon.driver == "native":
        pytest.skip("its root is a directory of the host's file system, which mountinfo names")
    mounts = daemon.docker("run", "--rm", *NONE, BASE, "cat", "/proc/self/mountinfo").stdout
    root = next(line for line in mounts.splitlines() if line.split()[4] == "/")
    assert str(daemon.data) not in root
    assert "layers/" not in mounts


@pytest.mark.covers(
    "cli:run --volume",
    "cli:volume create",
    "cli:volume ls",
    "cli:volume rm",
    "cli:volume inspect",
    "api:GET /volumes",
    "api:POST /volumes/create",
)
def test_a_named_volume_outlives_its_container(daemon: Daemon) -> None:
    daemon.docker("run", "--rm", *NONE, "-v", "kept:/data", BASE, "sh", "-c", "echo still > /data/file")
    assert daemon.docker("run", "--rm", *NONE, "-v", "kept:/data", BASE, "cat", "/data/file").stdout == "still\n"
    assert "kept" in daemon.docker("volume", "ls", "-q").stdout.split()
    assert daemon.docker("volume", "inspect", "-f", "{{.Driver}}", "kept").stdout == "local\n"
    daemon.docker("volume", "rm", "kept")


def test_an_interrupt_reaches_the_container_through_the_client(daemon: Daemon, name: str) -> None:
    command = [docker_cli(), "run", "--name", name, *NONE, BASE, "sh", "-c", "trap 'exit 11' INT; echo ready; while :; do sleep 0.05; done"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=daemon.environment(), start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 11
    process.stdout.close()
