"""Where a stage stands between two instructions."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from lamina.builder.arguments import Arguments
from lamina.image.model import Image, LayerFacts
from lamina.runtime.bundle import PATH
from lamina.spec.config import ContainerConfig, History, ImageConfig, RootFS
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform


@dataclass(frozen=True, slots=True)
class State:
    """The image so far and what the next instruction sees. `layers` are base first; `image` is None before scratch's first step.

    `base` and `base_image` are what the stage's FROM gave.
    """

    image: Image | None
    config: ImageConfig
    layers: tuple[LayerFacts, ...] = ()
    arguments: Arguments = field(default_factory=Arguments)
    cmd_set: bool = False
    base: tuple[LayerFacts, ...] = ()
    base_image: Image | None = None

    @property
    def top(self) -> Digest | None:
        """The chain ID of the stack."""
        return self.layers[-1].id if self.layers else None

    @property
    def before(self) -> str:
        """What tells the image so far apart: its ID, or what scratch starts with."""
        return str(self.image.id) if self.image else f"scratch {self.config.platform} {self.container.working_dir}".rstrip()

    @property
    def container(self) -> ContainerConfig:
        return self.config.config

    @property
    def environment(self) -> dict[str, str]:
        return self.container.environment()

    @property
    def scope(self) -> dict[str, str]:
        """What variables mean in the next instruction."""
        return self.arguments.scope(self.environment)


def empty_config(platform: Platform, working_dir: str = "") -> ImageConfig:
    """What FROM scratch starts with."""
    return ImageConfig(
        config=ContainerConfig(working_dir=working_dir),
        architecture=platform.architecture,
        os=platform.os,
        variant=platform.variant,
        rootfs=RootFS(),
    )


def with_path(config: ImageConfig) -> ImageConfig:
    """`config` with a PATH, as every image that is built gets one."""
    if "PATH" in config.config.environment():
        return config
    container = msgspec.structs.replace(config.config, env=(f"PATH={PATH}", *config.config.env))
    return msgspec.structs.replace(config, config=container)


def after(
    config: ImageConfig, container: ContainerConfig, layer: LayerFacts | None, *, created: str, created_by: str, author: str
) -> ImageConfig:
    """The configuration of the image that one step makes of `config`."""
    entry = History(created=created, created_by=created_by, author=author, empty_layer=layer is None)
    diff_ids = config.rootfs.diff_ids if layer is None else (*config.rootfs.diff_ids, str(layer.diff_id))
    return msgspec.structs.replace(
        config,
        config=container,
        created=created,
        author=author,
        comment="",
        docker_version="",
        rootfs=RootFS(diff_ids=diff_ids),
        history=(*config.history, entry),
    )
