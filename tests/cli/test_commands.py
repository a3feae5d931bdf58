"""Commands as a user types them, against a fake engine."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import pwd
import select
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import termios
import threading
import time
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qs

import pytest

import lamina
from lamina.cli.catalog import COMMANDS, GROUPS
from lamina.cli.main import main
from lamina.cli.streams import write_all
from tests.client.fake_engine import UPGRADED, FakeEngine, Request, chunked, frame, json_lines, reply
from tests.harness import end_helpers, eventually

SOURCE = os.path.dirname(os.path.dirname(lamina.__file__))
PROGRAM = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({SOURCE!r}); from lamina.cli.main import run; run()"]
IMAGE = {"Id": "sha256:" + "a" * 64, "RepoTags": ["bb:latest"], "RepoDigests": ["bb@sha256:" + "d" * 64], "Created": 1, "Size": 1_980_000}


def lamina_(
    engine: FakeEngine, *words: str, stdin: bytes | int = b"", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run the program; `stdin` is what it reads, or a descriptor."""
    command = [*PROGRAM, "--host", engine.host, *words]
    given = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | (env or {})
    if isinstance(stdin, int):
        return subprocess.run(command, stdin=stdin, capture_output=True, timeout=300, env=given)
    return subprocess.run(command, input=stdin, capture_output=True, timeout=300, env=given)


@pytest.mark.parametrize("name", ["", *COMMANDS, *GROUPS])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage:  lamina")


def test_every_command_of_a_group_is_in_its_help() -> None:
    shown = {f"{group} {word}" for group, (_, words) in GROUPS.items() for word in words.split()}
    assert {name for name in (*COMMANDS, *GROUPS) if " " in name} <= shown


def test_an_unknown_command_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 1
    assert capsys.readouterr().err.startswith("lamina: unknown command: lamina nonsense\n")


def test_an_unknown_command_of_a_group_points_at_the_groups_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "nonsense"]) == 1
    assert capsys.readouterr().err.endswith("\n\nRun 'lamina image --help' for more information\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["swarm", "init"], "There is no swarm mode"),
        (["plugin", "ls"], "There are no plugins"),
        (["checkpoint", "ls", "x"], "'lamina snapshot'"),
        (["context", "ls"], "DOCKER_HOST"),
        (["compose", "up"], "docker's own command"),
    ],
)
def test_dockers_commands_that_are_not_here_say_so(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"lamina: unknown command: lamina {words[0]}\n\n") and told in said and "Did you mean" not in said


def test_a_command_for_volumes_of_clusters_says_that_there_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["volume", "update", "--availability", "active", "v"]) == 1
    told = "unknown command: lamina volume update\n\nOnly volumes of a cluster can be updated. There is no swarm mode: "
    assert capsys.readouterr().err.startswith(f"lamina: {told}")


def test_an_unknown_flag_exits_with_125_and_shows_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ps", "--nonsense"]) == 125
    assert "Usage:  lamina ps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "meant"), [(["rnu"], "'lamina run'"), (["ps", "--al"], "--all"), (["run", "--memroy", "1g", "x"], "--memory")]
)
def test_what_was_meant_is_offered(words: list[str], meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) > 0
    assert f"Did you mean {meant}?" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["images"], ["--help"], ["images", "--help"], ["version"]])
def test_output_that_cannot_be_written_is_one_sentence(engine: FakeEngine, words: list[str]) -> None:
    engine.routes |= {"GET /images/json": reply([IMAGE]), "GET /version": reply({})}
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*PROGRAM, "--host", engine.host, *words], stdout=full, stderr=subprocess.PIPE, timeout=300)
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1 and done.stderr.endswith(b"no space left on device\n")


def test_an_error_is_told_also_where_what_was_said_before_cannot_be(engine: FakeEngine) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*PROGRAM, "--host", engine.host, "pull", "bb"], stdout=full, stderr=subprocess.PIPE, timeout=60)
    told = [b"lamina: page not found: /images/create", b"lamina: standard output: no space left on device"]
    assert (done.returncode, done.stderr.splitlines()) == (1, told)
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as closed:
        done = subprocess.run([*PROGRAM, "--host", engine.host, "pull", "bb"], stdout=closed, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr.splitlines()) == (1, told[:1])


def test_without_home_the_users_own_folder_is_meant() -> None:
    asked = "from lamina.cli.main import _session, Arguments; print(_session(Arguments()).config_directory)"
    shown = subprocess.run([sys.executable, "-c", asked], env={"PYTHONPATH": SOURCE}, capture_output=True, text=True, check=True).stdout
    assert shown == f"{pwd.getpwuid(os.geteuid()).pw_dir}/.docker\n"


@pytest.mark.parametrize("words", [["layers", "x"], ["images", "--tree"], ["snapshot", "ls", "c"], ["blame", "x"], ["image", "find", "x"]])
def test_what_only_laminad_can_do_is_said_where_another_engine_listens(engine: FakeEngine, words: list[str]) -> None:
    done = lamina_(engine, *words)
    assert done.returncode == 1 and b"the engine is another than laminad" in done.stderr


def test_closed_streams_lead_nowhere(engine: FakeEngine) -> None:
    engine.routes["GET /images/json"] = reply([IMAGE])
    program = " ".join(map(shlex.quote, [*PROGRAM, "--host", engine.host, "images"]))
    assert subprocess.run(["sh", "-c", f"{program} <&- >&- 2>&-"], timeout=300).returncode == 0
    assert subprocess.run(["sh", "-c", f"{program} nonsense more >&- 2>&-"], timeout=300).returncode == 1


def test_streams_that_do_not_block_are_written_whole_and_stay_so_for_others(engine: FakeEngine) -> None:
    engine.routes["GET /images/json"] = reply([IMAGE] * 3000)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with subprocess.Popen([*PROGRAM, "--host", engine.host, "images"], stdout=writer, stderr=subprocess.PIPE) as child:
        assert child.stderr is not None
        time.sleep(1)  # the pipe is full
        assert not os.get_blocking(writer)
        os.close(writer)
        with open(reader, "rb") as shown:
            lines = shown.read().splitlines()
        assert (len(lines), child.stderr.read(), child.wait(60)) == (3001, b"", 0)


def test_a_stream_that_ceases_to_block_meanwhile_is_written_whole() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        said = threading.Thread(target=write_all, args=(ours.fileno(), b"x" * (4 << 20)))
        said.start()
        got = 0
        while got < 4 << 20:
            got += len(theirs.recv(1 << 20))
        said.join()


def _on_terminal(*words: str, kind: str = "xterm") -> str:
    """What is shown on a terminal of 70 columns by a command that succeeds."""
    manager, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 70))
    child = subprocess.Popen([*PROGRAM, *words], stdout=terminal, stdin=terminal, stderr=terminal, env={"TERM": kind})
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the terminal has no other end any more
        while piece := os.read(manager, 1 << 16):
            shown += piece
    os.close(manager)
    assert child.wait(120) == 0
    return shown.decode()


def test_help_is_wrapped_to_the_terminal() -> None:
    shown = _on_terminal("run", "--help")
    assert max(map(len, shown.splitlines())) <= 70 and "--workdir" in shown


@pytest.mark.parametrize(("kind", "rewritten"), [("xterm", True), ("dumb", False)])
def test_lines_are_rewritten_only_where_the_terminal_can(engine: FakeEngine, kind: str, rewritten: bool) -> None:
    moving = {"status": "Downloading", "id": "a", "progressDetail": {"current": 1, "total": 2}}
    engine.routes["POST /images/create"] = json_lines(moving, {"status": "Pull complete", "id": "a", "progressDetail": {}})
    shown = _on_terminal("--host", engine.host, "pull", "x:1", kind=kind)
    assert ("\x1b[" in shown) == rewritten and ("Downloading" in shown) == rewritten and "a: Pull complete" in shown


def test_too_few_arguments_exit_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tag", "x"]) == 1
    assert "'lamina tag' requires 2 arguments" in capsys.readouterr().err


