"""ADD, COPY and RUN --mount in full, and the other instructions, by the real docker CLI."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tests.builder.webserver import Web, repository, serving
from tests.docker.conftest import BASE
from tests.docker.test_build import build, output
from tests.harness import Daemon


@pytest.mark.covers(
    "dockerfile:ADD https://", "dockerfile:ADD --checksum", "dockerfile:ADD --chmod", "dockerfile:ADD --chown", "dockerfile:ADD --unpack"
)
def test_add_by_address(daemon: Daemon, context: Path, tag: str) -> None:
    digest = hashlib.sha256(b"content").hexdigest()
    with serving(Web(files={"/file": b"content"})) as web:
        url = web.url("/file")
        build(
            daemon,
            context,
            f"FROM {BASE}\nADD --checksum=sha256:{digest} {url} /a\nADD --unpack=false --chmod=640 --chown=7:8 {url} /d/\n",
            tag=tag,
        )
        assert output(daemon, tag, "stat", "-c", "%n %a %u:%g", "/a", "/d/file") == "/a 600 0:0\n/d/file 640 7:8\n"
        wrong = build(daemon, context, f"FROM {BASE}\nADD --checksum=sha256:{'0' * 64} {url} /a\n", code=1)
        assert f"Dockerfile:2: digest mismatch of {url}" in wrong


@pytest.mark.covers("dockerfile:ADD git", "dockerfile:ADD --keep-git-dir")
@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_add_of_a_git_repository(daemon: Daemon, context: Path, tag: str, tmp_path: Path) -> None:
    repository(tmp_path / "r.git", {"a": "a", "sub/b": "b"})
    with serving(Web(folders={"/r.git": tmp_path / "r.git"})) as web:
        url = web.url("/r.git")
        build(
            daemon,
            context,
            f"FROM {BASE}\nADD {url}#v1 /one\nADD --keep-git-dir=true {url}#main:sub /two\nADD --keep-git-dir {url} /three\n",
            tag=tag,
        )
    assert output(daemon, tag, "sh", "-c", "cd /; ls -A one two; test -d three/.git && echo kept") == "one:\na\nsub\n\ntwo:\nb\nkept\n"


@pytest.mark.covers(
    "dockerfile:COPY --link", "dockerfile:COPY --parents", "dockerfile:COPY --exclude", "dockerfile:ADD --link", "dockerfile:ADD --exclude"
)
def test_link_parents_and_exclude(daemon: Daemon, context: Path, tag: str) -> None:
    for name in ("a/b/c.txt", "a/b/d.md", "e.txt"):
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text(name)
    build(
        daemon,
        context,
        f"FROM {BASE}\nCOPY --link a/b /tmp/\nADD --link --exclude=*.md a/b /added/\nCOPY --parents ./a/./**/*.txt e.txt /parents/\n"
        "COPY --exclude=b/*.md a /excluded/\n",
        tag=tag,
    )
    script = "cd /; find tmp added parents excluded -type f | sort; stat -c %a /bin"
    assert output(daemon, tag, "sh", "-c", script).split() == [
        "added/c.txt", "excluded/b/c.txt", "parents/b/c.txt", "parents/e.txt", "tmp/c.txt", "tmp/d.md", "755",
    ]  # fmt: skip


@pytest.mark.covers(
    "dockerfile:RUN --mount=type=bind",
    "dockerfile:RUN --mount=type=cache",
    "dockerfile:RUN --mount=type=tmpfs",
    "dockerfile:RUN --network",
    "dockerfile:RUN --security",
)
def test_run_with_mounts(daemon: Daemon, context: Path, tag: str) -> None:
    (context / "a").write_text("context\n")
    dockerfile = f"""FROM {BASE} AS maker
RUN echo made > /made
FROM {BASE}
ARG N=1
WORKDIR /work
RUN --mount=target=src --mount=from=maker,source=/made,target=/m --mount=type=cache,target=/c,id={tag} --mount=type=tmpfs,target=/t \\
    cat src/a /m > out; echo $N >> /c/log; cat /c/log >> out; touch /t/x
