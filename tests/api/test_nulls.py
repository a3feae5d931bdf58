"""Null in clients' documents is what it is to Go: absent, or a zero value."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lamina.api.message import InvalidParameter, decode
from lamina.apitypes.requests import NetworkCreate


class Inner(msgspec.Struct, rename="pascal"):
    """Fields without a place for null, and one with."""

    text: str = "default"
    number: int = 7
    maybe: str | None = "x"


class Outer(msgspec.Struct, rename="pascal"):
    """Everything a document is made of."""

    inner: Inner = msgspec.field(default_factory=Inner)
    perhaps: Inner | None = None
    named: dict[str, Inner] = {}
    labels: dict[str, str] = {}
    words: tuple[str, ...] = ()
    anything: Any = 1


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('{"Inner":null,"Labels":null,"Words":null,"Anything":null}', Outer(anything=None)),
        ('{"Inner":{"Text":null,"Number":null,"Maybe":null}}', Outer(inner=Inner(maybe=None))),
        ('{"Perhaps":{"Text":null}}', Outer(perhaps=Inner())),
        ('{"Named":{"a":null,"b":{"Text":null}}}', Outer(named={"a": Inner(), "b": Inner()})),
        ('{"Labels":{"a":null},"Words":["a",null]}', Outer(labels={"a": ""}, words=("a", ""))),
        ('{"Unknown":null,"Words":["a"],"Inner":null}', Outer(words=("a",))),
    ],
)
def test_null_is_absent_or_zero(text: str, meant: Outer) -> None:
    assert decode(text.encode(), Outer) == meant


def test_what_is_wrong_besides_is_still_refused() -> None:
    with pytest.raises(InvalidParameter, match="Expected `object`"):
        decode(b'{"Inner":null,"Labels":"text"}', Outer)
    with pytest.raises(InvalidParameter):
        decode(b"null", Outer)


def test_a_network_as_ansible_asks_for_it() -> None:
    asked = (
        b'{"Name":"n","IPAM":{"Driver":null,"Config":[{"Subnet":"10.7.0.0/24","IPRange":null,"Gateway":null,"AuxiliaryAddresses":null}]}}'
    )
    assert decode(asked, NetworkCreate).name == "n"
