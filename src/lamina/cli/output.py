"""What commands print: a table, or --format's template over the same rows. A row maps Docker's field names to what they print."""

from __future__ import annotations

from lamina.cli.session import Session
from lamina.cli.table import aligned, printable
from lamina.errors import LaminaError

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lamina.cli.flags import Arguments
    from lamina.cli.template import Template
    from lamina.client.transport import Response

    Row = Mapping[str, object]


class Labelled(dict[str, object]):
    """A row whose template may ask for one label: `.Label "key"`."""

    __slots__ = ("methods",)

    def __init__(self, row: Row, label: Callable[[str], str]) -> None:
        super().__init__(row)
        self.methods = {"Label": label}


class _AnyField(dict[str, object]):
    """The headers of rows of which there are none, so that nobody knows their fields: any has one."""

    __slots__ = ("methods",)

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(headers)
        self.methods = {"Label": _label_header}

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return name.upper()


def labelled(row: Row, labels: object) -> Row:
    """A row with its labels as the API tells them."""
    known = labels if isinstance(labels, dict) else {}
    return Labelled(row, lambda key: str(known.get(key, "")))


def _label_header(key: str) -> str:
    """The header of a label's column, as Docker's: its last part."""
    return key.rpartition(".")[2].replace("-", " ").replace("_", " ")


def print_rows(
    session: Session, form: str, rows: Sequence[Row], columns: Sequence[str], headers: Mapping[str, str], fields: Sequence[str] = ()
) -> None:
    """Print rows: as a table of `columns` where `form` is empty or `table`, as JSON lines for `json`, else by template.

    With `fields`, all that a row has, a template is checked even where there are no rows.
    """
    if form in ("", "table"):
        lines = [[headers.get(name, name.upper()) for name in columns]]
        lines += [[printable(str(row[name])) for name in columns] for row in rows]
        session.print("\n".join(aligned(lines)))
        return
    _by_template(session, form, rows, headers, fields)


def _whole(row: Row) -> Row:
    """A row that `json` shows as Docker's CLI shows its rows: by name, with the signs of HTML escaped."""
    whole = Labelled(dict(sorted(row.items())), str)
    whole.methods = getattr(row, "methods", {})
    return whole


def _by_template(session: Session, form: str, rows: Sequence[Row], headers: Mapping[str, str], fields: Sequence[str]) -> None:
    """See `print_rows`; a template after `table` has tabs between the columns, and gets a header."""
    from lamina.cli.template import Template

    tabular = form.startswith("table")
    rows = [_whole(row) for row in rows] if "json" in form else rows
    text = "{{json .}}" if form == "json" else form.removeprefix("table").lstrip() if tabular else form
    template = Template(text.replace("\\t", "\t").replace("\\n", "\n"))
    if fields and not rows:
        _refuse_unknown(template, fields)
    if not tabular:
        for row in rows:
            session.print(template.render(row))
        return
    known = {name for row in rows[:1] for name in row} | set(headers) | set(fields)
    named = {name: headers.get(name, name.upper()) for name in known}
    head = Labelled(named, _label_header) if rows or fields else _AnyField(headers)
    lines = [template.render(head)] + [template.render(row) for row in rows]
    for line in aligned([line.split("\t") for line in lines]):
        session.print(line)


def _refuse_unknown(template: Template, fields: Sequence[str]) -> None:
    """Raise UnknownField for a template that names what a row with `fields` lacks."""
    from lamina.cli.template import TemplateError, UnknownField

    try:
        template.render(Labelled(dict.fromkeys(fields, ""), str))
    except UnknownField:
        raise
    except TemplateError:
        pass  # that texts are empty here is nobody's mistake


def form_of(session: Session, arguments: Arguments, kind: str) -> str:
    """How a list is shown: as --format says, else as `<kind>Format` of the client's config.json does."""
    if arguments.given("format") or arguments.on("quiet"):
        return arguments.text("format")
    try:
        with open(f"{session.config_directory}/config.json", "rb") as file:
            from lamina.client.text import document

            form = document(file.read()).get(f"{kind}Format")
    except (OSError, LaminaError):
        return ""
    return form if isinstance(form, str) else ""


def print_raw(session: Session, rows: Sequence[Row], lines: str) -> int:
    """Print rows as Docker's old `--format raw` does: `label: value` for each `label=Field` of `lines`, and after each row of several an
    empty one."""
    pairs = [line.split("=") for line in lines.split()]
    for row in rows:
        for label, field in pairs:
            session.print(f"{label}: {row[field]}" if row[field] else f"{label}:")
        if pairs[1:]:
            session.print("")
    return 0


def show(session: Session, form: str, value: object) -> None:
    """Print one value: as JSON for `json`, else by template."""
    from lamina.cli.template import Template

    session.print(Template("{{json .}}" if form == "json" else form).render(value))


def show_listed(session: Session, form: str, document: Mapping[str, object], rows: str) -> None:
    """Print a document; as `show`, but `table …` is a template over the rows that it has as `rows`, below a header."""
    if not form.startswith("table"):
        show(session, form, document)
        return
    listed = document.get(rows)
    print_rows(session, form, [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else [], [], {})


def told_form(arguments: Arguments) -> str:
    """What --format says, where a bare `table` is what people get anyway."""
    form = arguments.text("format")
    return "" if form == "table" else form


def pretty(value: object) -> str:
    """JSON indented as Docker's CLI prints it."""
    import json

    return json.dumps(value, indent=4, ensure_ascii=False)


def filters(words: list[str]) -> list[tuple[str, str]]:
    """The `filters` parameter of --filter words (`flags` refuses those without `=`), or nothing. Empty ones say nothing."""
    from lamina.client.text import encode

    found: dict[str, dict[str, bool]] = {}
    for word in filter(None, words):
        name, _, value = word.partition("=")
        found.setdefault(name.strip().lower(), {})[value.strip()] = True
    return [("filters", encode(found).decode())] if found else []


def pass_on(session: Session, form: str, answer: Response, painted: Callable[[str], str] | None, *, rows: str) -> None:
    """Print an answer that is text, or JSON for a `form`, as it comes; text through `painted` (None: as it is), line by line. See
    `show_listed` for `rows`."""
    if form and form != "json":
        told = answer.json()
        show_listed(session, form, told if isinstance(told, dict) else {}, rows)
    elif form or painted is None:
        for piece in answer.pieces(1 << 20):
            session.write(piece)
    else:
        rest = b""
        for piece in answer.pieces():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                session.print(painted(line.decode("utf-8", "surrogateescape")))
