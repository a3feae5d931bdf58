"""rmi: what of names and images goes, by Docker's rules, and why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lamina.apitypes.events import Emit, Event
from lamina.image.collect import Collector
from lamina.image.known import Known
from lamina.image.leases import Leases
from lamina.image.lookup import resolve, variants
from lamina.image.model import Image, ImageInUse, Removed, image_event
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference

InUse = Callable[[Digest], Sequence[tuple[str, bool]]]
"""Asked with an image's ID: the containers on it, (what to call it, whether it runs)."""


def unused(image: Digest) -> Sequence[tuple[str, bool]]:  # noqa: ARG001
    """An `InUse` where there are no containers."""
    return ()


@dataclass(slots=True)
class Loose:
    """Images that went, and what names that went had stood for: whose documents may be nobody's now. See `Collector.release`."""

    images: list[Image] = field(default_factory=list)
    resolved: list[Descriptor] = field(default_factory=list)


class Remover:
    """Removes names and images. Thread-safe."""

    def __init__(self, catalog: Known, collector: Collector, leases: Leases, emit: Emit) -> None:
        self._catalog, self._collector, self._leases, self._emit = catalog, collector, leases, emit

    def remove(
        self,
        text: str,
        *,
        force: bool = False,
        prune: bool = True,
        platforms: Sequence[Platform] = (),
        in_use: InUse = unused,
        loose: Loose | None = None,
    ) -> list[Removed]:
        """By name: the name goes, and the image with its last one. By ID: the image with its names, if they are of one
        repository; else `force` is needed. With `prune`, parents without name and children go too. The other platforms of
        a name go with it; with `platforms`, only the images for these. Documents that are nobody's now go at once, or are noted in
        `loose` for callers that remove many and look once.

        Raises:
            ImageNotFound, AmbiguousId: nothing was removed.
            ImageInUse: says by whom; nothing was removed.
        """
        with self._catalog.lock:
            image, name = resolve(self._catalog, text)
            gone = Loose() if loose is None else loose
            removal = _Removal(self._catalog, self._collector, self._emit, self._with_pins(in_use), prune, gone)
            try:
                if platforms:
                    removal.of_platforms(image, name, platforms, force=force)
                elif name is None:
                    removal.delete(image.id, force=force, names_matter=not _one_repository(image))
                else:
                    removal.named(image, name, text, force=force)
                return removal.finished()
            finally:
                if loose is None:
                    self._collector.release(gone.images, gone.resolved)

    def _with_pins(self, in_use: InUse) -> InUse:
        """`in_use` and what it cannot know yet: containers that are being made have pinned their image before they can be seen."""

        def users(image: Digest) -> Sequence[tuple[str, bool]]:
            seen = list(in_use(image))
            pinned = [owner.partition(":")[2][:12] for owner in self._leases.pinned(image)]
            return [*seen, *((container, False) for container in pinned if container not in {name for name, _ in seen})]

        return users


