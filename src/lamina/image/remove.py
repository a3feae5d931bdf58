"""rmi: what of names and images goes, by Docker's rules, and why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lamina.apitypes.events import Emit, Event
from lamina.image.catalog import Catalog
from lamina.image.collect import Collector
from lamina.image.leases import Leases
from lamina.image.lookup import resolve
from lamina.image.model import Image, ImageInUse, Removed
from lamina.spec.digest import Digest
from lamina.spec.reference import Reference

InUse = Callable[[Digest], Sequence[tuple[str, bool]]]
"""Asked with an image's ID: the containers on it, (what to call it, whether it runs)."""


def unused(image: Digest) -> Sequence[tuple[str, bool]]:  # noqa: ARG001
    """An `InUse` where there are no containers."""
    return ()


class Remover:
    """Removes names and images. Thread-safe."""

    def __init__(self, catalog: Catalog, collector: Collector, leases: Leases, emit: Emit) -> None:
        self._catalog, self._collector, self._leases, self._emit = catalog, collector, leases, emit

    def remove(self, text: str, *, force: bool = False, prune: bool = True, in_use: InUse = unused) -> list[Removed]:
        """By name: the name goes, and the image with its last one. By ID: the image with its names, if they are of one
        repository; else `force` is needed. With `prune`, parents without name and children go too.

        Raises:
            ImageNotFound, AmbiguousId: nothing was removed.
            ImageInUse: says by whom; nothing was removed.
        """
        with self._catalog.lock:
            image, name = resolve(self._catalog, text)
            users = self._with_pins(in_use)
            if name is None:
                return self._delete(image.id, users, force=force, prune=prune, names_matter=not _one_repository(image))
            self._check_named(image, text, users, force=force)
            removed = self._untag(image, name)
            if not _references(self._catalog.get(image.id)):
                removed += self._delete(image.id, users, force=force, prune=prune, quiet=True)
            return removed

    def _with_pins(self, in_use: InUse) -> InUse:
        """`in_use` and what it cannot know yet: containers that are being made have pinned their image before they can be seen."""

        def users(image: Digest) -> Sequence[tuple[str, bool]]:
            seen = list(in_use(image))
            pinned = [owner.partition(":")[2][:12] for owner in self._leases.pinned(image)]
            return [*seen, *((container, False) for container in pinned if container not in {name for name, _ in seen})]

        return users

    def _check_named(self, image: Image, text: str, in_use: InUse, *, force: bool) -> None:
        """Without force, the last name of an image that a container uses stays: it would be left without any."""
        if force or not _one_repository(image):
            return
        for container, _ in in_use(image.id):
            raise ImageInUse(
                f'conflict: unable to remove repository reference "{text}" (must force) - '
                f"container {container} is using its referenced image {image.id.short}"
            )

    def _untag(self, image: Image, name: Reference) -> list[Removed]:
        """Drop one name; the digests of its repository go with the repository's last tag."""
        gone = [name]
        if not name.digest and not any(other.name == name.name for other in image.names if other != name):
            gone += [digest for digest in image.digests if digest.name == name.name]
        return self._unname(image, gone)

    def _delete(
        self, image_id: Digest, in_use: InUse, *, force: bool, prune: bool, quiet: bool = False, names_matter: bool = False
    ) -> list[Removed]:
        """Delete an image and, with `prune`, the parents that nothing else needs. `quiet`: what must stay stays without an error."""
        removed: list[Removed] = []
        parent: Digest | None = image_id
        while parent is not None:
            image = self._catalog.get(parent)
            conflict = self._conflict(image, in_use, force=force, names_matter=names_matter)
            if conflict is not None:
                if quiet:
                    return removed
                raise conflict
            removed += self._unname(image, _references(image))
            removed += self._erase(image)
            parent = image.parent if prune and image.parent is not None and self._is_here(image.parent) else None
            force, quiet, names_matter = False, True, True
        return removed

    def _conflict(self, image: Image, in_use: InUse, *, force: bool, names_matter: bool) -> ImageInUse | None:
        """Why the image must stay, if it must. What only `force` overrides comes last."""
        if self._catalog.children(image.id):
            return _refusal(image, "cannot be forced", "image has dependent child images")
        containers = in_use(image.id)
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

    def _unname(self, image: Image, names: Sequence[Reference]) -> list[Removed]:
        if not names:
            return []
        self._catalog.unname(names)
        for name in names:
            self._emit(Event("image", "untag", str(image.id), {"name": name.familiar}))
        return [Removed("Untagged", name.familiar) for name in names]

    def _erase(self, image: Image) -> list[Removed]:
        self._catalog.remove(image.id)
        collected = self._collector.collect_layers(image.layers)
        self._collector.collect_blobs((image.id, image.manifest.digest))
        self._emit(Event("image", "delete", str(image.id), {"name": str(image.id)}))
        return [Removed("Deleted", str(image.id)), *(Removed("Deleted", str(layer)) for layer in collected.layers)]

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
