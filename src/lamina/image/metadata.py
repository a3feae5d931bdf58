"""metadata.db: what the files say too, in a form that one query answers; and the build cache.

WAL with synchronous=NORMAL: a commit costs tens of microseconds, a killed process loses nothing, a crash of the machine
may lose the last commits, never the database. Rows hold documents as text: the same bytes as their twin files. A database
that cannot be read at start is set aside, and a new one is filled from the files. One that turns out damaged later, or was deleted
or replaced, is set aside as well: a new one is filled with what the engine knows (`kept_by`), and the statement goes on there.

What was removed leaves pages free. Each transaction gives some of them back to the file system, so that none waits for it long.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
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

_TABLES = ("layers", "images", "names", "removed", "build_cache", "cache_images")
_SAVED = ("removed", "build_cache", "cache_images")
"""Tables of which nobody else knows what they hold."""
_CORRUPT, _NOT_A_DATABASE = 11, 26
_CANNOT_BE_READ = (_CORRUPT, _NOT_A_DATABASE, 266, 522, 1032)
"""Extended result codes of SQLite: with the first two SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ and SQLITE_READONLY_DBMOVED."""
_NO_ROOM = (13, 4874)
"""SQLITE_FULL and SQLITE_IOERR_SHMSIZE: the disk is full, the database may well be sound."""

_SPARE, _GIVEN_BACK = 256, 256
"""Free pages (of 4 KiB) that the database keeps for what is written next, and how many more go after each transaction at most."""
_INCREMENTAL = 2
"""PRAGMA auto_vacuum."""

NAME = "name:"
"""What the names of images begin with among what was removed."""
Warn = Callable[[str], None]


class Metadata:
    """The database. Thread-safe: one connection, one statement or transaction at a time.

    `fresh` says that there was none, or none that could be read: then the files are what is known.

    Raises:
        DiskFull: it cannot be opened without some room.
    """

    def __init__(self, path: str, warn: Warn) -> None:
        self._path, self._warn = path, warn
        self._lock = threading.RLock()
        self._keepers: list[Callable[[Transaction], None]] = []
        self.fresh = not os.path.exists(path)
        try:
            self._connection = self._open()
        except sqlite3.DatabaseError as error:
            self._refuse_full(error, "free some")
            warn(f"the database {path} cannot be read ({error}): it is made anew from the files beside it")
            self._set_aside()
            self.fresh = True
            self._connection = self._open()

    def close(self) -> None:
        """Write all back into one file; the object is of no more use."""
        with self._lock:
            self._connection.close()

    def kept_by(self, keeper: Callable[[Transaction], None]) -> None:
        """From now on `keeper` writes what it knows where the database is made anew. It is called with the database's lock held, so it
        may take no other that is held around a transaction."""
        self._keepers.append(keeper)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """All of what happens inside, or nothing of it. On a database that turns out damaged it happens on a new one.

        Raises:
            DiskFull: nothing of it.
        """
        with self._lock:
            try:
                if self._moved():
                    self._make_anew("it was deleted or replaced")
                change = Transaction(self._run)
                change.execute("BEGIN IMMEDIATE")
                yield change
                change.execute("COMMIT")
                _give_back(self._connection, _GIVEN_BACK)
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                self._refuse_full(error, "free some, or run `lamina image prune`")
                raise

    def layers(self) -> dict[str, str]:
        """Facts as text by chain ID."""
        return dict(self._all("SELECT id, facts FROM layers"))

    def images(self) -> dict[str, tuple[str, bytes, bytes]]:
        """Record, configuration and manifest by image ID."""
        rows = self._all("SELECT id, record, config, manifest FROM images")
        return {key: (record, bytes(config), bytes(manifest)) for key, record, config, manifest in rows}

    def image(self, image: Digest) -> tuple[str, bytes, bytes] | None:
        """The row of one image, see `images`; None where there is none."""
        for record, config, manifest in self._all("SELECT record, config, manifest FROM images WHERE id = ?", (str(image),)):
            return record, bytes(config), bytes(manifest)
        return None

    def names(self) -> dict[str, tuple[str, str]]:
        """Image ID and descriptor as text, by full name."""
        return {name: (image, descriptor) for name, image, descriptor in self._all("SELECT name, image, descriptor FROM names")}

    def reread(self) -> list[str]:
        """What is wrong with the file on the disk, in SQLite's words, whatever was read of it before. Where nothing is, all that is
        asked from now on is read from there.

        Raises:
            DiskFull: nobody can say.
        """
        with self._lock:
            if self._moved():
                return ["it was deleted or replaced"]
            try:
                with closing(sqlite3.connect(self._path, isolation_level=None)) as fresh:
                    problems = [str(row[0]) for row in fresh.execute("PRAGMA integrity_check(20)") if row[0] != "ok"]
                    tables = {row[0] for row in fresh.execute("SELECT name FROM sqlite_master")}
                    problems += [f"there is no table {table}" for table in _TABLES if table not in tables]
                if not problems:
                    opened = self._open()
                    self._connection.close()
                    self._connection = opened
                return problems
            except sqlite3.DatabaseError as error:
                self._refuse_full(error, "free some")
                return [str(error)]

    def mend(self) -> list[str]:
        """What `reread` finds; where it finds something, the database has been made anew."""
        with self._lock:
            problems = self.reread()
            if problems:
                self._make_anew(problems[0])
            return problems

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

    def removed_names(self) -> list[str]:
        """Those of names, see `NAME`."""
        return [row[0] for row in self._all("SELECT id FROM removed WHERE id >= ? AND id < ?", (NAME, NAME[:-1] + chr(ord(NAME[-1]) + 1)))]

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

    def _all(self, statement: str, parameters: Sequence[str] = ()) -> list[Any]:
        with self._lock:
            try:
                return self._connection.execute(statement, parameters).fetchall()
            except sqlite3.DatabaseError as error:
                if not _unreadable(error) or self._connection.in_transaction:
                    raise
                self._make_anew(str(error))
                return self._connection.execute(statement, parameters).fetchall()

    def _run(self, done: Sequence[_Statement]) -> None:
        """Run the last of a transaction's statements; where the database turns out damaged, all of them on a new one."""
        try:
            self._connection.execute(*done[-1])
        except sqlite3.DatabaseError as error:
            if not _unreadable(error):
                raise
            self._make_anew(str(error))
            for statement in done:
                self._connection.execute(*statement)

    def _refuse_full(self, error: BaseException, hint: str) -> None:
        """Raise DiskFull where that is what the error says."""
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) in _NO_ROOM:
            raise DiskFull(f"no space left on the disk of {self._path}", hint=hint) from None

    def _moved(self) -> bool:
        """Whether the path leads to another file than the one that is open, or to none."""
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return True
        return (status.st_dev, status.st_ino) != self._inode

    def _make_anew(self, why: str) -> None:
        """Another database in the place of this one, with all that this process knows, and of the old one what nobody else does."""
        self._warn(f"the database {self._path} is damaged ({why}): it is made anew from what is known")
        saved = [(table, row) for table in _SAVED for row in self._readable(table)]
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        with suppress(sqlite3.Error):
            self._connection.close()
        self._set_aside()
        self._connection = self._open()
        self._connection.execute("BEGIN IMMEDIATE")
        for table, row in saved:
            self._connection.execute(f"INSERT OR IGNORE INTO {table} VALUES ({','.join('?' * len(row))})", row)
        for keeper in self._keepers:
            keeper(Transaction(lambda done: self._connection.execute(*done[-1])))
        self._connection.execute("COMMIT")

    def _readable(self, table: str) -> list[Any]:
        try:
            return self._connection.execute(f"SELECT * FROM {table}").fetchall()
        except sqlite3.Error:
            return []

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        try:
            # What is as it should be is not said again: SQLite would write it, for which a full disk has no room.
            if connection.execute("PRAGMA auto_vacuum").fetchone() != (_INCREMENTAL,):
                # before the first page is written: where there are tables, it takes a VACUUM
                connection.execute(f"PRAGMA auto_vacuum={_INCREMENTAL}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > SCHEMA_VERSION:
                raise Unsupported(f"the database {self._path} is of version {version}, newer than the {SCHEMA_VERSION} known here")
            connection.executescript(_SCHEMA)
            if version < SCHEMA_VERSION:
                connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            for table in _TABLES:
                connection.execute(f"SELECT * FROM {table}").fetchall()  # Reads every page: damage shows now.
            _give_back(connection)
            status = os.stat(self._path)
            self._inode = (status.st_dev, status.st_ino)
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


def _give_back(connection: sqlite3.Connection, most: int | None = None) -> None:
    """Cut pages that hold nothing off the file, `most` at once; it is as long as before until SQLite's next checkpoint."""
    with suppress(sqlite3.Error):  # a full disk, or damage, which the next statement meets: what was committed stays
        (kind,), (free,) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("auto_vacuum", "freelist_count"))
        if free <= _SPARE:
            return
        if kind == _INCREMENTAL:
            # `execute` takes one step of it, which is one page
            connection.executescript(f"PRAGMA incremental_vacuum({min(free - _SPARE, most or free)})")
        elif most is None:
            connection.execute(f"PRAGMA auto_vacuum={_INCREMENTAL}")
            connection.execute("VACUUM")


def _readable(value: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(value), dict)
    except (msgspec.MsgspecError, ValueError, TypeError):
        return False


def _unreadable(error: sqlite3.DatabaseError) -> bool:
    """Whether the error says that the database is damaged: not that the disk is full, or the statement wrong."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code in _CANNOT_BE_READ or code & 0xFF in (_CORRUPT, _NOT_A_DATABASE) or str(error).startswith("no such table")


_Statement = tuple[str, tuple[str | bytes, ...]]


class Transaction:
    """Statements of one transaction, in the words of the store. `run` runs the last of those it is given, which are all so far."""

    def __init__(self, run: Callable[[Sequence[_Statement]], object]) -> None:
        self._run = run
        self._done: list[_Statement] = []

    def execute(self, statement: str, *parameters: str | bytes) -> None:
        self._done.append((statement, parameters))
        self._run(self._done)

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
