"""The tar parser: what the formats say, what is refused, and that cutting the bytes makes no difference."""

from __future__ import annotations

import io
import stat
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.layer import tarwrite
from lamina.layer.errors import InvalidArchive, TruncatedArchive
from lamina.layer.tar import pax, sparse
from lamina.layer.tar.member import HARDLINK, Member
from lamina.layer.tar.number import parse_decimal, parse_field, parse_time
from lamina.layer.tar.parser import BLOCK, Parser


def parse(data: bytes, step: int = 0) -> list[Member]:
    """All members of an archive, fed whole or in steps."""
    parser, found = Parser(), []
    for at in range(0, len(data), step or max(len(data), 1)):
        found += parser.feed(data[at : at + (step or len(data))])
    parser.finish()
    return found


def packed(*members: tuple[Member, bytes]) -> bytes:
    pieces: list[bytes] = []
    writer = tarwrite.TarWriter(pieces.append)
    for member, content in members:
        writer.add(member, [content] if content else [])
    writer.finish()
    return b"".join(pieces)


def plain(path: bytes = b"file", content: bytes = b"", **more: object) -> tuple[Member, bytes]:
    return Member(path, stat.S_IFREG | 0o644, 0, 0, len(content), 0, **more), content  # type: ignore[arg-type]


def with_field(header: bytes, at: int, value: bytes) -> bytes:
    """A header with a field changed and its checksum made right."""
    changed = header[:at] + value + header[at + len(value) :]
    blank = changed[:148] + b" " * 8 + changed[156:512]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:] + changed[512:]


NAMES = st.binary(min_size=1, max_size=300).map(lambda name: name.replace(b"\0", b"n").rstrip(b"/") or b"n")
XATTRS = st.dictionaries(
    st.binary(min_size=1, max_size=20).filter(lambda key: b"=" not in key and b"\0" not in key), st.binary(max_size=50), max_size=3
)
COMMON = {
    "path": NAMES,
    "uid": st.integers(0, 1 << 32),
    "gid": st.integers(0, 1 << 32),
    "mtime_ns": st.integers(-(10**18), 10**19),
    "xattrs": XATTRS.map(lambda found: tuple(sorted(found.items()))),
}
MODES = st.integers(0, 0o7777)


@st.composite
def members(draw: st.DrawFn) -> tuple[Member, bytes]:
    kind = draw(st.sampled_from([stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, HARDLINK]))
    fields = {name: draw(strategy) for name, strategy in COMMON.items()}
    content = draw(st.binary(max_size=2000)) if kind == stat.S_IFREG else b""
    link = draw(NAMES) if kind in (stat.S_IFLNK, HARDLINK) else b""
    device = (draw(st.integers(0, 4095)), draw(st.integers(0, 1 << 20))) if kind == stat.S_IFCHR else (0, 0)
    mode = kind | draw(MODES) if kind else HARDLINK
    return Member(mode=mode, size=len(content), link=link, major=device[0], minor=device[1], **fields), content


def same(found: Member, written: Member) -> None:
    expected = written._replace(offset=found.offset)
    if written.type == stat.S_IFDIR:
        expected = expected._replace(path=written.path + b"/")
    assert found == expected


@given(st.lists(members(), max_size=4))
def test_reading_undoes_writing(given_members: list[tuple[Member, bytes]]) -> None:
    data = packed(*given_members)
    found = parse(data)
    assert len(found) == len(given_members)
    for read, (written, content) in zip(found, given_members, strict=True):
        same(read, written)
        assert data[read.offset : read.offset + read.size] == content


@given(st.lists(members(), max_size=3), st.integers(1, 700))
def test_however_it_is_cut_it_reads_the_same(given_members: list[tuple[Member, bytes]], step: int) -> None:
    data = packed(*given_members)
    assert parse(data, step) == parse(data)


def test_content_may_be_passed_over_and_nothing_else() -> None:
    data = packed(plain(b"long", bytes(5000)), plain(b"next", b"x"))
    parser = Parser()
    assert [member.path for member in parser.feed(data[: BLOCK + 1000])] == [b"long"]
    for wrong in (-1, 4001):
        with pytest.raises(ValueError, match="not of one content"):
            parser.pass_over(wrong)
    parser.pass_over(4000)
    (member,) = parser.feed(data[BLOCK + 5000 :])
    parser.finish()
    assert (member.path, data[member.offset : member.offset + 1]) == (b"next", b"x")


def test_byte_by_byte_gives_the_same_answer_for_what_tarfile_writes() -> None:
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w", format=form) as archive:
            for name in ("a", "d/" + "x" * 90, *(["y" * 240 + "/é"] if form != tarfile.USTAR_FORMAT else [])):
                info = tarfile.TarInfo(name)
                info.size = 700
                archive.addfile(info, io.BytesIO(b"c" * 700))
        data = raw.getvalue()
        assert parse(data, 1) == parse(data, 512) == parse(data)
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            assert [(m.path.decode(), m.offset) for m in parse(data)] == [(m.name, m.offset_data) for m in archive]


