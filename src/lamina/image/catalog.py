"""What images there are and what they are called: in memory for every question, in files and database for every change."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from lamina.content.durability import Durability
from lamina.content.files import write_file
from lamina.content.later import Later
from lamina.content.store import ContentStore
from lamina.errors import LaminaError
from lamina.image.documents import Record, decode_name, decode_record, encode_name, encode_record, name_sum
from lamina.image.known import Known
from lamina.image.layers import Layers
from lamina.image.leases import Leases
from lamina.image.metadata import NAME, Metadata, Transaction, Warn
from lamina.image.model import Image
from lamina.image.twins import document_path, heal, reconcile
from lamina.spec import config as configs
from lamina.spec import mediatype
from lamina.spec.chain import chain_ids
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.reference import Reference

REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_ID = "dev.lamina.image.id"
NAME_SUM = "dev.lamina.name.sum"
_INDEX_DELAY = 0.2


class Catalog(Known):
    """See `Known`; what changes is written."""

    def __init__(
        self, directory: str, content: ContentStore, layers: Layers, metadata: Metadata, leases: Leases, durability: Durability, warn: Warn
    ) -> None:
        super().__init__(directory, content)
        self._content, self._layers, self._metadata = content, layers, metadata
        self._leases, self._durability, self._warn = leases, durability, warn
        self._index = Later(self._write_index, delay=_INDEX_DELAY)
        os.makedirs(directory, exist_ok=True)

    def open(self) -> None:
        """At start, after `Layers.open`: read images and names, heal what differs."""
        with self.lock:
            self._open_images()
            self._open_names()
        self._metadata.kept_by(self._keep)

    def _keep(self, change: Transaction) -> None:
        """Write all images and names into a database that is made anew."""
        for image in tuple(self._images.values()):
            manifest = b""
            with suppress(LaminaError):  # Lost: what a check finds.
                manifest = self._content.read(image.manifest.digest)
            change.put_image(image.id, self.record(image), image.config_bytes, manifest)
        for name, (owner, resolved) in tuple(self._names.items()):
            change.put_name(str(name), owner, encode_name(str(name), owner, resolved))

    @property
    def root(self) -> str:
        """The data root."""
        return os.path.dirname(self.directory)

    @property
    def metadata(self) -> Metadata:
        return self._metadata

    @property
    def warn(self) -> Warn:
        """Where it is told what was found damaged."""
        return self._warn

    def record(self, image: Image) -> bytes:
        """What the image's file and row hold."""
        return _encoded(image)

    def rewrite(self, image: Digest) -> None:
        """Write the record of an image again, file and row; one that went meanwhile is passed over."""
        with self.lock:
            if (known := self._images.get(image)) is None:
                return
            write_file(document_path(self.directory, str(image)), self.record(known))
            with self._metadata.transaction() as change:
                change.put_image(image, self.record(known), known.config_bytes, self._content.read(known.manifest.digest))
            self._durability.settle(document_path(self.directory, str(image)))

    def names_astray(self) -> list[tuple[str, str]]:
        """Names whose row, or whose entry in index.json, is not what is known here; and where. Rows and entries of unknown names too."""
        self._index.flush()
        with self.lock:
            rows, entries, expected = self._metadata.names(), self._content.names(), _entries(list(self._names.items()))
            coming = self._index.pending  # names have changed since: index.json is written again in a moment
            wanted = {
                str(name): (str(owner), encode_name(str(name), owner, found).decode()) for name, (owner, found) in self._names.items()
            }
        astray = [(name, "metadata.db, names") for name in sorted(wanted.keys() | rows.keys()) if rows.get(name) != wanted.get(name)]
        if coming or (len(entries) == len(expected) and all(entry in entries for entry in expected)):
            return astray
        listed = {dict(entry.annotations).get(REF_NAME, "") for entry in expected if entry not in entries}
        return astray + [(name, "content/index.json") for name in sorted(listed)] + ([] if listed else [("", "content/index.json")])

    def rewrite_names(self) -> None:
        """Write all names again, rows and index.json."""
        with self.lock:
            with self._metadata.transaction() as change:
                change.execute("DELETE FROM names")
                for name, (owner, resolved) in self._names.items():
                    change.put_name(str(name), owner, encode_name(str(name), owner, resolved))
        self._write_index()

    def settle(self) -> None:
        """See `Known.settle`."""
        self._layers.copies.flush()
        self._durability.sync()

    def note_use(self, image: Digest) -> None:
        """Note that a build found the image in its cache."""
        with suppress(FileNotFoundError):
            os.utime(document_path(self.directory, str(image)))

    def heal(self, image: Image) -> None:
        """On use of one image: write its record and its configuration again where they went missing."""
        heal(self.directory, str(image.id), partial(self._images.get, image.id), _encoded, self.lock, what="image", warn=self._warn)
        try:
            self._content.read(image.id)
        except LaminaError:
            with self.lock:
                if image.id not in self._images:
                    return  # It was removed meanwhile.
                self._warn(f"the configuration of image {image.id} was missing or damaged: written anew from the database")
                self._content.delete(image.id)
                self._content.put(image.config_bytes, mediatype.OCI_CONFIG)

    def put(self, image: Image, manifest: bytes, names: Sequence[tuple[Reference, Descriptor]] = ()) -> Image:
        """Store an image whose blobs and layers are here, and give it `names`; they leave the images that had them.

        An image that is there already only gains the names, and is no longer intermediate if this one is not; where its manifest
        is lost it takes this one's.
        """
        with self.lock:
            known = self._images.get(image.id)
            if known is not None:
                known = replace(
                    known,
                    intermediate=known.intermediate and image.intermediate,
                    parent=known.parent or image.parent,
                    tagged=max(known.tagged, image.tagged),
                )
                if self._is_lost(known.manifest.digest):
                    return self._put_manifest(known, image.manifest, manifest, names)
                return self.put_record(known, lambda change: _put_names(change, image.id, names), names)
            record, path = _encoded(image), document_path(self.directory, str(image.id))
            write_file(path, record)
            try:
                with self._metadata.transaction() as change:
                    change.put_image(image.id, record, image.config_bytes, manifest)
                    _put_names(change, image.id, names)
            except BaseException:  # a full disk, say: the next start would take it for an image
                with suppress(FileNotFoundError):
                    os.unlink(path)
                raise
            self._images[image.id] = image
            self._leases.touch(image.id)
            self._durability.settle(path)
            self._take_names(image.id, names)
            return self._images[image.id]

    def _is_lost(self, document: Digest) -> bool:
        try:
            self._content.read(document)
            return False
        except LaminaError:
            return True

    def _put_manifest(self, known: Image, manifest: Descriptor, data: bytes, names: Sequence[tuple[Reference, Descriptor]]) -> Image:
        """Give a known image another manifest; tags that stood for the one it had stand for this one."""
        tags = [
            (name, manifest)
            for name, (owner, stood_for) in self._names.items()
            if owner == known.id and name.digest is None and stood_for.digest == known.manifest.digest
        ]
        image, moved = replace(known, manifest=manifest), (*tags, *names)

        def write(change: Transaction) -> None:
            change.put_image(image.id, self.record(image), image.config_bytes, data)
            _put_names(change, image.id, moved)

        return self.put_record(image, write, moved)

    def name(self, image: Digest, names: Sequence[tuple[Reference, Descriptor]], tagged: float) -> Image:
        """See `Known.name`."""
        with self.lock:
            known = replace(self.get(image), tagged=tagged)
            return self.put_record(known, lambda change: _put_names(change, image, names), names)

    def put_record(self, image: Image, also: Callable[[Transaction], None], names: Sequence[tuple[Reference, Descriptor]] = ()) -> Image:
        """Store what changed in a known image's record; `also` adds to the same transaction."""
        with self.lock:
            record = _encoded(image)
            write_file(document_path(self.directory, str(image.id)), record)
            with self._metadata.transaction() as change:
                change.execute("UPDATE images SET record = ? WHERE id = ?", record.decode(), str(image.id))
                also(change)
            self._images[image.id] = image
            self._leases.touch(image.id)
            self._take_names(image.id, names)
            return self._images[image.id]

    def unname(self, names: Iterable[Reference]) -> None:
        """See `Known.unname`."""
        with self.lock:
            gone = [name for name in names if name in self._names]
            with self._metadata.transaction() as change:
                for name in gone:
                    change.delete_name(str(name))
            super().unname(gone)
            self._index.request()

    def remove(self, image: Digest) -> None:
        """See `Known.remove`."""
        with self.lock:
            with self._metadata.transaction() as change:
                change.delete_image(image)
            before = len(self._names)
            super().remove(image)
            with suppress(FileNotFoundError):
                os.unlink(document_path(self.directory, str(image)))
            if len(self._names) < before:
                self._index.request()

    def forget_removed(self) -> None:
        """Now and then: what was removed, and whose files are gone from the disk too, need not be known as removed any more."""
        if gone := self._without_files():
            self._durability.sync()
            with self.lock, self._layers.lock, self._metadata.transaction() as change:
                for key in gone & self._without_files():
                    change.forget(key)

    def _without_files(self) -> set[str]:
        """Images and layers that were removed and have no file left."""
        folders = (self.directory, os.path.join(self.root, "layers"))
        return {
            key
            for key in self._metadata.removed()
            if not key.startswith(NAME) and not any(os.path.exists(document_path(folder, key)) for folder in folders)
        }

    def _take_names(self, image: Digest, names: Sequence[tuple[Reference, Descriptor]]) -> None:
        super()._take_names(image, names)
        if names:
            self._index.request()

    def close(self) -> None:
        """Write what is still to be written."""
        self._index.flush()

    def _write_index(self) -> None:
        """The names' twin: the OCI layout's index.json. The database holds where they differ, so it may come a moment later."""
        with self.lock:
            names = list(self._names.items())
            gone = self._metadata.removed_names()
        entries = _entries(names)
        try:
            self._content.set_names(entries)
            with self._metadata.transaction() as change:
                for key in gone:
                    change.forget(key)
        except (LaminaError, OSError) as error:
            self._warn(f"index.json was not written: {error}")

    def _open_images(self) -> None:
        rows = self._metadata.images()
        twins = reconcile(
            self.directory,
            {key: row[0] for key, row in rows.items()},
            decode_record,
            removed=self._metadata.removed(),
            what="image",
            warn=self._warn,
        )
        pool: dict[Any, Any] = {}
        for key, record in twins.values.items():
            with suppress(LaminaError):
                read = self._image(record, rows.get(key))
                self._images[record.id] = replace(read, config=configs.shared(read.config, pool))
                continue
            self._warn(f"image {key} is left out: its configuration is not here")
        with self._metadata.transaction() as change:
            for key in twins.to_rows:
                image = self._images.get(Digest.parse(key))
                if image is not None:
                    change.put_image(image.id, _encoded(image), image.config_bytes, self._content.read(image.manifest.digest))

    def _image(self, record: Record, row: tuple[str, bytes, bytes] | None) -> Image:
        """The image of a record; documents that are missing in the content store are put there from the row."""
        data = self._document(record.id, row[1] if row else None)
        self._document(record.manifest.digest, row[2] if row else None)
        config = configs.parse(data)
        layers = chain_ids(config.diff_ids)
        return Image(
            record.id, record.manifest, config, data, layers, (), (), record.parent, record.intermediate, record.size, record.tagged
        )

    def _document(self, digest: Digest, row: bytes | None) -> bytes:
        """A document from its row, if that is what was written, else from its blob.

        Raises:
            BlobNotFound, BlobDamaged: it is in neither.
        """
        if row is None or Digest.of(row, digest.algorithm) != digest:
            return self._content.read(digest)
        with suppress(LaminaError):
            self._content.stat(digest)
            return row
        self._warn(f"document {digest} was missing: written anew from the database")
        self._content.put(row, "")
        return row

    def _open_names(self) -> None:
        """Names from rows, and those whose rows were lost from index.json. Where both can be read, the row holds."""
        listed, rows = self._names_of_index(), self._metadata.names()
        gone = self._metadata.removed()
        lost = {name: found for name, found in listed.items() if name not in rows and f"{NAME}{name}" not in gone}
        for name, (image, text) in {**lost, **rows}.items():
            found = self._named_by(name, image, text) or self._named_by(name, *listed.get(name, ("", "")))
            if found is not None:
                self._names[found[0]] = found[1]
                if name in lost and not self._metadata.fresh:
                    self._warn(f"the database did not know the name {name}: taken from index.json")
        with self._metadata.transaction() as change:
            for reference, (owner, resolved) in self._names.items():
                change.put_name(str(reference), owner, encode_name(str(reference), owner, resolved))
        self._refresh(set(self._images))
        if {name: image for name, (image, _) in listed.items()} != {str(name): str(owner) for name, (owner, _) in self._names.items()}:
            self._write_index()

    def _named_by(self, name: str, image: str, text: str) -> tuple[Reference, tuple[Digest, Descriptor]] | None:
        """What a row or an entry of index.json says; None where it is not what was written, or the image is not here."""
        with suppress(LaminaError):
            owner = Digest.parse(image)
            if owner in self._images:
                return Reference.parse(name), (owner, decode_name(name, image, text))
        return None

    def _names_of_index(self) -> dict[str, tuple[str, str]]:
        found: dict[str, tuple[str, str]] = {}
        for entry in self._content.names():
            notes = dict(entry.annotations)
            if REF_NAME in notes and IMAGE_ID in notes:
                kept = tuple((key, value) for key, value in entry.annotations if key not in (REF_NAME, IMAGE_ID, NAME_SUM))
                descriptor = replace(entry, annotations=kept)
                name, image = notes[REF_NAME], notes[IMAGE_ID]
                if notes.get(NAME_SUM) in (None, name_sum(name, image, descriptor)):
                    with suppress(LaminaError):
                        found[name] = (image, encode_name(name, Digest.parse(image), descriptor).decode())
        return found


def _encoded(image: Image) -> bytes:
    return encode_record(Record(image.id, image.manifest, image.parent, image.intermediate, image.size, image.tagged))


def _labelled(descriptor: Descriptor, notes: dict[str, str]) -> Descriptor:
    return replace(descriptor, annotations=tuple(sorted({**dict(descriptor.annotations), **notes}.items())))


def _entries(names: Sequence[tuple[Reference, tuple[Digest, Descriptor]]]) -> list[Descriptor]:
    """Names as index.json lists them."""
    return [
        _labelled(descriptor, {REF_NAME: str(name), IMAGE_ID: str(image), NAME_SUM: name_sum(str(name), str(image), descriptor)})
        for name, (image, descriptor) in names
    ]


def _put_names(change: Transaction, image: Digest, names: Sequence[tuple[Reference, Descriptor]]) -> None:
    for name, descriptor in names:
        change.put_name(str(name), image, encode_name(str(name), image, descriptor))
