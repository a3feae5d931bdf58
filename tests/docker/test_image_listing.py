"""`images`, by the real docker CLI and by Lamina's own: the same rows, the same choice."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.conftest import BASE
from tests.harness import Daemon

NAMES = ("listed:1", "listed:2", "team/listed:1", "registry.example:5000/team/sub/listed:1")


@pytest.fixture(scope="module")
def listed(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with an image of four names, one without, and the steps of a build between."""
    context = tmp_path_factory.mktemp("listed")
    (context / "Dockerfile").write_text(f"FROM {BASE}\nLABEL listed=old\nENV step=1\nCMD true\n")
    daemon.docker("build", "-q", "-t", "listed:1", str(context))
    (context / "Dockerfile").write_text(f"FROM {BASE}\nLABEL listed=new\nENV step=1\nCMD true\n")
    daemon.docker("build", "-q", "-t", "listed:1", str(context))
    for name in NAMES[1:]:
        daemon.docker("tag", "listed:1", name)
    yield daemon
    daemon.docker("rmi", *NAMES)
    daemon.docker("image", "prune", "-f")


def both(daemon: Daemon, *words: str) -> str:
    """What both CLIs print, which must be the same.

    Go's maps have no order, so an image's repositories come in any by docker.
    """
    theirs, ours = daemon.docker(*words).stdout, daemon.lamina(*words).stdout
    assert sorted(_ageless(ours)) == sorted(_ageless(theirs))
    return theirs


def _ageless(text: str) -> list[str]:
    """Lines without ages, which tick between two commands, and the width of their column with them."""
    age = re.compile(r"((\d+|About an?|Less than a) (second|minute|hour)s? ago|CREATED) *")
    return [age.sub("then ", line) for line in text.splitlines()]


@pytest.mark.covers("cli:images", "cli:images --no-trunc", "cli:images --digests", "cli:images --quiet")
@pytest.mark.parametrize("options", [(), ("--no-trunc",), ("--digests",), ("-q",), ("-q", "--no-trunc"), ("-a",)])
@pytest.mark.docker_cli(0, 29)
def test_both_clis_print_the_same_table(listed: Daemon, options: tuple[str, ...]) -> None:
    text = both(listed, "images", *options)
    if "-q" not in options:
        repositories = {tuple(line.split()[:2]) for line in text.splitlines()[1:]}
        assert {("registry.example:5000/team/sub/listed", "1"), ("team/listed", "1"), ("<none>", "<none>")} <= repositories


@pytest.mark.covers("cli:images --all")
def test_only_all_shows_the_steps_of_builds(listed: Daemon) -> None:
    shown = set(listed.docker("images", "-q").stdout.split())
    every = set(listed.docker("images", "-aq").stdout.split())
    assert shown < every
    assert listed.lamina("images", "-aq").stdout.split() == listed.docker("images", "-aq").stdout.split()


@pytest.mark.covers("cli:images --format")
@pytest.mark.docker_cli(0, 29)
def test_templates_have_all_fields(listed: Daemon) -> None:
    fields = " ".join(f"{{{{.{name}}}}}" for name in ("ID", "Repository", "Tag", "Digest", "CreatedSince", "CreatedAt", "Size"))
    assert len(both(listed, "images", "--format", fields, "listed:1").splitlines()) == 1
    both(listed, "images", "--format", "table {{.Repository}}\t{{.Tag}}\t{{.CreatedAt}}")
    theirs, ours = (
        [json.loads(line) for line in run("images", "--format", "{{json .}}").stdout.splitlines()] for run in (listed.docker, listed.lamina)
    )
    for row in (*theirs, *ours):
        row.pop("VirtualSize")  # gone from newer clients, which print it with another precision
        row.pop("CreatedSince")
    assert sorted(map(str, map(sorted, map(dict.items, ours)))) == sorted(map(str, map(sorted, map(dict.items, theirs))))


def test_an_unknown_field_is_one_sentence_even_where_nothing_is_listed(listed: Daemon) -> None:
    for words in ((), ("nothing/here",)):
        done = listed.lamina("images", "--format", "{{.Nonsense}}", *words, code=1)
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
        assert "no field 'Nonsense'" in done.stderr


def names(daemon: Daemon, *filters: str) -> set[str]:
    words = [word for text in filters for word in ("-f", text)]
    rows = both(daemon, "images", "--format", "{{.Repository}}:{{.Tag}}", *words).split()
    return {row for row in rows if "listed" in row or "<none>" in row}


