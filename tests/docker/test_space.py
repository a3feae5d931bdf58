"""system df and what gives space back, by both CLIs and docker-py, against what the disk says."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lamina.content.durability import sync_file_system
from tests.docker.conftest import BASE
from tests.harness import Daemon, busybox_tar, eventually


@pytest.fixture(params=["erofs", "overlay"])
def busy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemon]:
    """A daemon of its own: images that share layers, one in use, one without a name, cache, containers, volumes."""
    daemon = Daemon(tmp_path / "d", request.param)
    try:
        daemon.start()
    except AssertionError:
        if "storage driver erofs cannot be used here" in daemon.log:
            pytest.skip("this kernel cannot mount EROFS from the test's file system")
        raise
    context = tmp_path / "context"
    context.mkdir()
    try:
        daemon.docker("import", str(busybox_tar(tmp_path / "busybox.tar")), BASE)
        for number in (1, 2):
            (context / "Dockerfile").write_text(
                f"FROM {BASE} AS tools\nRUN echo {number} > /tool\nFROM {BASE}\nLABEL n={number}\nRUN head -c 50000 /dev/zero > /z{number}\n"
                "COPY --from=tools /tool /tool\n"
            )
            daemon.docker("build", "-q", "--network", "none", "-t", "app:1", str(context))
        (context / "Dockerfile").write_text(
            f"FROM {BASE}\nRUN --mount=type=cache,target=/kept,id=kept echo other | tee /other > /kept/file\n"
        )
        daemon.docker("build", "-q", "--network", "none", "-t", "other:1", str(context))
        daemon.docker("create", "--name", "user", "--network", "none", "app:1", "true")
        daemon.docker("run", "--name", "wrote", "--network", "none", "-v", "/data", BASE, "sh", "-c", "echo x > /x; echo y > /data/y")
        daemon.docker("volume", "create", "named")
        daemon.docker("network", "create", "spare")
        yield daemon
    finally:
        daemon.remove()


def on_disk(daemon: Daemon) -> int:
    """Bytes of everything below the folders in which the engine keeps things; the database's pages stay its own."""
    sync_file_system(str(daemon.data))
    total = 0
    for top in ("content/blobs/sha256", "layers", "images", "containers", "volumes", "caches"):
        for path, folders, files in os.walk(daemon.data / top):
            for name in (*folders, *files):
                with suppress(FileNotFoundError):  # what is removed soon goes while one looks
                    total += os.lstat(f"{path}/{name}").st_blocks * 512
    return total


def usage(daemon: Daemon) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads(daemon.curl("/system/df"))
    return found


def total(rows: list[dict[str, object]], key: str) -> int:
    return sum(int(str(row[key])) for row in rows)


@pytest.mark.covers(
    "cli:system df", "cli:system df --verbose", "cli:system df --format", "cli:builder prune", "cli:builder prune --force", "api:POST /build/prune",
    "cli:image prune --force", "cli:image prune --all", "cli:container prune", "cli:container prune --force", "api:POST /containers/prune",
    "cli:volume prune", "cli:volume prune --all", "cli:volume prune --force", "api:POST /volumes/prune",
)  # fmt: skip
def test_what_df_says_is_what_each_prune_frees_on_the_disk(busy: Daemon) -> None:
    """In this order none changes what another can free."""
    plan = json.loads(busy.curl("/lamina/prune?kind=images&all=1"))
    facts = usage(busy)
    used = [row for row in facts["Images"] if row["Containers"]]
    assert len(used) == 2
    expected = {
        ("builder",): total([row for row in facts["BuildCache"] if not row["Shared"]], "Size"),
        ("image", "-a"): plan["SpaceReclaimed"],
        ("container",): total(facts["Containers"], "SizeRw"),
        ("volume", "-a"): total([row["UsageData"] for row in facts["Volumes"]], "Size"),  # type: ignore[misc]
    }
    assert all(expected.values())
    for (group, *options), promised in expected.items():
        before = on_disk(busy)
        busy.docker(group, "prune", "-f", *options)
        eventually(
            lambda before=before, promised=promised: before - on_disk(busy) == promised,
            f"{group}: {before - on_disk(busy)}, not {promised}",
        )  # type: ignore[misc]
    left = usage(busy)
    assert (left["Containers"], left["Volumes"], [row for row in left["BuildCache"] if not row["Shared"]]) == ([], [], [])


@pytest.mark.covers(
    "cli:system prune", "cli:system prune --all", "cli:system prune --force", "cli:system prune --volumes", "cli:system prune --filter"
)
def test_a_dry_run_says_what_a_system_prune_does(busy: Daemon) -> None:
    told = busy.lamina("system", "prune", "-a", "--volumes", "--dry-run").stdout
    before = on_disk(busy)
    assert on_disk(busy) == before
    assert told.splitlines()[0] == "Would delete Containers:"
    assert "untagged: app:1" in told and "untagged: other:1" in told
    assert "Would delete build cache objects:" in told
    assert "Would delete Networks:\nspare\n" in told
    assert busy.docker("system", "prune", "-a", "-f", "--filter", "label=nothing").stdout.endswith("Total reclaimed space: 0B\n")
    done = busy.docker("system", "prune", "-a", "--volumes", "-f").stdout
    images = [line for line in told.splitlines() if line.startswith(("untagged: ", "deleted: "))]
    assert images == [line for line in done.splitlines() if line.startswith(("untagged: ", "deleted: "))]
    assert told.splitlines()[-1].removeprefix("Would reclaim: ") == done.splitlines()[-1].removeprefix("Total reclaimed space: ")
    assert busy.docker("images", "-aq").stdout == ""
    assert [row["Name"] for row in usage(busy)["Volumes"]] == ["named"]


