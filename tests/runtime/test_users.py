"""USER as Docker reads it, from the container's own files, whatever stands in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.runtime import users

PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nweb:x:33:34:www:/var/www:/bin/false\n1000:x:7:8::/seven:\nalso:x:33:99::/other:\n"
)
GROUP = "root:x:0:\nwww:x:34:web\nextra:x:50:web,other\nbad:x:no:web\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, 0, (), "/root")), ("root", (0, 0, (), "/root")), ("web", (33, 34, (50,), "/var/www")), ("33", (33, 34, (50,), "/var/www")),
        ("web:extra", (33, 50, (), "/var/www")), ("web:0", (33, 0, (), "/var/www")), ("4000", (4000, 0, (), "/")), ("4000:4001", (4000, 4001, (), "/")),
        ("7", (7, 8, (), "/seven")), (":www", (0, 34, (), "/root")),
    ],
)  # fmt: skip
def test_a_user_is_a_name_or_a_number_with_an_optional_group(text: str, expected: tuple[int, int, tuple[int, ...], str]) -> None:
    user = users.find(text, PASSWD, GROUP)
    assert (user.uid, user.gid, user.groups, user.home) == expected


@pytest.mark.parametrize("text", ["1000", "1000:1000", "4000:1000"])
def test_a_number_is_never_taken_for_a_name(text: str) -> None:
    """CVE-2016-3697: an image with an account named 1000 that is root made root of USER 1000."""
    hostile = "1000:x:0:0::/:\n"
    user = users.find(text, hostile, "1000:x:0:1000\n")
    assert user.uid == int(text.partition(":")[0]) and user.groups == () and user.gid == (1000 if ":" in text else 0)


@pytest.mark.parametrize("text", ["4294967296", "2147483648", "18446744073709551616"])
def test_a_number_beyond_what_there_is_does_not_become_root(text: str) -> None:
    """CVE-2024-40635: 2^32 was taken for 0."""
    with pytest.raises(users.UnknownUser):
        users.find(text, PASSWD, GROUP)
    with pytest.raises(users.UnknownUser):
        users.find(f"0:{text}", PASSWD, GROUP)


@pytest.mark.parametrize("text", ["4294967296", "2147483648", "99999999999999999999"])
def test_a_number_beyond_what_there_is_is_no_name_either(text: str) -> None:
    """CVE-2026-46680: what could not be read as a number was looked up as a name, and the image's account of that name was root."""
    for user, passwd, group in ((text, f"{text}:x:0:0::/:\n", ""), (f"7:{text}", PASSWD, f"{text}:x:0:\n")):
        with pytest.raises(users.UnknownUser, match="must be in range"):
            users.find(user, passwd, group)


def test_a_user_of_more_groups_than_a_process_can_have_is_refused() -> None:
    """CVE-2026-47262: an image's list of groups had no bound."""
    groups = "".join(f"g:x:{number}:web\n" for number in range(70_000))
    with pytest.raises(users.UnknownUser, match="user web is in 70000 groups: at most 65535 are possible"):
        users.find("web", PASSWD, groups)
    assert len(users.find("web", PASSWD, "".join(groups.splitlines(keepends=True)[:65_535])).groups) == 65_534


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ghost", "unable to find user ghost"),
        ("root:ghosts", "unable to find group ghosts"),
        ("-1", "unable"),
        ("4294967295", "unable"),
        ("99999999999", "unable to find user 99999999999: uids and gids must be in range 0-2147483647"),
        ("0:2147483648", "unable to find group 2147483648: uids and gids must be in range"),
    ],
)
def test_who_is_unknown_is_named(text: str, words: str) -> None:
    with pytest.raises(users.UnknownUser, match=words):
        users.find(text, PASSWD, GROUP)


@given(st.text(), st.text(), st.text())
def test_any_files_give_a_user_or_a_refusal(text: str, passwd: str, group: str) -> None:
    try:
        user = users.find(text, passwd, group)
    except users.UnknownUser:
        return
    assert 0 <= user.uid < 1 << 32 and 0 <= user.gid < 1 << 32


def test_a_link_in_the_image_never_leads_onto_the_host(tmp_path: Path) -> None:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "passwd").write_text("planted:x:1:1::/:\n")
    (tmp_path / "root/etc/passwd").symlink_to(tmp_path / "passwd")
    (tmp_path / "root/etc/group").symlink_to("/proc/self/root/etc/group")
    root = os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY)
    assert users.read_file(root, "/etc/passwd") == ""
    assert users.read_file(root, "/etc/group") == ""
    os.close(root)


def test_a_fifo_in_place_of_a_file_does_not_block(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/passwd")
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    assert users.look_up(root, "5").uid == 5
    os.close(root)