@given(st.binary(max_size=3000))
def test_any_bytes_are_accepted_or_refused(data: bytes) -> None:
    try:
        parse(data)
    except InvalidArchive:
        pass


@given(st.lists(members(), min_size=1, max_size=3), st.data())
def test_a_changed_byte_is_accepted_or_refused(given_members: list[tuple[Member, bytes]], data: st.DataObject) -> None:
    raw = bytearray(packed(*given_members))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse(bytes(raw))
    except InvalidArchive:
        pass


@given(st.lists(members(), min_size=1, max_size=3), st.data())
def test_a_header_changed_behind_a_right_checksum_is_accepted_or_refused(
    given_members: list[tuple[Member, bytes]], data: st.DataObject
) -> None:
    raw = packed(*given_members)
    at = data.draw(st.integers(0, 500))
    value = data.draw(st.binary(min_size=1, max_size=min(12, 512 - at)))
    try:
        parse(with_field(raw, at, value))
    except InvalidArchive:
        pass


@pytest.mark.parametrize("cut", [1, 511, 512, 700, 1023])
def test_an_archive_cut_in_a_header_or_in_content_is_truncated(cut: int) -> None:
    data = packed(plain(content=b"x" * 600))
    if cut == 512:
        cut = 513
    with pytest.raises(TruncatedArchive, match="truncated"):
        parse(data[:cut])


def test_an_archive_may_end_at_a_boundary_without_zero_blocks() -> None:
    data = packed(plain(content=b"x"), plain(b"second"))
    assert len(parse(data[: -2 * BLOCK])) == 2
    assert len(parse(data[:-BLOCK])) == 2


@pytest.mark.parametrize("step", [0, 1, 100])
def test_an_archive_may_end_with_the_last_byte_of_its_content(step: int) -> None:
    data = packed(plain(), plain(b"last", b"x" * 600))[: -3 * BLOCK + 600 - BLOCK]
    assert len(data) == 2 * BLOCK + 600
    for more in (b"", bytes(1), bytes(423)):
        assert [member.path for member in parse(data + more, step)] == [b"file", b"last"]
    with pytest.raises(TruncatedArchive, match="'last' lacks 1 bytes"):
        parse(data[:-1], step)


def test_a_sparse_archive_may_end_with_the_last_byte_of_its_content() -> None:
    header, stored = tarwrite.sparse_header(Member(b"holes", stat.S_IFREG | 0o644, 0, 0, 1 << 20, 0), [((1 << 20) - 700, 700)])
    [member] = parse(header + b"x" * stored)
    assert member.extents is not None and member.extents[0].length == 700
    with pytest.raises(TruncatedArchive):
        parse(header + b"x" * (stored - 1))


def test_what_follows_the_end_is_ignored() -> None:
    data = packed(plain()) + b"\1" * 700
    assert len(parse(data)) == 1 == len(parse(data, 3))


def test_a_lone_zero_block_is_refused() -> None:
    data = packed(plain())
    with pytest.raises(InvalidArchive, match="lone zero block"):
        parse(bytes(BLOCK) + data)


def test_an_extended_header_without_a_member_is_truncated() -> None:
    data = packed(plain(b"x" * 200))
    for end in (512, 1024):
        with pytest.raises(TruncatedArchive):
            parse(data[:end])
        with pytest.raises(InvalidArchive):
            parse(data[:end] + bytes(1024))


def test_a_wrong_checksum_says_that_it_is_no_tar() -> None:
    with pytest.raises(InvalidArchive, match=r"not a tar archive.*byte 512"):
        parse(b"<html>" + b"x" * 600)


def test_signed_checksums_of_old_programs_are_accepted() -> None:
    header = bytearray(with_field(packed(plain())[:512], 0, b"\xe9t\xe9\0"))
    blank = bytes(header[:148]) + b" " * 8 + bytes(header[156:])
    signed = sum(byte - 256 if byte > 127 else byte for byte in blank)
    header[148:156] = b"%06o\0 " % signed
    assert parse(bytes(header))[0].path == b"\xe9t\xe9"


@pytest.mark.parametrize(("at", "value"), [(124, b"not a number"), (100, b"99999999"), (108, b"-000001\0"), (136, b"0x123456789 ")])
def test_malformed_numbers_are_refused(at: int, value: bytes) -> None:
    with pytest.raises(InvalidArchive, match="malformed number"):
        parse(with_field(packed(plain()), at, value))


