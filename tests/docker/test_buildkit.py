"""Builds by BuildKit's protocol: over the wire with a client of our own, and with docker buildx where there is one."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.buildkit.failure import Refused
from lamina.buildkit.messages import (
    DiskUsageRequest,
    DiskUsageResponse,
    Empty,
    Exporter,
    ListWorkersResponse,
    PruneRequest,
    SolveRequest,
    SolveResponse,
    UsageRecord,
)
from lamina.buildkit.wire import decode
from tests.buildkit.client import BRIDGE, CONTROL, Client, connected
from tests.docker.conftest import BASE, serving
from tests.harness import Daemon, docker_cli, eventually, run

_PLACES = (
    os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"),
    "/usr/libexec/docker",
    "/usr/lib/docker",
    "/usr/local/lib/docker",
)
BUILDX = next((path for place in _PLACES if (path := Path(place, "cli-plugins", "docker-buildx")).exists()), None)
with_buildx = [pytest.mark.peer, pytest.mark.skipif(not BUILDX, reason="no docker buildx here")]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """The protocol is the same for all drivers: one will do."""
    with serving(tmp_path_factory) as daemon:
        yield daemon


@pytest.fixture
def client(daemon: Daemon, context: Path) -> Iterator[Client]:
    with connected(daemon.socket, context, {"word": b"open sesame"}) as client:
        yield client


def _moby(tag: str) -> Exporter:
    return Exporter("moby", {"name": tag})


@pytest.mark.covers("api:POST /session")
def test_a_build_by_the_gateway_gives_an_image_and_tells_its_steps(daemon: Daemon, client: Client, context: Path, tag: str) -> None:
    (context / "greeting").write_text("hello")
    (context / "Dockerfile").write_text(f"FROM {BASE}\nENV A=b\nCOPY greeting /g\nRUN cat /g && echo $A > /a\n")
    answer, told = client.build(exporters=[_moby(tag)])
    assert list(told.vertices) == [
        "[internal] load build definition from Dockerfile", "[internal] load .dockerignore", "[internal] load build context",
        f"[1/3] FROM docker.io/library/{BASE}", "[2/3] COPY greeting /g", "[3/3] RUN cat /g && echo $A > /a", "exporting to image",
    ]  # fmt: skip
    assert all(vertex.started and vertex.completed and not vertex.error for vertex in told.vertices.values())
    assert told.output == "hello" and client.sent.count("greeting") == 1
    assert answer["image.name"] == f"docker.io/{tag}"
    assert daemon.docker("inspect", "-f", "{{.Id}}", tag).stdout.strip() == answer["containerimage.config.digest"]
    assert daemon.docker("run", "--rm", tag, "cat", "/g", "/a").stdout == "hellob\n"


def test_a_second_build_is_cached_and_classic_builds_share_the_cache(daemon: Daemon, client: Client, context: Path, tag: str) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo {tag} > /x\n")
    assert client.build(exporters=[_moby(tag)])[1].cached == []
    assert client.build(exporters=[_moby(tag)])[1].cached == [f"[2/2] RUN echo {tag} > /x"]
    assert " ---> Using cache" in daemon.docker("build", str(context)).stdout
    assert client.build({"no-cache": ""}, [_moby(tag)])[1].cached == []


def test_what_a_run_writes_below_a_volume_stays_and_goes_in_a_classic_build(
    daemon: Daemon, client: Client, context: Path, tag: str
) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE}\nVOLUME /v\nRUN mkdir -p /v && echo x > /v/f && cat /v/f\n")
    assert client.build(exporters=[_moby(tag)])[1].output == "x\n"
    assert daemon.lamina("cat", f"{tag}:/v/f").stdout == "x\n"
    for cli in (daemon.docker, daemon.lamina):
        daemon.docker("rmi", tag)
        assert cli("build", "--no-cache", "-t", tag, str(context)).stdout.count("\nx\n") == 1
        assert daemon.lamina("cat", f"{tag}:/v/f", code=1).stdout == ""


def test_a_frontend_named_to_control_itself_is_the_same(daemon: Daemon, client: Client, context: Path, tag: str) -> None:
    (context / "My.dockerfile").write_text(f"FROM {BASE} AS one\nARG A\nLABEL a=$A\nFROM one AS two\n")
    attributes = {"filename": "My.dockerfile", "target": "one", "build-arg:A": "given", "label:l": "m"}
    asked = SolveRequest("ref", session=client.session, frontend="dockerfile.v0", frontend_attrs=attributes, exporters=(_moby(tag),))
    client.call(f"{CONTROL}Solve", asked, SolveResponse)
    assert daemon.docker("inspect", "-f", "{{.Config.Labels.a}} {{.Config.Labels.l}}", tag).stdout == "given m\n"


def test_what_dockerignore_leaves_out_never_travels(client: Client, context: Path) -> None:
    for name in ("kept", "left.log"):
        (context / name).write_text(name)
    (context / ".dockerignore").write_text("*.log\n")
    (context / "Dockerfile").write_text(f"FROM {BASE}\nCOPY . /x\nRUN ls /x\n")
    assert "kept" in client.build()[1].output and "left.log" not in client.sent


def test_sources_in_quotes_travel_and_those_beside_them_do_not(client: Client, context: Path) -> None:
    for name in ("double", "single", "left"):
        (context / name).write_text(name)
    lines = ('COPY "double" /x/', "COPY 'single' /x/", "RUN ls /x")
    (context / "Dockerfile").write_text("\n".join((f"FROM {BASE}", *lines, "")))
    assert client.build()[1].output.splitlines() == ["double", "single"] and "left" not in client.sent
    (context / "!kept").write_text("")
    (context / "Dockerfile").write_text(f'FROM {BASE}\nCOPY dou"ble" !kept /x/\nRUN ls /x\n')
    assert client.build()[1].output.splitlines() == ["!kept", "double"]


def test_what_triggers_of_an_image_or_a_stage_do_is_told(client: Client, context: Path, tag: str) -> None:
    (context / "a").write_text("asked for\n")
    (context / "Dockerfile").write_text(f"FROM {BASE}\nONBUILD ENV A=b\nONBUILD COPY a /a\nONBUILD RUN cat /a\n")
    client.build(exporters=[_moby(tag)])
    (context / "Dockerfile").write_text(f"FROM {tag} AS one\nONBUILD RUN echo too\nFROM one\nRUN true\n")
    _, told = client.build()
    assert [name for name in told.vertices if "RUN" in name or "COPY" in name] == [
        "[one onbuild] COPY a /a", "[one onbuild] RUN cat /a", "[stage-1 onbuild] RUN echo too", "[stage-1 1/1] RUN true",
    ]  # fmt: skip
    assert told.output == "asked for\ntoo\n" and all(vertex.completed and not vertex.error for vertex in told.vertices.values())


def test_secrets_are_asked_for_when_a_run_wants_them(client: Client, context: Path) -> None:
    (context / "Dockerfile").write_text(
        f"FROM {BASE}\nRUN --mount=type=secret,id=word cat /run/secrets/word; test ! -e /run/secrets/other\n"
    )
    assert client.build({"no-cache": ""})[1].output == "open sesame"
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN --mount=type=secret,id=other,required true\n")
    with pytest.raises(Refused, match="secret other: not found"):
        client.build()


def test_a_failing_run_names_its_vertex_and_lines(client: Client, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE}\n\nRUN echo why && \\\n  false\n")
    with pytest.raises(Refused, match='process "/bin/sh -c echo why &&   false" did not complete successfully: exit code: 1'):
        client.build()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM x\nRUNN y\n", "dockerfile parse error on line 2: unknown instruction: RUNN"),
        ("FROM {}\nCOPY absent /\n", "absent"),
        ("", "no stage"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(client: Client, context: Path, text: str, said: str) -> None:
    (context / "Dockerfile").write_text(text.format(BASE))
    with pytest.raises(Refused) as told:
        client.build()
    assert said in told.value.message or not text


def test_a_client_that_goes_away_stops_its_build(daemon: Daemon, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN sleep 600\n")
    with connected(daemon.socket, context) as client:
        asked = SolveRequest("gone", session=client.session, frontend="dockerfile.v0")
        client.open(f"{CONTROL}Solve", asked)
        eventually(lambda: list(daemon.data.glob("run/build/*")), "no step is running")
    eventually(lambda: not list(daemon.data.glob("run/build/*")), "the step is still running")


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"platform": "linux/amd64,linux/arm64"}, "several platforms cannot be built at once"),
        ({"requestid": "frontend.outline"}, "--call outline is not supported"),
        ({"requestid": "frontend.lint"}, "--check is not supported"),
    ],
)
def test_what_is_not_here_is_refused_in_a_sentence(client: Client, context: Path, attributes: dict[str, str], said: str) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE}\n")
    with pytest.raises(Refused, match=said):
        client.build(attributes)


def test_further_contexts_are_folders_images_and_results_of_other_builds(daemon: Daemon, context: Path, tag: str, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    (more / "file").write_text("from a folder")
    (more / "left").write_text("")
    (more / ".dockerignore").write_text("left")
    with connected(daemon.socket, context, named=more) as client:
        (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo -n from a result > /file\n")
        client.build(exporters=[_moby(tag)])
        result = client.result.ref
        assert result is not None and result.definition is not None
        (context / "Dockerfile").write_text(
            "FROM nowhere.invalid/replaced AS one\nRUN --mount=type=bind,from=folder,target=/m cat /m/file && ls /m\n"
            "COPY --from=result /file /\nRUN cat /file; test -e /bin/sh\n"
        )
        attributes = {
            "context:folder": "local:named", "context:nowhere.invalid/replaced": f"docker-image://{BASE}", "context:result": "input:r::linux/amd64",
        }  # fmt: skip
        told = client.build(attributes, inputs={"r::linux/amd64": result.definition})[1]
        assert told.output == "from a folderfile\nfrom a result"
        for value, said in (("https://git.invalid/x.git", "cannot come from"), ("input:absent", "graph of build operations")):
            with pytest.raises(Refused, match=said):
                client.build({"context:folder": value})


def test_outputs_go_to_the_client_as_a_tar_or_file_by_file(daemon: Daemon, client: Client, context: Path) -> None:
    (context / "a-file").write_text("text")
    (context / "Dockerfile").write_text(
        f"FROM {BASE} AS one\nRUN mkdir -p /out/a && echo x > /out/a/f && ln -s f /out/a/l && ln /out/a/f /out/g && chmod 4751 /out/g\n"
        "FROM scratch\nCOPY --from=one /out /\nCOPY a-file /\n"
    )
    client.local = frozenset({"1"})
    images = daemon.docker("images", "-qa").stdout
    client.build(exporters=[Exporter("tar"), Exporter("local")])
    for data in client.received.values():
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            assert sorted(archive.getnames()) == ["a", "a-file", "a/f", "a/l", "g"]
            assert archive.getmember("a/l").linkname == "f" and archive.getmember("g").mode == 0o4751
            file = archive.extractfile("g")
            assert file is not None and file.read() == b"x\n"
    shown = set(daemon.docker("images", "-q").stdout.split())
    assert shown <= set(images.split()), "an output to the client leaves no image that shows"
    with pytest.raises(Refused, match="the exporter oci is not supported"):
        client.call(
            f"{CONTROL}Solve",
            SolveRequest("o", session=client.session, frontend="dockerfile.v0", exporters=(Exporter("oci"),)),
            SolveResponse,
        )


def test_a_context_on_standard_input_is_uploaded(daemon: Daemon, context: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in (("Dockerfile", f"FROM {BASE}\nCOPY f /\nRUN cat /f\n".encode()), ("f", b"piped")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    with connected(daemon.socket, context, {"/id": packed.getvalue()}) as client:
        assert client.build({"context": "http://buildkit-session/id"})[1].output == "piped"


def test_stages_named_by_no_cache_are_built_anew(client: Client, context: Path) -> None:
    (context / "Dockerfile").write_text(
        f"FROM {BASE} AS one\nRUN echo filtered\nFROM {BASE}\nRUN echo not filtered\nCOPY --from=one /bin/sh /s\n"
    )
    client.build()
    assert client.build({"no-cache": "One"})[1].cached == [
        "[stage-1 2/3] RUN echo not filtered",
        "[stage-1 3/3] COPY --from=one /bin/sh /s",
    ]


def test_the_cache_is_shown_and_pruned(daemon: Daemon, client: Client, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN --mount=type=cache,target=/c echo to be pruned > /x\n")
    client.build()
    shown = client.call(f"{CONTROL}DiskUsage", Empty(), DiskUsageResponse).record
    assert any("to be pruned" in record.description for record in shown) and any(
        record.record_type == "exec.cachemount" for record in shown
    )
    stream = client.open(f"{CONTROL}Prune", PruneRequest(all=True))
    gone = set()
    while (raw := stream.receive()) is not None:
        gone.add(decode(UsageRecord, raw).id)
    assert gone and not gone & {record.id for record in client.call(f"{CONTROL}DiskUsage", Empty(), DiskUsageResponse).record}


def test_filters_of_the_cache_are_heeded_and_an_empty_one_is_none(client: Client, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN --mount=type=cache,target=/filtered echo filtered by kind > /x\n")
    client.build()

    def shown(*filters: str, age_limit: int = 0) -> set[str]:
        told = client.call(f"{CONTROL}DiskUsage", DiskUsageRequest(filters, age_limit), DiskUsageResponse)
        return {record.id for record in told.record}

    def pruned(asked: PruneRequest) -> set[str]:
        stream = client.open(f"{CONTROL}Prune", asked)
        return {decode(UsageRecord, raw).id for raw in iter(stream.receive, None)}

    everything, steps, folders = shown(""), shown("type==regular"), shown("type==exec.cachemount")
    assert steps and folders and not steps & folders and steps | folders == everything
    assert shown(age_limit=3600 * 10**9) == set() and shown("description~=filtered by kind,type==regular") <= steps
    assert pruned(PruneRequest(("",), all=True, keep_duration=3600 * 10**9)) == set()
    assert pruned(PruneRequest(("type==exec.cachemount",), all=True)) == folders and shown() == steps
    assert pruned(PruneRequest(("",), all=True)) >= steps and not shown()
    with pytest.raises(Refused, match="unknown filter: mutable"):
        pruned(PruneRequest(("mutable",)))


def test_unknown_calls_say_that_they_are_unknown(client: Client) -> None:
    for path in (f"{CONTROL}Nothing", f"{BRIDGE}NewContainer", "/other.Service/Call"):
        with pytest.raises(Refused, match="unknown method") as told:
            client.call(path, Empty(), Empty)
        assert told.value.number == 12
    assert client.call(f"{CONTROL}ListWorkers", Empty(), ListWorkersResponse).record[0].id == "lamina"


class TestBuildx:
    """With the real docker buildx."""

    pytestmark = with_buildx

    def docker(self, daemon: Daemon, *words: str, code: int | None = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in daemon.environment().items() if name != "DOCKER_BUILDKIT"}
        plugins = Path(environment["DOCKER_CONFIG"], "cli-plugins")
        plugins.mkdir(parents=True, exist_ok=True)
        if BUILDX and not (plugins / BUILDX.name).exists():
            (plugins / BUILDX.name).symlink_to(BUILDX)
        return run([docker_cli(), *words], environment, code=code, cwd=cwd)

    def test_docker_build_works_unchanged(self, daemon: Daemon, context: Path, tag: str) -> None:
        (context / "f").write_text("text")
        (context / "Dockerfile").write_text(f"FROM {BASE}\nCOPY f /\nRUN cat /f\n")
        told = self.docker(daemon, "build", "--progress", "plain", "--iidfile", str(context / "id"), "-t", tag, str(context)).stderr
        assert "[3/3] RUN cat /f" in told and f"naming to docker.io/{tag}" in told
        assert (context / "id").read_text() == daemon.docker("inspect", "-f", "{{.Id}}", tag).stdout.strip()

    def test_a_failure_shows_the_lines(self, daemon: Daemon, context: Path) -> None:
        (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN false\n")
        told = self.docker(daemon, "build", str(context), code=1).stderr
        assert "   2 | >>> RUN false" in told and "exit code: 1" in told

    def test_bake_builds_targets_that_stand_on_each_other(self, daemon: Daemon, context: Path, tag: str) -> None:
        (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo below > /x\n")
        (context / "docker-bake.json").write_text(
            json.dumps(
                {
                    "target": {
                        "below": {"context": "."},
                        "above": {
                            "context": ".", "tags": [tag], "contexts": {"base": "target:below"},
                            "dockerfile-inline": "FROM base\nRUN cat /x > /y\n",
                        },
                    }
                }
            )
        )  # fmt: skip
        words = ("-f", str(context / "docker-bake.json"), "--progress", "plain", "above")
        told = self.docker(daemon, "buildx", "bake", *words, cwd=context).stderr
        assert "[above 1/2] FROM base\n" in told
        assert daemon.docker("run", "--rm", tag, "cat", "/y").stdout == "below\n"

    def test_output_secret_and_metadata(self, daemon: Daemon, context: Path, tmp_path: Path) -> None:
        (context / "Dockerfile").write_text(
            f"FROM {BASE} AS one\nRUN --mount=type=secret,id=s cat /run/secrets/s > /f\nFROM scratch\nCOPY --from=one /f /\n"
        )
        (tmp_path / "s").write_text("of the client")
        self.docker(daemon, "build", "--secret", f"id=s,src={tmp_path}/s", "-o", str(tmp_path / "out"), str(context))
        assert (tmp_path / "out/f").read_text() == "of the client"
        self.docker(daemon, "build", "-q", "--metadata-file", str(tmp_path / "m"), "--secret", f"id=s,src={tmp_path}/s", str(context))
        assert json.loads((tmp_path / "m").read_text())["containerimage.config.digest"].startswith("sha256:")

    def test_the_cache_is_listed_and_pruned(self, daemon: Daemon, context: Path) -> None:
        (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo to be listed > /x\nRUN true\n")
        self.docker(daemon, "build", str(context))
        assert "to be listed" in self.docker(daemon, "buildx", "du", "--verbose", "--filter", "type=regular").stdout
        assert "Total" in self.docker(daemon, "buildx", "prune", "-f", "--filter", "until=24h").stdout
        assert "Total" in self.docker(daemon, "builder", "prune", "-af").stdout

    def test_an_interrupt_stops_the_build(self, daemon: Daemon, context: Path) -> None:
        (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN sleep 601\n")
        self.docker(daemon, "version")
        environment = {name: value for name, value in daemon.environment().items() if name != "DOCKER_BUILDKIT"}
        build = subprocess.Popen([docker_cli(), "build", str(context)], env=environment, stderr=subprocess.DEVNULL)
        eventually(lambda: list(daemon.data.glob("run/build/*")), "no step is running")
        build.send_signal(signal.SIGINT)
        assert build.wait(120) != 0
        eventually(lambda: not list(daemon.data.glob("run/build/*")), "the step is still running")
