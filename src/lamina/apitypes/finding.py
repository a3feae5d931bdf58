"""What a look at the data root finds, and whether it was mended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lamina.errors import LaminaError

REPAIRED, REPAIRABLE, LOST = "repaired", "repairable", "lost"
REPAIR = "run it again with --repair"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be: what it is of, where it lies (below the data root, or in the database), what is wrong.

    `state` is REPAIRED (it is right now), REPAIRABLE (`--repair` would mend it) or LOST (only its origin has it). `images` are
    names, or IDs, of the images concerned; `advice` says what to do.
    """

    what: str
    where: str
    problem: str
    state: str
    advice: str = ""
    images: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """All of it in one line."""
        concerned = f"; concerns {', '.join(self.images)}" if self.images else ""
        return f"{self.state}: {self.what}: {self.problem} ({self.where}){concerned}" + (f"; {self.advice}" if self.advice else "")


def settled(finding: Finding, mend: Callable[[], object] | None) -> Finding:
    """The finding after `mend`; without one it only could be mended."""
    if mend is None:
        return replace(finding, state=REPAIRABLE, advice=REPAIR)
    try:
        mend()
        return replace(finding, state=REPAIRED)
    except (LaminaError, OSError) as error:
        why = error.message if isinstance(error, LaminaError) else str(error)
        return replace(finding, state=LOST, advice=f"it could not be repaired: {why}")
