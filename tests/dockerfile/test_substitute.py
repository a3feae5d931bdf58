from __future__ import annotations

import pytest

from lamina.dockerfile import ast
from lamina.dockerfile.errors import DockerfileError
from lamina.dockerfile.parser import parse_one
from lamina.dockerfile.substitute import expanded


def test_a_label_may_have_an_empty_name_and_a_variable_may_not() -> None:
    assert expanded(parse_one('LABEL ""=x', name="Dockerfile"), {}) == ast.Label(pairs=(("", "x"),), text='LABEL ""=x')
    with pytest.raises(DockerfileError, match="ENV name is empty"):
        expanded(parse_one('ENV ""=x', name="Dockerfile"), {})
