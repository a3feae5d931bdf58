"""Go templates of --format."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.cli.output import labelled
from lamina.cli.template import Template, TemplateError

DATA = {
    "ID": "abc",
    "Size": 12,
    "Yes": True,
    "No": False,
    "None": None,
    "List": ["x", "y"],
    "Map": {"b": 2, "a": "1"},
    "Deep": {"Er": {"Name": "n"}},
    "Rows": [{"Name": "p"}, {"Name": "q"}],
    "Labels": {"a": "1"},
    "Volumes": None,
    "Cmd": None,
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("{{.ID}}-{{.Size}}", "abc-12"),
        ("{{.Deep.Er.Name}}", "n"),
        ("{{json .Map}}", '{"b":2,"a":"1"}'),
        ("{{.List}} {{.Map}} {{.Yes}} {{.None}}", "[x y] map[a:1 b:2] true <nil>"),
        ("{{join .List `,`}}", "x,y"),
        ('{{.ID | upper | printf "%s!"}}', "ABC!"),
        ('{{printf "%-5s|%3d" .ID .Size}}', "abc  | 12"),
        ('{{printf "%q %v" .ID .List}}', '"abc" [x y]'),
        ("{{range .List}}<{{.}}>{{end}}", "<x><y>"),
        ("{{range $i, $v := .List}}{{$i}}={{$v}} {{end}}", "0=x 1=y "),
        ("{{range $k, $v := .Map}}{{$k}}={{$v}} {{end}}", "a=1 b=2 "),
        ("{{range .Rows}}{{.Name}}{{$.ID}} {{end}}", "pabc qabc "),
        ("{{if .Yes}}y{{else}}n{{end}}{{if .No}}y{{else}}n{{end}}", "yn"),
        ("{{if .No}}1{{else if .Yes}}2{{else}}3{{end}}", "2"),
        ("{{with .Deep.Er}}{{.Name}}{{end}}{{with .None}}x{{else}}none{{end}}", "nnone"),
        ("{{$x := .ID}}{{if .Yes}}{{$x = .Size}}{{end}}{{$x}}", "12"),
        ("{{index .Map `a`}}{{index .List 1}}", "1y"),
        ("{{(index .Rows 1).Name}}", "q"),
        ("{{len .List}} {{len .ID}}", "2 3"),
        ("{{eq .Size 12}} {{ne .ID `x`}} {{lt 1 2}} {{gt 1 2}} {{eq .ID `z` `abc`}}", "true true true false true"),
        ("{{and .Yes .ID}} {{or .No .ID}} {{not .No}}", "abc abc true"),
        ("{{slice .ID 1}} {{slice .ID 0 2}}", "bc ab"),
        ("{{truncate .ID 2}} {{.ID | title}} {{pad .ID 1 2}}|", "ab Abc  abc  |"),
        ('{{split "a:b" ":"}}', "[a b]"),
        ("{{println .ID}}", "abc\n"),
        ("a {{- .ID -}} b", "aabcb"),
        ("{{/* nothing */}}x", "x"),
        ("{{range .None}}x{{else}}empty{{end}}", "empty"),
        ("{{.Id}} {{.Deep.ER.NAME}}", "abc n"),
        (
            "{{.Labels.a}} {{.Labels.b}} {{if .Labels.b}}x{{else}}none{{end}} {{with .Labels}}{{.a}}{{.b}}{{end}}",
            "1 <no value> none 1<no value>",
        ),
        ("{{.Volumes}} {{.Volumes.x}} {{.Cmd}} {{len .Cmd}} {{range .Cmd}}x{{end}}{{if .Volumes}}x{{end}}", "map[] <no value> [] 0 "),
        ("{{json .Volumes}} {{json .Cmd}} {{json .Labels}} {{json .Labels.b}}", 'null null {"a":"1"} null'),
        ("{{define `x`}}<{{.}}>{{end}}{{template `x` .ID}}{{template `x` .Size}}", "<abc><12>"),
        ("{{block `y` .ID | upper}}[{{.}}{{$}}]{{end}}{{template `y` 1}}", "[ABCABC][11]"),
        ("{{range .Rows}}{{if eq .Name `q`}}{{break}}{{end}}{{.Name}}{{end}}", "p"),
        ("{{range $i, $r := .Rows}}{{with $r}}{{if eq $i 0}}{{continue}}{{end}}{{.Name}}{{end}}{{end}}", "q"),
        ("{{range 3}}{{.}}{{end}}{{range 0}}x{{else}}none{{end}}", "012none"),
        ("{{'a'}} {{0x1f}} {{1_000}} {{1e3}} {{012}} {{0b11}} {{-3}} {{1.5e2}}", "97 31 1000 1000 10 3 -3 150"),
        (r"""{{"a\tb\x41\u00e9\101"}}{{"}}"}}{{`{{`}}{{'\n'}}""", "a\tbAéA}}{{10"),
        ("{{/* it's }} one */}}x", "x"),
        ("{{or .ID .Nope}} {{and .No .Nope}}", "abc false"),
        ("{{print 1 2 `a` 3}} {{index .ID 0}}", "1 2a3 97"),
        ("{{printf `%x %X %T %T` `hi` 255 1 .ID}}", "6869 FF int string"),
        ("{{urlquery `a b&c`}} {{js `it's <b>`}} {{html `it's \"<b>\"`}}", "a+b%26c it\\'s \\u003Cb\\u003E it&#39;s &#34;&lt;b&gt;&#34;"),
    ],
)
def test_templates_render_as_gos(text: str, shown: str) -> None:
    assert Template(text).render(DATA) == shown


def test_a_label_is_asked_for_by_its_key() -> None:
    row = labelled({"ID": "abc"}, {"com.example.tier": "web", "odd key": "x,y=z"})
    assert Template('{{.Label "com.example.tier"}} {{.Label "odd key" | upper}} {{.Label "none"}}|').render(row) == "web X,Y=Z |"
    for text in ("{{.Label}}", '{{.Label "a" "b"}}', '{{.ID "a"}}', '{{.Deep.Label "a"}}'):
        with pytest.raises(TemplateError):
            Template(text).render(row)


def test_an_unknown_field_is_one_clear_sentence() -> None:
    with pytest.raises(TemplateError, match=r"no field 'Nope', there are: .*ID"):
        Template("{{.Nope}}").render(DATA)
    with pytest.raises(TemplateError, match=r"^template: no field 'Nope' in '\[x x .*…'$") as refusal:
        Template("{{.List.Nope}}").render({"List": ["x"] * 10_000})
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    "text",
    [
        "{{",
        "{{.ID",
        "{{nope .ID}}",
        "{{if .ID}}",
        "{{end}}",
        "{{range}}x{{end}}",
        "{{.ID .ID}}",
        "{{(.ID}}",
        "{{%}}",
        "{{$x}}",
        "{{}}",
        "{{break}}",
        "{{range 1}}{{else}}{{continue}}{{end}}",
        "{{template `no`}}",
        "{{define x}}{{end}}",
        "{{if true}}{{define `x`}}{{end}}{{end}}",
        "{{define `a`}}{{template `a`}}{{end}}{{template `a`}}",
        "{{template}}",
        "{{block `x`}}{{end}}",
        r'{{"\q"}}',
        "{{'ab'}}",
        "{{1x}}",
        "{{nil}}",
        "{{eq 1 `a`}}",
        '{{"a',
    ],
)
def test_a_broken_template_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        Template(text).render(DATA)


@given(st.text(alphabet='{}.|$()ab"` -:=rangeifend0123', max_size=40))
def test_any_template_is_accepted_or_refused(text: str) -> None:
    for candidate in (text, "{{" + text + "}}", "{{range .List}}{{" + text + "}}{{end}}"):
        try:
            Template(candidate).render(DATA)
        except TemplateError:
            pass


def test_a_row_as_json_is_escaped_as_go_escapes_it_and_its_fields_are_not() -> None:
    row = labelled({"A": "<b> & c"}, {})
    assert Template("{{json .}} {{json .A}}").render(row) == '{"A":"\\u003cb\\u003e \\u0026 c"} "<b> & c"'
