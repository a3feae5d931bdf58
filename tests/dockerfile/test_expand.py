from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.dockerfile.errors import DockerfileError
from lamina.dockerfile.expand import Expander

ENV = {"x": "a/b/c.tar.gz", "E": "", "P": "80 443"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$x", "a/b/c.tar.gz"),
        ("${x}y", "a/b/c.tar.gzy"),
        ("$nope.", "."),
        ("${y:-d}", "d"),
        ("${E:-d}", "d"),
        ("${E-d}", ""),
        ("${y:-${x}}", "a/b/c.tar.gz"),
        ("${x:+p}", "p"),
        ("${E:+p}", ""),
        ("${E+p}", "p"),
        ("${x:?no}", "a/b/c.tar.gz"),
        ("${x#*/}", "b/c.tar.gz"),
        ("${x##*/}", "c.tar.gz"),
        ("${x%.*}", "a/b/c.tar"),
        ("${x%%.*}", "a/b/c"),
        ("${x#z}", "a/b/c.tar.gz"),
        ("${x/b/Z}", "a/Z/c.tar.gz"),
        ("${x//\\//-}", "a-b-c.tar.gz"),
        ("${x/?b/Z}", "aZ/c.tar.gz"),
        ('"a $E b"', "a  b"),
        ("'a $x'", "a $x"),
        ("\\$x", "$x"),
        ('"\\$x \\n"', "$x \\n"),
        ("a\\ b", "a b"),
        ("$", "$"),
        ("$5a", "a"),
        ('a"b\'c"d', "ab'cd"),
    ],
)
def test_a_word_expands_as_buildkit_does(text: str, expected: str) -> None:
    assert Expander().word(text, ENV) == expected


def test_words_split_at_blanks_that_come_from_values() -> None:
    assert Expander().words('$P "a b" c\\ d', ENV) == ["80", "443", "a b", "c d"]


def test_the_backtick_can_be_the_escape() -> None:
    assert Expander("`").word("c:\\x `$x", ENV) == "c:\\x $x"


def test_here_documents_keep_their_quotes() -> None:
    assert Expander().inline("echo \"$E\" '$x' \\$x\n", ENV) == "echo \"\" 'a/b/c.tar.gz' $x\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${y:?is needed}", "y: is needed"),
        ("${y?}", "y: is not allowed to be unset"),
        ("${E:?}", "E: is not allowed to be empty"),
        ("${x", "missing '}'"),
        ("${}", "bad substitution"),
        ("${x^}", "unsupported modifier"),
        ("'a", "missing closing single quote"),
        ('"a', "missing closing double quote"),
        ("${x#\\a}", "invalid escape"),
        ("${a:-" * 100, "nested too deeply"),
    ],
)
def test_what_cannot_be_expanded_says_why(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        Expander().word(text, ENV)
    assert message in caught.value.message


@given(st.text(alphabet="$x{}:-+?#%/*\\\"'` aE", max_size=30))
def test_any_word_is_expanded_or_refused(text: str) -> None:
    for options in (Expander(), Expander("`"), Expander(keep_unset=True, raw_quotes=True, raw_escapes=True)):
        try:
            options.word(text, ENV)
            options.words(text, ENV)
        except DockerfileError:
            pass


@given(st.text(alphabet="abc/ .", max_size=30))
def test_text_without_special_characters_stays_as_it_is(text: str) -> None:
    assert Expander().word(text, {}) == text
    assert Expander().words(text, {}) == text.split()


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    # One that tries all ways to divide the text never comes back: the run's time limit says so.
    assert Expander().word("${x##" + "*a" * 30 + "}", {"x": "a" * 2000 + "b"}) == "b"
