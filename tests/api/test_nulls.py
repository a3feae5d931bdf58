"""Null in clients' documents is what it is to Go: absent, or a zero value; and so are keys in any case."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lamina.api.message import InvalidParameter, decode, fields
from lamina.apitypes.requests import CreateContainer, NetworkCreate


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


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('{"inner":{"TEXT":"a","number":null},"named":{"Key":{"text":"b"}}}', Outer(inner=Inner("a"), named={"Key": Inner("b")})),
        ('{"Labels":{"Key":"a"},"LABELS":{"key":"b"}}', Outer(labels={"key": "b"})),
        ('{"PERHAPS":{"mAYBE":"y"}}', Outer(perhaps=Inner(maybe="y"))),
    ],
)
def test_keys_may_have_any_case_but_for_those_that_are_data(text: str, meant: Outer) -> None:
    assert decode(text.encode(), Outer) == meant


def test_what_is_passed_on_has_the_specifications_keys() -> None:
    asked = b"""{"image":"x","env":["a=b"],"unknown":1,"hostconfig":{"MEMORY":5,"mounts":[{"type":"bind","bindoptions":{"nonrecursive":true}}],
        "portBindings":{"80/tcp":[{"hostport":"1"}]}},"networkingConfig":{"endpointsconfig":{"Net":{"ipamconfig":{"ipv4address":"10.0.0.2"}}}}}"""
    assert fields(asked, CreateContainer) == {
        "Image": "x",
        "Env": ["a=b"],
        "unknown": 1,
        "HostConfig": {
            "Memory": 5,
            "Mounts": [{"Type": "bind", "BindOptions": {"NonRecursive": True}}],
            "PortBindings": {"80/tcp": [{"HostPort": "1"}]},
        },
        "NetworkingConfig": {"EndpointsConfig": {"Net": {"IPAMConfig": {"IPv4Address": "10.0.0.2"}}}},
    }


@pytest.mark.parametrize(
    "text",
    [
        '"NetworkingConfig":{"EndpointsConfig":{"n":"text"}}', '"NetworkingConfig":{"EndpointsConfig":{"n":{"IPAMConfig":"10.0.0.2"}}}',
        '"NetworkingConfig":{"EndpointsConfig":{"n":{"Aliases":"a"}}}', '"Healthcheck":{"Interval":"1s"}', '"MacAddress":5',
        '"HostConfig":{"LogConfig":{"Config":{"max-size":10}}}', '"HostConfig":{"Mounts":[{"VolumeOptions":{"DriverConfig":"local"}}]}',
        '"HostConfig":{"Mounts":[{"TmpfsOptions":{"Mode":-1}}]}',
    ],
)  # fmt: skip
def test_what_lies_deep_in_a_create_has_a_type_too(text: str) -> None:
    with pytest.raises(InvalidParameter, match="Expected"):
        decode(f"{{{text}}}".encode(), CreateContainer)


def test_addresses_set_aside_are_a_map() -> None:
    with pytest.raises(InvalidParameter, match="Expected `object"):
        decode(b'{"Name":"n","IPAM":{"Config":[{"Subnet":"10.7.0.0/24","AuxiliaryAddresses":"10.7.0.1"}]}}', NetworkCreate)
