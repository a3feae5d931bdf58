"""Every flag of `docker build` (the classic builder), by the real CLI and by Lamina's own."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builder.webserver import Web, repository, serving
from tests.docker.conftest import BASE
from tests.docker.test_build import build, output
from tests.harness import Daemon

NO_NETWORK = ("--network", "none")


@pytest.fixture(scope="module")
def experimental(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that lets the docker CLI offer --squash."""
    from tests.harness import busybox_tar

    daemon = Daemon(tmp_path_factory.mktemp("experimental"), "overlay", options=("--experimental",))
    daemon.start()
    try:
        daemon.docker("import", str(busybox_tar(tmp_path_factory.mktemp("squash") / "busybox.tar")), BASE)
        yield daemon
    finally:
        daemon.remove()


def layers(daemon: Daemon, tag: str) -> list[str]:
    found: list[str] = json.loads(daemon.docker("inspect", tag).stdout)[0]["RootFS"]["Layers"]
    return found


@pytest.mark.covers(
    "cli:build --memory",
    "cli:build --memory-swap",
    "cli:build --cpu-shares",
    "cli:build --cpu-period",
    "cli:build --cpu-quota",
    "cli:build --cpuset-cpus",
    "cli:build --cpuset-mems",
    "cli:build --cgroup-parent",
    "cli:build --shm-size",
    "cli:build --ulimit",
    "cli:build --add-host",
    "cli:build --security-opt",
    "cli:build --network",
)
@pytest.mark.parametrize("client", ["docker", "lamina"])
def test_limits_and_surroundings_of_every_run(daemon: Daemon, context: Path, tag: str, client: str) -> None:
    script = "ulimit -n; ulimit -Hn; df -k /dev/shm | tail -1; grep NoNewPrivs /proc/self/status; cat /etc/hosts; cat /proc/self/cgroup"
    script += "; cat /proc/self/status | grep Cpus_allowed_list; ls /sys/class/net"
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN {script}\n")
    flags = ["--memory", "64m", "--memory-swap", "-1", "--cpu-shares", "512", "--cpu-period", "50000", "--cpu-quota", "25000"]
    flags += [
        "--cpuset-cpus",
        "0",
        "--cpuset-mems",
        "0",
        "--cgroup-parent",
        "/lamina-builds",
        "--shm-size",
        "1m",
        "--ulimit",
        "nofile=100:200",
    ]
    flags += [
        "--add-host",
        "there:10.1.2.3",
        "--add-host",
        "outside:host-gateway",
        "--add-host",
        "six:[::6]",
        "--security-opt",
        "no-new-privileges",
        "--network",
        "none",
        "--no-cache",
    ]
    run = daemon.docker if client == "docker" else daemon.lamina
    told = run("build", *flags, "-t", tag, str(context)).stdout
    assert "\n100\n200\n" in told and " 1024 " in told and "NoNewPrivs:\t1" in told and "10.1.2.3\tthere" in told
    assert re.search(r"^[0-9.]+\toutside$", told, re.M) and "\n::6\tsix\n" in told
    assert "Cpus_allowed_list:\t0\n" in told and told.count("\nlo\n") == 1


