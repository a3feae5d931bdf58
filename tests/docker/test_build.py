"""Builds by the real docker CLI (the classic builder's protocol)."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.docker.conftest import BASE
from tests.harness import Daemon

FLAGS = ("--network", "none")


def build(daemon: Daemon, context: Path, dockerfile: str, *flags: str, code: int = 0, tag: str = "") -> str:
    """Build and give back all that was printed."""
    (context / "Dockerfile").write_text(dockerfile)
    done = daemon.docker("build", *FLAGS, *(("-t", tag) if tag else ()), *flags, str(context), code=code)
    return done.stdout + done.stderr


def output(daemon: Daemon, tag: str, *command: str) -> str:
    """What a container of the image prints."""
    return daemon.docker("run", "--rm", "--network", "none", tag, *command).stdout


@pytest.mark.covers("cli:build", "cli:build --tag", "api:POST /build", "dockerfile:FROM", "dockerfile:RUN", "dockerfile:CMD")
def test_the_classic_words_and_an_image(daemon: Daemon, context: Path, tag: str) -> None:
    told = build(daemon, context, f'FROM {BASE}\nRUN echo built > /built\nCMD ["cat", "/built"]\n', "--no-cache", tag=tag)
    for words in (
        "Step 1/3 : FROM",
        "Step 2/3 : RUN echo built > /built",
        " ---> Running in ",
        "Successfully built ",
        f"Successfully tagged {tag}",
    ):
        assert words in told
    assert output(daemon, tag) == "built\n"


def test_a_second_build_comes_from_the_cache(daemon: Daemon, context: Path, tag: str) -> None:
    (context / "file").write_text("one")
    dockerfile = f"FROM {BASE}\nRUN echo cached > /cached\nCOPY file /file\nENV A=b\n"
    build(daemon, context, dockerfile, tag=tag)
    first = daemon.docker("images", "-q", "--no-trunc", tag).stdout
    assert build(daemon, context, dockerfile, tag=tag).count("Using cache") == 3
    assert daemon.docker("images", "-q", "--no-trunc", tag).stdout == first
    (context / "file").write_text("two")
    assert build(daemon, context, dockerfile, tag=tag).count("Using cache") == 1
    assert output(daemon, tag, "cat", "/file") == "two"


def test_etc_keeps_the_owner_and_mode_that_an_instruction_gave_it(daemon: Daemon, context: Path, tag: str) -> None:
    look = "stat -c '%u:%g %a' /etc"
    build(daemon, context, f"FROM {BASE}\nRUN chown 7:8 /etc && chmod 711 /etc\nRUN {look} > /seen && touch /etc/more\n", tag=tag)
    assert output(daemon, tag, "sh", "-c", f"cat /seen; {look}; ls /etc/more") == "7:8 711\n7:8 711\n/etc/more\n"


@pytest.mark.covers("dockerfile:COPY", "dockerfile:COPY --chown", "dockerfile:COPY --chmod", "dockerfile:ADD")
def test_copy_and_add_place_files(daemon: Daemon, context: Path, tag: str) -> None:
    (context / "folder/deep").mkdir(parents=True)
    (context / "folder/deep/leaf").write_text("leaf")
    (context / "one.txt").write_text("1")
    with tarfile.open(context / "packed.tar.gz", "w:gz") as tar:
        entry = tarfile.TarInfo("inside/packed")
        entry.size = 6
        tar.addfile(entry, io.BytesIO(b"packed"))
    dockerfile = f"""FROM {BASE}
COPY folder /target/
COPY --chown=65534:65534 --chmod=640 one.txt /owned
COPY *.txt /many/
ADD packed.tar.gz /unpacked/
ADD one.txt /added
"""
    build(daemon, context, dockerfile, tag=tag)
    script = "cat /target/deep/leaf; stat -c ' %a %u:%g' /owned; cat /many/one.txt /unpacked/inside/packed /added"
    assert output(daemon, tag, "sh", "-c", script) == "leaf 640 65534:65534\n1packed1"


@pytest.mark.covers("dockerfile:COPY --from", "cli:build --target", "dockerfile:FROM AS")
def test_stages_copy_from_each_other_and_a_target_stops_early(daemon: Daemon, context: Path, tag: str) -> None:
    dockerfile = f"""FROM {BASE} AS maker
RUN echo made > /made
FROM {BASE} AS unneeded
RUN exit 1
FROM scratch AS last
COPY --from=maker /made /result
COPY --from={BASE} /bin/busybox /bin/cat
ENTRYPOINT ["/bin/cat"]
CMD ["/result"]
"""
    build(daemon, context, dockerfile, tag=tag)
    assert output(daemon, tag) == "made\n"
    build(daemon, context, dockerfile, "--target", "maker", tag=tag)
    assert output(daemon, tag, "cat", "/made") == "made\n"


@pytest.mark.covers(
    "dockerfile:ENV",
    "dockerfile:WORKDIR",
    "dockerfile:LABEL",
    "dockerfile:USER",
    "dockerfile:EXPOSE",
    "dockerfile:VOLUME",
    "dockerfile:ENTRYPOINT",
    "dockerfile:SHELL",
)
def test_instructions_of_the_configuration(daemon: Daemon, context: Path, tag: str) -> None:
    dockerfile = f"""FROM {BASE}
