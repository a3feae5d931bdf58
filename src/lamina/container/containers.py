"""The facade: everything that can be asked of containers (`engine.containers`)."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from lamina.apitypes.events import Event
from lamina.apitypes.finding import Finding
from lamina.container import choosing, describe, links, processes
from lamina.container.archive import Archives, Source
from lamina.container.attaching import Attachments, detach_sequence
from lamina.container.auditing import Auditor
from lamina.container.capping import Caps
from lamina.container.committing import Committer
from lamina.container.connecting import Connector
from lamina.container.contents import Contents
from lamina.container.execs import Execs
from lamina.container.health import HealthChecks
from lamina.container.launching import Launcher
from lamina.container.lifecycle import LifeCycle
from lamina.container.live import Roster
from lamina.container.logs import Logs
from lamina.container.making import Maker
from lamina.container.measuring import Meter
from lamina.container.model import INIT, Container, State, WrongState
from lamina.container.parts import Parts
from lamina.container.ranges import Ranges
from lamina.container.recovery import Recovery
from lamina.container.removal import remove_tree
from lamina.container.requests import AttachRequest, Change, CommitRequest, Created, LogQuery, PathStat, Pruned, WaitResult
from lamina.container.sequence import start_sequence, writable_layer_id
from lamina.container.sizes import on_disk, sizes
from lamina.container.snapshots import Snapshot, SnapshotNotFound, SnapshotStore
from lamina.container.snapshotting import Snapshots
from lamina.container.sources import Sources
from lamina.container.store import SCRATCH, ContainerStore
from lamina.container.updating import Updater
from lamina.container.watching import Seen, Watcher
from lamina.errors import LaminaError
from lamina.image.model import Image
from lamina.linux.fileflags import mark_top_directory
from lamina.runtime.initlayer import write_init_layer
from lamina.spec.digest import Digest
from lamina.worker.outgoing import Target

Document = Mapping[str, Any]
"""A JSON object as the API spells it (Go's field names)."""

Filters = Mapping[str, Sequence[str]]
"""The API's filters: a key and the values of which one must match (labels: all of them)."""


class Waiter(Protocol):
    """A registered wait: whatever happens after its making is not missed. Close it when done with it (a context manager)."""

    def result(self, timeout: float | None = None) -> WaitResult | None:
        """Wait; None means that `timeout` seconds passed, or that it was closed from another thread."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Waiter: ...

    def __exit__(self, *exc: object) -> None: ...


class Containers:
    """Every operation on containers. `ref` is a name, an ID or the beginning of one. Thread-safe; calls on one container take turns,
    except those that only read or wait.

    Every call with a `ref` raises ContainerNotFound, or AmbiguousContainer for a prefix of several IDs.
    """

    def __init__(self, parts: Parts) -> None:
        os.makedirs(parts.root, mode=0o710, exist_ok=True)
        write_init_layer(init := f"{parts.root}/{INIT}")
        os.makedirs(f"{parts.root}/{SCRATCH}", mode=0o700, exist_ok=True)
        mark_top_directory(parts.root)
        self._parts, self.abilities = parts, parts.abilities
        self._store = store = ContainerStore(parts.root)
        self._roster = roster = Roster(store.load())
        sources = Sources(parts.volumes, parts.layers, parts.workers, parts.root)
        taken = SnapshotStore(parts.root, parts.workers)
        self._launcher = launcher = Launcher(
            parts, init, sources, taken, Caps(parts.root, parts.workers, parts.container_size), Ranges(parts.user_namespaces)
        )
        self._life = LifeCycle(parts, store, roster, launcher)
        self._execs = Execs(parts, roster, launcher)
        self._logs = Logs()
        self._attachments = Attachments(parts, self._logs.read)
        self.snapshots = Snapshots(parts, store, roster, self._life, launcher, taken)
        """Snapshots of what containers wrote."""
        self._maker = Maker(parts, store, roster, launcher, self.snapshots)
        parts.volumes.users = self._users_of_volume
        parts.networks.connector = Connector(parts.networks, launcher.connections, roster, store.save)
        self._life.on_gone = self._execs.forget
        self._health = HealthChecks(parts, store, self._execs)
        self._life.on_running = lambda live, fresh: self._health.running(live, fresh=fresh)
        self._archives = Archives(parts, launcher)
        self._contents = Contents(parts, launcher, self._life)
        self._watcher = Watcher(parts, launcher)
        self._meter = Meter(parts)
        self._updater = Updater(parts, store)
        self._committer = Committer(parts, self._life, launcher)

    # ── making, finding ──────────────────────────────────────────────────────────────────────────────────────────
    def create(
        self,
        config: Document,
        host_config: Document | None = None,
        networking: Document | None = None,
        *,
        name: str = "",
        platform: str = "",
        base: Snapshot | None = None,
        temporary: bool = False,
    ) -> Created:
        """Make a container of `config["Image"]`, not yet running. Documents are the API's ContainerConfig, HostConfig, NetworkingConfig.

        On `base`, a snapshot, it stands instead of on the image. A `temporary` one has no volumes, runs by `perform`, and is removed
        by the next engine on the root, if it is still there.

        Raises:
            ImageNotFound, OtherPlatform: the image is not here (404: the docker CLI then pulls and asks again).
            NameTaken: another container has the name.
            InvalidArgument: the documents contradict themselves, or no command is given.
        """
        return self._maker.create(config, host_config or {}, networking or {}, name, platform, base=base, temporary=temporary)

    def get(self, ref: str) -> Container:
        """The container as it is now."""
        return self._roster.find(ref).container

    def list(
        self, *, all: bool = False, limit: int = 0, size: bool = False, networks: bool = True, filters: Filters | None = None
    ) -> Sequence[dict[str, Any]]:
        """The API's ContainerSummary of each, the newest first; only running ones unless `all`, `limit` or a status filter. Without
        `networks` it lacks NetworkSettings, which are most of it."""
        choosing.check_listing(filters or {}, self.get)
        wanted, now = dict(filters or {}), describe.Now(self._parts.clock(), self._parts.images, self._roster)
        everything = all or limit > 0 or "status" in wanted
        chosen = [container for container in self._records() if (everything or container.shown_running) and self._shown(container, wanted)]
        ids = self._parts.networks.ids()
        if choosing.asks_networks(wanted):
            plain = ((container, self._summary(container, ids, now, size=False)) for container in chosen)
            chosen = [container for container, summary in plain if choosing.connected(summary, wanted)]
        shown, chosen = ids if networks else None, chosen[: limit or None]
        return self._roster.each(chosen, lambda container: self._summary(container, shown, now, size=size))

    def _summary(self, container: Container, ids: Mapping[str, str] | None, now: describe.Now, *, size: bool) -> dict[str, Any]:
        """Without networks where `ids` is None."""
        box = self._parts.networks.sandbox(container.id)
        networks = describe.network_of(container, box, ids) if ids is not None else None
        written = sizes(container, self._parts) if size else None
        return describe.summary(container, networks, box.published if box else (), now, sizes=written)

    def inspect(self, ref: str, *, size: bool = False) -> dict[str, Any]:
        """The API's ContainerInspectResponse."""
        live = self._roster.find(ref).whole()
        try:
            return self._inspected(live.container, size=size)
        except (SnapshotNotFound, FileNotFoundError):
            pass
        with live.lock:  # a snapshot is being taken at this moment, or was lost
            self._roster.find(live.container.id)  # where it was removed meanwhile that is what is said
            return self._inspected(live.container, size=size, known=True)

    def _inspected(self, container: Container, *, size: bool, known: bool = False) -> dict[str, Any]:
        chain = self.snapshots.chain(container.base, known=known)
        graph = {
            "UpperDir": container.upper,
            "WorkDir": f"{container.directory}/work",
            "LowerDir": ":".join((*(each.diff for each in reversed(chain)), f"{self._parts.root}/{INIT}")),
            "Layer": container.layer,
        }
        written = sizes(container, self._parts) if size else None
        networks = describe.network_of(container, self._parts.networks.sandbox(container.id), self._parts.networks.ids())
        document = describe.inspected(container, networks, execs=self._execs.of(container.id), sizes=written, graph=graph)
        return {**document, "Lamina": {"WritableLayer": writable_layer_id(container), "StartSequence": self._sequence(container, chain)}}

    def _sequence(self, container: Container, snapshots: Sequence[Snapshot]) -> Sequence[dict[str, Any]]:
        layers = self._parts.layers.chain(Digest.parse(container.layer)) if container.layer else ()
        return start_sequence(container, layers, kernel=os.uname().release, init=f"{self._parts.root}/{INIT}", snapshots=snapshots)

    def layers_in_use(self) -> set[Digest]:
        """The top layers of what runs."""
        return {Digest.parse(container.layer) for container in self._records() if container.running and container.layer}

    def counts(self) -> Mapping[str, int]:
        """How many containers are in each state: keys are the state's words."""
        states = [str(live.state.status) for live in self._roster.all()]
        return {str(state): states.count(str(state)) for state in State}

    def users_of(self, image: Digest) -> Sequence[str]:
        """IDs of the containers made from the image, running ones first: what refuses its removal."""
        users = self._roster.some(lambda container: container.image == str(image))
        return [live.container.id for live in sorted(users, key=lambda live: not live.container.running)]

    def _users_of_volume(self, name: str) -> Sequence[str]:
        """IDs of the containers that mount the volume, those that are being made too."""
        made = self._roster.some(lambda container: any(mount.name == name for mount in container.mounts))
        return [*(live.container.id for live in made), *self._maker.claiming(name)]

    def usage(self) -> Sequence[dict[str, Any]]:
        """Summaries for `system df`: `SizeRw` is what a removal would free, the log and what is known of it counted."""
        rows = {row["Id"]: row for row in self.list(all=True, size=True)}
        there = (container for container in self._records() if container.id in rows)
        return self._roster.each(there, lambda container: rows[container.id] | {"SizeRw": self._kept(container)})

    def _kept(self, container: Container) -> int:
        """Bytes on disk of all that goes with it: its snapshots too, but for those that others stand on."""
        its = self.snapshots.list(container.id)
        return on_disk([container.directory, *(os.path.dirname(snapshot.diff) for snapshot in its)], self._parts)

    # ── life cycle ───────────────────────────────────────────────────────────────────────────────────────────────
    def start(self, ref: str, *, detach_keys: str = "", verify: bool = False) -> None:
        """Run its command; attachments made since the last exit are handed over with the launch. `verify`: every byte of its layers
        is looked at before.

        Raises:
            AlreadyThere: it runs (304).
            LayerDamaged, BlobDamaged: a layer is not what it was; names it, nothing was started.
            CommandNotFound, CommandNotExecutable, MountMismatch, RuntimeFailed: it is what it was, `created` or `exited`, with exit code 127,
                126, 127; for all else with that of its last run, or 128.
        """
        self._life.start(self._roster.settled(ref), verify=verify)

    def perform(self, ref: str, command: Sequence[str], changes: Document, *, fd: int, stdin: bool = False) -> Waiter:
        """Run a command in a temporary container that does not run; wait for its end by what is answered.

        `changes` are fields of the API's ContainerConfig that hold for this run; the connected socket `fd` becomes its streams (see
        AttachRequest).

        Raises:
            CommandNotFound, CommandNotExecutable, RuntimeFailed: see `start`.
        """
        live = self._roster.find(ref)
        with live.lock:
            if not live.container.temporary or live.container.running:
                raise WrongState(
                    f"container {live.container.name} cannot perform: it {'runs' if live.container.running else 'is not temporary'}"
                )
            live.command(command, changes)
            self._attachments.attach(live, AttachRequest(fd, stdin=stdin))
            waiter = live.waiters.register("next-exit", now=None)
            try:
                self._life.start(live)
            except BaseException:
                waiter.close()
                raise
            return waiter

    def stop(self, ref: str, *, timeout: int | None = None, signal: str = "") -> None:
        """Send its stop signal, after `timeout` seconds (its own, else 10; negative: for ever) SIGKILL; returns when it has exited.

        Raises:
            AlreadyThere: it does not run (304).
        """
        self._life.stop(self._roster.find(ref), timeout, signal)

    def restart(self, ref: str, *, timeout: int | None = None, signal: str = "") -> None:
        """Stop it if it runs, then start it."""
        self._life.restart(self._roster.find(ref), timeout, signal)

    def kill(self, ref: str, *, signal: str = "") -> None:
        """Send `signal` ("SIGKILL" if empty; "TERM", "15" work too) to its first process; a fatal one is waited for.

        Raises:
            WrongState: it does not run (409).
        """
        self._life.kill(self._roster.find(ref), signal)

    def wait(self, ref: str, condition: str = "not-running") -> Waiter:
        """Register a waiter for `not-running`, `next-exit` or `removed`. Flush the response's head after this returned."""
        live = self._roster.find(ref)
        with live.lock:
            return live.waiters.register(condition, now=None if live.container.shown_running else live.result())

    def remove(self, ref: str, *, force: bool = False, volumes: bool = False, link: bool = False) -> None:
        """Remove it and what it wrote; `force` kills it first, `volumes` removes its anonymous volumes.

        With `link`, `ref` is CONTAINER/ALIAS, and only that link of the container goes.

        Raises:
            WrongState: it runs and `force` is not given (409).
        """
        if link:
            links.unlink(ref, self._roster, self._store.save)
            return
        self._life.remove(self._roster.settled(ref), force=force, volumes=volumes)

    def rename(self, ref: str, name: str) -> None:
        """Raises NameTaken, InvalidArgument."""
        self._life.rename(self._roster.find(ref), name)

    def update(self, ref: str, changes: Document) -> Sequence[str]:
        """Change limits and the restart policy (fields of the API's HostConfig) of a container, running or not; warnings.

        Raises:
            InvalidLimit: a value makes no sense (400).
            CannotUpdate: it contradicts what holds already, or the kernel refuses it; nothing has changed then (409).
        """
        return self._updater.update(self._roster.find(ref), changes)

    def pause(self, ref: str) -> None:
        """Freeze all its processes (WrongState: it does not run, or is paused already)."""
        self._life.pause(self._roster.find(ref))

    def unpause(self, ref: str) -> None:
        """Thaw them (WrongState: it is not paused)."""
        self._life.unpause(self._roster.find(ref))

    def prune(self, filters: Filters | None = None, *, dry_run: bool = False) -> Pruned:
        """Remove what does not run and the filters (`until`, `label`, `label!`) let through; with `dry_run`, only say what would go."""
        prunable, removed, space = choosing.pruning(filters or {}, self._parts.clock()), [], 0
        for container in self._records():
            if container.shown_running or not prunable(container):
                continue
            try:
                written = self._kept(container)
                if not dry_run:
                    self.remove(container.id)
            except (LaminaError, OSError):  # started or removed by somebody else meanwhile, or it cannot be
                continue
            removed.append(container.id)
            space += written
        if not dry_run:
            self._life.removals.flush()  # what is said to be free is free
            self._parts.emit(Event("container", "prune", "", {"reclaimed": str(space)}))
        return Pruned(tuple(removed), space)

    # ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────
    def attach(self, ref: str, request: AttachRequest) -> None:
        """Connect a client; returns when the connection has been handed over (or, for `logs` without `stream`, written and done).

        To a container that does not run yet it is kept until start. A connection handed over survives this process.
        """
        self._attachments.attach(self._roster.find(ref), request)

    def check_attachable(self, ref: str, detach_keys: str = "") -> Container:
        """What to ask before the 101 head is sent: raises WrongState for a paused or restarting container, and InvalidDetachKeys."""
        live = self._roster.find(ref)
        detach_sequence(detach_keys)
        self._attachments.check(live)
        return live.container

    def resize(self, ref: str, height: int, width: int) -> None:
        """Set the terminal's size in characters; before the first start it is remembered. WrongState: it ran, and does not run now."""
        self._attachments.resize(self._roster.find(ref), height, width)

    def logs(self, ref: str, query: LogQuery) -> Iterator[bytes]:
        """The log in chunks ready to be sent: 8-byte frames unless the container has a terminal. With `follow` it ends with the container.

        The first chunk is b"": the log is open then, and comes also where the container is removed meanwhile. Close the iterator to stop
        following (from the same thread, between chunks). Idle followers yield b"" about once a second, to notice a client that went.
        """
        return self._logs.read(self._roster.find(ref), query)

    def stats(self, ref: str, *, stream: bool = True, one_shot: bool = False) -> Iterator[dict[str, Any]]:
        """The API's ContainerStatsResponse, one a second until the container is gone; one only unless `stream`.

        Without `stream` it takes a second, for what is computed from two looks, unless `one_shot`.
        """
        return self._meter.stats(self._roster.find(ref), stream=stream, one_shot=one_shot)

    def top(self, ref: str, ps_args: str = "") -> dict[str, Any]:
        """`{"Titles": […], "Processes": [[…], …]}` (WrongState: it does not run)."""
        live = self._roster.find(ref)
        found = processes.top(live, ps_args)
        self._parts.emit(live.event("top"))
        return found

    # ── exec ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def exec_create(self, ref: str, config: Document) -> str:
        """Prepare a command in a running container (the API's ExecConfig); its ID. WrongState: it does not run, or is paused."""
        return self._execs.create(self._roster.find(ref), config, ref)

    def exec_check(self, exec_id: str) -> None:
        """What to ask before the 101 head is sent. Raises as exec_start."""
        self._execs.check(exec_id)

    def exec_start(self, exec_id: str, request: AttachRequest | None = None, *, size: tuple[int, int] | None = None) -> None:
        """Run it. With a `request` returns when its streams were handed over, without (detached) when it was started.

        `size` is (height, width). Raises WrongState if it ran already or its container stopped; ExecNotFound.
        """
        self._execs.start(exec_id, request, size)

    def exec_inspect(self, exec_id: str) -> dict[str, Any]:
        """The API's ExecInspectResponse; `Running` is false as soon as the client has seen the end of its streams."""
        return self._execs.inspect(exec_id)

    def exec_resize(self, exec_id: str, height: int, width: int) -> None:
        """Set its terminal's size in characters; before the start it is remembered. ExecNotFound: it has ended."""
        self._execs.resize(exec_id, height, width)

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────────────
    def changes(self, ref: str) -> Sequence[Change]:
        """What differs from the image, sorted by path."""
        return self._contents.changes(self._roster.find(ref))

    def watch(self, ref: str, *, existing: bool = False) -> Generator[Seen | None, None, None]:
        """What it adds, modifies and deletes from now on; see `Watcher.watch`. Close the iterator to stop."""
        return self._watcher.watch(self._roster.find(ref), existing=existing)

    def export(self, ref: str, out: Target) -> None:
        """Write its whole file system as a tar into descriptor `out`, without its mounts."""
        self._contents.export(self._roster.find(ref), out)

    def archive_stat(self, ref: str, path: str) -> PathStat:
        """What `path` is inside the container; a last symlink is not followed (PathNotFound)."""
        return self._archives.stat(self._roster.find(ref), ref, path)

    def archive_get(self, ref: str, path: str, out: Target) -> PathStat:
        """Write `path` as a tar into descriptor `out`; the stat is that of archive_stat (ask that first to send a head)."""
        return self._archives.get(self._roster.find(ref), ref, path, out)

    def archive_put(
        self, ref: str, path: str, source: Source, *, no_overwrite_dir_non_dir: bool = False, copy_uid_gid: bool = False
    ) -> None:
        """Extract a tar (plain, gzip, zstd) into directory `path` inside the container; `source` is read to its end.

        Raises:
            PathNotFound, NotADirectory, ReadOnlyPath: what stands in the way, nothing was written.
            BadArchive: the stream is not a tar or tries to leave its root; entries before it were written, as Docker does.
        """
        self._archives.put(
            self._roster.find(ref), ref, path, source, no_overwrite_dir_non_dir=no_overwrite_dir_non_dir, copy_uid_gid=copy_uid_gid
        )

    def commit(self, ref: str, request: CommitRequest) -> Image:
        """An image of what the container is now; it is paused meanwhile if `request.pause`. `CONTAINER@SNAPSHOT`: of what it was then.

        What its snapshots hold and what came after them is one layer.
        """
        snapshot = self.snapshots.named(ref)
        return self._committer.commit(self._roster.find(snapshot.container if snapshot else ref), request, snapshot)

    def adopt_step(self, identity: str, config: Document, host: Document, upper: str, code: int) -> bool:
        """Make a container of a build's step that has ended: with its ID and all that it wrote, which is moved out of `upper`. False, and
        nothing is left, where it cannot be."""
        try:
            self._maker.create(config, host, {}, "", identity=identity)
        except (LaminaError, OSError):
            return False
        live = self._roster.find(identity)
        try:
            with live.lock:
                remove_tree(live.container.upper, self._parts.workers)
                os.rename(upper, live.container.upper)
                now = self._parts.clock()
                live.become(State.RUNNING, started_ns=now)
                live.become(State.EXITED, exit_code=code, finished_ns=now)
                self._store.save_state(live.container)
            return True
        except (LaminaError, OSError):
            self.remove(identity, force=True, volumes=True)
            return False

    # ── the process itself ───────────────────────────────────────────────────────────────────────────────────────
    def recover(self) -> None:
        """Once, at start: finish or undo what a killed daemon left half done, adopt what runs, start what `restart` policies say."""
        self._launcher.caps.sweep(self._records())
        self._launcher.snapshots.recover(self._records())
        Recovery(self._parts, self._store, self._roster, self._life, self._execs).run()

    def check(self, *, repair: bool = False) -> Iterator[Finding]:
        """What is wrong with containers' files on the disk; with `repair`, what can be made anew is. See `auditing.Auditor`."""
        return Auditor(self._parts, self._store, self._roster, self._launcher.snapshots, repair=repair).run()

    def discard(self, path: str) -> None:
        """Remove a folder that nobody finds any more, as those of removed containers. See `removal.Removals`."""
        self._life.removals.add(path)

    def close(self) -> None:
        """Let go of everything; containers go on."""
        self._health.close()
        for live in self._roster.all():
            live.drop_pending()
            if live.timer is not None:
                live.timer.cancel()
        self._life.removals.flush()

    def _records(self) -> Sequence[Container]:
        """All containers, the newest first."""
        return [live.container for live in reversed(self._roster.all())]

    def _shown(self, container: Container, filters: Filters) -> bool:
        return choosing.listed(container, filters, find=self.get, images=self._descendants)

    def _descendants(self, name: str) -> Iterable[str]:
        """IDs of the image and of those built on it."""
        try:
            base = self._parts.images.resolve(name)
        except LaminaError:
            return ()
        return [str(base.id), *(str(image.id) for image in self._parts.images.list(all=True) if choosing.descends(image, base))]
