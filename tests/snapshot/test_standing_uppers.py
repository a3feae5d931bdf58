"""Upper directories that stand on each other: what the kernel shows of them is what one layer made of them shows."""

from __future__ import annotations

import os
import random
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lamina.layer.clone import clone
from lamina.linux.overlay import mount_overlay_anywhere
from lamina.snapshot.protocol import Own
from tests.contracts.snapshotter import BASE, Rig, directory, file, symlink, tar

NAMES = ("etc", "var", "opt", "a", "b", "c")
pytestmark = pytest.mark.root


@pytest.fixture(params=["erofs", "overlay"])
def rig(request: pytest.FixtureRequest) -> Rig:
    """A rig with two layers."""
    rig: Rig = request.getfixturevalue(f"{request.param}_rig")
    rig.publish(tar(*BASE))
    rig.publish(tar(directory("etc"), file("etc/z", b"z"), directory("a"), directory("a/b"), file("a/b/c", b"deep"), symlink("b", "a/b")))
    return rig


@contextmanager
def standing(rig: Rig, upper: Path, over: list[Path], names: list[str] | None = None) -> Iterator[Path]:
    """The rig's layers, `over` (top first) on them, and `upper`, mounted."""
    work = upper.parent / f"{upper.name}.work"
    for path in (upper, work):
        path.mkdir(exist_ok=True)
    root = rig.snapshotter.root(Own(str(upper), str(work), over=tuple(map(str, over))), rig.published if names is None else names)
    fd = mount_overlay_anywhere([(lower.fd, lower.path) for lower in root.lowers], root.upper, root.work, str(rig.scratch))
    try:
        yield Path(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def shown(top: Path) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for here, folders, names in os.walk(top):
        for name in folders + names:
            path = Path(here, name)
            status = path.lstat()
            content = os.readlink(path) if path.is_symlink() else path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            found.append((str(path.relative_to(top)), status.st_mode, status.st_uid, status.st_mtime_ns, content))
    return sorted(found, key=str)


def scramble(top: Path, chance: random.Random, steps: int) -> None:
    """Do this and that in a mounted tree: every kind of change that leaves its mark in an upper directory."""
    for step in range(steps):
        place = top.joinpath(*(chance.choice(NAMES) for _ in range(chance.randint(1, 3))))
        try:
            act = chance.randrange(8)
            if act == 0:
                place.write_bytes(b"%d" % step)
            elif act == 1:
                place.mkdir()
            elif act == 2 and place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            elif act == 3:
                place.unlink()
            elif act == 4:
                place.symlink_to(chance.choice(NAMES))
            elif act == 5:
                os.rename(place, top / chance.choice(NAMES) / chance.choice(NAMES))
            elif act == 6:
                os.chown(place, step, step, follow_symlinks=False)
            else:
                os.link(place, top / chance.choice(NAMES) / chance.choice(NAMES), follow_symlinks=False)
        except OSError:
            continue  # what cannot be done there is not done


@pytest.mark.parametrize("seed", range(12))
def test_a_layer_of_them_all_shows_what_the_kernel_shows(rig: Rig, seed: int) -> None:
    chance = random.Random(seed)
    uppers: list[Path] = []
    for number in range(4):
        upper = rig.root / f"upper{number}"
        with standing(rig, upper, uppers) as top:
            scramble(top, chance, 25)
            expected = shown(top)
        uppers.insert(0, upper)
    below, top_upper, over = list(rig.published), str(uppers[0]), [str(path) for path in uppers[1:]]
    staged = rig.snapshotter.stage_upper(top_upper, below, str(rig.scratch), over=over)
    rig.adopt(staged)
    rig.snapshotter.publish(staged, staged.diff_id.encoded, below)
    with standing(rig, rig.root / "fresh", [], [*below, staged.diff_id.encoded]) as top:
        assert [each[:3] + each[4:] for each in shown(top)] == [each[:3] + each[4:] for each in expected]
    changes = dict(rig.snapshotter.changes(top_upper, below, over))
    with standing(rig, rig.root / "base", []) as top:
        before = {each[0]: each for each in shown(top)}
    after = {each[0]: each for each in expected}
    assert {f"/{path}" for path in after.keys() - before.keys()} <= changes.keys()
    assert all(changes[f"/{path}"] == "A" for path in after.keys() - before.keys())
    gone = [path for path in sorted(before.keys() - after.keys(), key=str) if os.path.dirname(str(path)) in (*after, "")]
    assert all(changes.get(f"/{path}", "D") == "D" for path in gone)


def test_a_clone_shows_the_same_on_the_same_layers(rig: Rig) -> None:
    with standing(rig, rig.root / "first", []) as top:
        scramble(top, random.Random(99), 80)
        expected = shown(top)
    (rig.root / "copy").mkdir()
    clone(str(rig.root / "first"), str(rig.root / "copy"))
    with standing(rig, rig.root / "empty", [rig.root / "copy"]) as top:
        assert shown(top) == expected
