"""What an archive says it holds, checked: images with their configurations, names and layers. Pure.

Three layouts, which one archive may have at once: an OCI layout (index.json), Docker's (manifest.json), and the one before
Docker 1.10 (a folder per layer, `repositories`). Where two speak of the same name, they have to say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from lamina.errors import LaminaError
from lamina.image.archive.outer import cleaned
from lamina.image.model import InvalidArchive
from lamina.spec import config, manifest, mediatype, strict
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.manifest import Index, Manifest
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference

LAYERS_LIMIT = 5000
_IMAGES_LIMIT = 10_000
_NESTING = 4
REF_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


class Members(Protocol):
    """An archive's members, links followed."""

    def has(self, name: str) -> bool:
        """Whether there is such a member."""
        ...

    def document(self, name: str) -> bytes:
        """A small member; raises InvalidArchive where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """An image for one platform. `members` are the names of its layers' tars, base first, as many as its configuration has.

    `manifest` is the one the archive has of it, if it has; its layers are then those members, in the same order. `listed` is the platform
    that an index has it for.
    """

    config: config.ImageConfig
    config_bytes: bytes
    members: tuple[str, ...]
    manifest: Manifest | None = None
    listed: Platform | None = None

    @property
    def id(self) -> Digest:
        return Digest.of(self.config_bytes)

    @property
    def platform(self) -> Platform:
        """What it is for. The index counts: many configurations do not say their variant."""
        return self.listed or self.config.platform


@dataclass(frozen=True, slots=True)
class Archived:
    """What an archive has under the same names: images of several platforms, first the one that the names point to.

    `resolved` is the manifest or the index that the names stand for, where the archive has one; `documents` are small
    blobs that go with it: the index, and what it lists beside images.
    """

    images: tuple[ArchivedImage, ...]
    names: tuple[Reference, ...] = ()
    resolved: Descriptor | None = None
    documents: tuple[bytes, ...] = ()


def from_docker(members: Members) -> list[Archived]:
    """The images of a docker-archive's manifest.json.

    Raises:
        InvalidArchive: malformed, or it names what is not there.
    """
    rows = decoded(members.document("manifest.json"), "manifest.json")
    if isinstance(rows, dict) and "schemaVersion" in rows:
        raise InvalidArchive(
            "manifest.json of the archive is one manifest, as in skopeo's dir: layout, and not a list of images",
            hint="`skopeo copy dir:FROM oci:TO` makes a layout that is loaded",
        )
    if not isinstance(rows, list) or len(rows) > _IMAGES_LIMIT:
        raise InvalidArchive("manifest.json of the archive is not a list of images")
    return [_row(row, members) for row in rows]


def merged(layout: Sequence[Archived], docker: Sequence[Archived]) -> list[Archived]:
    """What index.json and manifest.json of one archive say together.

    Raises:
        InvalidArchive: they give one name to two images.
    """
    found = list(layout)
    ids = [{image.id for image in each.images} for each in found]
    # The first place of each image, and every place of each name.
    first: dict[Digest, int] = {}
    named: dict[Reference, list[int]] = {}
    for number, each in enumerate(found):
        for identity in ids[number]:
            first.setdefault(identity, number)
        for name in each.names:
            named.setdefault(name, []).append(number)
    for row in docker:
        identity = row.images[0].id
        if twice := [name for name in row.names if any(identity not in ids[at] for at in named.get(name, ()))]:
            name = min(twice, key=str)
            raise InvalidArchive(f"the archive gives the name {name.familiar} to two images: index.json to one, manifest.json to another")
        at = first.setdefault(identity, len(found))
        if at == len(found):
            found.append(row)
            ids.append({identity})
        else:
            found[at] = replace(found[at], names=tuple(dict.fromkeys((*found[at].names, *row.names))))
        for name in row.names:
            named.setdefault(name, []).append(at)
    return found


def narrowed(layout: Sequence[Archived], docker: Sequence[Archived], wanted: Platform) -> tuple[list[Archived], list[Archived]]:
    """What index.json and manifest.json say of images for `wanted`: of an index, those of just this variant, if there are any."""
    kept = []
    for each in layout:
        fitting = tuple(image for image in each.images if image.platform.matches(wanted))
        if fitting:
            kept.append(replace(each, images=tuple(image for image in fitting if image.platform == wanted) or fitting))
    told, ids = ({image.id for each in rows for image in each.images} for rows in (layout, kept))

    def fits(image: ArchivedImage) -> bool:
        return image.id in ids if image.id in told else image.platform.matches(wanted)

    return kept, [row for row in docker if fits(row.images[0])]


def from_layout(members: Members, wanted: Platform) -> list[Archived]:
    """The images of an OCI layout's index.json: names point to the one for `wanted`, or the first.

    Of an index, those platforms come whose manifest, configuration and layers are all in the archive. See `from_docker`.
    """
    try:
        index = manifest.parse_index(members.document("index.json"))
    except LaminaError as error:
        raise InvalidArchive(f"index.json of the archive is malformed: {error.message}") from None
    entries: dict[tuple[Descriptor, ...], list[Reference]] = {}
    for name, found in _by_name(index.manifests[:_IMAGES_LIMIT]):
        entries.setdefault(found, []).extend([name] if name else [])
    gathered = [_Gathering(members, wanted).of(found, tuple(names)) for found, names in entries.items()]
    return [each for each in gathered if each is not None]


def _by_name(entries: Iterable[Descriptor]) -> Iterable[tuple[Reference | None, tuple[Descriptor, ...]]]:
    """Each name with what it is given to; what has no name, one by one."""
    named: dict[Reference, dict[Digest, Descriptor]] = {}
    nameless: dict[Digest, Descriptor] = {}
    for entry in entries:
        names = _names(entry)
        for name in names:
            named.setdefault(name, {})[entry.digest] = replace(entry, annotations=())
        if not names:
            nameless[entry.digest] = replace(entry, annotations=_kept(entry))
    for name, found in named.items():
        yield name, tuple(found.values())
    for digest, entry in nameless.items():
        if not any(digest in found for found in named.values()):
            yield None, (entry,)


class _Gathering:
    """Collects what stands behind one entry of index.json."""

    def __init__(self, members: Members, wanted: Platform) -> None:
        self._members, self._wanted = members, wanted
        self._images: list[ArchivedImage] = []
        self._documents: list[bytes] = []

    def of(self, entries: Sequence[Descriptor], names: tuple[Reference, ...]) -> Archived | None:
        """The images of an entry, or of several of one name; None where it is not an image."""
        resolved = self._joined(entries, names) if len(entries) > 1 else entries[0]
        if len(entries) == 1:
            self._entry(resolved)
        if not self._images:
            return None
        first = next((image for image in self._images if image.platform.matches(self._wanted)), self._images[0])
        ordered = (first, *(image for image in self._images if image is not first))
        return Archived(ordered, names, replace(resolved, annotations=(), urls=(), platform=None), tuple(self._documents))

    def _joined(self, entries: Sequence[Descriptor], names: tuple[Reference, ...]) -> Descriptor:
        """One index of several entries of the same name, which must be for different platforms."""
        platforms = {entry.platform for entry in entries}
        if None in platforms or len(platforms) != len(entries):
            raise InvalidArchive(f"the archive gives the name {names[0].familiar} to several images")
        made = manifest.new_index(entries)
        self._documents.append(made.raw)
        for entry in entries:
            self._child(entry, _NESTING)
        return made.descriptor

    def _entry(self, entry: Descriptor) -> None:
        if entry.media_type in mediatype.MANIFESTS:
            self._manifest(entry, required=True)
        elif entry.media_type in mediatype.INDEXES and not self._index(entry, _NESTING) and not self._images:
            raise InvalidArchive(f"the archive lacks what its index {entry.digest} lists")

    def _index(self, entry: Descriptor, nesting: int) -> bool:
        """Take in what an index lists; whether all of it is there."""
        data = blob(entry, self._members)
        parsed = _parsed(data, entry)
        assert isinstance(parsed, Index)
        self._documents.append(data)
        for child in parsed.manifests[:_IMAGES_LIMIT]:
            self._child(child, nesting - 1)
        return all(self._members.has(blob_name(child.digest)) for child in parsed.manifests)

    def _child(self, child: Descriptor, nesting: int) -> None:
        if not nesting or not self._members.has(blob_name(child.digest)):
            return
        if child.media_type in mediatype.INDEXES:
            self._index(child, nesting)
        elif child.media_type in mediatype.MANIFESTS:
            self._manifest(child, required=False)

    def _manifest(self, entry: Descriptor, *, required: bool) -> None:
        data = blob(entry, self._members)
        parsed = _parsed(data, entry)
        assert isinstance(parsed, Manifest)
        if not parsed.of_image:
            self._documents += [data, *self._small(parsed)]
            return
        names = [blob_name(layer.digest) for layer in parsed.layers]
        if required or all(self._members.has(name) for name in (blob_name(parsed.config.digest), *names)):
            self._images.append(replace(checked(blob(parsed.config, self._members), names, parsed), listed=entry.platform))

    def _small(self, parsed: Manifest) -> list[bytes]:
        """The blobs of what is not an image (an attestation), as far as they are documents that are here."""
        found = []
        for each in (parsed.config, *parsed.layers):
            try:
                found.append(blob(each, self._members))
            except InvalidArchive:
                continue
        return found


def _row(row: object, members: Members) -> Archived:
    if not isinstance(row, dict):
        raise InvalidArchive("manifest.json of the archive is not a list of images")
    if twice := strict.same_but_for_case(row):
        raise InvalidArchive(f"manifest.json of the archive is ambiguous: it has the key {twice[:50]!r} in two spellings")
    name = row.get("Config")
    if not isinstance(name, str):
        raise InvalidArchive("manifest.json of the archive names no configuration")
    layers = [cleaned(member) for member in _texts(row.get("Layers"), "layers")]
    names = tuple(reference(text) for text in _texts(row.get("RepoTags"), "names"))
    return Archived((checked(members.document(cleaned(name)), layers),), names)


def checked(data: bytes, members: Sequence[str], found: Manifest | None = None) -> ArchivedImage:
    """An image of its configuration and its layers' members.

    Raises:
        InvalidArchive: the configuration is malformed, or has another number of layers.
    """
    decoded(data, "a configuration")
    try:
        parsed = config.parse(data)
    except LaminaError as error:
        raise InvalidArchive(error.message) from None
    if len(parsed.rootfs.diff_ids) != len(members):
        raise InvalidArchive(f"the archive has {len(members)} layers for an image of {len(parsed.rootfs.diff_ids)}")
    if len(members) > LAYERS_LIMIT:
        raise InvalidArchive(f"an image of {len(members)} layers: at most {LAYERS_LIMIT} are taken")
    return ArchivedImage(parsed, data, tuple(members), found)


def blob_name(digest: Digest) -> str:
    """Where an OCI layout keeps a blob."""
    return f"blobs/{digest.algorithm}/{digest.encoded}"


def blob(entry: Descriptor, members: Members) -> bytes:
    """A document of an OCI layout, compared with its digest and size. Raises InvalidArchive."""
    data = members.document(blob_name(entry.digest))
    if Digest.of(data, entry.digest.algorithm) != entry.digest or len(data) != entry.size:
        raise InvalidArchive(f"a blob of the archive does not have its digest: {entry.digest}")
    return data


def reference(text: str) -> Reference:
    """A name that an archive gives, `latest` where it has no tag. Raises InvalidArchive."""
    try:
        found = Reference.parse(text)
    except LaminaError as error:
        raise InvalidArchive(f"the archive has a malformed name: {error.message}") from None
    if found.digest is not None:
        raise InvalidArchive(f"the archive names an image by its digest: {text[:200]}")
    return found.with_default_tag()


def decoded(data: bytes, what: str) -> Any:
    """JSON of an archive's document. Raises InvalidArchive."""
    try:
        return strict.decode(data)
    except strict.AmbiguousDocument as error:
        raise InvalidArchive(f"{what} of the archive is ambiguous: {error}") from None
    except (ValueError, RecursionError):
        raise InvalidArchive(f"{what} of the archive is not JSON") from None


def _parsed(data: bytes, entry: Descriptor) -> Manifest | Index:
    try:
        return manifest.parse(data, entry.media_type)
    except LaminaError as error:
        raise InvalidArchive(error.message) from None


def _names(entry: Descriptor) -> list[Reference]:
    """The names that an entry of index.json has; a bare tag names no repository and is passed over."""
    notes = dict(entry.annotations)
    if REF_NAMES[0] in notes:
        return [reference(notes[REF_NAMES[0]])]
    text = notes.get(REF_NAMES[1], "")
    return [reference(text)] if "/" in text or ":" in text else []


def _kept(entry: Descriptor) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, value in entry.annotations if key not in REF_NAMES)


def _texts(value: object, what: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InvalidArchive(f"manifest.json of the archive has malformed {what}")
    return value
