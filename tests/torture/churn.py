"""Many clients and an assailant: containers come and go at random while daemon, zygote and monitors are killed.

Every container writes what it does into a folder of the host's, so that what the engine says of it can be judged.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Any

from tests.harness import Daemon

BASE = "busybox:test"
_PATIENCE = 120.0
"""Seconds in which a daemon that was killed must be there again, or a container must have ended; more where all takes longer."""
_ROUND = 1.0
"""Seconds from the daemon's death until every client has lived once, where the assailant is as hasty as can be; on a slower machine it
has that much more patience."""
_LOST = ("its monitor was killed", "the container's monitor was killed, how it ended is not known")
_KILLED = (137, 255)


class Unreachable(Exception):
    """The connection broke: what was asked for may have happened, or not."""


class Untrue(AssertionError):
    """The engine said something that is not so."""


@dataclass(frozen=True)
class Answer:
    """One answer of the API's."""

    status: int
    document: Any


class Api:
    """The engine's API over its socket, a connection a call."""

    def __init__(self, path: Path, patience: float = _PATIENCE) -> None:
        self._path, self._patience = str(path), patience

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """One call. Raises Unreachable."""
        with self._connection() as connection:
            return _answer(self._asked(connection, method, path, body))

    @contextlib.contextmanager
    def begun(self, method: str, path: str) -> Iterator[Any]:
        """A call whose head is there; give what is yielded to `ended` for the rest."""
        with self._connection() as connection:
            yield self._asked(connection, method, path, None)

    @staticmethod
    def ended(response: Any) -> Answer:
        """The rest of a call that was begun. Raises Unreachable."""
        return _answer(response)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[HTTPConnection]:
        connection = HTTPConnection("lamina", timeout=self._patience)
        try:
            yield connection
        finally:
            connection.close()

    def _asked(self, connection: HTTPConnection, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        try:
            connection.sock = socket(AF_UNIX)
            connection.sock.settimeout(self._patience)
            connection.sock.connect(self._path)
            data = None if body is None else json.dumps(body)
            connection.request(method, f"/v1.51{path}", data, {"Content-Type": "application/json"} if data else {})
            return connection.getresponse()
        except (OSError, HTTPException) as error:
            raise Unreachable(f"{method} {path}: {error}") from None

    def again(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """A call that may be repeated, as often as connections break."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return self.call(method, path, body)
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
                threading.Event().wait(0.05)


def _answer(response: Any) -> Answer:
    try:
        text = response.read()
    except (OSError, HTTPException) as error:
        raise Unreachable(str(error)) from None
    try:
        return Answer(response.status, json.loads(text) if text else None)
    except ValueError:
        # The head came, the body was cut off.
        raise Unreachable("half an answer") from None


@dataclass
class Churn:
    """What clients and assailant share. `witness` is a folder of the host's that containers write to; `ids` are those of all
    containers, `killed` of those whose monitor was killed."""

    daemon: Daemon
    witness: Path
    lives: int
    seed: int
    clients: int = 8
    ids: list[str] = field(default_factory=list)
    killed: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)
    blows: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _next: int = 0
    _slowness: float = 1.0

    @property
    def patience(self) -> float:
        """Seconds in which what was asked for must have happened, however often somebody is killed meanwhile."""
        return _PATIENCE * max(1.0, self._slowness / 4)

    def run(self) -> None:
        """All lives, with an assailant about. Raises AssertionError with what went wrong."""
        self.witness.mkdir(exist_ok=True)
        self._slowness = max(1.0, max(self._undisturbed() for _ in range(2)) / _ROUND)
        threads = [threading.Thread(target=self._client, args=(number,)) for number in range(self.clients)]
        for thread in threads:
            thread.start()
        assailant = threading.Thread(target=self._assail)
        assailant.start()
        for thread in threads:
            thread.join()
        self.done.set()
        assailant.join()
        assert not self.faults, "\n\n".join(self.faults)

    def _undisturbed(self) -> float:
        """Seconds from the daemon's death until every client has lived once, while nobody else is killed."""
        api, begin = Api(self.daemon.socket), time.monotonic()
        self.daemon.kill()
        self.daemon.start()
        with ThreadPoolExecutor(self.clients) as clients:
            for ended in [clients.submit(_plain_life, api) for _ in range(self.clients)]:
                ended.result()
        return time.monotonic() - begin

    def take(self) -> int | None:
        """The number of the next life; None when all are taken."""
        with self._lock:
            if self._next >= self.lives or self.faults:
                return None
            self._next += 1
            return self._next

    def note(self, what: str) -> None:
        """Count something, for the record of what was tried."""
        with self._lock:
            self.seen[what] = self.seen.get(what, 0) + 1

    def _client(self, number: int) -> None:
        client = Client(self, number)
        try:
            while (life := self.take()) is not None:
                client.live(life)
            client.leave()
        except BaseException:
            self.faults.append(f"client {number}: {traceback.format_exc()}")

    # --- the assailant

    def _assail(self) -> None:
        rng = random.Random(self.seed)
        ways = {"daemon": self._kill_daemon, "zygote": self._kill_zygote, "monitor": self._kill_monitor}
        while not self.done.wait(rng.uniform(0.05, 0.6) * self._slowness):
            way = rng.choices(list(ways), (2, 2, 6))[0]
            try:
                hit = ways[way](rng)
            except BaseException:
                self.faults.append(f"the assailant: {traceback.format_exc()}")
                return
            if hit:
                self.blows[way] = self.blows.get(way, 0) + 1

    def _kill_daemon(self, rng: random.Random) -> bool:
        del rng
        self.daemon.kill()
        self.daemon.start()
        return True

    def _kill_zygote(self, rng: random.Random) -> bool:
        del rng
        assert self.daemon.process is not None
        for pid in children(self.daemon.process.pid):
            if name_of(pid) == "lamina-zygote":
                return end(pid, "lamina-zygote")
        return False

    def _kill_monitor(self, rng: random.Random) -> bool:
        records = list((self.daemon.data / "containers").glob("*/monitor.json"))
        if not records:
            return False
        record = rng.choice(records)
        try:
            pid = json.loads(record.read_bytes())["monitor"]
        except (OSError, ValueError):
            return False
        self.killed.add(record.parent.name)
        return end(pid, "lamina-monitor")


def _plain_life(api: Api) -> None:
    body = {"Image": BASE, "Cmd": ["true"], "HostConfig": {"NetworkMode": "bridge"}}
    made = api.call("POST", "/containers/create", body).document["Id"]
    for method, path in (("POST", f"{made}/start"), ("POST", f"{made}/wait"), ("DELETE", made)):
        assert api.call(method, f"/containers/{path}").status < 400


def name_of(pid: int) -> str:
    """What a process calls itself; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def end(pid: int, name: str) -> bool:
    """SIGKILL to the process of that number, if it still has that name."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if name_of(pid) != name:
            return False
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)


def children(pid: int) -> list[int]:
    """Processes that the threads of a process started."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


class Client:
    """One client: one container after the other."""

    def __init__(self, churn: Churn, number: int) -> None:
        self._churn, self._number = churn, number
        self._api = Api(churn.daemon.socket, churn.patience)
        self._rng = random.Random(churn.seed * 1000 + number)
        self._network = ""

    def live(self, life: int) -> None:
        """One container from create to its removal."""
        rng = self._rng
        way = rng.choices(["ends", "killed", "removed", "created", "auto"], (8, 3, 3, 1, 3))[0]
        code = rng.randrange(0, 120)
        if rng.random() < 0.2:
            self._change_network()
        container = self._create(life, code, way)
        self._churn.note(way)
        if way == "auto":
            self._auto(container, life, code)
        elif way == "created":
            pass
        elif self._start(container):
            if way == "ends":
                self._check(container, life, code, {code})
            elif way == "killed":
                self._api.again("POST", f"/containers/{container}/kill")
                self._check(container, life, code, {code, 137})
        self._remove(container)

    def leave(self) -> None:
        """Take away what is left."""
        if self._network:
            self._drop_network()

    def _change_network(self) -> None:
        if self._network:
            self._drop_network()
        name = f"churn{self._number}"
        made = self._api.again("POST", "/networks/create", {"Name": name, "Driver": "bridge"})
        assert made.status in (201, 409), made
        self._network = name

    def _drop_network(self) -> None:
        gone = self._api.again("DELETE", f"/networks/{self._network}")
        assert gone.status in (204, 404), gone
        self._network = ""

    def _create(self, life: int, code: int, way: str) -> str:
        rng = self._rng
        sleep = rng.choice(["", "", "usleep 100000;", "sleep 1;"]) if way in ("ends", "auto") else "sleep 1000;"
        binds = [f"{self._churn.witness}:/witness"]
        binds += [f"churn-volume-{rng.randrange(6)}:/kept"] if rng.random() < 0.3 else []
        network = rng.choice(["none", "none", "bridge", "bridge", self._network or "bridge"])
        ports = {"80/tcp": [{}]} if network != "none" and rng.random() < 0.3 else {}
        body = {
            "Image": BASE,
            "Cmd": ["sh", "-c", f"echo > /witness/{life}.begun; echo said {life}; {sleep} echo > /witness/{life}.ended; exit {code}"],
            "Volumes": {"/anonymous": {}} if rng.random() < 0.3 else {},
            "ExposedPorts": {port: {} for port in ports},
            "HostConfig": {"NetworkMode": network, "Binds": binds, "PortBindings": ports, "AutoRemove": way == "auto"},
        }
        made = self._api.again("POST", f"/containers/create?name=life{life}", body)
        assert made.status in (201, 409), made
        found = self._api.again("GET", f"/containers/life{life}/json")
        assert found.status == 200, found
        container = str(found.document["Id"])
        self._churn.ids.append(container)
        return container

    def _start(self, container: str) -> bool:
        """Start it, again where a kill came between; whether it was started, as far as can be known."""
        for _ in range(20):
            try:
                answer = self._api.call("POST", f"/containers/{container}/start")
            except Unreachable:
                state = self._state(container)
                if state is None or state["StartedAt"] > "0002":
                    return True
                continue
            if answer.status in (204, 304, 404):
                return True
            # A start that a kill ended says so, and nothing of it is left: it can be tried again.
            assert answer.status == 500, answer
            assert answer.document["message"] == "the monitor ended before it could start the container", answer
            state = self._state(container)
            if state is None:
                return False
            if state["Status"] != "created":
                return True
        raise AssertionError(f"{container} could not be started")

    def _state(self, container: str) -> dict[str, Any] | None:
        found = self._api.again("GET", f"/containers/{container}/json")
        if found.status == 404:
            return None
        assert found.status == 200, found
        return dict(found.document["State"])

    def _auto(self, container: str, life: int, code: int) -> None:
        """A container that goes by itself: what its waiter hears is true, and it goes."""
        answer = None
        with contextlib.suppress(Unreachable), self._api.begun("POST", f"/containers/{container}/wait?condition=removed") as response:
            started = self._start(container)
            if started:
                answer = self._api.ended(response)
        if answer is not None and answer.status == 200:
            self._judge(container, life, code, {code}, answer.document["StatusCode"], lost=container in self._churn.killed)
            assert self._state(container) is None, f"{container} was told to be removed and is still there"
        self._until_over(container)

    def _until_over(self, container: str) -> dict[str, Any] | None:
        """Its state when it does not run any more; None when it is gone."""
        deadline = time.monotonic() + self._churn.patience
        while time.monotonic() < deadline:
            state = self._state(container)
            if state is None or not state["Running"]:
                return state
            with contextlib.suppress(Unreachable):
                self._api.call("POST", f"/containers/{container}/wait")
        raise AssertionError(f"{container} does not end")

    def _check(self, container: str, life: int, code: int, allowed: set[int]) -> None:
        state = self._until_over(container)
        if state is None or state["Status"] == "created":
            return
        lost = bool(state["Error"])
        if lost and not (state["Error"] in _LOST and container in self._churn.killed):
            raise Untrue(f"life {life}: {state}")
        self._judge(container, life, code, allowed, state["ExitCode"], lost=lost)

    def _judge(self, container: str, life: int, code: int, allowed: set[int], told: int, *, lost: bool) -> None:
        """Whether a code can be true: its own where it came to its end; another only where it was killed."""
        ended = (self._churn.witness / f"{life}.ended").exists()
        if lost and told in _KILLED:
            return
        if told not in allowed or (told == code and not ended and 137 not in allowed):
            raise Untrue(f"life {life} ({container}): told {told}, should be {allowed}; it came to its end: {ended}")

    def _remove(self, container: str) -> None:
        deadline = time.monotonic() + self._churn.patience
        while True:
            gone = self._api.again("DELETE", f"/containers/{container}?force=1&v=1")
            if gone.status in (204, 404):
                return
            # Somebody else removes it: itself, with --rm.
            assert gone.status == 409 and "already in progress" in gone.document["message"], gone
            assert time.monotonic() < deadline, gone
            threading.Event().wait(0.05)
