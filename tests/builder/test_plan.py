from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.builder import vertex, wording
from lamina.builder.arguments import Arguments, unused
from lamina.builder.stages import find_target, needed
from lamina.dockerfile import ast
from lamina.dockerfile.errors import DockerfileError
from lamina.dockerfile.parser import parse, parse_changes
from lamina.image.configure import InvalidPort, apply, exposed
from lamina.spec.config import ContainerConfig
from lamina.spec.digest import Digest


def change_of(text: str) -> ast.Instruction:
    [instruction], _ = parse_changes([text])
    return instruction


def names(text: str, target: str = "") -> list[str]:
    dockerfile = parse(text)
    bases = {stage.index: stage.start.base for stage in dockerfile.stages}
    return [stage.name for stage in needed(dockerfile, find_target(dockerfile, target), bases)]


def test_stages_are_needed_through_from_and_copy() -> None:
    text = "FROM x AS a\nFROM x AS b\nFROM a AS c\nFROM x AS d\nCOPY --from=b / /\nCOPY --from=c / /\nFROM d AS e\n"
    assert names(text, "a") == ["a"]
    assert names(text, "c") == ["a", "c"]
    assert names(text) == ["a", "b", "c", "d", "e"]
    assert names(text, "0") == ["a"]


def test_a_stage_named_like_an_image_hides_it_only_below() -> None:
    assert names("FROM base AS base\nFROM base AS last\n") == ["base", "last"]


@pytest.mark.parametrize(
    ("flag", "why"),
    [
        ("--from=1", "refers to current build stage"),
        ("--from=A", "refers to current build stage"),
        ("--from=2", "refers to a later build stage"),
    ],
)
def test_a_stage_cannot_copy_from_itself_or_a_later_one(flag: str, why: str) -> None:
    with pytest.raises(DockerfileError, match=why):
        names(f"FROM x\nFROM x AS a\nCOPY {flag} / /\nFROM a\n")


def test_arguments_before_from_are_seen_only_where_declared_again() -> None:
    outer = Arguments(given={"A": "given"}).declare_outer([("A", "1"), ("B", "2")])
    assert outer.stage().scope({}) == {}
    stage = outer.stage().declare([("A", None), ("B", None), ("C", None)])
    assert stage.visible({}) == {"A": "given", "B": "2"}
    assert stage.visible({"A": "env"}) == {"B": "2"}
    assert stage.scope({"A": "env"}) == {"A": "env", "B": "2"}


def test_as_with_buildkit_the_later_of_an_argument_and_a_variable_counts() -> None:
    env = {"A": "env", "B": "env"}
    later = Arguments().declare([("A", "arg"), ("B", None)], over=True)
    assert later.scope(env) == {"A": "arg", "B": "env"}
    assert later.environment(env) == later.visible(env) == {"A": "arg"}
    assert later.declare([("A", None)], over=True).scope(env)["A"] == "arg"
    assert later.assigned(["A"]).scope(env) == later.based().scope(env) == env
    assert later.stage().scope(env) == env


def test_proxies_reach_commands_but_count_only_once_declared() -> None:
    arguments = Arguments(given={"http_proxy": "p", "other": "o"})
    assert arguments.environment({}) == {"http_proxy": "p"}
    assert arguments.visible({}) == {}
    assert arguments.declare([("http_proxy", None)]).visible({}) == {"http_proxy": "p"}


def test_unused_arguments_are_those_no_stage_declares() -> None:
    dockerfile = parse("ARG A\nFROM x\nARG B\nFROM y\nARG C\n")
    assert unused(["C", "A", "HTTPS_PROXY", "BUILDKIT_INLINE_CACHE", "z", "y"], dockerfile) == ["y", "z"]


