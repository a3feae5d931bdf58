from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.dockerfile import ast
from lamina.dockerfile.errors import DockerfileError
from lamina.dockerfile.instructions import READERS
from lamina.dockerfile.parser import parse, parse_changes


def steps(text: str) -> tuple[ast.Instruction, ...]:
    return parse("FROM scratch\n" + text).stages[0].steps


def only(text: str) -> ast.Instruction:
    (step,) = steps(text)
    return step


def refusal(text: str) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        parse(text)
    return caught.value


def test_an_unknown_instruction_is_refused_with_its_line_and_a_guess() -> None:
    error = refusal("FROM scratch\n\nRUNN true\n")
    assert error.message == "Dockerfile:3: unknown instruction: RUNN"
    assert error.hint == "did you mean RUN?"


def test_lines_count_from_the_first_line_of_an_instruction() -> None:
    run, cmd = steps("RUN a \\\n  # between\n  && b\nCMD c\n")
    assert (run.line, run.end_line, run.text) == (2, 4, "RUN a   && b")
    assert (cmd.line, cmd.end_line) == (5, 5)


def test_an_escaped_escape_at_the_end_does_not_continue_the_line() -> None:
    assert len(steps("RUN a \\\\\nRUN b\n")) == 2


def test_the_escape_directive_changes_what_continues_a_line() -> None:
    parsed = parse("# escape=`\nFROM scratch\nRUN dir c:\\`\n d\n")
    assert parsed.stages[0].steps[0].text == "RUN dir c:\\ d"
    assert parsed.escape == "`"


def test_directives_count_only_at_the_top() -> None:
    assert parse("# syntax=docker/dockerfile:1\nFROM a").syntax == "docker/dockerfile:1"
    assert parse("# a comment\n# syntax=docker/dockerfile:1\nFROM a").syntax == ""
    assert "only one escape" in refusal("# escape=`\n# escape=`\nFROM a").message


def test_a_lone_here_document_is_the_script() -> None:
    run = only("RUN <<EOF\necho a\necho b\nEOF\n")
    assert isinstance(run, ast.Run)
    assert run.command == ast.Command(("echo a\necho b\n",), shell=True)


def test_other_here_documents_are_left_to_the_shell() -> None:
    run = only("RUN cat <<A - <<B > /x\n1\nA\n2\nB\n")
    assert isinstance(run, ast.Run)
    assert run.command.args == ("cat <<A - <<B > /x\n1\nA\n2\nB",)


def test_here_documents_of_copy_are_files() -> None:
    copy = only("COPY a <<one <<-'two' /d/\n$x\none\n\tb\n\ttwo\n")
    assert isinstance(copy, ast.Copy)
    assert (copy.sources, copy.target) == (("a",), "/d/")
    assert copy.heredocs == (ast.Heredoc("one", "$x\n"), ast.Heredoc("two", "b\n", expand=False, chomp=True))


def test_a_here_document_without_end_names_the_line_that_opened_it() -> None:
    assert refusal("FROM a\nRUN <<EOF\nx\n").message == "Dockerfile:2: unterminated here-document: EOF"


