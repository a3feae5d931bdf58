"""What a step amounts to before it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lamina.image.model import LayerFacts
from lamina.spec.config import ContainerConfig
from lamina.spec.digest import Digest


@dataclass(frozen=True, slots=True)
class Made:
    """A step's history entry, its configuration, and the work behind it: its `key`, and how it is done (`work`, given the entry).

    A `floating` step's layer is the same on every stack. `portable` says that an image whose history has the same entry can stand for it.
    `depends` are texts by name that count for the key besides the instruction; `files` is the digest of what is copied, `manifest`
    what each path of it came to.
    """

    created_by: str
    container: ContainerConfig
    key: Digest | None = None
    work: Callable[[str], LayerFacts | None] | None = None
    author: str = ""
    floating: bool = False
    portable: bool = True
    depends: Mapping[str, str] = field(default_factory=dict)
    files: str = ""
    manifest: str = ""
