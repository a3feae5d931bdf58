from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.dockerfile.errors import DockerfileError
from lamina.dockerfile.mounts import Mount, origin_of, parse_mount


def test_a_mount_is_a_read_only_bind_of_the_context_unless_it_says_otherwise() -> None:
    assert parse_mount("target=/x") == Mount(target="/x")
    assert parse_mount("type=bind,from=a,src=/s,dst=/x,rw") == Mount(origin="a", source="/s", target="/x", readonly=False)
    assert parse_mount("type=cache,target=/c,id=i,sharing=locked,mode=0755,uid=7,gid=8") == Mount(
        "cache", target="/c", id="i", sharing="locked", mode=0o755, uid=7, gid=8, readonly=False
    )
    assert parse_mount('type=tmpfs,"target=/a,b",size=1.5m').size == 3 << 19
    assert parse_mount('type=tmpfs,"target=/a,b"').target == "/a,b"


def test_variables_are_replaced_in_values_but_not_in_from() -> None:
    assert parse_mount("type=$T,target=/x", lambda word: word.replace("$T", "cache")).kind == "cache"
    with pytest.raises(DockerfileError, match="doesn't support variable expansion"):
        parse_mount("from=$X,target=/x")
    assert origin_of("type=bind,from=stage,target=/x") == "stage"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=volume,target=/x", "unsupported mount type 'volume'"),
        ("tpye=bind", "unexpected key 'tpye'"),
        ("target", "must be a key=value pair"),
        ("type=cache,sharing=some", "unsupported sharing value"),
        ("type=bind,target=/x,mode=0755", "unexpected key 'mode' for mount type 'bind'"),
        ("type=bind,target=/x,sharing=shared", "unexpected key 'sharing'"),
        ("type=tmpfs,size=much", "invalid value for size"),
        (f"type=tmpfs,size={'9' * 400}", "invalid value for size"),
        ("type=cache,mode=9", "invalid value '9' for mode"),
        ("type=cache,uid=x", "invalid value 'x' for uid"),
        ("type=bind,ro=perhaps", "invalid value for ro"),
        ("type=secret,from=x,id=y", "should not have a from"),
        ("type=secret", "one of source, target required"),
        ('type=bind,"target', "failed to parse csv"),
    ],
)
def test_what_is_no_mount_is_one_sentence(text: str, message: str) -> None:
    with pytest.raises(DockerfileError, match=message):
        parse_mount(text)


@given(st.text(max_size=60))
def test_any_text_is_a_mount_or_is_refused(text: str) -> None:
    try:
        parse_mount(text)
    except DockerfileError as error:
        assert "\n" not in error.message
