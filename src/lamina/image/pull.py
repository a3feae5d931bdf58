"""Pull: from a reference to verified blobs, registered layers and a name that points at them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Lock

from lamina.content.store import BlobDamaged, BlobNotFound, ContentStore
from lamina.distribution.auth import Auth
from lamina.distribution.client import Registries, RegistryClient
from lamina.errors import Exhausted, LaminaError, NotFound, Unsupported
from lamina.image.archive.plan import LAYERS_LIMIT
from lamina.image.download import Arrival, short
from lamina.image.history import notes
from lamina.image.layers import Layers
from lamina.image.model import Image, ImageNotFound, LayerFacts
from lamina.image.store import Images
from lamina.linux.scheduling import take_long_turns
from lamina.snapshot.protocol import Staged
from lamina.spec import mediatype, strict
from lamina.spec.chain import chain_id
from lamina.spec.config import ImageConfig, InvalidConfig
from lamina.spec.config import parse as parse_config
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest, DigestMismatch
from lamina.spec.manifest import Index, Manifest, parse, parse_index, parse_manifest
from lamina.spec.platform import Platform
from lamina.spec.progress import Sink, Update, silent
from lamina.spec.reference import Reference

_CONFIG_LIMIT = 8 << 20
_INDEXES_LIMIT = 100
"""How many indexes in an index are looked at."""


class PlatformMissing(NotFound):
    """The registry has the image, but not for that platform."""


class NotAnImage(Unsupported):
    """What the registry has under that name is something else than an image."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a reference stands for: `descriptor` as resolved (an index or a manifest), and in it one image."""

    descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig
    config_bytes: bytes


