"""Dockerfiles after the manner of well-known projects are built, on stand-ins for their base images: a busybox with the commands they call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.spec.reference import Reference
from tests.builder.lab import Lab
from tests.builder.real import BUSYBOX, real_lab

pytestmark = [pytest.mark.root, pytest.mark.skipif(BUSYBOX is None, reason="needs a static busybox")]
FILES = Path(__file__).parent.parent / "dockerfile/golden/files"
COMMANDS = "apk apt-get apt-mark caddy curl dpkg-reconfigure gettext gpg jlink locale-gen make node npm rustup setcap sha512sum wget xx-go"
"""What these files call and a busybox has not: each says yes to everything."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with real_lab(tmp_path_factory.mktemp("stand-ins") / "lab", "overlay") as lab:
        stand_in = "".join(f"RUN printf '#!/bin/sh\\nexit 0\\n' > /usr/local/bin/{name}\n" for name in COMMANDS.split())
        text = f"FROM busybox\nRUN mkdir -p /usr/local/bin /bin && ln -sf /bin/sh /bin/bash && echo nobody:x:65534: > /etc/group\n{stand_in}RUN chmod 755 /usr/local/bin/*\n"
        names = ("alpine:3.22", "node:24", "quay.io/prometheus/busybox-linux-amd64", "golang:1.26-alpine", "selenium/base")
        lab.build(text, tags=tuple(Reference.parse(name) for name in names))
        yield lab


def context(lab: Lab, *names: str) -> None:
    for name in names:
        (lab.context / name).parent.mkdir(parents=True, exist_ok=True)
        (lab.context / name).write_text(f"#!/bin/sh\necho {name}\n")
        (lab.context / name).chmod(0o755)


def test_alertmanager(lab: Lab) -> None:
    context(lab, ".build/linux-amd64/amtool", ".build/linux-amd64/server", "examples/simple.yml")
    image, _ = lab.build((FILES / "alertmanager.Dockerfile").read_text())
    config = image.config.config
    assert (config.user, config.working_dir, list(config.volumes), list(config.exposed_ports)) == (
        "nobody",
        "/data",
        ["/data"],
        ["9093/tcp"],
    )
    assert [row.name for row in lab.images.ls(str(image.id), "/bin") if row.name in ("amtool", "server")] == ["amtool", "server"]
    assert {row.name: row.uid for row in lab.images.ls(str(image.id), "/")}["data"] == 65534


def test_onbuild_and_what_is_built_from_it(lab: Lab) -> None:
    context(lab, "package.json", "index.js")
    (lab.context / "passwd").write_text("root:x:0:0::/:/bin/sh\nnode:x:1000:1000::/:/bin/sh\n")
    (lab.context / "group").write_text("node:x:1000:\n")
    lab.build((FILES / "onbuild.Dockerfile").read_text(), tags=(Reference.parse("node-onbuild"),))
    text = "FROM node-onbuild\nRUN true\n"
    with pytest.raises(Exception, match="unable to find user node in the image"):
        lab.build(text)
    lab.build("FROM node:24\nCOPY passwd group /etc/\n", tags=(Reference.parse("node:24"),))
    lab.build((FILES / "onbuild.Dockerfile").read_text(), tags=(Reference.parse("node-onbuild"),))
    image, told = lab.build(text, build_args={"NODE_ENV": "test"})
    assert "# Executing 7 build triggers" in told and "\nlast\n" in told
    assert "NODE_ENV=test" in image.config.config.env
    assert {row.name: row.uid for row in lab.images.ls(str(image.id), "/usr/src/app")}["index.js"] == 1000


def test_selenium_wants_a_secret_that_the_classic_builder_cannot_carry(lab: Lab) -> None:
    with pytest.raises(Exception, match="Dockerfile:20: RUN --mount=type=secret cannot be given by this client"):
        lab.build((FILES / "selenium.Dockerfile").read_text())


def test_buildx_stops_at_a_stage_that_needs_nothing_from_outside(lab: Lab) -> None:
    text = (FILES / "buildx.Dockerfile").read_text().replace("golang:${GO_VERSION}-alpine${ALPINE_VERSION}", "golang:1.26-alpine")
    context(lab, "package.json")
    lab.build("FROM scratch\nCOPY package.json /usr/bin/xx\n", tags=(Reference.parse("tonistiigi/xx:1.6.1"),))
    image, told = lab.build(text, target="gobase")
    assert "Step 1/11 : ARG GO_VERSION=1.26" in told
    assert image.config.config.working_dir == "/src" and "GOFLAGS=-mod=vendor" in image.config.config.env