ENV A=1 B="two words"
WORKDIR /work
WORKDIR sub
LABEL key=value other="$A"
EXPOSE 80 53/udp
VOLUME /data
SHELL ["/bin/sh", "-ec"]
RUN pwd > /where; echo $B >> /where
USER nobody
ENTRYPOINT ["cat"]
CMD ["/where"]
"""
    build(daemon, context, dockerfile, tag=tag)
    config = json.loads(daemon.docker("inspect", tag).stdout)[0]["Config"]
    assert config["WorkingDir"] == "/work/sub"
    assert config["Labels"] == {"key": "value", "other": "1"}
    assert sorted(config["ExposedPorts"]) == ["53/udp", "80/tcp"]
    assert (list(config["Volumes"]), config["User"], config["Entrypoint"], config["Cmd"]) == (["/data"], "nobody", ["cat"], ["/where"])
    assert output(daemon, tag) == "/work/sub\ntwo words\n"


@pytest.mark.covers("dockerfile:ARG", "cli:build --build-arg", "cli:build --label")
def test_arguments_before_and_after_from(daemon: Daemon, context: Path, tag: str) -> None:
    dockerfile = f"ARG BASE={BASE}\nFROM $BASE\nARG WORD=default\nARG EMPTY\nRUN echo ${{WORD}}-${{EMPTY:-none}} > /word\n"
    build(daemon, context, dockerfile, tag=tag)
    assert output(daemon, tag, "cat", "/word") == "default-none\n"
    told = build(daemon, context, dockerfile, "--build-arg", "WORD=given", "--build-arg", "STRANGE=x", "--label", "a=b", tag=tag)
    assert output(daemon, tag, "cat", "/word") == "given-none\n"
    assert "[STRANGE]" in told


def test_a_stage_on_a_stage_has_its_arguments_and_one_beside_it_has_not(daemon: Daemon, context: Path, tag: str) -> None:
    stages = f"FROM {BASE} AS below\nARG WORD=default\nFROM below AS on\nRUN echo ${{WORD:-none}} > /on\n"
    beside = f"FROM {BASE}\nCOPY --from=on /on /\nRUN echo ${{WORD:-none}} > /beside\n"
    build(daemon, context, stages + beside, "--build-arg", "WORD=given", tag=tag)
    assert output(daemon, tag, "cat", "/on", "/beside") == "given\nnone\n"


@pytest.mark.covers("dockerfile:RUN <<EOF", "dockerfile:COPY <<EOF", "dockerfile:# syntax", "dockerfile:# escape")
def test_here_documents_and_directives(daemon: Daemon, context: Path, tag: str) -> None:
    dockerfile = f"""# syntax=docker/dockerfile:1