class Puller:
    """Brings images here. Thread-safe; one call's layers come in parallel, at most `parallel` at once.

    `host` is the platform that is taken where none is asked for.
    """

    def __init__(
        self,
        registries: Registries,
        content: ContentStore,
        layers: Layers,
        images: Images,
        *,
        host: Platform,
        parallel: int = 3,
    ) -> None:
        self._registries, self._content, self._layers, self._images = registries, content, layers, images
        self._host, self._parallel = host, parallel

    def pull(
        self,
        reference: Reference,
        *,
        platform: Platform | None = None,
        all_tags: bool = False,
        auth: Auth | None = None,
        sink: Sink = silent,
        verify: bool = False,
    ) -> list[Image]:
        """Bring `reference` here (`latest` where it has neither tag nor digest) and point its name at it.

        The name moves only when every byte is here and verified. A sink that raises stops the work; what was
        downloaded until then is kept and resumed by the next pull, unless the disk is full. Returns one image per tag.

        A layer that is here is taken if its sizes, superblock and times of modification are right; with `verify` if all its bytes
        are. What is damaged is made anew from what is here, or comes again.

        Raises:
            NotFound, Unauthorized, Unavailable: what the registry said, or that it said nothing.
            Corrupt: bytes do not have their digest, or a layer not its diff ID.
        """
        client = self._registries.repository(reference, auth)
        wanted = [replace(reference, tag=tag, digest=None) for tag in client.tags()] if all_tags else [reference.with_default_tag()]
        before = {name: self._named(name) for name in wanted}
        pulled = [self._pull_one(client, name, platform, sink, verify=verify) for name in wanted]
        self._images.evict()
        fresh = [name for name, image in zip(wanted, pulled, strict=True) if before[name] != image.id]
        shown = reference.familiar_name if all_tags else wanted[0].familiar
        sink(Update(f"Status: {'Downloaded newer image' if fresh else 'Image is up to date'} for {shown}"))
        return pulled

    def _pull_one(self, client: RegistryClient, reference: Reference, platform: Platform | None, sink: Sink, *, verify: bool) -> Image:
        with self._images.leases.hold():
            try:
                found, image = self._brought(client, reference, platform, sink, verify=verify)
            except Exhausted:
                # What came would keep the disk full, and nobody goes on from it before there is space.
                self._images.leases.missed()
                raise
            except BaseException:
                self._images.leases.leave()
                raise
        sink(Update(f"Digest: {found.descriptor.digest}"))
        return image

    def _brought(
        self, client: RegistryClient, reference: Reference, platform: Platform | None, sink: Sink, *, verify: bool
    ) -> tuple[Found, Image]:
        found = self._find(client, reference, platform)
        # Not before: a name that the registry has not is to be a plain error, not the end of a stream that began well.
        sink(Update(f"Pulling from {reference.path}", str(reference.digest) if reference.digest else reference.tag))
        self._bring_layers(client, found, sink, verify=verify)
        names = [replace(reference, tag="", digest=found.descriptor.digest)]
        if reference.digest is None:
            names.insert(0, reference)
        return found, self._images.adopt(found.descriptor, found.manifest.raw, names=names)

    def _named(self, reference: Reference) -> Digest | None:
        try:
            return self._images.resolve(str(reference)).id
        except ImageNotFound:
            return None

    # --- documents

    def _find(self, client: RegistryClient, reference: Reference, platform: Platform | None) -> Found:
        descriptor, data = self._document(client, reference)
        document = parse(data, descriptor.media_type)
        manifest = document if isinstance(document, Manifest) else self._chosen(client, document, platform or self._host, set())
        if manifest is None:
            raise PlatformMissing(
                f"no matching manifest for {platform or self._host} in the manifest list entries of {reference.familiar}",
                hint=_platforms(document) if isinstance(document, Index) else "",
            )
        if not manifest.of_image:
            odd = manifest.config.media_type if manifest.config.media_type not in mediatype.CONFIGS else mediatype.IN_TOTO
            raise NotAnImage(f"{reference.familiar} is not an image: it is of the type {odd[:100]}")
        config_bytes = self._config(client, manifest.config)
        config = _checked_config(config_bytes)
        if len(config.diff_ids) != len(manifest.layers):
            raise NotAnImage(f"{reference.familiar} is not an image: {len(manifest.layers)} layers, {len(config.diff_ids)} diff IDs")
        if len(manifest.layers) > LAYERS_LIMIT:
            raise NotAnImage(f"{reference.familiar} has {len(manifest.layers)} layers: at most {LAYERS_LIMIT} are taken")
        if platform is not None and not config.platform.matches(platform):
            raise PlatformMissing(
                f"image with reference {reference.familiar} was found but does not provide the specified platform ({platform})",
                hint=f"it is for {config.platform}",
            )
        return Found(descriptor, manifest, config, config_bytes)

    def _chosen(self, client: RegistryClient, index: Index, wanted: Platform, seen: set[Digest]) -> Manifest | None:
        """The manifest for `wanted` that an index lists, or an index in it. Those are looked at once each, and noted in `seen`."""
        child = index.choose(wanted)
        inner = [row for row in index.manifests if row.media_type in mediatype.INDEXES and row.platform is None]
        for row in inner if child is None else [child]:
            if row.media_type not in mediatype.INDEXES:
                return parse_manifest(self._child(client, row), row.media_type)
            if row.digest in seen or len(seen) == _INDEXES_LIMIT:
                continue
            seen.add(row.digest)
            found = self._chosen(client, parse_index(self._child(client, row), row.media_type), wanted, seen)
            if found is not None:
                return found
        return None

    def _document(self, client: RegistryClient, reference: Reference) -> tuple[Descriptor, bytes]:
        """The manifest or index: from here where the registry says by a HEAD that it is what is here already."""
        descriptor, data = client.sound(lambda: self._resolved(client, reference))
        self._keep(data, descriptor)
        return descriptor, data

    def _resolved(self, client: RegistryClient, reference: Reference) -> tuple[Descriptor, bytes]:
        head = client.head(reference)
        if head is None:
            return client.resolve(reference)
        if reference.digest and head.digest != reference.digest:
            raise DigestMismatch(f"registry answered {head.digest} for {reference.familiar}")
        if (known := self._known(head.digest)) is not None:
            return replace(head, size=len(known)), known
        return client.resolve(replace(reference, digest=head.digest))

    def _child(self, client: RegistryClient, child: Descriptor) -> bytes:
        data = self._known(child.digest)
        if data is None:
            _, data = client.resolve(replace(client.repository, tag="", digest=child.digest))
        if len(data) != child.size:
            raise DigestMismatch(f"manifest {child.digest} has {len(data)} bytes instead of {child.size}")
        self._keep(data, child)
        return data

    def _config(self, client: RegistryClient, descriptor: Descriptor) -> bytes:
        data = self._known(descriptor.digest)
        if data is None:
            if descriptor.size > _CONFIG_LIMIT:
                raise NotAnImage(f"configuration {descriptor.digest} of {descriptor.size} bytes is larger than {_CONFIG_LIMIT}")
            data = client.blob(descriptor)
        if len(data) != descriptor.size:
            raise DigestMismatch(f"configuration has {len(data)} bytes instead of {descriptor.size}: {descriptor.digest}")
        self._keep(data, descriptor)
        return data

    def _known(self, digest: Digest) -> bytes | None:
        try:
            return self._content.read(digest)
        except LaminaError:
            return None  # Not here, or damaged: it comes anew.

    def _keep(self, data: bytes, descriptor: Descriptor) -> None:
        # Touched first: whoever removes an image of the same bytes meanwhile leaves it.
        self._images.leases.touch(Digest.of(data))
        self._content.put(data, descriptor.media_type)

    # --- layers

    def _bring_layers(self, client: RegistryClient, found: Found, sink: Sink, *, verify: bool) -> None:
        """Every layer is here and registered on return."""
        stack = _Stack(self._layers, self._content, found)
        here = stack.here(verify=verify)
        rows = found.manifest.layers
        if here == len(rows):
            return
        for row in rows[:here]:
            sink(Update("Already exists", short(row)))
        missing = list(dict.fromkeys(rows[here:]))
        for number, row in enumerate(missing):
            self._images.leases.touch(row.digest)
            sink(Update("Pulling fs layer", short(row)))
            if number >= self._parallel:
                sink(Update("Waiting", short(row)))
        stoppable = _Stoppable(sink)
        with self._layers.staging() as scratch:
            arrival = Arrival(client, self._content, self._layers, scratch, stoppable)
            try:
                self._register_as_they_come(stack, here, rows, arrival, stoppable)
            except Exhausted:
                arrival.drop(missing)
                raise

    def _register_as_they_come(self, stack: _Stack, here: int, rows: Sequence[Descriptor], arrival: Arrival, stoppable: _Stoppable) -> None:
        """Several are brought at a time, and put on top of each other from the `here`th on. Raises what failed first, whichever it was."""
        try:
            with ThreadPoolExecutor(self._parallel, "pull", take_long_turns) as threads:
                coming = {row: threads.submit(stoppable.run, arrival.bring, row) for row in dict.fromkeys(rows[here:])}
                for number in range(here, len(rows)):
                    row = rows[number]
                    future = coming.pop(row, None)
                    # One that an image has twice is staged again, since registering takes the files away.
                    staged = future.result() if future is not None else arrival.stage(row)
                    with stoppable:
                        stack.register(number, staged)
                        self._images.leases.touch(row.digest)
                        stoppable(Update("Pull complete", short(row)))
        except PullStopped:
            raise stoppable.failure or PullStopped("pull stopped") from None


