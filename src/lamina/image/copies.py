"""Copies of tars that nobody waits for: what a tree is mended from, where the driver keeps trees and the layer was made here.

A layer that was made of an upper directory is whole when its tree and skeleton are: together they are its tar. The compressed copy beside
them is for the day on which a file of the tree is damaged; it is made of them a moment later, and its digest is compared with the
layer's. What a killed process did not come to is made after the next start.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from lamina.content.later import Later
from lamina.errors import LaminaError
from lamina.image.leases import Leases
from lamina.image.metadata import Warn
from lamina.image.model import LayerFacts
from lamina.snapshot.protocol import StagedBlob
from lamina.spec.digest import Digest


class Uncopied(Protocol):
    """The layers, as far as their copies are concerned."""

    def uncopied(self) -> Sequence[LayerFacts]:
        """Those whose trees are all there is of them."""

    @contextmanager
    def copied(self, facts: LayerFacts) -> Iterator[StagedBlob]:
        """A copy of a layer's tar, not kept yet; what is not kept is gone afterwards. Raises LayerDamaged."""

    def keep_copy(self, layer: Digest, blob: StagedBlob) -> LayerFacts | None:
        """Keep it, if the layer is still here; its facts then."""


class Copies:
    """Makes them, one after the other, at most `delay` seconds after a request. Thread-safe.

    Locks are taken in this order: `resting`, the leases' gate, the layers'. Whoever holds the layers' must not `flush`.
    """

    def __init__(self, layers: Uncopied, leases: Leases, warn: Warn, *, delay: float = 2.0) -> None:
        self._layers, self._leases, self._warn = layers, leases, warn
        self._later = Later(self._make, delay=delay)
        self._turn, self._end = threading.Lock(), threading.Lock()
        self._closed = False
        self._failed: dict[Digest, LaminaError] = {}

    def request(self) -> None:
        """See to it that layers without a copy get one; returns at once."""
        self._later.request()

    def flush(self) -> None:
        """Return when every layer has the copy that it should, if it can be had."""
        if self._layers.uncopied():
            self._later.request()
            self._later.flush()

    def problem(self, layer: Digest) -> LaminaError | None:
        """Why the layer's copy could not be made: mostly that its tree is damaged."""
        return self._failed.get(layer)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Nothing is being made until the context is left."""
        with self._turn:
            yield

    def close(self) -> None:
        """Nothing is kept any more from now on; whoever makes one at the moment is not waited for."""
        with self._end:
            self._closed = True

    def _make(self) -> None:
        wanted = self._layers.uncopied()
        self._failed = {facts.id: self._failed[facts.id] for facts in wanted if facts.id in self._failed}
        for facts in wanted:
            if self._closed:
                return
            try:
                with self._turn:
                    self._make_one(facts)
                self._failed.pop(facts.id, None)
            except (LaminaError, OSError) as error:
                self._note(facts, error)

    def _make_one(self, facts: LayerFacts) -> None:
        # The gate: who sweeps blobs would take one that no layer names yet. No lease: that would keep what others remove meanwhile.
        with self._layers.copied(facts) as blob, self._end, self._leases.quiet():
            if not self._closed:
                self._layers.keep_copy(facts.id, blob)

    def _note(self, facts: LayerFacts, error: LaminaError | OSError) -> None:
        gone = facts.id not in {each.id for each in self._layers.uncopied()}
        if self._closed or gone or not isinstance(error, LaminaError):
            return
        if facts.id not in self._failed:
            self._warn(f"no copy of layer {facts.id} could be made, which its tree would be mended from: {error.message}")
        self._failed[facts.id] = error
