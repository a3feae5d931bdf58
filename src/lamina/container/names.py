"""Names of containers: which are allowed, and how one is made up."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from lamina.errors import InvalidArgument

_GRAMMAR = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+\Z")
_MOODS = (
    "amber bold brisk calm clear cosmic crisp daring deft eager early fair fleet gentle glad golden grand happy humble keen kind lively "
    "lucid merry mellow modest neat nimble noble patient plain proud quiet rapid ready serene sharp silent sleek smooth snug solid steady "
    "stout sunny swift tender tidy tranquil vivid warm wise witty zesty"
).split()
_ROCKS = (
    "agate basalt beryl chalk chert clay coal coral dolomite dunite feldspar flint gabbro garnet gneiss granite graphite gravel gypsum halite "
    "jade jasper kaolin larvikite lava limestone loess marble marl mica obsidian olivine onyx opal peat peridot pumice pyrite quartz rhyolite "
    "ruby sandstone schist shale silt slate spinel talc topaz tuff turquoise zircon"
).split()


class InvalidName(InvalidArgument):
    """Characters that a container's name may not have."""


def checked_name(name: str) -> str:
    """`name` without the leading slash that the API allows.

    Raises:
        InvalidName: it has other characters than Docker allows.
    """
    if not _GRAMMAR.match(name):
        raise InvalidName(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return name.removeprefix("/")


def invented_name(choose: Callable[[Sequence[str]], str], taken: Callable[[str], bool]) -> str:
    """A name nobody has: a mood and a rock, with a number when the good ones are used up."""
    for attempt in range(1000):
        name = f"{choose(_MOODS)}_{choose(_ROCKS)}" + (str(attempt) if attempt > 5 else "")
        if not taken(name):
            return name
    raise InvalidName("no free container name was found")