@pytest.mark.covers("cli:images --filter")
@pytest.mark.docker_cli(0, 29)
def test_filters_choose_as_dockers(listed: Daemon) -> None:
    assert names(listed, "reference=*") == {"listed:1", "listed:2"}
    assert names(listed, "reference=*:2") == {"listed:2"}
    assert names(listed, "reference=*/listed") == {"team/listed:1"}
    assert names(listed, "reference=registry.example:5000/*/*/listed") == {"registry.example:5000/team/sub/listed:1"}
    assert names(listed, "reference=registry.example:5000/*") == set()
    assert names(listed, "label=listed=new") == set(NAMES)
    assert names(listed, "label=listed") == {*NAMES, "<none>:<none>"}
    assert names(listed, "label=listed=old") == names(listed, "dangling=true", "label=listed") == {"<none>:<none>"}
    assert names(listed, "dangling=false", "label=listed") == set(NAMES)
    identity = listed.docker("images", "-q", BASE).stdout.strip()
    assert set(NAMES) <= names(listed, f"since={BASE}") == names(listed, f"since={identity}")
    old = listed.docker("images", "-q", "-f", "label=listed=old").stdout.strip()
    assert names(listed, "before=listed:1", "label=listed") == names(listed, f"since={old}", "label=listed=old") | {"<none>:<none>"}
    assert names(listed, "until=1h", "label=listed") == set()
    assert names(listed, "until=2999-01-01") >= set(NAMES)


def test_a_filter_that_is_none_is_one_sentence(listed: Daemon) -> None:
    for text in ("nonsense=1", "until=soon", "dangling=maybe", "reference=[a", "before=not/here"):
        for run in (listed.docker, listed.lamina):
            done = run("images", "-f", text, code=1)
            assert len(done.stderr.strip().splitlines()) <= 2, done.stderr
            assert "Traceback" not in done.stderr


def test_the_tree_of_layers_is_also_spelled_with_one_dash(listed: Daemon) -> None:
    text = listed.lamina("images", "-tree").stdout
    assert (
        text
        == listed.lamina("images", "--tree").stdout
        == listed.lamina("image", "tree").stdout
        == listed.lamina("image", "ls", "-tree").stdout
    )
    assert "[listed:1] [listed:2] [registry.example:5000/team/sub/listed:1] [team/listed:1]" in text


@pytest.mark.covers("cli:images --tree")
def test_dockers_own_tree_shows_platforms(listed: Daemon) -> None:
    text = listed.docker("images", "--tree").stdout
    assert "linux/amd64" in text or "linux/arm64" in text
    assert "team/listed:1" in text
    image = next(row for row in json.loads(listed.curl("/v1.47/images/json?manifests=1")) if "listed:1" in (row["RepoTags"] or ()))
    assert [row["Size"]["Total"] for row in image["Manifests"]] == [image["Size"]]


def test_the_group_has_the_same_commands(daemon: Daemon, tmp_path: Path) -> None:
    for words in (("ls",), ("ls", "-q"), ("inspect", BASE), ("history", BASE)):
        plain = words if words[0] in ("inspect", "history") else ("images", *words[1:])
        assert _ageless(daemon.lamina("image", *words).stdout) == _ageless(daemon.lamina(*plain).stdout)


def test_an_image_without_layers_has_an_empty_root(listed: Daemon, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nLABEL a=b\n")
    listed.docker("build", "-q", "-t", "listed/empty:1", str(tmp_path))
    assert listed.lamina("ls", "listed/empty:1").stdout == ""
    assert listed.lamina("blame", "listed/empty:1").stdout == ""
    assert json.loads(listed.lamina("blame", "--format", "json", "listed/empty:1").stdout)["entries"] == []
    listed.docker("rmi", "listed/empty:1")


def test_older_versions_of_the_api_have_the_size_of_images_twice(listed: Daemon) -> None:
    """The CLI of 20.10 counts with the second in `system df`."""
    for version, there in (("v1.41", True), ("v1.43", True), ("v1.44", False)):
        rows = json.loads(listed.curl(f"/{version}/images/json"))
        rows += json.loads(listed.curl(f"/{version}/system/df"))["Images"]
        rows.append(json.loads(listed.curl(f"/{version}/images/listed:1/json")))
        assert [row.get("VirtualSize") for row in rows] == [row["Size"] if there else None for row in rows]