def test_shift_operators_in_json_and_arithmetic_open_no_here_document() -> None:
    assert only('RUN ["echo", "<<EOF"]') == ast.Run(
        command=ast.Command(("echo", "<<EOF"), shell=False), line=2, end_line=2, text='RUN ["echo", "<<EOF"]'
    )
    assert len(steps("RUN echo $((1<<2))\nRUN true")) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('CMD ["/bin/bash"]', ast.Cmd(command=ast.Command(("/bin/bash",), shell=False))),
        ('CMD ["\\ud800x", "\\ud83d\\ude00"]', ast.Cmd(command=ast.Command(("\ufffdx", "\U0001f600"), shell=False))),
        ("CMD [not json", ast.Cmd(command=ast.Command(("[not json",), shell=True))),
        ("ENTRYPOINT top -b", ast.Entrypoint(command=ast.Command(("top -b",), shell=True))),
        ("ENV a=1 b='x y' c=\"d e\" f=g\\ h", ast.Env(pairs=(("a", "1"), ("b", "'x y'"), ("c", '"d e"'), ("f", "g\\ h")))),
        ("ENV a b  c", ast.Env(pairs=(("a", "b  c"),))),
        ("LABEL a.b=c", ast.Label(pairs=(("a.b", "c"),))),
        ("ARG a b=1 c=", ast.Arg(pairs=(("a", None), ("b", "1"), ("c", "")))),
        ("EXPOSE 80 53/udp", ast.Expose(ports=("53/udp", "80"))),
        ('VOLUME ["/a", "/b"]', ast.Volume(paths=("/a", "/b"))),
        ("WORKDIR /a b", ast.Workdir(path="/a b")),
        ("USER a:b", ast.User(user="a:b")),
        ('SHELL ["/bin/bash", "-c"]', ast.Shell(args=("/bin/bash", "-c"))),
        ("STOPSIGNAL 9", ast.StopSignal(signal="9")),
        ("MAINTAINER a b", ast.Maintainer(name="a b")),
        ("ONBUILD RUN true", ast.Onbuild(trigger="RUN true")),
        ("ONBUILD /usr/bin/make --all", ast.Onbuild(trigger="/usr/bin/make --all")),
        ("HEALTHCHECK NONE", ast.Healthcheck(command=None)),
        (
            "HEALTHCHECK --interval=1m30s --retries=3 CMD curl x",
            ast.Healthcheck(command=ast.Command(("curl x",), shell=True), interval=90 * 10**9, retries=3),
        ),
        (
            "COPY --from=0 --chown=1:2 --chmod=755 a b /c/",
            ast.Copy(sources=("a", "b"), target="/c/", origin="0", chown="1:2", chmod="755"),
        ),
        ('ADD ["a b", "/c"]', ast.Add(sources=("a b",), target="/c")),
        ("RUN --network=none true", ast.Run(command=ast.Command(("true",), shell=True), network="none")),
    ],
)
def test_each_instruction_has_its_value(text: str, expected: ast.Instruction) -> None:
    step = only(text)
    assert (step.text, step.line) == (text, 2)
    for field in expected.__dataclass_fields__.keys() - {"line", "end_line", "text"}:
        assert getattr(step, field) == getattr(expected, field)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Dockerfile: the Dockerfile cannot be empty"),
        ("RUN a", "Dockerfile:1: no build stage in current context: RUN"),
        ("FROM a b", "Dockerfile:1: FROM requires either one or three arguments"),
        ("FROM a AS 1x", "Dockerfile:1: invalid name for build stage: '1x', name can't start with a number or contain symbols"),
        ("FROM a AS x\nFROM b AS X", "Dockerfile:2: duplicate name for build stage: x"),
        ("FROM a\nCOPY x", "Dockerfile:2: COPY requires at least two arguments, but only 1 were provided"),
        ("FROM a\nCOPY x <<EOF\nEOF", "Dockerfile:2: COPY cannot accept a heredoc as a destination"),
        ("FROM a\nCOPY --form=b x y", "Dockerfile:2: unknown flag for COPY: --form"),
        ("FROM a\nCMD [1]", "Dockerfile:2: when using JSON array syntax, arrays must be comprised of strings only"),
        ("FROM a\nENV a=b c", "Dockerfile:2: can't find = in 'c'"),
        ("FROM a\nSHELL bash", "Dockerfile:2: SHELL requires the arguments to be in JSON form"),
        ("FROM a\nONBUILD FROM b", "Dockerfile:2: FROM isn't allowed as an ONBUILD trigger"),
        ("FROM a\nONBUILD COPY b", "Dockerfile:2: COPY requires at least two arguments, but only 1 were provided"),
        ("FROM a\nHEALTHCHECK", "Dockerfile:2: HEALTHCHECK requires at least one argument"),
        ("FROM a\nHEALTHCHECK --interval=x CMD y", "Dockerfile:2: invalid duration for --interval: 'x'"),
    ],
)
def test_a_malformed_file_is_one_sentence(text: str, message: str) -> None:
    assert refusal(text).message.removeprefix("Dockerfile: ") == message.removeprefix("Dockerfile: ")


def test_changes_are_instructions_that_need_no_build() -> None:
    assert parse_changes(["ENV a=b"]) == ((ast.Env(pairs=(("a", "b"),), text="ENV a=b"),), "\\")
    assert parse_changes([]) == ((), "\\")
    with pytest.raises(DockerfileError, match="RUN is not a valid change command"):
        parse_changes(["ENV a=b\nRUN true"])
    with pytest.raises(DockerfileError, match="no instruction"):
        parse_changes(["", "# nothing"])


def test_changes_are_the_lines_of_one_dockerfile() -> None:
    instructions, escape = parse_changes(["# escape=`\nENV a=b `\n c=d\n# a comment\n", 'CMD ["z"]'])
    assert [each.text for each in instructions] == ["ENV a=b  c=d", 'CMD ["z"]']
    assert escape == "`"


words = st.sampled_from(
    [
        *READERS,
        "<<EOF",
        "EOF",
        "\\",
        "`",
        "\n",
        "\n",
        "\n",
        " ",
        " ",
        "#",
        "=",
        '"',
        "'",
        "--from=a",
        "a",
        "[",
        "]",
        '["a"]',
        "$",
        "{",
        "}",
        "\t",
        ":-",
    ]
)


@given(st.lists(words, max_size=40).map("".join) | st.text())
def test_any_text_is_accepted_or_refused(text: str) -> None:
    try:
        parsed = parse(text)
    except DockerfileError as error:
        assert "\n" not in error.message.replace(text, "")
    else:
        assert parsed.stages


@given(st.lists(st.sampled_from(["RUN a", "CMD b", "ENV a=b", "COPY a b", "USER u"]), max_size=8))
def test_cutting_lines_and_adding_comments_changes_no_value(lines: list[str]) -> None:
    plain = parse("\n".join(["FROM x", *lines]))
    cut = parse("\n".join(["FROM x", *(line.replace(" ", " \\\n# c\n", 1) for line in lines)]))
    assert [step.text for step in plain.stages[0].steps] == [step.text for step in cut.stages[0].steps]
