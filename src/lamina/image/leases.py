"""Leases: what an operation is using stays, though nothing names it yet or any more.

A lease lives as long as the process that holds the root: after a crash nothing is in use, and the next start collects
what nothing refers to. Numbers drawn from one counter order what happens: an operation that began with number n keeps
everything that was registered or found at n or later.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

from lamina.spec.digest import Digest


class Leases:
    """Who needs what. Thread-safe. Digests are image IDs, chain IDs and blobs' digests alike."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._gate = threading.Lock()
        self._clock = itertools.count(1)
        self._working: set[int] = set()
        self._held: Counter[Digest] = Counter()
        self._pins: dict[str, tuple[Digest, ...]] = {}
        self._touched: dict[Digest, int] = {}
        self._missed = False
        self._spared: set[Digest] = set()
        self._left: set[Digest] = set()
        self.after: Callable[[], None] = lambda: None
        """Called when the last operation under way has ended, if a sweep `missed` something meanwhile (or noticed that only then), and when
        an owner unpins what a sweep had left for it. Must not block."""

    @contextmanager
    def hold(self, *digests: Digest) -> Iterator[None]:
        """Until the context is left, keep `digests`, and whatever is registered or found (`touch`) meanwhile by anyone.

        Meant for one operation: a pull, a load, a build.
        """
        with self._gate, self._lock:
            number = next(self._clock)
            self._working.add(number)
            self._held.update(digests)
        try:
            yield
        finally:
            with self._lock:
                self._working.discard(number)
                self._held.subtract(digests)
                self._held += Counter()
                self._forget()
                missed = self._missed and not self._working
                self._missed = self._missed and not missed
            if missed:
                self.after()

    @contextmanager
    def quiet(self) -> Iterator[bool]:
        """Let no operation begin until the context is left; gives whether none is under way.

        For sweeping what belongs to nothing: an operation that began meanwhile could be given what is about to go.
        """
        with self._gate:
            yield not self.working

    def pin(self, owner: str, digests: Iterable[Digest]) -> None:
        """Keep `digests` until `unpin(owner)`: a container its layers. A second pin of the same owner replaces the first."""
        with self._lock:
            self._pins[owner] = tuple(digests)

    def unpin(self, owner: str) -> None:
        """End what `pin` began; an unknown owner is passed over."""
        with self._lock:
            digests = self._pins.pop(owner, ())
            left = not self._spared.isdisjoint(digests)
            self._spared.difference_update(digests)
        if left:
            self.after()

    def touch(self, digest: Digest) -> None:
        """Note that `digest` was registered or found just now."""
        with self._lock:
            if self._working:
                self._touched[digest] = next(self._clock)

    def leave(self) -> None:
        """Note what was touched while work is under way as `left` for another try, since that work has failed."""
        with self._lock:
            self._left.update(self._touched)

    @property
    def left(self) -> set[Digest]:
        """What failed work may have left for another try. Nothing keeps it, the next sweep takes it; until then it is no stray."""
        with self._lock:
            return set(self._left)

    def kept(self) -> set[Digest]:
        """Everything that must stay now."""
        with self._lock:
            oldest = min(self._working, default=None)
            fresh = {digest for digest, number in self._touched.items() if oldest is not None and number >= oldest}
            return fresh.union(self._held, *self._pins.values())

    def without(self, owners: Iterable[str]) -> Leases:
        """A copy of what is kept now, as if `owners` had unpinned theirs; nothing is begun or ended in it."""
        leaving, copy = frozenset(owners), Leases()
        with self._lock:
            copy._working, copy._held, copy._touched = set(self._working), Counter(self._held), dict(self._touched)
            copy._pins = {owner: digests for owner, digests in self._pins.items() if owner not in leaving}
        return copy

    def pinned(self, digest: Digest) -> list[str]:
        """Who has pinned `digest`."""
        with self._lock:
            return [owner for owner, digests in self._pins.items() if digest in digests]

    def unless_kept(self, digest: Digest, delete: Callable[[Digest], int]) -> int:
        """Call `delete` unless `digest` must stay, and answer what it answers (else 0).

        Nobody can `touch` it meanwhile: whoever touches a digest and then looks for its bytes finds them, or none, never some
        that are about to go.
        """
        with self._lock:
            oldest = min(self._working, default=None)
            fresh = oldest is not None and self._touched.get(digest, 0) >= oldest
            if fresh or digest in self._held or any(digest in digests for digests in self._pins.values()):
                self._note_missed((digest,))
                return 0
            return delete(digest)

    def missed(self, digests: Collection[Digest] = ()) -> None:
        """Note that what nothing names stays, since work is under way that may need it, or an owner has pinned it (`digests`): somebody
        has to look again (`after`), at once if that work has ended since."""
        with self._lock:
            self._note_missed(digests)
            pinned = bool(digests) and set[Digest]().union(*self._pins.values()).issuperset(digests)
            ended = not self._working and not pinned
        if ended:
            self.after()

    def _note_missed(self, digests: Iterable[Digest]) -> None:
        self._missed = self._missed or bool(self._working)
        self._spared.update(set[Digest]().union(*self._pins.values()).intersection(digests))

    @property
    def working(self) -> bool:
        """Whether any operation holds a lease now."""
        return bool(self._working)

    def _forget(self) -> None:
        if not self._working:
            self._touched.clear()
        else:
            oldest = min(self._working)
            self._touched = {digest: number for digest, number in self._touched.items() if number >= oldest}
