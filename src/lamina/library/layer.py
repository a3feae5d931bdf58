"""A layer of an image, or what a container wrote."""

from __future__ import annotations

from dataclasses import dataclass

from lamina.explore.model import LayerRow
from lamina.explore.wording import human
from lamina.library.html import table


@dataclass(frozen=True, slots=True)
class Layer:
    """`index` counts from the base, 0. Counts are of entries; `size` and `hidden` are bytes, `hidden` of them under later layers.

    `id` is the chain ID (of what a container wrote, the container's). `instruction` is what made it, `path` where its bytes lie
    on the host.
    """

    index: int
    id: str
    diff_id: str
    instruction: str
    created: str
    added: int
    modified: int
    deleted: int
    size: int
    hidden: int
    path: str
    writable: bool = False

    @classmethod
    def of(cls, row: LayerRow) -> Layer:
        """The layer of a row of `layers`."""
        facts = row.facts
        return cls(
            facts.index,
            facts.id,
            facts.diff_id,
            facts.instruction,
            facts.created,
            row.added,
            row.modified,
            row.deleted,
            row.size,
            row.hidden,
            facts.path,
            facts.writable,
        )

    def cells(self) -> tuple[object, ...]:
        """What tables show of it."""
        changes = f"+{self.added} ~{self.modified} -{self.deleted}"
        return self.index, self.id.removeprefix("sha256:")[:12], human(self.size), human(self.hidden), changes, self.instruction

    def _repr_html_(self) -> str:
        return table(f"Layer {self.index}", HEADS, [self.cells()])


HEADS = ("#", "layer", "size", "hidden", "changes", "instruction")