def test_a_run_in_the_network_of_a_container(daemon: Daemon, context: Path, tag: str) -> None:
    command = ("--hostname", "lender", BASE, "nc", "-ll", "-p", "1234", "-e", "cat", "/etc/hostname")
    identity = daemon.docker("run", "-d", "--network", "none", *command).stdout.strip()
    try:
        flags = ("--network", f"container:{identity}", "--no-cache")
        (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN nc 127.0.0.1 1234 > /got && hostname >> /got && cat /etc/hostname >> /got\n")
        daemon.docker("build", *flags, "-t", tag, str(context))
        assert output(daemon, tag, "cat", "/got") == 3 * "lender\n"
        daemon.docker("kill", identity)
        refused = daemon.docker("build", *flags, str(context), code=1).stderr
        assert f"cannot join network of a non running container: {identity}" in refused
    finally:
        daemon.docker("rm", "-f", identity)


@pytest.mark.covers(
    "cli:build --rm", "cli:build --force-rm", "cli:build --isolation", "cli:build --compress", "cli:build --disable-content-trust"
)
@pytest.mark.parametrize("client", ["docker", "lamina"])
def test_flags_that_change_nothing_here_are_taken(daemon: Daemon, context: Path, tag: str, client: str) -> None:
    run = daemon.docker if client == "docker" else daemon.lamina
    before = daemon.docker("ps", "-aq").stdout
    (context / "Dockerfile").write_text(f"FROM {BASE}\nCOPY Dockerfile /x\nRUN true\n")
    flags = ("--rm=false", "--force-rm", "--isolation", "default", "--compress", "--disable-content-trust", *NO_NETWORK)
    run("build", *flags, "-t", tag, str(context))
    assert output(daemon, tag, "cat", "/x").startswith("FROM ")
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN exit 4\n")
    assert run("build", *flags, str(context), code=None).returncode != 0
    assert daemon.docker("ps", "-aq").stdout == before, "no container of a step stays"
    refused = run("build", "--isolation", "hyperv", *NO_NETWORK, str(context), code=None)
    assert refused.returncode != 0 and "invalid isolation" in refused.stderr


@pytest.mark.parametrize("client", ["docker", "lamina"])
def test_without_rm_the_containers_of_steps_stay_with_what_they_wrote(daemon: Daemon, context: Path, tag: str, client: str) -> None:
    run = daemon.docker if client == "docker" else daemon.lamina
    before = set(daemon.docker("ps", "-aq").stdout.split())
    (context / "Dockerfile").write_text(f"FROM {BASE}\nENV A={client}\nRUN echo $A > /one\nRUN rm /one; echo lost > /two; exit 4\n")
    told = run("build", "--rm=false", *NO_NETWORK, "-t", tag, str(context), code=None).stdout
    assert "Removing intermediate container" not in told
    made = set(daemon.docker("ps", "-aq").stdout.split()) - before
    try:
        assert len(made) == 2 and all(identity in told for identity in made)
        states = {
            identity: daemon.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", identity).stdout.strip() for identity in made
        }
        assert sorted(states.values()) == ["exited 0", "exited 4"]
        failed = next(identity for identity, state in states.items() if state == "exited 4")
        assert sorted(daemon.docker("diff", failed).stdout.split("\n")) == ["", "A /two", "D /one"]
        assert output(daemon, daemon.docker("commit", failed).stdout.strip(), "cat", "/two") == "lost\n"
        assert json.loads(daemon.docker("inspect", "-f", "{{json .Config.Cmd}}", failed).stdout)[:2] == ["/bin/sh", "-c"]
    finally:
        daemon.docker("rm", *made)


def test_a_container_of_a_step_that_stays_has_what_it_was_run_with(daemon: Daemon, context: Path) -> None:
    before = set(daemon.docker("ps", "-aq").stdout.split())
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN ulimit -n > /limit\n")
    flags = ("--network", "host", "--memory", "64m", "--cpuset-cpus", "0", "--shm-size", "1m", "--ulimit", "nofile=50:60")
    daemon.docker("build", "--rm=false", "--no-cache", *flags, "--add-host", "there:10.1.2.3", str(context))
    (made,) = set(daemon.docker("ps", "-aq").stdout.split()) - before
    try:
        host = json.loads(daemon.docker("inspect", "-f", "{{json .HostConfig}}", made).stdout)
        assert (host["NetworkMode"], host["Memory"], host["CpusetCpus"], host["ShmSize"]) == ("host", 64 << 20, "0", 1 << 20)
        assert (host["ExtraHosts"], host["Ulimits"]) == (["there:10.1.2.3"], [{"Name": "nofile", "Soft": 50, "Hard": 60}])
        daemon.docker("start", "-a", made)
    finally:
        daemon.docker("rm", made)


def test_content_trust_is_refused_and_never_passed_over(daemon: Daemon, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE}\n")
    refused = daemon.lamina("build", "--disable-content-trust=false", str(context), code=None)
    assert refused.returncode != 0 and "cannot be verified" in refused.stderr


@pytest.mark.covers("cli:build --cache-from")
def test_cache_from_an_image_that_came_from_elsewhere(daemon: Daemon, context: Path, tag: str, tmp_path: Path) -> None:
    (context / "a").write_text("a")
    dockerfile = f"FROM {BASE}\nRUN echo $RANDOM-$$ > /random; date >> /random\nENV A=b\nCOPY a /a\nRUN date > /last\n"
    build(daemon, context, dockerfile, tag=tag)
    made = daemon.docker("images", "-q", "--no-trunc", tag).stdout
    content = output(daemon, tag, "cat", "/random", "/last")
    daemon.docker("save", "-o", str(tmp_path / "saved.tar"), tag)
    daemon.docker("rmi", tag)
    daemon.docker("load", "-i", str(tmp_path / "saved.tar"))
    told = build(daemon, context, dockerfile, "--cache-from", f"absent/image,{tag}", tag=f"{tag}again")
    assert told.count("Using cache") == 4 and "absent/image of --cache-from is not here" in told
    assert daemon.docker("images", "-q", "--no-trunc", f"{tag}again").stdout == made
    changed = dockerfile.replace("ENV A=b", "ENV A=c")
    assert build(daemon, context, changed, "--cache-from", tag, tag=f"{tag}again").count("Using cache") == 1
    assert output(daemon, f"{tag}again", "cat", "/random") == content[: content.index("\n", content.index("\n") + 1) + 1]
    daemon.docker("rmi", f"{tag}again")


def test_cache_from_leaves_nothing_else_of_the_cache(daemon: Daemon, context: Path, tag: str) -> None:
    dockerfile = f"FROM {BASE}\nENV FOO=bar-{tag}\nRUN touch baz\nRUN touch bax\n"
    build(daemon, context, dockerfile, tag=tag)
    assert build(daemon, context, dockerfile, "--cache-from", tag, tag=f"{tag}again").count("Using cache") == 3
    assert build(daemon, context, dockerfile, "--cache-from", "absent/image", tag=f"{tag}again").count("Using cache") == 0
    (context / "Dockerfile").write_text(dockerfile)
    told = daemon.lamina("build", "--explain", "--cache-from", "absent/image", str(context)).stdout
    assert told.count("Cache miss: no image of --cache-from has this step") == 3
    daemon.docker("rmi", f"{tag}again")


@pytest.mark.covers("cli:build --squash")
def test_squash_makes_one_layer_of_what_the_build_added(experimental: Daemon, context: Path) -> None:
    daemon, tag = experimental, "squashed:1"
    dockerfile = f"""FROM {BASE}
RUN echo one > /one && mkdir /d && echo x > /d/x && echo big > /big
RUN rm /big /bin/vi && rm -r /d && mkdir /d && echo y > /d/y && ln /one /two
ENV A=b
"""
    build(daemon, context, dockerfile, "--squash", tag=tag)
    base = layers(daemon, BASE)
    assert layers(daemon, tag)[: len(base)] == base and len(layers(daemon, tag)) == len(base) + 1
    script = "cat /one /two; ls /d; test -e /big || echo gone; test -e /bin/vi || echo gone; echo $A; stat -c %h /one"
    assert output(daemon, tag, "sh", "-c", script) == "one\none\ny\ngone\ngone\nb\n2\n"
    history = daemon.docker("history", "--no-trunc", "--format", "{{.Comment}}", tag).stdout
    assert "merge sha256:" in history
    daemon.lamina("build", "--squash", "-t", "squashed:2", *NO_NETWORK, str(context))
    assert layers(daemon, "squashed:2") == layers(daemon, tag)


@pytest.mark.covers("cli:build --platform", "cli:build --pull", "dockerfile:FROM --platform")
def test_platforms_and_pull(daemon: Daemon, context: Path, tag: str) -> None:
    dockerfile = f"FROM --platform=$BUILDPLATFORM {BASE}\nARG TARGETPLATFORM BUILDPLATFORM\nRUN echo $TARGETPLATFORM $BUILDPLATFORM > /p\n"
    build(daemon, context, dockerfile, "--platform", "linux/arm64", tag=tag, code=0)
    ran = output(daemon, tag, "cat", "/p").split()
    assert ran[0] == "linux/arm64" and ran[1].startswith("linux/")
    told = daemon.docker("build", "--platform", "linux/s390x", *NO_NETWORK, "-", stdin=f"FROM {BASE}\n", code=None)
    assert told.returncode != 0 and "does not match the specified platform" in told.stderr
    told = daemon.docker("build", "--pull", *NO_NETWORK, "-", stdin="FROM 127.0.0.1:1/none\n", code=None)
    assert told.returncode != 0 and "127.0.0.1:1" in told.stderr


@pytest.mark.parametrize("client", ["docker", "lamina"])
def test_a_dockerfile_from_standard_input_with_a_context(daemon: Daemon, context: Path, tag: str, client: str) -> None:
    (context / "a").write_text("a")
    run = daemon.docker if client == "docker" else daemon.lamina
    run("build", "-f", "-", "-t", tag, *NO_NETWORK, str(context), stdin=f"FROM {BASE}\nCOPY a /a\nCOPY <<b /b\nheredoc\nb\n")
    assert output(daemon, tag, "cat", "/a", "/b") == "aheredoc\n"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_contexts_by_address(daemon: Daemon, tag: str, tmp_path: Path) -> None:
    files = {"sub/Dockerfile": f"FROM {BASE}\nCOPY a /a\n", "sub/a": "from git"}
    repository(tmp_path / "r.git", files)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        info = tarfile.TarInfo("Dockerfile")
        data = f"FROM {BASE}\nCOPY Dockerfile /a\n".encode()
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    with serving(
        Web(folders={"/r.git": tmp_path / "r.git"}, files={"/c.tar.gz": out.getvalue(), "/plain": data.replace(b"COPY", b"#")})
    ) as web:
        for run in (daemon.lamina, daemon.docker):
            run("build", "-t", tag, *NO_NETWORK, web.url("/r.git") + "#v1:sub")
            assert output(daemon, tag, "cat", "/a") == "from git"
            run("build", "-t", tag, *NO_NETWORK, web.url("/c.tar.gz"))
            assert output(daemon, tag, "cat", "/a").startswith("FROM ")
            run("build", "-t", tag, *NO_NETWORK, web.url("/plain"))
        refused = daemon.lamina("build", *NO_NETWORK, web.url("/none"), code=None)
        assert refused.returncode != 0 and "the server answered 404" in refused.stderr
        refused = daemon.lamina("build", *NO_NETWORK, web.url("/r.git") + "#nowhere", code=None)
        assert refused.returncode != 0 and "no such ref" in refused.stderr


def test_why_each_step_hit_or_missed(daemon: Daemon, context: Path, tag: str) -> None:
    (context / "a").write_text("one")
    (context / "Dockerfile").write_text(f"FROM {BASE}\nARG V={tag}\nCOPY a /{tag}\nRUN true\n")
    daemon.lamina("build", *NO_NETWORK, str(context))
    (context / "a").write_text("two")
    told = daemon.lamina("build", "--explain", *NO_NETWORK, str(context)).stdout
    assert " ---> Cache hit: the same instruction on the same image " in told
    assert " ---> Cache miss: file changed: a\n" in told
    assert " ---> Cache miss: the files before it changed: an earlier step was done anew\n" in told


def test_the_same_build_twice_gives_the_same_image(daemon: Daemon, context: Path, tag: str) -> None:
    (context / "a").write_text(tag)
    (context / "Dockerfile").write_text(f"FROM {BASE}\nCOPY a /a\nRUN echo {tag} > /b\n")
    flags = ("--build-arg", "SOURCE_DATE_EPOCH=1714557600", "--no-cache", "-q", *NO_NETWORK)
    first, second = (daemon.docker("build", *flags, str(context)).stdout for _ in range(2))
    assert first == second
    assert daemon.lamina("system", "check").stdout == "everything is sound\n"
    # Meanwhile the layers are stored in another form: the image made again would be described by another manifest.
    assert daemon.docker("build", *flags, str(context)).stdout == first
    assert daemon.lamina("system", "check").stdout == "everything is sound\n"
