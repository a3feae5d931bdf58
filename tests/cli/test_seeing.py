"""What the CLI makes of answers about layers: tables, colours on terminals only, JSON as it came."""

from __future__ import annotations

import json
import os
from urllib.parse import parse_qs

import pytest

from lamina.cli.commands import blame, difference, watch
from lamina.cli.main import main
from lamina.cli.screen import Screen, columns
from tests.client.fake_engine import FakeEngine, reply

LAYERS = [
    {
        "id": "sha256:" + "a" * 64,
        "index": 0,
        "instruction": "RUN one " + "x" * 200,
        "size": 2_000_000,
        "hidden": 500_000,
        "added": 3,
        "path": "/blobs/a",
    },
    {
        "id": "c" * 64,
        "index": 1,
        "instruction": "container box",
        "size": 5,
        "hidden": 0,
        "modified": 1,
        "deleted": 2,
        "writable": True,
        "path": "/diff",
    },
]


def test_layers_fit_a_hundred_columns_and_say_what_is_hidden(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.routes["GET /lamina/images/box/layers"] = reply({"layers": LAYERS})
    assert main(["-H", engine.host, "layers", "box"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and max(map(len, lines)) <= 100
    assert lines[0].split() == ["#", "LAYER", "AGE", "SIZE", "HIDDEN", "CHANGES", "INSTRUCTION"]
    assert "500kB" in lines[1] and "…" in lines[1] and "~1 -2" in lines[2]
    assert main(["-H", engine.host, "layers", "--no-trunc", "box"]) == 0
    assert "/diff" in (out := capsys.readouterr().out) and "x" * 200 in out
    assert main(["-H", engine.host, "layers", "--format", "json", "box"]) == 0
    assert [json.loads(line)["HiddenBytes"] for line in capsys.readouterr().out.splitlines()] == [500_000, 0]


def test_answers_pass_as_they_came_and_json_is_asked_for(engine: FakeEngine, capfd: pytest.CaptureFixture[str]) -> None:
    for path, words in (
        ("/lamina/images/bb/blame", ["blame", "bb", "/etc"]),
        ("/lamina/images/diff", ["image", "diff", "-N", "bb", "cc"]),
        ("/lamina/images/find", ["image", "find", "-i", "x"]),
    ):
        engine.routes[f"GET {path}"] = reply(raw=b"    /a line\n", type="text/plain")
        assert main(["-H", engine.host, *words]) == 0
        assert capfd.readouterr().out == "    /a line\n"
        assert "form=text" in engine.requests[-1].query
        assert main(["-H", engine.host, *words, "--format", "json"]) == 0
        assert "form=json" in engine.requests[-1].query
        capfd.readouterr()
    assert "new=1" in engine.requests[-4].query


def test_what_is_to_be_unmounted_is_a_directory_first_also_one_that_is_gone(engine: FakeEngine) -> None:
    engine.routes["DELETE /lamina/mounts"] = reply({"message": "nothing is mounted there", "code": "not_found"}, status=404)
    assert main(["-H", engine.host, "image", "unmount", "gone"]) == 1
    assert [parse_qs(request.query)["target"] for request in engine.requests] == [[f"{os.getcwd()}/gone"], ["gone"]]


def test_which_tells_by_its_code_that_nothing_is_there_as_json_too(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    for found in (True, False):
        engine.routes["GET /lamina/images/bb/which"] = reply({"path": "/x", "found": found})
        assert main(["-H", engine.host, "which", "--format", "json", "bb", "/x"]) == int(not found)
        assert json.loads(capsys.readouterr().out)["found"] is found


def test_a_squash_is_told_as_json(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    engine.routes["POST /lamina/images/bb/squash"] = reply({"Id": "sha256:1"}, status=201)
    assert main(["-H", engine.host, "image", "squash", "--format", "json", "bb"]) == 0
    assert json.loads(capsys.readouterr().out) == {"Id": "sha256:1"}


def test_find_tells_by_its_code_that_nothing_was_found(engine: FakeEngine) -> None:
    engine.routes["GET /lamina/images/find"] = reply(raw=b"", type="text/plain")
    assert main(["-H", engine.host, "image", "find", "x"]) == 1
    engine.routes["GET /lamina/images/find"] = reply(raw=b'{"images":[],"found":[]}\n')
    for form in ("json", "{{len .found}}"):
        assert main(["-H", engine.host, "image", "find", "--format", form, "x"]) == 1


def test_a_table_of_an_answer_has_a_header_and_a_line_a_row(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"path": "/a", "name": "/a", "type": "file"}, {"path": "/b", "name": "/b", "type": "directory"}]
    for path, name, words in (
        ("bb/ls", "entries", ["ls", "bb"]),
        ("bb/blame", "entries", ["blame", "bb"]),
        ("find", "found", ["image", "find", "x"]),
        ("diff", "changes", ["image", "diff", "aa", "bb"]),
        ("tree", "layers", ["images", "--tree"]),
    ):
        engine.routes[f"GET /lamina/images/{path}"] = reply({name: rows})
        assert main(["-H", engine.host, *words, "--format", "table {{.path}}\\t{{.type}}"]) == 0
        assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["PATH", "TYPE"], ["/a", "file"], ["/b", "directory"]]
    engine.routes["GET /lamina/images/bb/which"] = reply({"path": "/a", "found": True, "layer": {"index": 3, "id": "x"}, "older": []})
    assert main(["-H", engine.host, "which", "--format", "table {{.path}}\\t{{.layer}}", "bb", "/a"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["PATH", "LAYER"], ["/a", "3"]]
    engine.routes["GET /lamina/images/tree"] = reply({"layers": []})
    assert main(["-H", engine.host, "images", "--tree", "--format", "table"]) == 0
    assert capsys.readouterr().out.startswith("LAYER ")
    assert main(["-H", engine.host, "which", "--format", "table", "bb", "/a"]) == 0
    assert capsys.readouterr().out.startswith("/a")


def test_colours_stand_around_text_and_change_none_of_it() -> None:
    screen = Screen({})
    assert screen.layer(3, "text") == "text"
    screen.colours = True
    for line in ("1  RUN x  ├── dir/", "0  IMPORT  /", "12  RUN a b  │   └── file"):
        shown = blame._coloured(screen, line)
        assert "\x1b[" in shown
        for code in ("36", "33", "34", "35", "32", "31", "96", "93", "95", "92", "94", "91", "2", "1", "0"):
            shown = shown.replace(f"\x1b[{code}m", "")
        assert shown == line
    assert difference._coloured(screen, "+new", contents=True) == "\x1b[32m+new\x1b[0m"
    assert difference._coloured(screen, "A /new", contents=False) == "\x1b[32mA /new\x1b[0m"


def test_numbers_stand_at_the_right_of_their_columns() -> None:
    assert columns([["1", "a", "end"], ["10", "bcd", "e"]], frozenset((0,))) == [[" 1", "a  ", "end"], ["10", "bcd", "e"]]
    assert columns([["字", "end"], ["bcd", "e"]]) == [["字 ", "end"], ["bcd", "e"]]


def test_a_name_that_a_container_makes_up_does_not_speak_to_the_terminal() -> None:
    seen = {"Kind": "A", "Path": "/a\x1b[31m\nb", "Layer": {"Index": 0, "Instruction": "RUN \x9b1m"}}
    assert watch._line(Screen({"NO_COLOR": "1"}), seen) == "A /a\\x1b[31m\\x0ab  over that of layer 0 RUN \\x9b1m"