def test_a_vertex_is_its_content() -> None:
    root, files = Digest.of(b"root"), Digest.of(b"files")
    one = vertex.copy(root, files, target="/x", chown="", chmod="", unpack=False)
    same = vertex.copy(root, files, target="/x", chown="", chmod="", unpack=False)
    assert one.digest == same.digest
    others = {
        vertex.copy(files, root, target="/x", chown="", chmod="", unpack=False).digest,
        vertex.copy(root, files, target="/y", chown="", chmod="", unpack=False).digest,
        vertex.copy(root, files, target="/x", chown="0", chmod="", unpack=False).digest,
        vertex.copy(root, files, target="/x", chown="", chmod="", unpack=True).digest,
        vertex.copy(None, files, target="/x", chown="", chmod="", unpack=False).digest,
    }
    assert len(others) == 5 and one.digest not in others


@given(st.tuples(st.lists(st.text()), st.text(), st.text()), st.tuples(st.lists(st.text()), st.text(), st.text()))
def test_commands_that_differ_never_share_a_digest(a: tuple[list[str], str, str], b: tuple[list[str], str, str]) -> None:
    one, other = (vertex.execute(None, tuple(argv), env=(cwd,), cwd=cwd, user=user, network="none") for argv, cwd, user in (a, b))
    assert (one.digest == other.digest) == (a == b)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ('CMD ["a\\"b", "ü", "\\u0001"]', '/bin/sh -c #(nop)  CMD ["a\\"b" "ü" "\\x01"]'),
        ("ENTRYPOINT x", '/bin/sh -c #(nop)  ENTRYPOINT ["/bin/sh" "-c" "x"]'),
        ("VOLUME /a /b", "/bin/sh -c #(nop)  VOLUME [/a /b]"),
        ("EXPOSE 80 53/udp", "/bin/sh -c #(nop)  EXPOSE 53/udp 80"),
        (
            "HEALTHCHECK --interval=1m30s --timeout=1500ms --retries=3 CMD true",
            '/bin/sh -c #(nop)  HEALTHCHECK &{["CMD-SHELL" "true"] "1m30s" "1.5s" "0s" "0s" \'\\x03\'}',
        ),
        ("ONBUILD RUN a", "/bin/sh -c #(nop)  ONBUILD RUN a"),
    ],
)
def test_history_is_written_as_docker_writes_it(change: str, told: str) -> None:
    instruction, before = change_of(change), ContainerConfig()
    assert wording.created_by(instruction, before, apply(before, instruction)) == told


def test_a_command_is_told_with_the_arguments_it_saw() -> None:
    assert wording.run(("/bin/sh", "-c", "x"), {}) == "/bin/sh -c x"
    assert wording.run(("x",), {"B": "2", "A": "1"}) == "|2 A=1 B=2 x"


def test_an_entrypoint_clears_an_inherited_command_but_not_one_set_here() -> None:
    config = ContainerConfig(cmd=("old",))
    assert apply(config, change_of('ENTRYPOINT ["e"]')).cmd == ()
    assert apply(config, change_of('ENTRYPOINT ["e"]'), cmd_set=True).cmd == ("old",)


def test_env_keeps_its_place_and_workdir_is_relative() -> None:
    config = ContainerConfig(env=("A=1", "B=2"), working_dir="/w")
    assert apply(config, change_of("ENV A=3 C=4")).env == ("A=3", "B=2", "C=4")
    assert apply(config, change_of("WORKDIR x/../y")).working_dir == "/w/y"
    assert apply(config, change_of("WORKDIR //z/")).working_dir == "/z"


@pytest.mark.parametrize(
    ("text", "ports"), [("80", ["80/tcp"]), ("53/UDP", ["53/udp"]), ("1-3", ["1/tcp", "2/tcp", "3/tcp"]), ("8080:80", ["80/tcp"])]
)
def test_ports_are_read_as_docker_reads_them(text: str, ports: list[str]) -> None:
    assert list(exposed(text)) == ports


@pytest.mark.parametrize("text", ["", "x", "80/icmp", "99999", "3-1", "1-", "-1"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(InvalidPort):
        list(exposed(text))
