"""SOURCE_DATE_EPOCH: the same build twice, on other roots, at other times and over other drivers, gives the same digests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lamina.builder.request import InvalidEpoch
from lamina.image.model import Image
from tests.builder.lab import Lab
from tests.builder.real import BUSYBOX, real_lab

EPOCH = 1_714_557_600
TEXT = """FROM busybox AS maker
WORKDIR /work
RUN echo made > made; mkdir -p deep/er; ln made deep/hard; ln -s made deep/soft; date > /dev/null; rm /bin/vi; rm -r /tmp; mkdir /tmp
COPY --chmod=640 . /context/
COPY <<EOF /here
written
EOF
FROM busybox
COPY --from=maker /work /work
COPY --link a /linked/
ADD a /added
RUN echo more > /work/more; touch /bin/vi
ENV A=b
"""


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Lab]]:
    """One lab a driver, each with a clock and a context of its own."""
    if BUSYBOX is None:
        pytest.skip("needs a static busybox")
    with ExitStack() as stack:
        found = []
        for number, driver in enumerate(("overlay", "erofs", "native")):
            lab = stack.enter_context(real_lab(tmp_path_factory.mktemp(driver) / "lab", driver))
            lab.time += number * 10**12
            (lab.context / "sub").mkdir()
            for name in ("a", "sub/b"):
                (lab.context / name).write_text(name)
                os.utime(lab.context / name, (EPOCH + 1000 * (number + 1),) * 2)
            found.append(lab)
        yield found


def facts(lab: Lab, image: Image) -> tuple[str, list[str]]:
    return str(image.id), [str(lab.layers.get(layer).diff_id) for layer in image.layers]


@pytest.mark.root
def test_the_same_build_gives_the_same_digests_everywhere(labs: list[Lab]) -> None:
    made = [facts(lab, lab.build(TEXT, build_args={"SOURCE_DATE_EPOCH": str(EPOCH)})[0]) for lab in labs]
    assert made[0] == made[1] == made[2]
    again = labs[0].build(TEXT, build_args={"SOURCE_DATE_EPOCH": str(EPOCH)}, no_cache=True)[0]
    assert facts(labs[0], again) == made[0]


@pytest.mark.root
def test_nothing_is_younger_than_the_epoch_and_what_is_older_stays(labs: list[Lab]) -> None:
    lab = labs[0]
    image, _ = lab.build(TEXT, build_args={"SOURCE_DATE_EPOCH": str(EPOCH)})
    times = [row.mtime_ns for folder in ("/", "/work", "/work/deep", "/linked") for row in lab.images.ls(str(image.id), folder)]
    assert max(times) == EPOCH * 10**9 and min(times) == 0
    assert image.config.created == "2024-05-01T10:00:00Z"
    assert {entry.created for entry in image.config.history[1:]} == {"2024-05-01T10:00:00Z"}


@pytest.mark.root
def test_a_build_without_an_epoch_is_another(labs: list[Lab]) -> None:
    text = "FROM busybox\nRUN echo x > /x\n"
    without, _ = labs[0].build(text)
    other, told = labs[0].build(text, build_args={"SOURCE_DATE_EPOCH": "1"})
    assert without.layers != other.layers and "Using cache" not in told and "not consumed" not in told


def test_an_epoch_is_a_number_of_seconds(lab: Lab) -> None:
    lab.base()
    with pytest.raises(InvalidEpoch, match="invalid SOURCE_DATE_EPOCH: 'yesterday'"):
        lab.build("FROM base\n", build_args={"SOURCE_DATE_EPOCH": "yesterday"})


def test_the_epoch_reaches_commands_that_declare_it(lab: Lab) -> None:
    lab.base()
    lab.build("FROM base\nRUN x\nARG SOURCE_DATE_EPOCH\nRUN y\n", build_args={"SOURCE_DATE_EPOCH": "7"})
    held = ["SOURCE_DATE_EPOCH=7" in launch.spec["process"]["env"] for launch in lab.runtime.launches]
    assert held == [False, True]


def test_times_of_the_context_do_not_count(tmp_path: Path) -> None:
    made = []
    for number in range(2):
        with ExitStack() as stack:
            (tmp_path / str(number)).mkdir()
            lab = Lab(tmp_path / str(number), stack, time=(1_800_000_000 + number) * 10**9)
            (lab.context / "a").write_text("a")
            os.utime(lab.context / "a", (1_750_000_000 + number,) * 2)
            image, _ = lab.build("FROM scratch\nCOPY a /d/\nWORKDIR /w\n", build_args={"SOURCE_DATE_EPOCH": "1700000000"})
            made.append(facts(lab, image))
    assert made[0] == made[1]
