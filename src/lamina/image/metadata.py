"""metadata.db: what the files say too, in a form that one query answers; and the build cache.

WAL with synchronous=NORMAL: a commit costs tens of microseconds, a killed process loses nothing, a crash of the machine
may lose the last commits, never the database. Rows hold documents as text: the same bytes as their twin files. A database
that cannot be read is set aside, and a new one is filled from the files.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from lamina.content.store import DiskFull
from lamina.errors import Unsupported
from lamina.spec.digest import Digest

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS layers (id TEXT PRIMARY KEY, facts TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS images (id TEXT PRIMARY KEY, record TEXT NOT NULL, config BLOB NOT NULL, manifest BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS names (name TEXT PRIMARY KEY, image TEXT NOT NULL, descriptor TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS removed (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS build_cache (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS cache_images (image TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (image, key)) WITHOUT ROWID;
"""

NAME = "name:"
"""What the names of images begin with among what was removed."""
Warn = Callable[[str], None]


class Metadata:
    """The database. Thread-safe: one connection, one statement or transaction at a time.

    `fresh` says that there was none, or none that could be read: then the files are what is known.
    """

    def __init__(self, path: str, warn: Warn) -> None:
        self._path, self._warn = path, warn
        self._lock = threading.RLock()
        self.fresh = not os.path.exists(path)
        try:
            self._connection = self._open()
        except sqlite3.DatabaseError as error:
            warn(f"the database {path} cannot be read ({error}): it is made anew from the files beside it")
            self._set_aside()
            self.fresh = True
            self._connection = self._open()

    def close(self) -> None:
        """Write all back into one file; the object is of no more use."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """All of what happens inside, or nothing of it.

        Raises:
            DiskFull: nothing of it.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield Transaction(self._connection)
                self._connection.execute("COMMIT")
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
                    raise DiskFull(f"no space left on the disk of {self._path}", hint="free some, or run `lamina image prune`") from None
                raise

    def layers(self) -> dict[str, str]:
        """Facts as text by chain ID."""
        return dict(self._all("SELECT id, facts FROM layers"))

    def images(self) -> dict[str, tuple[str, bytes, bytes]]:
        """Record, configuration and manifest by image ID."""
        rows = self._all("SELECT id, record, config, manifest FROM images")
        return {key: (record, bytes(config), bytes(manifest)) for key, record, config, manifest in rows}

    def names(self) -> dict[str, tuple[str, str]]:
        """Image ID and descriptor as text, by full name."""
        return {name: (image, descriptor) for name, image, descriptor in self._all("SELECT name, image, descriptor FROM names")}

    def damage(self) -> list[str]:
        """What SQLite finds wrong with its own structure, in its words."""
        try:
            return [str(row[0]) for row in self._all("PRAGMA integrity_check(20)") if row[0] != "ok"]
        except sqlite3.DatabaseError as error:
            return [str(error)]

    def drop(self, table: str, key: str) -> None:
        """Delete a row of `layers` or `images`."""
        with self.transaction() as change:
            change.execute(f"DELETE FROM {'layers' if table == 'layers' else 'images'} WHERE id = ?", key)

    def cache_damage(self) -> list[str]:
        """Keys of the build cache whose values cannot be read."""
        return [key for key, value in self._all("SELECT key, value FROM build_cache ORDER BY key") if not _readable(value)]

    def removed(self) -> set[str]:
        """IDs of what was removed while its files may still be there."""
        return {row[0] for row in self._all("SELECT id FROM removed")}

    def cache_get(self, key: str) -> dict[str, Any] | None:
        """What `cache_put` stored, None if there is nothing (any more)."""
        rows = self._all("SELECT value FROM build_cache WHERE key = ?", (key,))
        value: dict[str, Any] | None = msgspec.json.decode(rows[0][0]) if rows else None
        return value

    def cache_put(self, key: str, value: dict[str, Any], keeps: Sequence[Digest] = ()) -> None:
        """Store a record of the build cache. It goes when one of the images `keeps` goes."""
        with self.transaction() as change:
            change.execute("DELETE FROM cache_images WHERE key = ?", key)
            change.execute("INSERT OR REPLACE INTO build_cache VALUES (?, ?)", key, msgspec.json.encode(value).decode())
            for image in keeps:
                change.execute("INSERT OR IGNORE INTO cache_images VALUES (?, ?)", str(image), key)

    def cache_delete(self, key: str) -> None:
        """Forget a record; one that is not there is passed over."""
        with self.transaction() as change:
            change.execute("DELETE FROM cache_images WHERE key = ?", key)
            change.execute("DELETE FROM build_cache WHERE key = ?", key)

    def cache_forget(self, image: Digest) -> None:
        """Forget the records that keep an image."""
        with self.transaction() as change:
            change.execute("DELETE FROM build_cache WHERE key IN (SELECT key FROM cache_images WHERE image = ?)", str(image))
            change.execute("DELETE FROM cache_images WHERE key NOT IN (SELECT key FROM build_cache)")

    def cache_clear(self) -> None:
        """Forget all records."""
        with self.transaction() as change:
            change.execute("DELETE FROM cache_images")
            change.execute("DELETE FROM build_cache")

    def cache_walk(self) -> list[tuple[str, dict[str, Any]]]:
        """All records, by key."""
        return [(key, msgspec.json.decode(value)) for key, value in self._all("SELECT key, value FROM build_cache ORDER BY key")]

    def _all(self, statement: str, parameters: Sequence[str] = ()) -> list[Any]:
        with self._lock:
            return self._connection.execute(statement, parameters).fetchall()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise Unsupported(f"the database {self._path} is of version {version}, newer than the {SCHEMA_VERSION} known here")
            connection.executescript(_SCHEMA)
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            for table in ("layers", "images", "names", "removed", "build_cache", "cache_images"):
                connection.execute(f"SELECT * FROM {table}").fetchall()  # Reads every page: damage shows now.
            return connection
        except BaseException:
            connection.close()
            raise

    def _set_aside(self) -> None:
        for suffix in ("-wal", "-shm"):
            if os.path.exists(self._path + suffix):
                os.unlink(self._path + suffix)
        if os.path.exists(self._path):
            os.replace(self._path, self._path + ".damaged")