RUN --network=none --security=sandbox ls /sys/class/net >> out
"""
    build(daemon, context, dockerfile, tag=tag)
    build(daemon, context, dockerfile, "--build-arg", "N=2", tag=tag)
    assert output(daemon, tag, "cat", "/work/out") == "context\nmade\n1\n2\nlo\n"
    assert output(daemon, tag, "sh", "-c", "ls -d /c /m /t /work/src 2>/dev/null; true") == ""
    refused = build(daemon, context, f"FROM {BASE}\nRUN --mount=type=secret,id=x true\n", code=1)
    assert "Dockerfile:2: RUN --mount=type=secret cannot be given by this client" in refused
    refused = build(daemon, context, f"FROM {BASE}\nRUN --mount=type=ssh true\n", code=1)
    assert "use lamina build --ssh default" in refused


@pytest.mark.covers(
    "dockerfile:ONBUILD", "dockerfile:STOPSIGNAL", "dockerfile:HEALTHCHECK", "dockerfile:HEALTHCHECK NONE", "dockerfile:MAINTAINER"
)
def test_onbuild_stopsignal_healthcheck_and_maintainer(daemon: Daemon, context: Path, tag: str) -> None:
    (context / "a").write_text("a")
    parent = f"{tag}parent"
    build(
        daemon,
        context,
        f"FROM {BASE}\nMAINTAINER me <me@example.org>\nSTOPSIGNAL SIGUSR1\nHEALTHCHECK --interval=5s --retries=2 CMD test -e /a\n"
        "ONBUILD COPY a /a\nONBUILD RUN <<EOF\necho triggered > /t\nEOF\n",
        tag=parent,
    )
    facts = json.loads(daemon.docker("inspect", parent).stdout)[0]
    assert (facts["Author"], facts["Config"]["StopSignal"]) == ("me <me@example.org>", "SIGUSR1")
    assert facts["Config"]["Healthcheck"] == {"Test": ["CMD-SHELL", "test -e /a"], "Interval": 5_000_000_000, "Retries": 2}
    assert len(facts["Config"]["OnBuild"]) == 2
    told = build(daemon, context, f"FROM {parent}\nHEALTHCHECK NONE\n", tag=tag)
    assert "# Executing 2 build triggers\n" in told
    config = json.loads(daemon.docker("inspect", tag).stdout)[0]["Config"]
    assert config["Healthcheck"] == {"Test": ["NONE"]} and not config.get("OnBuild")
    assert output(daemon, tag, "cat", "/a", "/t") == "atriggered\n"
    daemon.docker("rmi", "-f", tag, parent)


@pytest.mark.covers("dockerfile:# check")
def test_checks_are_skipped_or_make_the_build_fail(daemon: Daemon, context: Path) -> None:
    text = f"FROM {BASE}\nRUN true \\\n\n  && true\n"
    assert "[Warning] empty continuation line" in build(daemon, context, text)
    assert "[Warning]" not in build(daemon, context, f"# check=skip=NoEmptyContinuation\n{text}")
    assert "[Warning]" not in build(daemon, context, f"# check=skip=all\n{text}")
    assert "empty continuation line" in build(daemon, context, f"# check=error=true\n{text}", code=1)


def test_predefined_arguments(daemon: Daemon, context: Path, tag: str) -> None:
    text = f"FROM {BASE}\nARG TARGETARCH\nARG TARGETSTAGE\nRUN echo $TARGETARCH $TARGETSTAGE $http_proxy $NO_PROXY > /x; env > /env\n"
    build(daemon, context, text, "--build-arg", "http_proxy=http://proxy:1", "--build-arg", "NO_PROXY=a", tag=tag)
    words = output(daemon, tag, "cat", "/x").split()
    assert words[1:] == ["default", "http://proxy:1", "a"]
    assert "proxy:1" not in daemon.docker("history", "--no-trunc", tag).stdout
    assert "Using cache" in build(daemon, context, text, "--build-arg", "http_proxy=http://other:1", tag=tag)