@pytest.mark.covers("cli:images", "cli:images --quiet", "cli:images --digests", "cli:images --no-trunc", "cli:images --format")
def test_images_are_listed_as_docker_lists_them(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.routes["GET /images/json"] = reply([IMAGE, {**IMAGE, "RepoTags": [], "RepoDigests": []}])
    main(["-H", engine.host, "images"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "REPOSITORY   TAG       IMAGE ID       CREATED        SIZE"
    assert lines[1].startswith("bb           latest    aaaaaaaaaaaa   ") and lines[1].endswith("years ago   1.98MB")
    assert lines[2].startswith("<none>       <none>    ")
    main(["-H", engine.host, "images", "-q", "--no-trunc"])
    assert capsys.readouterr().out.splitlines()[0] == IMAGE["Id"]
    main(["-H", engine.host, "images", "--digests"])
    assert "DIGEST" in capsys.readouterr().out
    main(["-H", engine.host, "images", "--format", "{{.Repository}}:{{.Tag}} {{.Size}}"])
    assert capsys.readouterr().out.splitlines()[0] == "bb:latest 1.98MB"
    main(["-H", engine.host, "images", "--format", "table {{.ID}}\\t{{.Tag}}"])
    assert capsys.readouterr().out.splitlines()[:2] == ["IMAGE ID       TAG", "aaaaaaaaaaaa   latest"]
    main(["-H", engine.host, "images", "--format", "json"])
    assert json.loads(capsys.readouterr().out.splitlines()[0])["Repository"] == "bb"


@pytest.mark.covers("cli:images --filter", "cli:images --all")
def test_filters_and_a_name_are_sent_as_go_sends_them(engine: FakeEngine) -> None:
    engine.routes["GET /images/json"] = reply([])
    main(["-H", engine.host, "images", "-a", "-f", "dangling=true", "bb"])
    assert (
        engine.requests[0].query == "all=1&filters=%7B%22dangling%22%3A%7B%22true%22%3Atrue%7D%2C%22reference%22%3A%7B%22bb%22%3Atrue%7D%7D"
    )


def test_an_empty_name_chooses_nothing(engine: FakeEngine) -> None:
    engine.routes["GET /images/json"] = reply([])
    assert main(["-H", engine.host, "images", "", "-f", ""]) == 0
    assert engine.requests[0].query == ""


def test_fields_that_json_leaves_out_are_empty_to_templates(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.routes["GET /images/x/json"] = reply({"Id": "sha256:a", "Os": "linux", "Config": {"User": "me"}})
    for words in (["image", "inspect"], ["inspect", "--type", "image"]):
        main(["-H", engine.host, *words, "-f", "[{{.Variant}}{{.OsVersion}}{{.Config.StopSignal}}] {{.VirtualSize}} {{.Id}} {{.Os}}", "x"])
        assert capsys.readouterr().out == "[] 0 sha256:a linux\n"
        main(["-H", engine.host, *words, "-f", "{{json .}}", "x"])
        assert json.loads(capsys.readouterr().out) == {"Id": "sha256:a", "Os": "linux", "Config": {"User": "me"}}
    assert main(["-H", engine.host, "image", "inspect", "-f", "{{.Nope}}", "x"]) == 1


@pytest.mark.parametrize(
    ("kind", "document", "form", "shown"),
    [
        ("container", {"State": {}}, "{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}} {{.SizeRw}}", "none <nil>"),
        ("container", {"Mounts": [{"Source": "/a"}, {"Name": "v"}]}, "{{range .Mounts}}[{{.Name}}]{{end}}", "[][v]"),
        ("container", {"HostConfig": {}, "Config": {}}, "{{len .HostConfig.Tmpfs}} {{.HostConfig.Init}} {{.Config.Shell}}", "0 <nil> []"),
        ("volume", {}, "{{.UsageData}}", "<nil>"),
        ("network", {"IPAM": {"Config": [{"Subnet": "s"}]}}, "{{range .IPAM.Config}}{{.Subnet}},{{.IPRange}}{{end}}{{.Peers}}", "s,[]"),
    ],
)
def test_fields_that_json_leaves_out_are_there_of_all_that_is_inspected(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str], kind: str, document: dict[str, object], form: str, shown: str
) -> None:
    engine.routes["GET /containers/x/json" if kind == "container" else f"GET /{kind}s/x"] = reply(document)
    for words in ([kind, "inspect"], ["inspect", "--type", kind]):
        assert main(["-H", engine.host, *words, "-f", form, "x"]) == 0
        assert capsys.readouterr().out == f"{shown}\n"
        main(["-H", engine.host, *words, "-f", "{{json .}}", "x"])
        assert json.loads(capsys.readouterr().out) == document


def test_a_template_of_events_goes_on_over_those_that_have_no_status(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    told = [{"Type": "network", "Action": "connect"}, {"Type": "container", "Action": "die", "id": "c", "from": "bb", "status": "die"}]
    engine.routes["GET /events"] = reply(raw=b"".join(json.dumps(event).encode() + b"\n" for event in told))
    assert main(["-H", engine.host, "events", "--format", "{{.Action}} [{{.Status}} {{.ID}} {{.From}}]"]) == 0
    assert capsys.readouterr().out == "connect [  ]\ndie [die c bb]\n"


def test_info_and_version_have_the_fields_that_json_leaves_out(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.routes["GET /info"] = reply({"NCPU": 2})
    engine.routes["GET /version"] = reply({"Version": "28"})
    assert main(["-H", engine.host, "info", "--format", "{{.NCPU}} {{.DefaultAddressPools}} {{.KernelMemory}}"]) == 0
    assert main(["-H", engine.host, "version", "--format", "{{.Server.Version}} {{.Server.Experimental}}"]) == 0
    assert capsys.readouterr().out == "2 [] false\n28 false\n"


def test_details_of_space_are_whole_for_templates_and_cut_short_in_the_table(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    volume = {"Name": "v", "Driver": "local", "Mountpoint": "/v", "UsageData": {"Size": 5, "RefCount": 2}}
    engine.routes["GET /system/df"] = reply({
        "Images": [{"Id": f"sha256:{'a' * 64}", "RepoTags": ["x:1"]}],
        "Containers": [{"Id": "b" * 64, "Command": "sleep 10000000000000"}],
        "Volumes": [volume],
        "BuildCache": [{"ID": "c" * 64, "CreatedAt": "2026-01-31T10:00:00Z"}],
    })  # fmt: skip
    form = (
        "{{range .Images}}{{.ID}}{{end}} {{range .Containers}}{{.ID}} {{.Command}}{{end}} "
        "{{range .Volumes}}{{.Driver}} {{.Mountpoint}} {{.Links}} {{.Size}}{{end}} {{range .BuildCache}}{{.ID}} {{.CreatedAt}}{{end}}"
    )
    assert main(["-H", engine.host, "system", "df", "-v", "--format", form]) == 0
    assert capsys.readouterr().out == (
        f'sha256:{"a" * 64} {"b" * 64} "sleep 10000000000000" local /v 2 5B {"c" * 64} 2026-01-31 10:00:00 +0000 UTC\n'
    )
    assert main(["-H", engine.host, "system", "df", "-v"]) == 0
    shown = capsys.readouterr().out.split()
    assert all(letter * 12 in shown for letter in "abc")


@pytest.mark.parametrize("words", [("run", "--verify", "bb", "true"), ("start", "--verify", "c"), ("pull", "--verify", "bb")])
def test_an_engine_that_would_pass_over_verify_is_asked_for_nothing(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    engine.routes["GET /lamina/info"] = reply({"message": "page not found"}, status=404)
    assert main(["-H", engine.host, *words]) == (125 if words[0] == "run" else 1)
    assert "the engine is another than laminad" in capsys.readouterr().err
    assert [request.path for request in engine.requests] == ["/lamina/info"]


@pytest.mark.parametrize("name", ["x:", "a" * 64, "host:5000/x:1:2"])
def test_a_name_that_cannot_be_is_sent_whole_for_the_engine_to_refuse(engine: FakeEngine, name: str) -> None:
    engine.routes["POST /images/b/tag"] = reply(status=400, raw=b'{"message":"invalid reference format"}')
    assert main(["-H", engine.host, "tag", "b", name]) == 1
    assert parse_qs(engine.requests[0].query) == {"repo": [name]}


@pytest.mark.parametrize("name", ["host:5000/x@1", "x:1@1"])
def test_what_is_no_digest_behind_the_sign_of_one_is_no_tag(engine: FakeEngine, name: str) -> None:
    engine.routes["POST /images/create"] = reply(status=400, raw=b'{"message":"invalid digest: \'1\'"}')
    assert main(["-H", engine.host, "pull", name]) == 1
    assert parse_qs(engine.requests[0].query)["fromImage"] == [name]


@pytest.mark.parametrize("words", [("images",), ("volume", "ls"), ("network", "ls"), ("history", "x")])
@pytest.mark.parametrize(("form", "shown"), [("table", ["ID"]), ("", ["ID"]), ("table {{.Size}}", None), ("-{{.Size}}-", None)])
def test_a_template_counts_for_more_than_quiet(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], form: str, shown: list[str] | None
) -> None:
    form = form.replace("Size", "Name") if words[0] in ("volume", "network") else form
    engine.routes["GET /images/json"] = reply([{"Id": "sha256:ID", "RepoTags": ["x:1"], "Size": 5}])
    engine.routes["GET /images/x/history"] = reply([{"Id": "ID", "Size": 5}])
    engine.routes["GET /volumes"] = reply({"Volumes": [{"Name": "ID"}]})
    engine.routes["GET /networks"] = reply([{"Id": "ID", "Name": "ID"}])
    assert main(["-H", engine.host, *words, "-q", "--format", form]) == 0
    lines = capsys.readouterr().out.split()
    value = "ID" if words[0] in ("volume", "network") else "5B"
    assert lines == (shown or ([*lines[:-1], value] if form.startswith("table") else [f"-{value}-"]))


@pytest.mark.parametrize(
    "words", ["which", "blame", "ls", "image find", "image diff", "image tree", "snapshot ls", "snapshot diff", "stats"]
)
def test_help_says_where_a_table_can_be_asked_for(capsys: pytest.CaptureFixture[str], words: str) -> None:
    assert main([*words.split(), "--help"]) == 0
    assert 'Format output as "table", "json" or by a Go template' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "form", "head"),
    [
        (("volume", "ls"), "{{.Name}}\\t{{.Driver}}", ["VOLUME", "NAME", "DRIVER"]),
        (("network", "ls"), "{{.Driver}}", ["DRIVER"]),
        (("stats", "--no-stream"), "{{.Name}}\\t{{.CPUPerc}}", ["NAME", "CPU", "%"]),
        (("image", "mount"), "{{.Target}}", ["TARGET"]),
        (("image", "diff", "a", "b"), '{{.path}}\\t{{.Label "x.y-z"}}', ["PATH", "y", "z"]),
    ],
)
def test_a_table_without_rows_has_the_header_that_is_asked_for(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], form: str, head: list[str]
) -> None:
    engine.routes["GET /volumes"] = reply({"Volumes": None})
    engine.routes["GET /networks"] = engine.routes["GET /containers/json"] = reply([])
    engine.routes["GET /lamina/mounts"] = reply({"mounts": []})
    engine.routes["GET /lamina/images/diff"] = reply({"changes": []})
    assert main(["-H", engine.host, *words, "--format", f"table {form}"]) == 0
    assert capsys.readouterr().out.split() == head


def test_why_an_image_is_not_there_is_told_as_the_engine_says_it(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.routes["GET /images/x/json"] = reply({"message": "x was found but does not provide the specified platform"}, status=404)
    assert main(["-H", engine.host, "image", "inspect", "--platform", "linux/arm64", "x"]) == 1
    assert capsys.readouterr().err == "lamina: x was found but does not provide the specified platform\n"


def test_an_unknown_field_is_one_sentence(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.routes["GET /images/json"] = reply([IMAGE])
    assert main(["-H", engine.host, "images", "--format", "{{.Nope}}"]) == 1
    assert capsys.readouterr().err.startswith("lamina: template: no field 'Nope', there are: ")


def containers(engine: FakeEngine, output: bytes = b"", code: int = 0, *, echo: bool = False) -> None:
    """Routes for one container that writes `output`, or gives back what it reads."""

    def attach(request: Request, connection: socket.socket) -> None:
        connection.sendall(UPGRADED + output)
        while echo and (data := connection.recv(65536)):
            connection.sendall(frame(1, data))

    engine.routes |= {
        "POST /containers/create": reply({"Id": "c", "Warnings": []}, status=201),
        "POST /containers/c/attach": attach,
        "POST /containers/c/wait": reply({"StatusCode": code}),
        "POST /containers/c/start": reply(status=204),
    }


@pytest.mark.covers(
    "cli:run",
    "cli:run --rm",
    "cli:run --name",
    "cli:run --env",
    "cli:run --volume",
    "cli:run --workdir",
    "cli:run --user",
    "cli:run --entrypoint",
    "cli:run --hostname",
    "cli:run --network",
)
def test_run_asks_in_dockers_order_and_gives_the_commands_code(engine: FakeEngine) -> None:
    containers(engine, frame(1, b"out\n") + frame(2, b"err\n"), 7)
    words = [
        "--rm",
        "--name",
        "n",
        "-e",
        "A=1",
        "-e",
        "HOME",
        "-v",
        "/a:/b",
        "-w",
        "/w",
        "-u",
        "1",
        "--entrypoint",
        "e",
        "--hostname",
        "h",
        "--network",
        "none",
    ]
    done = lamina_(engine, "run", *words, "bb", "sh", "-c", "x")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    asked = [*engine.asked()[:1], *sorted(engine.asked()[1:3]), *engine.asked()[3:]]  # two of them side by side
    assert asked == [f"POST /containers/{path}" for path in ("create", "c/attach", "c/wait", "c/start")]
    assert {request.query for request in engine.requests} >= {"name=n", "condition=removed"}
    body = engine.requests[0].json()
    assert isinstance(body, dict)
    assert body["Cmd"] == ["sh", "-c", "x"] and body["Env"] == ["A=1", "HOME=/nonexistent"] and body["Entrypoint"] == ["e"]
    assert body["HostConfig"]["Binds"] == ["/a:/b"] and body["HostConfig"]["AutoRemove"] and body["HostConfig"]["NetworkMode"] == "none"


@pytest.mark.covers("cli:run --interactive")
def test_input_is_sent_and_half_closed(engine: FakeEngine) -> None:
    containers(engine, echo=True)
    data = os.urandom(3_000_000)
    done = lamina_(engine, "run", "-i", "bb", "cat", stdin=data)
    assert done.returncode == 0 and done.stdout == data


def test_input_that_its_writer_has_left_in_a_pipe_waits_for_an_engine_that_is_slow(engine: FakeEngine) -> None:
    containers(engine)
    data, got = os.urandom(1_000_000), bytearray()

    def attach(_request: Request, connection: socket.socket) -> None:
        connection.sendall(UPGRADED)
        eventually(lambda: waiting(connection) > 100_000, "no input comes")
        while piece := connection.recv(1 << 16):
            got.extend(piece)

    engine.routes["POST /containers/c/attach"] = attach
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 1 << 20)
    os.write(writer, data)
    os.close(writer)
    assert lamina_(engine, "run", "-i", "bb", stdin=reader).returncode == 0
    os.close(reader)
    assert got == data


def waiting(connection: socket.socket) -> int:
    """Bytes that were sent to `connection` and not read yet."""
    return struct.unpack("i", fcntl.ioctl(connection, termios.FIONREAD, bytes(4)))[0]  # type: ignore[no-any-return]


@pytest.mark.covers("cli:run --detach")
def test_a_detached_run_prints_the_id(engine: FakeEngine) -> None:
    containers(engine)
    assert lamina_(engine, "run", "-d", "bb").stdout == b"c\n"
    assert engine.asked() == ["POST /containers/create", "POST /containers/c/start"]


@pytest.mark.parametrize(
    ("message", "code"),
    [('exec: "x": executable file not found in $PATH', 127), ("exec /x: permission denied", 126), ("something else", 125)],
)
def test_a_failed_start_exits_as_docker_does(engine: FakeEngine, message: str, code: int) -> None:
    containers(engine)
    engine.routes["POST /containers/c/start"] = reply({"message": message}, status=400)
    done = lamina_(engine, "run", "bb", "x")
    assert done.returncode == code and done.stderr.decode() == f"lamina: {message}\n"


def test_a_refused_create_exits_with_125(engine: FakeEngine) -> None:
    engine.routes["POST /containers/create"] = reply({"message": "the name is taken"}, status=409)
    assert lamina_(engine, "run", "bb").returncode == 125


@pytest.mark.covers("cli:pull")
def test_an_absent_image_is_pulled(engine: FakeEngine) -> None:
    containers(engine)
    created = engine.routes["POST /containers/create"]
    answers = [reply({"message": "No such image: bb:latest"}, status=404), created]
    engine.routes["POST /containers/create"] = lambda request, connection: answers.pop(0)  # type: ignore[return-value]
    engine.routes["POST /images/create"] = json_lines(
        {"status": "Pulling from library/bb", "id": "latest"}, {"status": "Status: Downloaded"}
    )
    done = lamina_(engine, "run", "-d", "--pull", "", "bb")
    assert done.stdout == b"c\n"
    assert done.stderr == b"Unable to find image 'bb:latest' locally\nlatest: Pulling from library/bb\nStatus: Downloaded\n"


@pytest.mark.parametrize("name", ["", ":tag", "@sha256:ab"])
def test_what_names_no_repository_is_not_pulled(engine: FakeEngine, name: str) -> None:
    done = lamina_(engine, "pull", name)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", f"lamina: invalid reference format: {name!r}\n".encode())


@pytest.mark.covers("cli:run --pull")
def test_an_absent_image_is_not_pulled_against_the_users_wish(engine: FakeEngine) -> None:
    engine.routes["POST /containers/create"] = reply({"message": "No such image: bb:latest"}, status=404)
    assert lamina_(engine, "run", "--pull", "never", "bb").returncode == 125
    assert engine.asked() == ["POST /containers/create"]


def test_a_terminal_is_needed_for_one(engine: FakeEngine) -> None:
    containers(engine)
    for words in (("run", "-it", "bb"), ("exec", "-it", "c", "sh")):
        done = lamina_(engine, *words)
        assert done.returncode == 1 and done.stderr == b"lamina: the input device is not a TTY\n"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("update", "c"), 1, "you must provide one or more flags when using this command"),
        (("inspect", "--type", "foo", "c"), 1, "unknown type: 'foo': must be one of container, image, network, volume"),
        (("inspect", "-f", "{{.Id", "c"), 64, "template parsing error: unclosed action"),
        (("inspect", "-f", "{{nope}}", "c"), 64, "template parsing error: function 'nope' not defined"),
    ],
)
def test_what_makes_no_sense_ends_with_dockers_code_and_asks_nobody(
    engine: FakeEngine, words: tuple[str, ...], code: int, told: str
) -> None:
    done = lamina_(engine, *words)
    assert (done.returncode, done.stderr.decode(), engine.requests) == (code, f"lamina: {told}\n", [])


@pytest.mark.covers("cli:run --tty", "cli:run --detach-keys")
def test_a_terminal_is_raw_sized_and_left_by_its_keys(engine: FakeEngine) -> None:
    typed: list[bytes] = []

    def attach(request: Request, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nready> ")
        while data := connection.recv(100):
            typed.append(data)

    containers(engine)
    engine.routes["POST /containers/c/attach"] = attach
    engine.routes["POST /containers/c/resize"] = reply()
    pid, leader = pty.fork()
    if pid == 0:
        os.execv(PROGRAM[0], [*PROGRAM, "--host", engine.host, "run", "-it", "--detach-keys", "ctrl-x,x", "bb"])
    shown = _until(leader, b"ready> ")
    os.write(leader, b"ls\x03\x18x")
    shown += _until(leader, b"read escape sequence")
    _, status = os.waitpid(pid, 0)
    os.close(leader)
    assert os.waitstatus_to_exitcode(status) == 0
    eventually(lambda: b"".join(typed).startswith(b"ls\x03"), "what was typed never came")
    body = engine.requests[0].json()
    assert isinstance(body, dict) and body["Tty"]


@pytest.mark.parametrize(("words", "code"), [(["attach", "c"], 1), (["exec", "-it", "c", "sh"], 1), (["start", "-ai", "c"], 0)])
def test_who_leaves_a_terminal_by_its_keys_gets_dockers_exit_code(engine: FakeEngine, words: list[str], code: int) -> None:
    def answer(request: Request, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nready> ")
        while connection.recv(100):
            pass

    containers(engine)
    facts = {"Config": {"Tty": True, "OpenStdin": True}, "State": {"Running": words[0] != "start"}, "HostConfig": {}}
    engine.routes |= {
        "GET /containers/c/json": reply(facts),
        "POST /containers/c/attach": answer,
        "POST /containers/c/resize": reply(),
        "POST /containers/c/exec": reply({"Id": "e"}, status=201),
        "POST /exec/e/start": answer,
        "POST /exec/e/resize": reply(),
    }
    pid, leader = pty.fork()
    if pid == 0:
        os.execv(PROGRAM[0], [*PROGRAM, "--host", engine.host, *words])
    _until(leader, b"ready> ")
    os.write(leader, b"\x10\x11")
    _until(leader, b"read escape sequence")
    _, status = os.waitpid(pid, 0)
    os.close(leader)
    assert os.waitstatus_to_exitcode(status) == code


def _until(fd: int, wanted: bytes) -> bytes:
    shown = b""
    while wanted not in shown:
        assert select.select([fd], [], [], 120)[0], shown
        shown += os.read(fd, 1000)
    return shown


@pytest.mark.covers("cli:exec", "cli:exec --env", "cli:exec --user", "cli:exec --workdir")
def test_exec_gives_the_programs_code(engine: FakeEngine) -> None:
    def start(request: Request, connection: socket.socket) -> None:
        connection.sendall(UPGRADED + frame(1, b"in\n"))

    engine.routes |= {
        "POST /containers/n/exec": reply({"Id": "e"}, status=201),
        "POST /exec/e/start": start,
        "GET /exec/e/json": reply({"ExitCode": 3, "Running": False}),
    }
    done = lamina_(engine, "exec", "-e", "A=1", "-u", "2", "-w", "/", "n", "sh", "-c", "x")
    assert (done.returncode, done.stdout) == (3, b"in\n")
    body = engine.requests[0].json()
    assert isinstance(body, dict)
    assert (body["Cmd"], body["Env"], body["User"], body["WorkingDir"]) == (["sh", "-c", "x"], ["A=1"], "2", "/")


@pytest.mark.covers("cli:logs", "cli:logs --tail")
def test_logs_come_apart_into_both_streams(engine: FakeEngine) -> None:
    engine.routes |= {
        "GET /containers/n/json": reply({"Config": {"Tty": False}}),
        "GET /containers/n/logs": chunked(frame(1, b"a"), frame(2, b"b")),
    }
    done = lamina_(engine, "logs", "--tail", "5", "--since", "", "n")
    assert (done.stdout, done.stderr) == (b"a", b"b")
    assert "tail=5" in engine.requests[1].query


@pytest.mark.covers("cli:rm", "cli:rm --force")
def test_removal_goes_on_after_a_failure(engine: FakeEngine) -> None:
    engine.routes |= {"DELETE /containers/b": reply(status=204)}
    done = lamina_(engine, "rm", "a", "b")
    assert done.returncode == 1 and done.stdout == b"b\n"
    assert lamina_(engine, "rm", "-f", "a").returncode == 0


def test_a_forced_removal_of_networks_takes_what_ls_shows_of_an_id(engine: FakeEngine) -> None:
    engine.routes |= {"DELETE /networks/1234567890ab": reply(status=204)}
    done = lamina_(engine, "network", "rm", "-f", "1234567890ab", "gone")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"1234567890ab\n", b"")
    assert engine.asked() == ["DELETE /networks/1234567890ab", "DELETE /networks/gone"]
    assert lamina_(engine, "network", "rm", "gone").returncode == 1


def test_a_system_prune_that_could_not_be_done_to_its_end_is_not_begun(engine: FakeEngine) -> None:
    done = lamina_(engine, "system", "prune", "-f", "--volumes", "--filter", "until=1h")
    assert (done.returncode, done.stderr) == (1, b'lamina: the "until" filter is not supported with "--volumes"\n')
    assert engine.requests == []


def test_the_disk_use_of_another_engine_is_shown(engine: FakeEngine) -> None:
    engine.routes["GET /system/df"] = reply({"LayersSize": 1000, "Images": [{"Id": "sha256:1", "Size": 1000, "Containers": 0}]})
    done = lamina_(engine, "system", "df", "--format", "{{.Type}} {{.Size}} {{.Reclaimable}}")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, b"Images 1kB 1kB (100%)")


def test_who_asks_again_and_again_starts_no_engine(tmp_path: Path) -> None:
    from lamina.cli.engine import SelfStarting
    from lamina.client.transport import EngineUnreachable

    with pytest.raises(EngineUnreachable):
        SelfStarting(str(tmp_path / "nobody"), {}).as_it_is().connect()


@pytest.mark.covers("cli:inspect", "cli:inspect --format")
def test_inspect_looks_for_every_kind_of_thing(engine: FakeEngine) -> None:
    engine.routes["GET /images/bb/json"] = reply({"Id": "sha256:1", "Config": {"Cmd": ["sh"]}})
    done = lamina_(engine, "inspect", "-f", "{{.Id}} {{json .Config.Cmd}}", "bb")
    assert done.stdout == b'sha256:1 ["sh"]\n'
    for form in ((), ("--format", "json")):
        done = lamina_(engine, "inspect", *form, "nope")
        assert (done.returncode, done.stdout, done.stderr) == (1, b"[]\n", b"lamina: no such object: nope\n")
    engine.routes["GET /networks/n"] = reply({"Name": "n"})
    assert lamina_(engine, "inspect", "--format", "json", "bb", "n").stdout == b'[{"Id":"sha256:1","Config":{"Cmd":["sh"]}},{"Name":"n"}]\n'


def test_search_says_in_json_what_its_table_marks(engine: FakeEngine) -> None:
    engine.routes["GET /images/search"] = reply([{"name": "a", "is_official": True}, {"name": "b"}])
    assert lamina_(engine, "search", "--format", "{{.IsOfficial}}", "x").stdout == b"[OK]\n\n"
    rows = [json.loads(line) for line in lamina_(engine, "search", "--format", "json", "x").stdout.splitlines()]
    assert rows == [
        {"Description": "", "IsOfficial": said, "Name": name, "StarCount": "0"} for name, said in (("a", "true"), ("b", "false"))
    ]


@pytest.mark.covers("cli:load", "cli:load --input", "cli:import", "cli:import --change", "cli:import --message")
def test_archives_are_sent_whole(engine: FakeEngine, tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    archive.write_bytes(os.urandom(2_500_000))
    engine.routes |= {
        "POST /images/load": json_lines({"stream": "Loaded image: x\n"}),
        "POST /images/create": json_lines({"status": "sha256:1"}),
    }
    assert lamina_(engine, "load", "-i", str(archive)).stdout == b"Loaded image: x\n"
    assert engine.requests[0].body == archive.read_bytes() and engine.requests[0].headers["content-length"] == "2500000"
    assert lamina_(engine, "import", "-c", "CMD x", "-m", "note", "-", "a:b", stdin=b"tar").stdout == b"sha256:1\n"
    assert engine.requests[1].body == b"tar" and "changes=CMD%20x" in engine.requests[1].query


def test_a_directory_that_holds_no_images_is_not_sent(engine: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    done = lamina_(engine, "load", "-i", str(tmp_path))
    assert done.returncode == 1 and b"is not an image layout" in done.stderr and engine.requests == []
    done = lamina_(engine, "save", "-o", str(tmp_path), "bb")
    assert done.returncode == 1 and b"holds folder that no save of lamina's wrote" in done.stderr and engine.requests == []


def test_a_dockerignore_names_files_by_their_bytes_and_is_named_where_it_is_wrong(engine: FakeEngine, tmp_path: Path) -> None:
    engine.routes["POST /build"] = json_lines({"stream": "sha256:1\n"})
    for name in (b"Dockerfile", b"caf\xe9", b"other"):
        (tmp_path / os.fsdecode(name)).write_text("FROM scratch\n")
    (tmp_path / ".dockerignore").write_bytes(b"*\n!caf\xe9\n")
    assert lamina_(engine, "build", "-q", str(tmp_path)).returncode == 0
    with tarfile.open(fileobj=BytesIO(engine.requests[0].body)) as tar:
        assert [os.fsencode(name) for name in tar.getnames()] == [b".dockerignore", b"Dockerfile", b"caf\xe9"]
    (tmp_path / ".dockerignore").write_text("[")
    assert lamina_(engine, "build", "-q", str(tmp_path)).stderr == b"lamina: .dockerignore: syntax error in pattern: '['\n"


def test_a_dockerfile_in_lower_case_is_built_from(engine: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "dockerfile").write_text("FROM scratch\n")
    engine.routes["POST /build"] = json_lines({"stream": "sha256:1\n"})
    assert lamina_(engine, "build", "-q", str(tmp_path)).stdout == b"sha256:1\n"
    assert "dockerfile=dockerfile" in engine.requests[0].query


def test_a_directory_of_images_is_sent_also_through_a_link_and_without_names(engine: FakeEngine, tmp_path: Path) -> None:
    layer = tmp_path / "old" / ("a" * 64)
    layer.mkdir(parents=True)
    (layer / "json").write_text("{}")
    (tmp_path / "link").symlink_to("old")
    engine.routes["POST /images/load"] = json_lines({"stream": "Loaded image: x\n"})
    for name in ("old", "link", "link/"):
        assert lamina_(engine, "load", "-i", str(tmp_path / name)).stdout == b"Loaded image: x\n"
        with tarfile.open(fileobj=BytesIO(engine.requests[-1].body)) as tar:
            assert tar.getnames() == [f"{'a' * 64}/json"]


@pytest.mark.covers("cli:save", "cli:save --output")
def test_a_save_that_is_cut_off_leaves_no_file(engine: FakeEngine, tmp_path: Path) -> None:
    target = tmp_path / "out.tar"
    engine.routes["GET /images/get"] = lambda request, connection: connection.sendall(reply(raw=b"x" * 1000)[:-500])
    done = lamina_(engine, "save", "-o", str(target), "bb")
    assert done.returncode == 1 and b"cut off" in done.stderr
    assert list(tmp_path.iterdir()) == []
    engine.routes["GET /images/get"] = chunked(b"tar", b"ball")
    assert lamina_(engine, "save", "-o", str(target), "bb").returncode == 0
    assert target.read_bytes() == b"tarball"
    done = lamina_(engine, "save", "-o", f"{tmp_path}/none/out.tar", "bb")
    assert (done.returncode, done.stderr.decode()) == (1, f"lamina: {tmp_path}/none/out.tar: no such file or directory\n")
    done = lamina_(engine, "save", "-o", "/dev/full", "bb")
    assert (done.returncode, done.stderr) == (1, b"lamina: /dev/full: no space left on device\n")


@pytest.mark.root
def test_a_directory_that_a_save_does_not_fit_into_is_named_and_left_as_it_was(engine: FakeEngine, tmp_path: Path) -> None:
    archive = BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("blobs/sha256/aa")
        member.size = 1 << 20
        tar.addfile(member, BytesIO(bytes(member.size)))
    engine.routes["GET /images/get"] = chunked(archive.getvalue())
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "small", str(tmp_path)], check=True)
    try:
        done = lamina_(engine, "save", "-o", f"{tmp_path}/out/", "bb")
        assert (done.returncode, done.stderr.decode()) == (1, f"lamina: {tmp_path}/out: no space left on device\n")
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize("words", [("ps",), ("images",)])
def test_an_unknown_field_is_told_where_there_are_no_rows_too(engine: FakeEngine, words: tuple[str, ...]) -> None:
    engine.routes |= {"GET /containers/json": json_lines([]), "GET /images/json": json_lines([])}
    done = lamina_(engine, *words, "--format", "{{.Nope}}")
    assert done.returncode == 1 and b"no field 'Nope', there are: " in done.stderr
    done = lamina_(engine, *words, "--format", '{{index (split .ID ",") 1}}')
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("words", [("image", "inspect"), ("rmi",), ("history",), ("push",), ("rm",), ("stop",), ("layers",)])
def test_an_empty_name_is_refused_in_one_sentence(engine: FakeEngine, words: tuple[str, ...]) -> None:
    done = lamina_(engine, *words, "")
    assert done.returncode == 1 and b"is empty" in done.stderr and done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--memory", "1x"), b"lamina: invalid argument '1x' for --memory: write a number with b, k, m or g\n"),
        (("--build-arg", "=x"), b"lamina: invalid build argument: '=x' has no name\n"),
        (("--tag", "a:B:c"), b"lamina: invalid argument 'a:B:c' for --tag: invalid reference format: "),
        (("--add-host", "x="), b"lamina: invalid argument 'x=' for --add-host: write it as name:address\n"),
    ],
)
def test_flags_of_a_build_that_cannot_be_read_are_told_before_anything_is_sent(
    engine: FakeEngine, tmp_path: Path, words: tuple[str, str], told: bytes
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    done = lamina_(engine, "build", *words, str(tmp_path))
    assert (done.returncode, done.stderr.startswith(told), engine.requests) == (125, True, [])


@pytest.mark.covers("cli:build", "cli:build --tag", "cli:build --build-arg", "cli:build --iidfile", "cli:build --file")
def test_a_build_sends_what_the_context_keeps(engine: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "Other").write_text("FROM scratch\n")
    (tmp_path / ".dockerignore").write_text("*.log\ndir\n!dir/kept\n")
    (tmp_path / "dir").mkdir()
    for name in ("a.log", "b", "dir/kept", "dir/dropped"):
        (tmp_path / name).write_text(name)
    engine.routes["POST /build"] = json_lines({"stream": "Step 1/1 : FROM scratch\n"}, {"aux": {"ID": "sha256:1"}})
    iid = tmp_path.parent / "iid"
    done = lamina_(engine, "build", "-t", "x:1", "--build-arg", "A=1", "--iidfile", str(iid), "-f", str(tmp_path / "Other"), str(tmp_path))
    assert done.stdout == b"Step 1/1 : FROM scratch\n", done.stderr
    assert iid.read_text() == "sha256:1"
    with tarfile.open(fileobj=BytesIO(engine.requests[0].body)) as tar:
        assert tar.getnames() == [".dockerignore", "Other", "b", "dir", "dir/kept"]
        assert {member.uid for member in tar} == {0}
    query = engine.requests[0].query
    assert "t=x%3A1" in query and "dockerfile=Other" in query and "buildargs=%7B%22A%22%3A%20%221%22%7D" in query


def test_a_dockerfile_that_is_a_link_is_sent_with_what_it_leads_to(engine: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    for name in ("docker/app", "docker/other"):
        (tmp_path / name).write_text("FROM scratch\n")
    (tmp_path / "Dockerfile").symlink_to("docker/app")
    (tmp_path / ".dockerignore").write_text("docker\n")
    engine.routes["POST /build"] = json_lines({"stream": "sha256:1\n"})
    assert lamina_(engine, "build", "-q", str(tmp_path)).stdout == b"sha256:1\n"
    with tarfile.open(fileobj=BytesIO(engine.requests[0].body)) as tar:
        assert tar.getnames() == [".dockerignore", "Dockerfile", "docker", "docker/app"]


@pytest.mark.parametrize(("own", "sent"), [(None, b".dockerignore\n.dockerfile.stdin\n"), (b"*.log\n", b"*.log\n\n.dockerfile.stdin\n")])
def test_a_dockerfile_from_elsewhere_is_no_file_of_the_context(engine: FakeEngine, tmp_path: Path, own: bytes | None, sent: bytes) -> None:
    (tmp_path / "a").touch()
    if own is not None:
        (tmp_path / ".dockerignore").write_bytes(own)
    engine.routes["POST /build"] = json_lines({"stream": "sha256:1\n"})
    assert lamina_(engine, "build", "-q", "-f", "-", str(tmp_path), stdin=b"FROM scratch\n").stdout == b"sha256:1\n"
    with tarfile.open(fileobj=BytesIO(engine.requests[0].body)) as tar:
        assert tar.getnames() == ["a", ".dockerfile.stdin", ".dockerignore"]
        file = tar.extractfile(".dockerignore")
        assert file is not None and file.read() == sent


@pytest.mark.parametrize("own", [False, True])
def test_what_is_left_out_may_be_told_beside_a_dockerfile_outside_the_context(engine: FakeEngine, tmp_path: Path, own: bool) -> None:
    context = tmp_path / "context"
    context.mkdir()
    for name in ("a", "b", *([".dockerignore"] if own else [])):
        (context / name).write_text("*\n")
    (tmp_path / "app").write_text("FROM scratch\n")
    (tmp_path / "app.dockerignore").write_text("a")
    engine.routes["POST /build"] = json_lines({"stream": "sha256:1\n"})
    assert lamina_(engine, "build", "-q", "-f", str(tmp_path / "app"), str(context)).stdout == b"sha256:1\n"
    with tarfile.open(fileobj=BytesIO(engine.requests[0].body)) as tar:
        assert tar.getnames() == ["b", ".dockerfile.outside", ".dockerignore"]
        file = tar.extractfile(".dockerignore")
        assert file is not None
        assert file.read().split() == [b"a", *([] if own else [b".dockerignore"]), b".dockerfile.outside"]


@pytest.mark.parametrize("inside", ["app", "docker/app"])
def test_what_is_left_out_may_be_told_beside_a_dockerfile_in_the_context(engine: FakeEngine, tmp_path: Path, inside: str) -> None:
    (tmp_path / "docker").mkdir()
    for name in ("a", "b", inside):
        (tmp_path / name).write_text("FROM scratch\n")
    (tmp_path / f"{inside}.dockerignore").write_text("*\n!a\n")
    engine.routes["POST /build"] = json_lines({"stream": "sha256:1\n"})
    assert lamina_(engine, "build", "-q", "-f", str(tmp_path / inside), str(tmp_path)).stdout == b"sha256:1\n"
    with tarfile.open(fileobj=BytesIO(engine.requests[0].body)) as tar:
        assert {inside, f"{inside}.dockerignore", "a"} <= set(tar.getnames()) and "b" not in tar.getnames()


def test_a_context_of_the_oldest_tar_format_is_told_from_a_dockerfile(engine: FakeEngine) -> None:
    header = bytearray(tarfile.TarInfo("Dockerfile").tobuf(tarfile.USTAR_FORMAT))
    header[148:156], header[257:265] = b" " * 8, bytes(8)
    header[148:156] = b"%06o\0 " % sum(header)
    engine.routes["POST /build"] = json_lines({"stream": "sha256:1\n"})
    assert lamina_(engine, "build", "-q", "-", stdin=bytes(header) + bytes(1024)).stdout == b"sha256:1\n"
    assert engine.requests[0].body == bytes(header) + bytes(1024)


@pytest.mark.covers("cli:build --quiet")
def test_a_quiet_build_prints_the_id_alone_or_what_failed(engine: FakeEngine) -> None:
    engine.routes["POST /build"] = json_lines({"stream": "sha256:1\n"})
    assert lamina_(engine, "build", "-q", "-", stdin=b"FROM scratch\n").stdout == b"sha256:1\n"
    engine.routes["POST /build"] = json_lines(
        {"stream": "Step 1\n"}, {"errorDetail": {"code": 3, "message": "it broke"}, "error": "it broke"}
    )
    done = lamina_(engine, "build", "-", stdin=b"FROM scratch\n")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"Step 1\n", b"lamina: it broke\n")


@pytest.mark.covers("cli:login", "cli:login --username", "cli:login --password-stdin", "cli:logout", "cli:push")
def test_credentials_are_stored_used_and_forgotten(engine: FakeEngine, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"psFormat": "kept"}')
    engine.routes |= {"POST /auth": reply({"Status": "Login Succeeded"}), "POST /images/r.io:5000/x/push": json_lines({"status": "ok"})}
    env = {"DOCKER_CONFIG": str(tmp_path)}
    done = lamina_(engine, "login", "-u", "me", "--password-stdin", "r.io:5000", stdin=b"secret\n", env=env)
    assert done.stdout == b"Login Succeeded\n", done.stderr
    assert json.loads(config.read_text()) == {"psFormat": "kept", "auths": {"r.io:5000": {"auth": "bWU6c2VjcmV0"}}}
    assert config.stat().st_mode & 0o777 == 0o600
    lamina_(engine, "push", "r.io:5000/x:1", env=env)
    import base64

    auth = json.loads(base64.urlsafe_b64decode(engine.requests[1].headers["x-registry-auth"]))
    assert (auth["username"], auth["password"]) == ("me", "secret")
    assert lamina_(engine, "logout", "r.io:5000", env=env).stdout == b"Removing login credentials for r.io:5000\n"
    assert json.loads(config.read_text())["auths"] == {}


def test_proxies_of_the_configuration_are_handed_on(engine: FakeEngine, tmp_path: Path) -> None:
    proxies = {"default": {"httpProxy": "http://p:1", "noProxy": "a.test"}, "tcp://elsewhere:1": {"httpProxy": "http://q:1"}}
    (tmp_path / "config.json").write_text(json.dumps({"proxies": proxies}))
    env = {"DOCKER_CONFIG": str(tmp_path)}
    engine.routes |= {
        "POST /containers/create": reply({"Id": "c", "Warnings": []}, status=201),
        "POST /build": json_lines({"stream": "sha256:1\n"}),
    }
    lamina_(engine, "create", "-e", "http_proxy=mine", "-e", "X=1", "bb:1", env=env)
    made = json.loads(engine.requests[-1].body)["Env"]
    assert made == ["http_proxy=mine", "X=1", "HTTP_PROXY=http://p:1", "NO_PROXY=a.test", "no_proxy=a.test"]
    lamina_(engine, "build", "-q", "--build-arg", "NO_PROXY=b.test", "-", stdin=b"FROM scratch\n", env=env)
    given = json.loads(parse_qs(engine.requests[-1].query)["buildargs"][0])
    assert given == {"NO_PROXY": "b.test", "HTTP_PROXY": "http://p:1", "http_proxy": "http://p:1", "no_proxy": "a.test"}
    (tmp_path / "config.json").write_text(json.dumps({"proxies": {engine.host: {"allProxy": "http://r:1"}, **proxies}}))
    lamina_(engine, "create", "bb:1", env=env)
    assert json.loads(engine.requests[-1].body)["Env"] == ["ALL_PROXY=http://r:1", "all_proxy=http://r:1"]


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("create", "bb:1"), "POST /containers/create"),
        (("pull", "-q", "bb:1"), "POST /images/create"),
        (("build", "-q", "-"), "POST /build"),
        (("import", "-", "bb:1"), "POST /images/create"),
    ],
)
def test_a_platform_is_asked_for_by_the_environment_too(engine: FakeEngine, words: tuple[str, ...], asked: str) -> None:
    engine.routes |= {
        "POST /containers/create": reply({"Id": "c", "Warnings": []}, status=201),
        "POST /images/create": json_lines({"status": "done"}),
        "POST /build": json_lines({"stream": "sha256:1\n"}),
    }
    env = {"DOCKER_DEFAULT_PLATFORM": "linux/arm64"}
    for more, wanted in (([], "linux/arm64"), (["--platform", "linux/amd64"], "linux/amd64")):
        lamina_(engine, words[0], *more, *words[1:], stdin=b"FROM scratch\n", env=env)
        request = engine.requests[-1]
        assert (f"{request.method} {request.path}", parse_qs(request.query)["platform"]) == (asked, [wanted])