def _readable(value: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(value), dict)
    except (msgspec.MsgspecError, ValueError, TypeError):
        return False


class Transaction:
    """Statements of one transaction, in the words of the store."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, *parameters: str | bytes) -> None:
        self._connection.execute(statement, parameters)

    def put_layer(self, layer: Digest, facts: bytes) -> None:
        self.execute("INSERT OR REPLACE INTO layers VALUES (?, ?)", str(layer), facts.decode())
        self.execute("DELETE FROM removed WHERE id = ?", str(layer))

    def delete_layers(self, layers: Iterable[Digest]) -> None:
        for layer in layers:
            self.execute("DELETE FROM layers WHERE id = ?", str(layer))
            self.execute("INSERT OR IGNORE INTO removed VALUES (?)", str(layer))

    def put_image(self, image: Digest, record: bytes, config: bytes, manifest: bytes) -> None:
        self.execute("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?)", str(image), record.decode(), config, manifest)
        self.execute("DELETE FROM removed WHERE id = ?", str(image))

    def delete_image(self, image: Digest) -> None:
        """Its names and the build cache's records of it go too."""
        self.execute("DELETE FROM images WHERE id = ?", str(image))
        self.execute("INSERT OR IGNORE INTO removed SELECT ? || name FROM names WHERE image = ?", NAME, str(image))
        self.execute("DELETE FROM names WHERE image = ?", str(image))
        self.execute("DELETE FROM build_cache WHERE key IN (SELECT key FROM cache_images WHERE image = ?)", str(image))
        self.execute("DELETE FROM cache_images WHERE key NOT IN (SELECT key FROM build_cache)")
        self.execute("INSERT OR IGNORE INTO removed VALUES (?)", str(image))

    def put_name(self, name: str, image: Digest, descriptor: bytes) -> None:
        self.execute("INSERT OR REPLACE INTO names VALUES (?, ?, ?)", name, str(image), descriptor.decode())
        self.execute("DELETE FROM removed WHERE id = ?", NAME + name)

    def delete_name(self, name: str) -> None:
        """It stays gone though index.json still has it."""
        self.execute("DELETE FROM names WHERE name = ?", name)
        self.execute("INSERT OR IGNORE INTO removed VALUES (?)", NAME + name)

    def forget(self, removed: str) -> None:
        """The twin of something removed is gone as well."""
        self.execute("DELETE FROM removed WHERE id = ?", removed)

    def forget_removed(self) -> None:
        self.execute("DELETE FROM removed")
