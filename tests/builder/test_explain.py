"""`build --explain`: each reason in words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.builder import manifest
from lamina.spec.reference import Reference
from tests.builder.lab import Lab


def reasons(lab: Lab, text: str, **options: object) -> list[str]:
    """What a build says of its steps."""
    return re.findall(r" ---> Cache (.*)\n", lab.build(text, explain=True, **options)[1])


@pytest.fixture
def built(lab: Lab) -> Lab:
    """A lab in which TEXT was built once."""
    lab.base()
    for name in ("src/a.py", "src/b.py", "src/c.py"):
        (lab.context / name).parent.mkdir(exist_ok=True)
        (lab.context / name).write_text(name)
    assert reasons(lab, TEXT) == ["miss: it was not built here before"] * 4
    return lab


TEXT = "FROM base\nARG VERSION=1\nRUN make\nCOPY src /src\nRUN test\n"


def test_nothing_is_explained_unless_asked(built: Lab) -> None:
    assert "Cache" not in built.build(TEXT)[1]


def test_a_hit_says_on_what(built: Lab) -> None:
    found = reasons(built, TEXT)
    assert all(re.fullmatch(r"hit: the same (instruction|files in the same place) on the same image [0-9a-f]{12}", each) for each in found)
    assert "files" in found[2]


def test_a_changed_file_is_named(built: Lab) -> None:
    (built.context / "src/b.py").write_text("changed")
    found = reasons(built, TEXT)
    assert found[2:] == ["miss: file changed: src/b.py", "miss: the files before it changed: an earlier step was done anew"]


def test_new_and_removed_files_are_named_and_many_are_counted(built: Lab) -> None:
    (built.context / "src/a.py").unlink()
    for name in ("d", "e", "f", "g"):
        (built.context / "src" / name).write_text("")
    assert reasons(built, TEXT)[2] == "miss: 4 files new: src/d, src/e, src/f and 1 more; file gone: src/a.py"


def test_a_build_argument_is_named_with_both_values(built: Lab) -> None:
    found = reasons(built, TEXT, build_args={"VERSION": "2"})
    assert found[1] == "miss: build argument VERSION was '1', is '2'"


@pytest.mark.parametrize("line", ["ENV M=$V", "LABEL v=${V:-none}", "USER $V"])
def test_what_an_instruction_names_is_named_and_nothing_else(built: Lab, line: str) -> None:
    text = f"FROM base\nARG V\nARG OTHER\nENV E=e\n{line}\n"
    reasons(built, text, build_args={"V": "1", "OTHER": "1"})
    assert reasons(built, text, build_args={"V": "2", "OTHER": "2"})[3] == "miss: build argument V was '1', is '2'"


def test_a_changed_text_is_shown_as_it_was(built: Lab) -> None:
    assert reasons(built, TEXT.replace("RUN make", "RUN make  all"))[1] == "miss: the instruction changed, it was 'RUN make'"


def test_a_variable_and_a_user_that_changed_above(built: Lab) -> None:
    text = "FROM base\nENV A=1\nUSER me\nRUN x\n"
    reasons(built, text)
    assert reasons(built, text.replace("A=1", "A=2"))[2] == "miss: environment variable A was '1', is '2'"
    assert reasons(built, text.replace("A=1", "A=2").replace("USER me", "USER 7"))[2] == "miss: the user was me, is 7"


def test_a_label_above_leaves_the_work_below_known(built: Lab) -> None:
    found = reasons(built, TEXT.replace("RUN make", "LABEL a=b\nRUN make"))
    assert found[2] == "hit: the same work was done on the same files; only the configuration before it is another"


def test_a_mount_and_a_network(built: Lab) -> None:
    text = "FROM base\nRUN --mount=source=src,target=/s z\n"
    reasons(built, text)
    (built.context / "src/a.py").write_text("new")
    assert reasons(built, text) == ["miss: what mount source=src,target=/s shows changed"]
    assert reasons(built, text, network="host") == ["miss: network was 'none', is 'host'"]


def test_no_cache_and_what_is_gone(built: Lab) -> None:
    assert reasons(built, TEXT, no_cache=True) == ["miss: --no-cache was given"] * 4
    built.build("FROM base\nRUN other\n", tags=(Reference.parse("gone"),))
    built.images.remove("gone", force=True)
    assert reasons(built, "FROM base\nRUN other\n") == ["miss: it was not built here before"]


def test_link_is_a_hit_on_another_image(built: Lab) -> None:
    built.base("other", x="x")
    reasons(built, "FROM base\nCOPY --link src /src\n")
    assert reasons(built, "FROM other\nCOPY --link src /src\n") == ["hit: --link makes the same layer on every image"]


@given(st.dictionaries(st.binary(min_size=1, max_size=9).filter(lambda path: b"\0" not in path), st.binary(max_size=4), max_size=8))
def test_a_manifest_gives_back_its_paths(records: dict[bytes, bytes]) -> None:
    packed = manifest.packed(list(records.items()))
    assert set(manifest.unpacked(packed)) == set(records)
    changed = manifest.packed([(path, record + b"!") for path, record in records.items()])
    found = manifest.changes(packed, changed)
    assert found is None if not records and not packed else found is not None and len(found[1]) == len(records)


def test_too_many_paths_are_not_kept() -> None:
    assert manifest.packed([(b"a", b"")] * (manifest.LIMIT + 1)) == ""
    assert manifest.changes("", manifest.packed([(b"a", b"")])) is None
