"""Builds with real commands in real containers, on a base made of busybox."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.builder.execute import StepFailed
from lamina.builder.request import Cancellation
from lamina.errors import Cancelled, LaminaError
from tests.builder.lab import Lab
from tests.builder.real import BUSYBOX, real_lab
from tests.harness import eventually

pytestmark = [pytest.mark.root, pytest.mark.skipif(BUSYBOX is None, reason="needs a static busybox")]


@pytest.fixture(params=["erofs", "overlay", "native"])
def lab(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Lab]:
    with real_lab(tmp_path / "lab", request.param) as lab:
        yield lab


def test_a_real_build(lab: Lab) -> None:
    (lab.context / "app").mkdir()
    (lab.context / "app/data").write_text("from the context")
    text = """FROM busybox AS maker
RUN echo made > /made && rm /bin/vi
FROM busybox
ENV GREETING=hello
WORKDIR /work
COPY app .
COPY --from=maker /made /made
RUN echo $GREETING $(cat data) $(cat /made) > out; pwd; id -u
USER nobody
RUN id -un; touch /tmp/mine
RUN <<EOF
set -e
echo one >&2
EOF
CMD ["cat", "/work/out"]
"""
    image, told = lab.build(text)
    assert "\n/work\n0\nRemoving" in told and "\nnobody\nRemoving" in told and "\none\nRemoving" in told
    assert lab.read(image, "/work/out") == "hello from the context made\n"
    names = [row.name for row in lab.images.ls(str(image.id), "/tmp")]
    assert names == ["mine"]
    again, told = lab.build(text)
    assert again.id == image.id and "Running in" not in told


def test_files_that_a_command_deletes_are_gone(lab: Lab) -> None:
    image, _ = lab.build("FROM busybox\nRUN rm /bin/vi && mkdir /new && echo x > /new/x\nRUN rm -r /new\n")
    names = [row.name for row in lab.images.ls(str(image.id), "/bin")]
    assert "vi" not in names and "busybox" in names
    assert "new" not in [row.name for row in lab.images.ls(str(image.id), "/")]


def test_a_command_that_changes_nothing_makes_no_layer(lab: Lab) -> None:
    image, _ = lab.build("FROM busybox\nRUN true\nRUN cat /etc/hosts /etc/resolv.conf > /dev/null\n")
    assert len(image.layers) == 1


def test_a_failing_command(lab: Lab) -> None:
    with pytest.raises(StepFailed) as caught:
        lab.build("FROM busybox\nRUN echo so >&2; exit 7\n")
    assert caught.value.message == "The command '/bin/sh -c echo so >&2; exit 7' returned a non-zero code: 7"
    assert "so\n" in "".join(update.stream for update in lab.told)


def test_a_command_that_cannot_be_started_is_told_with_its_line(lab: Lab) -> None:
    for text in ("FROM busybox\nUSER nemo\nRUN id\n", 'FROM busybox\n\nRUN ["nosuch"]\n'):
        with pytest.raises(LaminaError) as caught:
            lab.build(text)
        assert "Dockerfile:3" in str(caught.value)


def test_a_build_has_no_network_unless_asked(lab: Lab) -> None:
    _, told = lab.build("FROM busybox\nRUN ls /sys/class/net\n", network="none")
    assert "\nlo\nRemoving" in told


def test_cancelling_kills_the_running_command(lab: Lab) -> None:
    cancellation = Cancellation()

    def cancel() -> None:
        eventually(lambda: list((lab.root / "run/build").glob("*/monitor.json")), "nothing runs")
        cancellation.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(Cancelled):
        lab.build("FROM busybox\nRUN sleep 100000\n", cancellation)
    thread.join()
    assert list((lab.root / "run/build").iterdir()) == []


def test_a_script_with_its_own_interpreter(lab: Lab) -> None:
    _, told = lab.build("FROM busybox\nRUN <<EOF\n#!/bin/awk -f\nBEGIN { print 6 * 7 }\nEOF\n")
    assert "\n42\n" in told


def test_more_layers_than_fit_in_one_line_of_mount_options(lab: Lab) -> None:
    if lab.driver == "native":
        pytest.skip("nothing is mounted")
    image, _ = lab.build("FROM busybox\n" + "".join(f"RUN echo {number} > /f{number}\n" for number in range(126)))
    assert len(image.layers) == 127
    _, told = lab.build("FROM " + str(image.id) + "\nRUN cat /f0 /f125; ls / | grep -c ^f\n")
    assert "\n0\n125\n126\n" in told
