from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.dockerfile.ignore import Ignore, InvalidPattern


@pytest.mark.parametrize(
    ("patterns", "path", "excluded"),
    [
        ("*.o", "a.o", True),
        ("*.o", "d/a.o", False),
        ("**/*.o", "d/e/a.o", True),
        ("**/*.o", "a.o", True),
        ("d", "d/e/f", True),
        ("d/", "d/e", True),
        ("/d", "d", True),
        ("./d", "d", True),
        ("d/**", "d/e", True),
        ("d/**", "d", False),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("*\n!keep", "keep", False),
        ("*\n!keep", "keep/inside", False),
        ("*\n!d/keep", "d/keep", False),
        ("*\n!d/keep", "d/other", True),
        ("!keep\n*", "keep", True),
        ("# comment\n\n  a  ", "a", True),
        (".", "a", False),
        ("/", "a", False),
        ("**", "a/b", True),
        ("a.b", "axb", False),
        ("**.o", "d/a.o", True),
        ("**.o", "a.o", True),
        ("**.o", "d/a.op", False),
        ("**d", "README.md", True),
        ("**d", "b.md/x", True),
        ("**d?", "b.md", False),
        ("**d?", "x/dy", True),
        ("d/**/*.go\n!d/e", "d/e/f.go", True),
        ("d/**\n!d/e", "d/e/f.go", False),
        ("d/**/*.go\n!d/e/*", "d/e/f.go", False),
        ("a**t", "a.t", False),
        ("a**t", "ab/t", True),
    ],
)
def test_patterns_decide_as_mobys_do(patterns: str, path: str, excluded: bool) -> None:
    assert Ignore.parse(patterns).excludes(path) is excluded


def test_an_exception_below_keeps_an_excluded_directory_worth_reading() -> None:
    ignore = Ignore.parse("*\n!d/e/keep\n!x*/y")
    assert ignore.may_descend("d") and ignore.may_descend("d/e") and ignore.may_descend("xa")
    assert not ignore.may_descend("other")


@pytest.mark.parametrize("pattern", ["!", "[", "[a", "a\\", "[z-a]"])
def test_a_malformed_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidPattern):
        Ignore.parse(pattern)


@given(st.text(alphabet="ab*?[]!^-\\/.# \n", max_size=20), st.text(alphabet="ab/", min_size=1, max_size=8))
def test_any_pattern_is_accepted_or_refused(text: str, path: str) -> None:
    try:
        ignore = Ignore.parse(text)
    except InvalidPattern:
        return
    ignore.excludes(path)
    ignore.may_descend(path)