@pytest.mark.parametrize("value", [b"\x80" + b"\xff" * 11, b"\xff" * 12, b"\x80\0\0\0" + b"\x7f" + b"\xff" * 7])
def test_absurd_sizes_are_refused(value: bytes) -> None:
    with pytest.raises(InvalidArchive, match="absurd size"):
        parse(with_field(packed(plain()), 124, value))


@pytest.mark.parametrize("records", [b"5 a=b\n", b"99 a=b\n", b"6 =bc\n", b"x", b"0 a=b\n", b"7 a=bcd", b" a=b\n", b"-6 a=b\n"])
def test_malformed_pax_records_are_refused(records: bytes) -> None:
    with pytest.raises(InvalidArchive):
        pax.parse(records)


@given(
    st.lists(
        st.tuples(
            st.binary(min_size=1, max_size=20).filter(lambda key: b"=" not in key and not key.startswith(b"GNU.sparse")),
            st.binary(max_size=120),
        )
    )
)
def test_pax_parsing_undoes_rendering(records: list[tuple[bytes, bytes]]) -> None:
    assert pax.parse(pax.render(records)) == dict(records)


def test_global_records_hold_until_changed_and_local_ones_win() -> None:
    def extended(kind: bytes, records: list[tuple[bytes, bytes]]) -> bytes:
        body = pax.render(records)
        raw = packed((Member(b"h", stat.S_IFREG, 0, 0, len(body), 0), body))[:-1024]
        return with_field(raw, 156, kind)

    one = packed(plain(b"one"))[:-1024]
    data = (
        extended(b"g", [(b"uid", b"7"), (b"gid", b"8")])
        + one
        + extended(b"x", [(b"uid", b"9")])
        + one
        + extended(b"g", [(b"uid", b"")])
        + one
    )
    assert [(m.uid, m.gid) for m in parse(data)] == [(7, 8), (9, 8), (0, 8)]


@given(st.integers(-(1 << 62), 1 << 62))
def test_binary_numbers_read_back(number: int) -> None:
    field = (number & (1 << 96) - 1).to_bytes(12, "big")
    field = bytes([field[0] | 0x80]) + field[1:]
    assert parse_field(field) == number


@given(st.binary(max_size=12))
def test_any_number_field_is_read_or_refused(field: bytes) -> None:
    try:
        parse_field(field)
    except InvalidArchive:
        pass


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        (b"1", 10**9),
        (b"1.5", 1_500_000_000),
        (b"-1.5", -1_500_000_000),
        (b"0.1234567899", 123456789),
        (b"-0.0000000001", -1),
        (b"3.", 3 * 10**9),
    ],
)
def test_times_are_read_to_the_nanosecond(text: bytes, nanoseconds: int) -> None:
    assert parse_time(text) == nanoseconds


@pytest.mark.parametrize("text", [b"", b"x", b"1e5", b"--1", b"1.2.3", b"9" * 30])
def test_malformed_times_and_decimals_are_refused(text: bytes) -> None:
    with pytest.raises(InvalidArchive):
        parse_time(text)
    with pytest.raises(InvalidArchive):
        parse_decimal(text)


def test_unknown_member_types_are_refused_by_name() -> None:
    with pytest.raises(InvalidArchive, match=r"unsupported tar member type b'M': 'file'"):
        parse(with_field(packed(plain()), 156, b"M"))


def test_a_huge_extended_header_is_refused() -> None:
    header = with_field(with_field(packed(plain()), 156, b"x"), 124, b"77777777777\0")
    with pytest.raises(InvalidArchive, match="extended tar header"):
        parse(header)


def test_global_records_are_not_kept_without_bound() -> None:
    pieces = []
    for number in range(3):
        body = pax.render([(b"comment%d" % number, bytes(500_000))])
        header = packed((Member(b"h", stat.S_IFREG, 0, 0, len(body), 0), body))[:-1024]
        pieces.append(with_field(header, 156, b"g"))
    with pytest.raises(InvalidArchive, match="too many global pax records"):
        parse(b"".join(pieces))


def test_a_long_sparse_map_is_looked_at_as_a_whole_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    parse_prefix = sparse.parse_prefix

    def counted(text: bytes) -> list[tuple[int, int]] | None:
        looks.append(len(text))
        return parse_prefix(text)

    monkeypatch.setattr(sparse, "parse_prefix", counted)
    runs = [(number * 1024, 512) for number in range(2000)]
    header, stored = tarwrite.sparse_header(Member(b"holes", stat.S_IFREG | 0o644, 0, 0, 2000 * 1024, 0), runs)
    for step in (0, 512):
        looks.clear()
        [member] = parse(header + bytes(stored), step)
        assert member.extents is not None and [(run.start, run.length) for run in member.extents] == runs
        assert len(looks) == 2