def test_a_credential_helper_is_asked(engine: FakeEngine, tmp_path: Path) -> None:
    helper = tmp_path / "docker-credential-fake"
    helper.write_text('#!/bin/sh\nread server\necho "{\\"ServerURL\\":\\"$server\\",\\"Username\\":\\"u-$1\\",\\"Secret\\":\\"s\\"}"\n')
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text('{"credHelpers": {"r.io": "fake"}}')
    engine.routes["POST /images/create"] = json_lines({"status": "ok"})
    env = {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert lamina_(engine, "pull", "-q", "r.io/x", env=env).stdout == b"r.io/x:latest\n"
    import base64

    assert json.loads(base64.urlsafe_b64decode(engine.requests[0].headers["x-registry-auth"]))["username"] == "u-get"


def test_what_the_helper_for_all_registries_keeps_goes_to_a_build(engine: FakeEngine, tmp_path: Path) -> None:
    helper = tmp_path / "docker-credential-fake"
    helper.write_text("""#!/bin/sh
case $1 in list) echo '{"r.io":"me"}';; get) echo '{"ServerURL":"r.io","Username":"me","Secret":"s"}';; esac
""")
    helper.chmod(0o755)
    (tmp_path / "config.json").write_text('{"credsStore": "fake"}')
    engine.routes["POST /build"] = json_lines({"stream": "sha256:1\n"})
    env = {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    lamina_(engine, "build", "-q", "-", stdin=b"FROM r.io/x\n", env=env)
    import base64

    sent = json.loads(base64.urlsafe_b64decode(engine.requests[-1].headers["x-registry-config"]))
    assert sent == {"r.io": {"username": "me", "password": "s", "serveraddress": "r.io"}}
    helper.write_text("#!/bin/sh\necho what\n")
    lamina_(engine, "build", "-q", "-", stdin=b"FROM r.io/x\n", env=env)
    done = lamina_(engine, "pull", "-q", "r.io/x", env=env)
    assert (done.returncode, done.stderr) == (1, b"lamina: docker-credential-fake answered get with something other than a JSON object\n")


@pytest.mark.root
def test_a_daemon_is_started_where_nobody_listens(tmp_path: Path) -> None:
    from lamina.cli.autostart import start_daemon
    from lamina.client.system import System
    from lamina.client.transport import Address, EngineUnreachable, Transport

    address, root = f"unix://{tmp_path}/s", tmp_path / "root"
    start_daemon(address, {"SECRET": "x"}, str(root))
    transport = Transport(Address.parse(address))
    assert System(transport).version()["ApiVersion"] == "1.51"
    pid = json.loads((root / "lock").read_text())["pid"]
    try:
        assert os.getsid(pid) != os.getsid(0)
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert b"SECRET" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert "Umask:\t0022" in Path(f"/proc/{pid}/status").read_text()
        with pytest.raises(EngineUnreachable, match="laminad did not start: laminad: "):
            start_daemon(f"unix://{tmp_path}/other", {}, str(root))
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        end_helpers(root)


def test_nobody_listening_is_one_sentence(tmp_path: Path) -> None:
    done = lamina_(FakeEngine("/nowhere.sock"), "ps")
    assert done.returncode == 1
    assert done.stderr.startswith(b"lamina: cannot connect to the engine at unix:///nowhere.sock: no such file or directory\n")


def test_the_host_is_taken_from_flag_then_variables(engine: FakeEngine) -> None:
    engine.routes["GET /containers/json"] = reply([])
    for env in ({"LAMINA_HOST": engine.host, "DOCKER_HOST": "unix:///wrong"}, {"DOCKER_HOST": engine.host}):
        done = subprocess.run([*PROGRAM, "ps", "-q"], capture_output=True, env=env, timeout=300)
        assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.covers("cli:cp")
def test_files_are_copied_out_and_none_leads_out_of_the_target(engine: FakeEngine, tmp_path: Path) -> None:
    def archive(*names: str) -> bytes:
        out = BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = 3
                tar.addfile(info, BytesIO(b"abc"))
        return out.getvalue()

    engine.routes["GET /containers/c/archive"] = reply(raw=archive("f"), type="application/x-tar")
    assert lamina_(engine, "cp", "c:/etc/f", str(tmp_path / "g")).returncode == 0
    assert (tmp_path / "g").read_bytes() == b"abc"
    with tarfile.open(fileobj=(folders := BytesIO()), mode="w") as tar:
        for name in ("d", "d/e"):
            (info := tarfile.TarInfo(name)).type = tarfile.DIRTYPE
            tar.addfile(info)
    engine.routes["GET /containers/c/archive"] = reply(raw=folders.getvalue(), type="application/x-tar")
    done = lamina_(engine, "cp", "c:/d", str(tmp_path / "g"))
    assert (done.returncode, done.stderr) == (1, b"lamina: cannot copy directory to a file\n")
    assert lamina_(engine, "cp", "c:/d", str(tmp_path / "h")).returncode == 0 and (tmp_path / "h/e").is_dir()
    engine.routes["GET /containers/c/archive"] = reply(raw=archive("d/../../../escaped"), type="application/x-tar")
    (tmp_path / "in").mkdir()
    assert lamina_(engine, "cp", "c:/d", str(tmp_path / "in")).returncode == 1
    assert not list(tmp_path.parent.glob("escaped"))
    (tmp_path / "in/d").symlink_to(tmp_path)
    engine.routes["GET /containers/c/archive"] = reply(raw=archive("d/escaped"), type="application/x-tar")
    done = lamina_(engine, "cp", "c:/d", str(tmp_path / "in"))
    assert (done.returncode, done.stderr) == (1, b"lamina: d/escaped leads out of the target\n")
    assert not (tmp_path / "escaped").exists()


def test_directories_and_links_keep_their_times(engine: FakeEngine, tmp_path: Path) -> None:
    with tarfile.open(fileobj=(out := BytesIO()), mode="w") as tar:
        for name, kind in (
            ("d", tarfile.DIRTYPE),
            ("d/sub", tarfile.DIRTYPE),
            ("d/sub/file", tarfile.REGTYPE),
            ("d/link", tarfile.SYMTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.mtime, info.linkname = kind, 1_000_000 + len(name), "nowhere" if kind == tarfile.SYMTYPE else ""
            tar.addfile(info)
    engine.routes["GET /containers/c/archive"] = reply(raw=out.getvalue(), type="application/x-tar")
    assert lamina_(engine, "cp", "c:/d", str(tmp_path)).returncode == 0
    for name in ("d", "d/sub", "d/sub/file", "d/link"):
        assert (tmp_path / name).lstat().st_mtime == 1_000_000 + len(name)


def test_a_directory_that_takes_the_content_of_another_stays_as_it_is(engine: FakeEngine, tmp_path: Path) -> None:
    with tarfile.open(fileobj=(out := BytesIO()), mode="w") as tar:
        (info := tarfile.TarInfo("d")).type = tarfile.DIRTYPE
        tar.addfile(info)
        tar.addfile(tarfile.TarInfo("d/file"))
    engine.routes["GET /containers/c/archive"] = reply(raw=out.getvalue(), type="application/x-tar")
    (tmp_path / "t").mkdir()
    (tmp_path / "t").chmod(0o1777)
    assert lamina_(engine, "cp", "c:/d/.", str(tmp_path / "t")).returncode == 0
    assert (tmp_path / "t/file").is_file() and (tmp_path / "t").stat().st_mode & 0o7777 == 0o1777


def archived(engine: FakeEngine, *entries: tuple[str, bytes], to: str = "") -> None:
    """What the container c answers to cp: entries of these names and types; `to` is what the hard links lead to."""
    with tarfile.open(fileobj=(out := BytesIO()), mode="w") as tar:
        for name, kind in entries:
            (info := tarfile.TarInfo(name)).type = kind
            info.linkname = to if kind == tarfile.LNKTYPE else ""
            tar.addfile(info)
    engine.routes["GET /containers/c/archive"] = reply(raw=out.getvalue(), type="application/x-tar")


def test_a_whole_root_is_copied_under_a_new_name(engine: FakeEngine, tmp_path: Path) -> None:
    archived(engine, ("/", tarfile.DIRTYPE), ("/file", tarfile.REGTYPE), ("/d", tarfile.DIRTYPE), ("/d/same", tarfile.LNKTYPE), to="/file")
    for target in (tmp_path / "new", tmp_path):
        assert lamina_(engine, "cp", "c:/", str(target)).returncode == 0
        assert (target / "d/same").samefile(target / "file")


def test_a_pipe_is_copied_out_and_a_device_is_not(engine: FakeEngine, tmp_path: Path) -> None:
    archived(
        engine, ("d", tarfile.DIRTYPE), ("d/disk", tarfile.BLKTYPE), ("d/same", tarfile.LNKTYPE), ("d/pipe", tarfile.FIFOTYPE), to="d/disk"
    )
    done = lamina_(engine, "cp", "c:/d", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, b"Not copied, since they are devices: d/disk, d/same\n")
    assert os.listdir(tmp_path / "d") == ["pipe"] and (tmp_path / "d/pipe").is_fifo()


def test_a_device_that_was_asked_for_is_refused(engine: FakeEngine, tmp_path: Path) -> None:
    archived(engine, ("disk", tarfile.BLKTYPE))
    done = lamina_(engine, "cp", "c:/disk", str(tmp_path))
    assert (done.returncode, done.stderr) == (1, b"lamina: cannot copy device disk\n")
    assert os.listdir(tmp_path) == []


def test_a_file_is_copied_to_where_a_link_leads_and_into_nothing_that_is_no_file(engine: FakeEngine, tmp_path: Path) -> None:
    with tarfile.open(fileobj=(out := BytesIO()), mode="w") as tar:
        tar.addfile(tarfile.TarInfo("f"))
    engine.routes["GET /containers/c/archive"] = reply(raw=out.getvalue(), type="application/x-tar")
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/file")
    assert lamina_(engine, "cp", "c:/f", str(tmp_path / "link")).returncode == 0
    assert (tmp_path / "link").is_symlink() and (tmp_path / "there/file").is_file()
    assert lamina_(engine, "cp", "c:/f/there/..", str(tmp_path / "there")).returncode == 0
    assert sorted(os.listdir(tmp_path / "there")) == ["f", "file"]
    os.mkfifo(tmp_path / "pipe", 0o600)
    done = lamina_(engine, "cp", "c:/f", str(tmp_path / "pipe"))
    assert (done.returncode, done.stderr) == (1, f"lamina: {tmp_path}/pipe is neither a directory nor a regular file\n".encode())
    assert (tmp_path / "pipe").stat().st_mode & 0o777 == 0o600


def test_files_keep_their_set_id_and_sticky_bits(engine: FakeEngine, tmp_path: Path) -> None:
    modes = {"d": 0o755, "d/sticky": 0o1777, "d/group": 0o2755, "d/user": 0o4755, "d/both": 0o6711}
    with tarfile.open(fileobj=(out := BytesIO()), mode="w") as tar:
        for name, mode in modes.items():
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.uid = (tarfile.REGTYPE if mode & 0o4000 else tarfile.DIRTYPE), mode, 1000
            tar.addfile(member)
    engine.routes["GET /containers/c/archive"] = reply(raw=out.getvalue(), type="application/x-tar")
    assert lamina_(engine, "cp", "c:/d", str(tmp_path)).returncode == 0
    assert {name: (tmp_path / name).stat().st_mode & 0o7777 for name in modes} == modes
    assert (tmp_path / "d/user").stat().st_uid == os.getuid()


@pytest.mark.covers("cli:events")
def test_events_are_lines(engine: FakeEngine) -> None:
    event = {"Type": "container", "Action": "die", "Actor": {"ID": "c", "Attributes": {"name": "n", "exitCode": "0"}}, "timeNano": 5}
    engine.routes["GET /events"] = json_lines(event)
    done = lamina_(engine, "events", "--since", "0", "--until", "", env={"TZ": "UTC"})
    assert done.stdout == b"1970-01-01T00:00:00.000000005Z container die c (exitCode=0, name=n)\n"


def test_the_tree_of_layers_is_drawn(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    root = {"layer": "sha256:" + "a" * 64, "parent": None, "size": 10, "own": 20, "shared_by": 2, "instruction": "", "images": ["a:1"]}
    leaf = {**root, "layer": "sha256:" + "b" * 64, "parent": root["layer"], "shared_by": 1, "instruction": "RUN x", "images": ["b:1"]}
    other = {**leaf, "layer": "sha256:" + "c" * 64, "images": []}
    engine.routes["GET /lamina/images/tree"] = reply({"layers": [root, leaf, other]})
    assert main(["-H", engine.host, "images", "--tree"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "aaaaaaaaaaaa   10B      20B      2       [a:1]"
    assert lines[2] == "bbbbbbbbbbbb   10B      20B      1       ├─[b:1] RUN x"
    assert lines[3] == "cccccccccccc   10B      20B      1       └─RUN x"


def test_the_tree_of_a_high_stack_is_one_column(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"layer": f"l{number}", "parent": f"l{number - 1}" if number else None, "instruction": f"step {number}"} for number in range(3000)
    ]
    engine.routes["GET /lamina/images/tree"] = reply({"layers": rows})
    assert main(["-H", engine.host, "images", "--tree"]) == 0
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()[1:]] == [str(number) for number in range(3000)]
    assert main(["-H", engine.host, "images", "--tree", "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["layers"]) == 3000


def test_which_names_layer_and_instruction(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    layer = {"id": "sha256:" + "c" * 64, "index": 1, "instruction": "RUN touch /f"}
    engine.routes["GET /lamina/images/bb:1/which"] = reply(
        {"path": "/f", "found": True, "type": "file", "size": 5, "layer": layer, "older": []}
    )
    assert main(["-H", engine.host, "which", "bb:1", "/f"]) == 0
    assert capsys.readouterr().out == "/f  file  5B\n  from layer 1 cccccccccccc  RUN touch /f\n"
    assert main(["-H", engine.host, "which", "bb:1:/f"]) == 0
    engine.routes["GET /lamina/images/bb:1/which"] = reply({"path": "/f", "found": False, "layer": None, "older": [], "deleted_by": layer})
    assert main(["-H", engine.host, "which", "bb:1", "/f"]) == 1
    assert "deleted by layer 1 cccccccccccc  RUN touch /f" in capsys.readouterr().err


def test_ps_shows_commands_in_gos_quotes(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    command = "sh -c 'echo \"a\"\n\té \\ \x1b\x7f\u0085\U000f0000'"
    engine.routes["GET /containers/json"] = reply([{"Id": "a" * 64, "Names": ["/x"], "Created": 1, "Image": "bb", "Command": command}])
    assert main(["--host", engine.host, "ps", "--no-trunc", "--format", "{{.Command}}"]) == 0
    assert capsys.readouterr().out.strip() == r'"sh -c \'echo \"a\"\n\té \\ \x1b\x7f\u0085\U000f0000\'"'.replace(r"\'", "'")


def test_ps_puts_into_words_only_what_it_shows(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lamina.cli.commands import ps

    asked: list[str] = []
    for name, put in list(ps._FIELDS.items()):

        def noted(fact: dict[str, object], *, whole: bool, name: str = name, put: ps.Field = put) -> object:
            asked.append(name)
            return put(fact, whole=whole)

        monkeypatch.setitem(ps._FIELDS, name, noted)
    engine.routes["GET /containers/json"] = reply([{"Id": "a" * 64, "Names": ["/x"], "Created": 1, "Image": "bb", "Command": "sh"}])
    assert main(["--host", engine.host, "ps", "-a"]) == 0
    assert asked == ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"]
    assert capsys.readouterr().out.splitlines()[1].split()[0] == "a" * 12
    assert main(["--host", engine.host, "ps", "--format", "{{.Names}} {{.State}}"]) == 0
    assert capsys.readouterr().out == "x \n"
    assert [request.query for request in engine.requests] == ["all=1&networks=0", ""]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["blame", "--depth", "0", "bb"], "invalid argument '0' for --depth: it takes a number above 0"),
        (["run", "--memory-swap", "lots", "bb"], "invalid argument 'lots' for --memory-swap: write a number with b, k, m or g"),
        (["builder", "prune", "--keep-storage", "x"], "invalid argument 'x' for --keep-storage: write a number with b, k, m or g"),
        (["run", "--label", "=x", "bb"], "invalid label: its name is empty"),
        (["run", "--rm", "--restart", "always", "bb"], "conflicting options: cannot specify both --restart and --rm"),
        (["events", "--since", "foo"], "invalid time: 'foo'\nwrite a duration before now (1h30m) or 2026-01-31T12:00:00Z"),
    ],
)
def test_a_wrong_value_is_told_with_its_flag_before_anything_is_asked(engine: FakeEngine, words: list[str], told: str) -> None:
    done = lamina_(engine, *words)
    assert done.returncode in (1, 125) and done.stderr.decode().startswith(f"lamina: {told}\n") and engine.requests == []


@pytest.mark.parametrize("words", [("container",), ("network",), ("volume",), ("image",), ("builder",), ("system",)])
def test_a_filter_that_cannot_be_read_is_told_before_anybody_is_asked(engine: FakeEngine, words: tuple[str, ...]) -> None:
    done = lamina_(engine, *words, "prune", "--filter", "foo")
    assert done.returncode == 125 and engine.requests == [] and done.stdout == b"" and b"invalid filter 'foo'" in done.stderr


def test_what_is_so_already_is_no_error(engine: FakeEngine) -> None:
    engine.routes["POST /containers/x/start"] = reply(status=304, raw=b"")
    done = lamina_(engine, "start", "x")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"x\n", b"")


def test_a_wrong_value_points_at_its_own_commands_help(engine: FakeEngine) -> None:
    done = lamina_(engine, "which", "bb:1")
    assert done.returncode == 125
    assert done.stderr.decode().endswith("write IMAGE:/path\n\nRun 'lamina which --help' for more information\n")


@pytest.mark.parametrize("value", ["T", "1", "enabled", "no"])
@pytest.mark.parametrize("command", ["pull", "push", "create", "run", "build"])
def test_content_trust_that_the_environment_asks_for_is_refused_before_anybody_is_asked(
    engine: FakeEngine, command: str, value: str
) -> None:
    done = lamina_(engine, command, "bb:1", env={"DOCKER_CONTENT_TRUST": value})
    assert done.returncode == (125 if command == "run" else 1) and engine.requests == []
    assert b"cannot be" in done.stderr and b"digests that you trust" in done.stderr
