"""--format: both command lines print the same for a template, and no text of an image reaches the terminal's controls."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.spec.digest import Digest
from tests.docker.conftest import BASE, serving
from tests.harness import Daemon

TEMPLATES = {
    "ps -a --no-trunc": (
        "{{.ID}} {{.Names}}", "table {{.Names}}\\t{{.Image}}", "{{upper .Names}}", "{{lower .Image}}", '{{split .Command " "}}',
        "{{title .State}}", "{{pad .Names 3 4}}|", "{{truncate .Command 5}}", "{{println .Names}}", '{{join (split .Names "o") "-"}}',
        '{{.Label "com.example.the-tier"}}', 'table {{.Names}}\\t{{.Label "com.example.the-tier"}}\\t{{.Labels}}', '{{.Label "no"}}',
        "{{.Mounts}} {{.LocalVolumes}} {{.Networks}} {{.Size}}", "{{.Ports}} {{.State}} {{.Labels}}", '{{printf "%-10s|%q" .Names .State}}',
        '{{if eq .Names "one"}}x{{else}}y{{end}}', "{{range $i, $e := split .Names \"\"}}{{$i}}{{$e}}{{end}}", "{{urlquery .Command}}",
        "{{html .Command}} {{js .Command}}", "{{json .Labels}}", "{{.CreatedAt}}", "{{len .Names}}", "{{with .Ports}}{{.}}{{else}}none{{end}}",
    ),
    "volume ls": ("{{.Name}} {{.Driver}} {{.Mountpoint}}", '{{.Label "kind"}}', 'table {{.Name}}\\t{{.Label "kind"}}', "{{.Links}} {{.Size}} {{.Group}}"),
    "network ls": ("{{json .}}", "{{.Name}} {{.ID}} {{.CreatedAt}}", '{{.Label "kind"}}', "{{.IPv4}} {{.IPv6}} {{.Internal}} {{.Scope}}"),
    "images": ("{{json .Tag}}", "{{.Repository}} {{.Tag}} {{.Digest}} {{.ID}} {{.Size}} {{.CreatedAt}}", "table {{.ID}}\\t{{.Size}}"),
    "history busybox:test": ("{{.ID}} {{.CreatedBy}} {{.Size}} {{.Comment}}", "table {{.ID}}\\t{{.Size}}"),
    "system df": ("{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}} {{.Reclaimable}}", "table {{.Type}}\\t{{.Size}}"),
    "inspect one": ("{{.ID}}", "{{.Id}}", "{{.HostConfig.CPUShares}} {{.HostConfig.NanoCPUs}}", "{{json .Config.Labels}}", "{{.State.OOMKilled}}"),
    "image inspect busybox:test": ("{{.ID}} {{.Os}}", "{{index .RepoTags 0}}", "{{len .RootFS.Layers}}"),
    "network inspect bridge": ("{{.ID}} {{.Name}}", "{{(index .IPAM.Config 0).Subnet}}"),
}  # fmt: skip


AGES = ("RunningFor", "CreatedSince")


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon of this module with a container, a volume and a network that have labels."""
    with serving(tmp_path_factory) as daemon:
        daemon.docker("volume", "create", "--label", "kind=disk", "v1")
        daemon.docker("network", "create", "--label", "kind=wire", "n1")
        labels = ("-l", "com.example.the-tier=wéb,x", "-l", "b=c d")
        daemon.docker(
            "create", "--name", "one", *labels, "-v", "v1:/v", "-m", "64m", "--cpu-shares", "512", BASE, "sh", "-c", "echo 'a <b>'"
        )
        daemon.docker("create", "--name", "two", BASE, "true")
        yield daemon


@pytest.mark.covers("cli:ps --format", "cli:volume ls --format", "cli:network ls --format", "cli:inspect --format")
@pytest.mark.docker_cli(28)
@pytest.mark.parametrize("command", TEMPLATES)
def test_both_command_lines_print_the_same_for_a_template(settled: Daemon, command: str) -> None:
    for template in TEMPLATES[command]:
        words = (*command.split(), "--format", template)
        assert settled.lamina(*words).stdout == settled.docker(*words).stdout, template


@pytest.mark.docker_cli(28, 29)
@pytest.mark.parametrize("command", ["ps -a", "images", "volume ls", "network ls", "system df", "history busybox:test"])
def test_rows_as_json_have_dockers_fields(settled: Daemon, command: str) -> None:
    words = (*command.split(), "--format", "json")
    ours, theirs = ([json.loads(line) for line in run(*words).stdout.splitlines()] for run in (settled.lamina, settled.docker))
    assert len(ours) == len(theirs) > 0
    for mine, wanted in zip(ours, theirs, strict=True):
        assert list(mine) == list(wanted), "names and order"
        told = [{key: value for key, value in row.items() if value and key not in AGES} for row in (mine, wanted)]
        assert told[0] == told[1]


