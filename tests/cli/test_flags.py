"""Command lines by pflag's rules."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.cli.catalog import ALIASES, COMMANDS, GROUPS
from lamina.cli.flags import Arguments, HelpWanted, Reader, UsageError, table
from lamina.cli.hostconfig import container_config
from lamina.errors import LaminaError
from lamina.registry.__main__ import main as registry

TABLE = """\
a all bool|Everything
n number int|How many (default 5)
e env list|Variables
- name string|A name
i - bool|
""".replace("i - bool|\n", "i interactive bool|Input\n")


def read(*words: str, interspersed: bool = True) -> Arguments:
    return Reader(table(TABLE), interspersed=interspersed).read(list(words))


@pytest.mark.parametrize("words", [("--name", "x"), ("--name=x",)])
def test_a_long_flag_takes_its_value_either_way(words: tuple[str, ...]) -> None:
    assert read(*words).text("name") == "x"


@pytest.mark.parametrize("words", [("-n", "3"), ("-n3",), ("-n=3",), ("-an3",), ("-ain", "3")])
def test_short_flags_join(words: tuple[str, ...]) -> None:
    assert read(*words).number("number") == 3


def test_a_list_grows_and_another_flag_keeps_its_last_value() -> None:
    found = read("-e", "A=1", "--env=B", "--name=x", "--name=y")
    assert found.many("env") == ["A=1", "B"] and found.text("name") == "y"


def test_words_between_commas_are_several_where_docker_takes_them_so() -> None:
    flags = Reader(table("- subnet strings|Subnets\n- label list|Labels"), interspersed=True)
    found = flags.read(["--subnet", "10.7.0.0/24,fd00::/64", "--subnet=10.8.0.0/24", "--subnet", "", "--label", "a=b,c"])
    assert found.many("subnet") == ["10.7.0.0/24", "fd00::/64", "10.8.0.0/24"] and found.many("label") == ["a=b,c"]


def test_a_boolean_may_be_denied() -> None:
    assert not read("--all=false").on("all", default=True)
    assert read().on("all", default=True)


def test_flags_may_follow_arguments() -> None:
    found = read("x", "-a", "y")
    assert found.words == ["x", "y"] and found.on("all")


def test_the_first_argument_ends_the_flags_of_run() -> None:
    found = read("-a", "image", "ls", "-i", "--", interspersed=False)
    assert found.words == ["image", "ls", "-i", "--"] and not found.on("interactive")


def test_two_dashes_end_the_flags() -> None:
    assert read("-a", "--", "-i").words == ["-i"]


def test_a_dash_alone_is_an_argument() -> None:
    assert read("-").words == ["-"]


@pytest.mark.parametrize("words", [("--nope",), ("-x",), ("--name",), ("-n",), ("-n", "many"), ("--all=perhaps",)])
def test_a_broken_line_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        read(*words)


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_may_be_asked_for(word: str) -> None:
    with pytest.raises(HelpWanted):
        read(word)


@given(st.lists(st.text(max_size=8)))
def test_any_line_is_accepted_or_refused(words: list[str]) -> None:
    try:
        read(*words)
    except (UsageError, HelpWanted):
        pass


def test_no_module_describes_a_command_that_there_is_not() -> None:
    from importlib import import_module

    modules = {COMMANDS[name][0] for name in COMMANDS}
    assert sorted(name for module in modules for name in import_module(f"lamina.cli.commands.{module}").TABLE) == sorted(COMMANDS)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_table_can_be_read_and_names_no_flag_twice(name: str) -> None:
    flags = table(COMMANDS[name][6])
    assert len({flag.name for flag in flags}) == len(flags)
    letters = [flag.letter for flag in flags if flag.letter]
    assert len(set(letters)) == len(letters)


def test_every_command_of_a_group_exists() -> None:
    for group, (_, commands) in GROUPS.items():
        for command in commands.split():
            full = f"{group} {command}"
            assert ALIASES.get(full, full) in COMMANDS or full in GROUPS, full


ODD = [
    "x",
    "-1",
    "",
    "1e999",
    "nan",
    "inf",
    "9" * 20,
    "a\udcff",
    "0x10",
    "1,2",
    "☃",
    "a:b",
    "a:",
    ":",
    "a=",
    "=",
    "/x:/y:z",
    "/dev/x:nan",
]


@pytest.mark.parametrize("flag", [flag.name for flag in table(COMMANDS["create"][6]) if flag.kind != "bool"])
def test_any_value_of_a_containers_flag_is_accepted_or_refused(flag: str) -> None:
    for value in ODD:
        words = [f"--{flag}={value}", "image", "command"]
        try:
            container_config(Reader(table(COMMANDS["create"][6]), interspersed=False).read(words), {})
        except LaminaError:
            pass


@pytest.mark.parametrize("words", [["serve", "--users"], ["passwd", "--password-stdin", "me", "--users"]])
def test_a_file_of_users_that_is_out_of_reach_is_one_sentence(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("secret\n"))
    root = ["--root", str(tmp_path)] if words[0] == "serve" else []
    assert registry([*words, f"{tmp_path}/none/users", *root]) == 1
    assert capsys.readouterr().err == f"lamina registry: {tmp_path}/none/users: no such file or directory\n"


def test_a_password_is_not_asked_for_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("secret\n"))
    assert registry(["passwd", "--users", str(tmp_path / "users"), "me"]) == 1
    assert capsys.readouterr().err.endswith("(--password-stdin reads it from there)\n")


@pytest.mark.parametrize("name", ["", "a:b", "a\nb"])
def test_a_user_of_a_registry_that_would_break_the_file_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert registry(["passwd", "--users", str(tmp_path / "users"), name]) == 1
    assert "invalid user name" in capsys.readouterr().err
    assert not (tmp_path / "users").exists()
