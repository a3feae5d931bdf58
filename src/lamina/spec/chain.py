"""Chain IDs (image-spec config.md "Layer ChainID"): the identity of a stack of layers."""

from __future__ import annotations

from collections.abc import Iterable

from lamina.spec.digest import Digest


def chain_id(parent: Digest | None, diff_id: Digest) -> Digest:
    """The chain ID of the layer `diff_id` on top of the stack `parent` (None at the bottom)."""
    return diff_id if parent is None else Digest.of(f"{parent} {diff_id}".encode())


def chain_ids(diff_ids: Iterable[Digest]) -> tuple[Digest, ...]:
    """The chain ID at each height of a stack, base layer first."""
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(chain_id(chain[-1] if chain else None, diff_id))
    return tuple(chain)