def hostile_archive() -> bytes:
    """An image whose texts and file names would speak to a terminal."""
    layer, archive, red = io.BytesIO(), io.BytesIO(), "\x1b[31m\x9b1m\x07"
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(f"{red}file\nname"))
    config = {
        "architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z", "author": red,
        "config": {"Cmd": [red, "\n"], "Labels": {red: red}},
        "history": [{"created": "2020-01-01T00:00:00Z", "created_by": f"RUN {red}", "comment": red}],
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(layer.getvalue()))]},
    }  # fmt: skip
    files = {
        "manifest.json": json.dumps([{"Config": "c.json", "RepoTags": ["hostile:1"], "Layers": ["l.tar"]}]).encode(),
        "c.json": json.dumps(config).encode(),
        "l.tar": layer.getvalue(),
    }
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return archive.getvalue()


def test_what_an_image_says_never_speaks_to_the_terminal(settled: Daemon) -> None:
    archive = hostile_archive()
    settled.docker("load", stdin=archive)
    settled.docker("create", "--name", "three", "hostile:1")
    for words in (
        ("history", "hostile:1"), ("history", "--no-trunc", "hostile:1"), ("layers", "hostile:1"), ("ls", "hostile:1:/"),
        ("ls", "-l", "hostile:1:/"), ("which", "hostile:1", "\x1b[31m\x9b1m\x07file\nname"), ("blame", "hostile:1"), ("images", "--tree"),
        ("image", "find", "*name"), ("image", "diff", "hostile:1", BASE), ("ps", "-a"), ("ps", "-a", "--no-trunc"), ("images",),
    ):  # fmt: skip
        shown = settled.lamina(*words).stdout
        assert shown and not [sign for sign in "\x1b\x9b\x07" if sign in shown], words
    upper = Path(json.loads(settled.docker("inspect", "three").stdout)[0]["GraphDriver"]["Data"]["UpperDir"])
    (upper / "made\x1b[31m\nby").write_text("")
    assert "A /made\\x1b[31m\\x0aby" in settled.lamina("diff", "three").stdout
    tree = settled.lamina("images", "--tree", "-i", "-", stdin=archive).stdout
    assert "\\x1b[31m" in tree and "\x1b" not in tree
    settled.docker("rm", "three")
    settled.docker("rmi", "hostile:1")


def test_a_name_that_reads_as_a_digest_is_refused(settled: Daemon) -> None:
    words = "refusing to create an ambiguous tag using digest algorithm as name"
    for run in (settled.docker, settled.lamina):
        assert words in run("tag", BASE, "sha256:abc", code=1).stderr
        assert words in run("commit", "two", "sha256:abc", code=1).stderr
    assert "sha256:abc" not in settled.docker("images").stdout.replace("   ", ":")


@pytest.mark.docker_cli(28, 29)
@pytest.mark.parametrize(
    "command",
    ["ps -a", "ps -as", "images", "images --digests", "images -q", "volume ls", "volume ls -q", "network ls", "network ls -q", "system df"],
)
def test_the_raw_format_is_dockers(settled: Daemon, command: str) -> None:
    words = [*command.split(), "--format", "raw"]
    assert settled.lamina(*words).stdout.splitlines() == settled.docker(*words).stdout.splitlines() != []


def test_lists_without_a_format_are_shown_as_the_clients_configuration_says(settled: Daemon) -> None:
    config = settled.root / "client/config.json"
    config.parent.mkdir(exist_ok=True)
    before = config.read_bytes() if config.exists() else b"{}"
    kinds = {"imagesFormat": "{{.ID}} i", "psFormat": "{{.Names}} p", "volumesFormat": "{{.Name}} v", "networksFormat": "table {{.Name}}"}
    try:
        config.write_text(json.dumps(kinds))
        for words in (("images",), ("ps", "-a"), ("volume", "ls"), ("network", "ls"), ("images", "-q"), ("ps", "--format", "{{.ID}}")):
            assert settled.lamina(*words).stdout == settled.docker(*words).stdout
        assert settled.lamina("ps", "-a").stdout.split() == ["two", "p", "one", "p"]
    finally:
        config.write_bytes(before)