class _Removal:
    """One removal, under the catalog's lock. `removed` is what went, `resolved` what the names that went had stood for."""

    def __init__(self, catalog: Known, collector: Collector, emit: Emit, in_use: InUse, prune: bool, loose: Loose) -> None:
        self._catalog, self._collector, self._emit, self._in_use, self._prune = catalog, collector, emit, in_use, prune
        self._removed: list[Removed] = []
        self._resolved: list[Descriptor] = []
        self._loose = loose

    def named(self, image: Image, name: Reference, text: str, *, force: bool) -> None:
        """A name goes, and with the last one the image, unless something else needs it."""
        self._check_named(image, text, force=force)
        gone = [name]
        # The digests of its repository go with the repository's last tag.
        if not name.digest and not any(other.name == name.name for other in image.names if other != name):
            gone += [digest for digest in image.digests if digest.name == name.name]
        self._unname(image, gone)
        if not _references(self._catalog.get(image.id)):
            self.delete(image.id, force=force, quiet=True)

    def of_platforms(self, image: Image, name: Reference | None, platforms: Sequence[Platform], *, force: bool) -> None:
        """Only the images for these platforms go; a name passes to one that is left.

        Raises:
            PlatformNotHere: there is none for one of them; nothing was removed.
        """
        text = name.familiar if name is not None else str(image.id)
        rows = [variant for variant in variants(self._catalog, image, name) if variant.image is not None]
        chosen = {resolve(self._catalog, text, platform)[0].id for platform in platforms}
        left = [variant.image for variant in rows if variant.image is not None and variant.image.id not in chosen]
        for each in chosen:
            gone = self._catalog.get(each)
            conflict = self._conflict(gone, force=force, names_matter=False)
            if conflict is not None:
                raise conflict
        for each in chosen:
            if left:
                self._hand_over(self._catalog.get(each), left[0])
            self.delete(each, force=force or not left, names_matter=bool(left))

    def delete(self, image_id: Digest, *, force: bool, quiet: bool = False, names_matter: bool = False) -> None:
        """Delete an image and its parents, if these have neither names nor children. `quiet`: what must stay stays without an error."""
        parent: Digest | None = image_id
        while parent is not None:
            image = self._catalog.get(parent)
            if quiet and image.id in self._catalog.held():
                return  # It loses its last name or child, but the index of another name lists it.
            conflict = self._conflict(image, force=force, names_matter=names_matter)
            if conflict is not None:
                if quiet:
                    return
                raise conflict
            self._unname(image, _references(image))
            self._erase(image)
            parent = image.parent if self._prune and image.parent is not None and self._is_here(image.parent) else None
            force, quiet, names_matter = False, True, True

    def finished(self) -> list[Removed]:
        """Let go of the images for other platforms that the names had held. What was removed, in order."""
        siblings = {image.id for resolved in self._resolved for image in self._catalog.variants.images(resolved)}
        for image_id in siblings - self._catalog.held():
            if self._is_here(image_id) and not _references(self._catalog.get(image_id)):
                self.delete(image_id, force=False, quiet=True, names_matter=True)
        return self._removed

    def _check_named(self, image: Image, text: str, *, force: bool) -> None:
        """Without force, the last name of an image that a container uses stays: it would be left without any."""
        if force or not _one_repository(image):
            return
        for container, _ in self._in_use(image.id):
            raise ImageInUse(
                f'conflict: unable to remove repository reference "{text}" (must force) - '
                f"container {container} is using its referenced image {image.id.short}"
            )

    def _hand_over(self, image: Image, heir: Image) -> None:
        """Names that stand for the index of both pass from one to the other."""
        for name in _references(image):
            found = self._catalog.named(name)
            if found is not None and heir.id in {each.id for each in self._catalog.variants.images(found[1])}:
                self._catalog.name(heir.id, [(name, found[1])], heir.tagged)

    def _conflict(self, image: Image, *, force: bool, names_matter: bool) -> ImageInUse | None:
        """Why the image must stay, if it must. What only `force` overrides comes last."""
        if self._catalog.children(image.id):
            return _refusal(image, "cannot be forced", "image has dependent child images")
        containers = self._in_use(image.id)
        for container, runs in containers:
            if runs:
                return _refusal(image, "cannot be forced", f"image is being used by running container {container}")
        if force:
            return None
        if names_matter and _references(image):
            return _refusal(image, "must be forced", "image is referenced in multiple repositories")
        for container, _ in containers:
            return _refusal(image, "must be forced", f"image is being used by stopped container {container}")
        return None

    def _unname(self, image: Image, names: Sequence[Reference]) -> None:
        if not names:
            return
        resolved = [found[1] for name in names if (found := self._catalog.named(name)) is not None]
        self._resolved += resolved
        self._loose.resolved += resolved
        self._catalog.unname(names)
        for name in names:
            self._emit(image_event(image, "untag", name.familiar))
        self._removed += [Removed("Untagged", name.familiar) for name in names]

    def _erase(self, image: Image) -> None:
        self._catalog.remove(image.id)
        collected = self._collector.collect_layers(image.layers)
        self._loose.images.append(image)
        self._emit(Event("image", "delete", str(image.id), {"name": str(image.id)}))
        self._removed.append(Removed("Deleted", str(image.id)))
        self._removed += [Removed("Deleted", str(layer)) for layer in collected.layers]

    def _is_here(self, image: Digest) -> bool:
        return any(each.id == image for each in self._catalog.starting_with(image.encoded))


def _references(image: Image) -> tuple[Reference, ...]:
    return (*image.names, *image.digests)


def _one_repository(image: Image) -> bool:
    """Whether at most one tag points to the image, and all its digests are of that tag's repository."""
    if len(_references(image)) <= 1:
        return True
    return len(image.names) <= 1 and len({name.name for name in _references(image)}) == 1


def _refusal(image: Image, how: str, why: str) -> ImageInUse:
    return ImageInUse(f"conflict: unable to delete {image.id.short} ({how}) - {why}")