# escape=`
FROM {BASE}
RUN <<EOF
echo first > /here
echo second >> /here
EOF
COPY <<one.txt <<two.txt /docs/
content of one
one.txt
content of two
two.txt
RUN echo joined `
    lines > /joined
"""
    build(daemon, context, dockerfile, tag=tag)
    assert (
        output(daemon, tag, "cat", "/here", "/docs/one.txt", "/docs/two.txt", "/joined")
        == "first\nsecond\ncontent of one\ncontent of two\njoined lines\n"
    )


@pytest.mark.covers("dockerfile:.dockerignore")
def test_dockerignore_leaves_out(daemon: Daemon, context: Path, tag: str) -> None:
    for name in ("keep.txt", "drop.log", "sub/drop.log", "sub/keep.log"):
        (context / name).parent.mkdir(exist_ok=True)
        (context / name).write_text(name)
    (context / ".dockerignore").write_text("**/*.log\n!sub/keep.log\nDockerfile\n")
    build(daemon, context, f"FROM {BASE}\nCOPY . /all\n", tag=tag)
    assert sorted(output(daemon, tag, "find", "/all", "-type", "f").split()) == ["/all/.dockerignore", "/all/keep.txt", "/all/sub/keep.log"]


@pytest.mark.covers("cli:build --file", "cli:build --quiet", "cli:build --no-cache", "cli:build --iidfile")
def test_a_context_on_standard_input(daemon: Daemon, tag: str, tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        text = f"FROM {BASE}\nRUN echo piped > /piped\n".encode()
        entry = tarfile.TarInfo("other/Dockerfile")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    flags = ("-q", "--no-cache", "-t", tag, "-f", "other/Dockerfile", "--iidfile", str(tmp_path / "id"))
    done = daemon.docker("build", *FLAGS, *flags, "-", stdin=out.getvalue())
    assert done.stdout.strip() == daemon.docker("images", "-q", "--no-trunc", tag).stdout.strip() == (tmp_path / "id").read_text().strip()
    assert output(daemon, tag, "cat", "/piped") == "piped\n"


def test_only_changed_files_make_a_layer(daemon: Daemon, context: Path, tag: str) -> None:
    build(daemon, context, f"FROM {BASE}\nENV A=b\nRUN true\nRUN echo x > /x\nLABEL c=d\n", tag=tag)
    facts = json.loads(daemon.docker("inspect", tag).stdout)[0]
    assert len(facts["RootFS"]["Layers"]) == 2
    assert len(daemon.docker("history", "-q", tag).stdout.split()) == 5


@pytest.mark.parametrize(
    ("dockerfile", "words"),
    [
        ("", "cannot be empty"),
        ("RUN true\n", "no build stage in current context"),
        (f"FROM {BASE}\nRUNN true\n", "RUNN"),
        (f"FROM {BASE}\nCOPY missing /x\n", "missing"),
        (f"FROM {BASE}\nCOPY ../../etc/passwd /x\n", "etc/passwd"),
        (f"FROM {BASE}\nCOPY --from=127.0.0.1:1/nowhere:1 /a /b\n", "127.0.0.1:1"),
        (f"FROM {BASE}\nENV\n", "ENV"),
        (f"FROM {BASE}\nRUN exit 3\n", "returned a non-zero code: 3 (Dockerfile:2)"),
        (f"FROM {BASE}\nSTOPSIGNAL NOPE\n", "Dockerfile:2: invalid signal: NOPE"),
        ("FROM 127.0.0.1:1/not/there\n", "Dockerfile:1: registry 127.0.0.1:1"),
        ("FROM $UNSET\n", "base name"),
    ],
)
def test_a_dockerfile_that_fails_says_why_and_makes_nothing(daemon: Daemon, context: Path, dockerfile: str, words: str) -> None:
    before = sorted(daemon.docker("images", "-q", "--no-trunc").stdout.split())
    (context / "Dockerfile").write_text(dockerfile)
    done = daemon.docker("build", *FLAGS, str(context), code=None)
    assert done.returncode != 0
    assert words in done.stderr
    assert sorted(daemon.docker("images", "-q", "--no-trunc").stdout.split()) == before


def test_one_hundred_and_twenty_seven_layers_are_built_and_run(daemon: Daemon, context: Path, tag: str) -> None:
    if daemon.driver == "native":
        pytest.skip("nothing is stacked, and each step copies everything")
    steps = "".join(f"RUN echo {number} > /step{number}\n" for number in range(126))
    build(daemon, context, f"FROM {BASE}\n{steps}", "-q", tag=tag)
    assert len(json.loads(daemon.docker("inspect", tag).stdout)[0]["RootFS"]["Layers"]) == 127
    assert output(daemon, tag, "sh", "-c", "ls / | grep -c step; cat /step0 /step125") == "126\n0\n125\n"


@pytest.mark.covers("dockerfile:LABEL")
def test_bytes_that_are_no_utf_8_reach_commands_and_are_readable_elsewhere(daemon: Daemon, context: Path, tag: str) -> None:
    (context / "Dockerfile").write_bytes(
        b'FROM %b\nMAINTAINER Jos\xe9\nLABEL who="Jos\xe9"\nENV WHO="Jos\xe9"\nRUN printf "Jos\xe9" > /who && printf %%s "$WHO" > /env\n'
        % BASE.encode()
    )
    daemon.docker("build", "-q", "--network", "none", "-t", tag, str(context))
    assert json.loads(daemon.docker("inspect", "-f", "{{json .Config.Labels}}", tag).stdout) == {"who": "Jos\ufffd"}
    assert daemon.docker("inspect", "-f", "{{.Author}}", tag).stdout == "Jos\ufffd\n"
    assert "Jos\ufffd" in daemon.docker("history", "--no-trunc", tag).stdout
    assert daemon.docker("run", "--rm", "--network", "none", tag, "od", "-An", "-tx1", "/who").stdout.split() == ["4a", "6f", "73", "e9"]
    assert "Traceback" not in daemon.log


def test_what_a_run_writes_to_its_standard_error_is_red_as_dockers_and_plain_where_no_terminal_is(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo wrong >&2\n")
    build = ("build", "--network", "none", "--no-cache", str(tmp_path))
    assert "\x1b[91mwrong\n\x1b[0m" in daemon.docker(*build).stdout
    assert "\nwrong\n" in daemon.lamina(*build).stdout
