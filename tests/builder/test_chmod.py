"""--chmod: octal, and symbolic as chmod(1) takes it."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from lamina.builder.owner import InvalidOwner, parse_mode

SYMBOLIC = (
    "u+x", "+x", "a+x", "+w", "-r", "go-rwx", "u=rw,go=r", "=rx", "=", "a=", "u=rwX,g=rX,o=", "+X", "a+X", "g=u", "o=g", "u+s", "g+s", "+t", "o+t",
    "u=rwxs", "ug+rw-x", "u-w+x", "a=rX,u+w", "go=u-w", "u=", "+s", "-s,-t",
)  # fmt: skip
MODES = (0o644, 0o600, 0o755, 0o000, 0o4755, 0o2711, 0o1777, 0o666, 0o6123)


@pytest.mark.parametrize("text", SYMBOLIC)
def test_symbolic_modes_do_what_chmod_does(tmp_path: Path, text: str) -> None:
    changed = parse_mode(text)
    assert changed is not None
    paths = []
    for mode in MODES:
        for kind in ("file", "folder"):
            path = tmp_path / f"{mode:o}-{kind}"
            path.mkdir() if kind == "folder" else path.write_bytes(b"")
            path.chmod(mode)
            paths.append((path, path.stat().st_mode))
    subprocess.run(["chmod", text, "--", *(str(path) for path, _ in paths)], check=False, umask=0o022, capture_output=True)
    found = {path.name: oct(stat.S_IMODE(os.lstat(path).st_mode)) for path, _ in paths}
    assert {path.name: oct(stat.S_IMODE(changed(mode))) for path, mode in paths} == found


def test_octal_modes_replace_what_is_there() -> None:
    changed = parse_mode("0640")
    assert changed is not None
    assert changed(stat.S_IFREG | 0o777) == stat.S_IFREG | 0o640
    assert parse_mode("") is None


@pytest.mark.parametrize("text", ["8", "77777", "u", "x", "u+", "u+q", "+x,", ",", "u+x g+x", "-1", "rwx", "u+gx"])
def test_what_is_no_mode_is_refused(text: str) -> None:
    if text == "u+":  # chmod(1) takes it: nothing is added.
        assert parse_mode(text) is not None
        return
    with pytest.raises(InvalidOwner, match="invalid chmod parameter"):
        parse_mode(text)
