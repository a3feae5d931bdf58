from __future__ import annotations

import pytest

from lamina.dockerfile import ast
from lamina.dockerfile.errors import DockerfileError
from lamina.dockerfile.parser import parse_one
from lamina.dockerfile.substitute import expanded

WORDS = (
    "USER a%sb",
    "ENV A=a%sb",
    "ENV A%sB=a",
    "WORKDIR /a%sb",
    "LABEL a=a%sb",
    "VOLUME /a%sb",
    "COPY f /a%sb",
    "ADD f%s /",
    "ARG A=a%sb",
)
COMMANDS = ("CMD a%sb", 'CMD ["a%sb"]', "ENTRYPOINT a%sb", "RUN a%sb", "HEALTHCHECK CMD a%sb", 'SHELL ["a%sb"]')


@pytest.mark.parametrize(
    "line", [line % "\0" for line in (*WORDS, *COMMANDS) if "[" not in line] + [line % "\\u0000" for line in COMMANDS if "[" in line]
)
def test_a_nul_is_refused_in_one_sentence(line: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        expanded(parse_one(line, name="Dockerfile"), {})
    assert caught.value.reason == f"{line.split()[0]} must not hold a NUL"


def test_a_nul_may_not_come_from_a_variable_either() -> None:
    with pytest.raises(DockerfileError, match="WORKDIR must not hold a NUL"):
        expanded(parse_one("WORKDIR /$A", name="Dockerfile"), {"A": "a\0b"})


def test_a_label_may_have_an_empty_name_and_a_variable_may_not() -> None:
    assert expanded(parse_one('LABEL ""=x', name="Dockerfile"), {}) == ast.Label(pairs=(("", "x"),), text='LABEL ""=x')
    with pytest.raises(DockerfileError, match="ENV name is empty"):
        expanded(parse_one('ENV ""=x', name="Dockerfile"), {})