@pytest.mark.covers("cli:image prune --filter", "cli:builder prune --filter", "cli:builder prune --all", "cli:builder prune --keep-storage")
def test_prunes_take_filters_and_dry_runs(busy: Daemon) -> None:
    images = busy.docker("images", "-aq").stdout
    assert "Would delete Images:" in busy.lamina("image", "prune", "--dry-run").stdout
    assert "untagged: other:1" in busy.lamina("image", "prune", "-a", "--dry-run").stdout
    assert "Would delete" not in busy.lamina("image", "prune", "-a", "--dry-run", "--filter", "until=1h").stdout
    assert "Would delete" not in busy.lamina("builder", "prune", "--dry-run", "--filter", "until=1h").stdout
    assert "Would delete build cache objects:" in busy.lamina("builder", "prune", "--dry-run").stdout
    for words in (["--dry-run"], ["-f"]):
        refused = busy.lamina("image", "prune", *words, "--filter", "dangling=false", code=1).stderr
        assert "invalid filter 'dangling=false,true'" in refused
    assert "invalid filter" in busy.docker("image", "prune", "-f", "--filter", "dangling=false", code=1).stderr
    assert busy.docker("images", "-aq").stdout == images
    assert busy.docker("image", "prune", "-f", "--filter", "label=n=2").stdout == "Total reclaimed space: 0B\n"
    assert (
        busy.docker("builder", "prune", "-f", "--filter", "until=1h", "--filter", "unused-for=1h").stdout == "Total reclaimed space: 0B\n"
    )
    assert busy.docker("builder", "prune", "-f", "--keep-storage", "1GB").stdout == "Total reclaimed space: 0B\n"
    assert "Deleted build cache objects:" in busy.docker("builder", "prune", "-af").stdout
    assert "Deleted Images:" in busy.lamina("image", "prune", "-f", "--filter", "label=n=1").stdout
    for words in (["image", "prune"], ["builder", "prune"], ["system", "prune"]):
        done = busy.lamina(*words, "-f", "--filter", "nonsense=1", code=1)
        assert len(done.stderr.splitlines()) <= 2 and "nonsense" in done.stderr


def test_folders_of_cache_mounts_are_build_cache(busy: Daemon) -> None:
    (row,) = [row for row in usage(busy)["BuildCache"] if row["Type"] == "exec.cachemount"]
    assert (row["Description"], row["InUse"], row["Shared"]) == ("cache mount kept", False, False)
    assert int(str(row["Size"])) >= 4096
    assert str(row["ID"]) in busy.lamina("builder", "prune", "--dry-run", "--filter", "type=exec.cachemount").stdout
    assert str(row["ID"]) not in busy.lamina("builder", "prune", "--dry-run", "--filter", "type=regular").stdout
    assert busy.docker("builder", "prune", "-f", "--filter", "type=exec.cachemount", "--keep-storage", "1GB").stdout.endswith(" 0B\n")
    assert str(row["ID"]) in busy.docker("builder", "prune", "-f", "--filter", "type=exec.cachemount").stdout
    assert [row for row in usage(busy)["BuildCache"] if row["Type"] == "exec.cachemount"] == []
    assert list((busy.data / "caches").iterdir()) == []


@pytest.mark.docker_cli(23)
def test_both_clis_show_the_same_details(busy: Daemon) -> None:
    theirs, ours = (
        [
            re.sub(r"(\d+|About an?|Less than a) (second|minute|hour)s? ago", "then", line).split()
            for line in sorted(run("system", "df", "-v").stdout.splitlines())
        ]
        for run in (busy.docker, busy.lamina)
    )
    assert ours == theirs
    rows = [line.split()[:2] for line in busy.lamina("system", "df").stdout.splitlines()]
    assert rows == [line.split()[:2] for line in busy.docker("system", "df").stdout.splitlines()]
    assert (
        busy.lamina("system", "df", "--format", "{{.Type}} {{.TotalCount}}").stdout
        == busy.docker("system", "df", "--format", "{{.Type}} {{.TotalCount}}").stdout
    )
    assert "no field 'Nope'" in busy.lamina("system", "df", "--format", "{{.Nope}}", code=1).stderr


def test_docker_py_prunes_and_counts(busy: Daemon) -> None:
    import docker

    client = docker.DockerClient(base_url=busy.host)
    try:
        assert client.df()["LayersSize"] > 0
        assert client.api.prune_builds(all=True)["SpaceReclaimed"] > 0
        assert client.images.prune(filters={"dangling": False})["SpaceReclaimed"] > 0
    finally:
        client.close()