class _Stack:
    """The layers of one image, registered from the base up."""

    def __init__(self, layers: Layers, content: ContentStore, found: Found) -> None:
        self._layers, self._content = layers, content
        self._rows, self._diff_ids = found.manifest.layers, found.config.diff_ids
        self._notes = notes(found.config)
        self._parent: Digest | None = None

    def here(self, *, verify: bool) -> int:
        """How many layers from the base up are here already, and sound; with `verify` to the last byte.

        All are looked at then, also those that come again: what is damaged of them is out of the way afterwards.
        """
        here, below = len(self._diff_ids), self._parent
        for number, diff_id in enumerate(self._diff_ids):
            facts = self._layers.find(below, diff_id, verify=verify)
            if facts is None or (verify and not self._sources_sound(facts)):
                here = min(here, number)
                if not verify:
                    break
            below = chain_id(below, diff_id)
            if number < here:
                self._parent = below
        return here

    def _sources_sound(self, facts: LayerFacts) -> bool:
        """Whether each compressed form of a layer is whole; one that is not is out of the way then."""
        damaged = 0
        for source in facts.sources:
            try:
                self._content.verify(source.digest)
            except (BlobNotFound, BlobDamaged):
                damaged += 1
                self._content.delete(source.digest)
        return not damaged

    def register(self, number: int, staged: Staged) -> LayerFacts:
        """Put a staged layer on top.

        Raises:
            DigestMismatch: its diff ID is not the one in the configuration.
        """
        row, diff_id = self._rows[number], self._diff_ids[number]
        if staged.diff_id != diff_id:
            raise DigestMismatch(f"layer {row.digest} has the diff ID {staged.diff_id} instead of {diff_id}")
        sources = (replace(row, platform=None, annotations=(), urls=()),) if mediatype.compression(row.media_type) else ()
        facts = self._layers.register(staged, self._parent, self._notes[number], sources)
        self._parent = facts.id
        return facts


class PullStopped(LaminaError):
    """Another layer of the same pull has failed."""


class _Stoppable:
    """A sink for several threads that ends them all when one fails. As a context, it notes what fails inside."""

    def __init__(self, sink: Sink) -> None:
        self._sink, self._lock = sink, Lock()
        self.failure: BaseException | None = None

    def __call__(self, update: Update) -> None:
        with self._lock:
            if self.failure is not None:
                raise PullStopped("pull stopped: another layer failed")
            self._sink(update)

    def run(self, bring: Callable[[Descriptor], Staged], row: Descriptor) -> Staged:
        """Bring a layer, unless another failed before."""
        with self:
            if self.failure is not None:
                raise PullStopped("pull stopped: another layer failed")
            return bring(row)

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        with self._lock:
            if error is not None and self.failure is None:
                self.failure = error


def _checked_config(data: bytes) -> ImageConfig:
    try:
        strict.decode(data)
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(f"invalid image configuration: {str(error)[:200]}") from None
    return parse_config(data)


def _platforms(index: Index) -> str:
    names = sorted({str(row.platform) for row in index.manifests if row.platform and row.platform.os != "unknown"})
    return f"there is {', '.join(names[:10])}" if names else ""
