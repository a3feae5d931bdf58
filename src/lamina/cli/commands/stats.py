"""`lamina stats`."""

from __future__ import annotations

import sys
import threading
import time

from lamina.cli.flags import Arguments
from lamina.cli.output import print_rows
from lamina.cli.session import Session
from lamina.cli.terminal import moves
from lamina.cli.units import human_size
from lamina.client.containers import Containers
from lamina.errors import LaminaError

TABLE = {
    "stats": (
        0,
        -1,
        True,
        "[CONTAINER...]",
        """\
a all bool|Show all containers (default shows just running)
- format string|Format output as "table", "json" or by a Go template
- no-stream bool|Disable streaming stats and only pull the first result
- no-trunc bool|Do not truncate output
""",
    ),
}

Document = dict[str, object]
_COLUMNS = ["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"]
_HEADERS = {
    "ID": "CONTAINER ID",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_CLEAR = "\033[2J\033[H"


def stats(session: Session, arguments: Arguments) -> int:
    """Show what containers use, once or again every second."""
    names = arguments.words or _all(Containers(session.engine), every=arguments.on("all"))
    containers = Containers(session.engine if arguments.words else session.engine.as_it_is())
    watches = [_Watch(containers, name, stream=not arguments.on("no-stream")) for name in names]
    for watch in watches:
        watch.thread.join(None if arguments.on("no-stream") else 2.0)
    while True:
        if not arguments.words and not arguments.on("no-stream"):
            watches = _renewed(containers, watches, _all(containers, every=arguments.on("all")))
        for watch in watches:
            if watch.failure is not None and arguments.words:
                raise watch.failure
        rows = [_row(watch.name, watch.last, whole=arguments.on("no-trunc")) for watch in watches if watch.failure is None]
        if not arguments.on("no-stream") and moves(1):
            sys.stdout.write(_CLEAR)
        print_rows(session, arguments.text("format"), rows, _COLUMNS, _HEADERS)
        sys.stdout.flush()
        if arguments.on("no-stream") or (arguments.words and not any(watch.thread.is_alive() for watch in watches)):
            return 0
        time.sleep(1)


def _renewed(containers: Containers, watches: list[_Watch], names: list[str]) -> list[_Watch]:
    """Those that are to be shown now: what has ended goes, what has begun meanwhile comes."""
    known = {watch.name: watch for watch in watches if watch.thread.is_alive()}
    return [known.get(name) or _Watch(containers, name, stream=True) for name in names]


def _all(containers: Containers, *, every: bool) -> list[str]:
    return [str(fact.get("Id", "")) for fact in containers.list([("all", "1")] if every else [])]


class _Watch:
    """One container's stats, read by a thread of its own; `last` are the newest."""

    def __init__(self, containers: Containers, name: str, *, stream: bool) -> None:
        self.name, self.last = name, dict[str, object]()
        self._pieces = containers
        self.failure: LaminaError | None = None
        self.thread = threading.Thread(target=self._follow, args=(stream,), daemon=True)
        self.thread.start()

    def _follow(self, stream: bool) -> None:
        try:
            for fact in self._pieces.stream(self.name, "stats", [("stream", "1" if stream else "0")]).lines():
                self.last = fact
        except LaminaError as error:
            self.failure = error


def _row(name: str, fact: Document, *, whole: bool) -> Document:
    memory, limit = _memory(_part(fact, "memory_stats")), _number(_part(fact, "memory_stats"), "limit")
    received, sent = _network(fact)
    read, written = _block(fact)
    identity = str(fact.get("id", name))
    return {
        "Container": name,
        "ID": identity if whole else identity[:12],
        "Name": str(fact.get("name", "--")).lstrip("/"),
        "CPUPerc": f"{_processors(fact):.2f}%",
        "MemUsage": f"{_binary(memory)} / {_binary(limit)}",
        "MemPerc": f"{memory / limit * 100 if limit else 0:.2f}%",
        "NetIO": f"{human_size(received)} / {human_size(sent)}",
        "BlockIO": f"{human_size(read)} / {human_size(written)}",
        "PIDs": str(_number(_part(fact, "pids_stats"), "current")),
    }


def _part(fact: object, key: str) -> Document:
    found = fact.get(key) if isinstance(fact, dict) else None
    return found if isinstance(found, dict) else {}


def _number(fact: Document, key: str) -> int:
    found = fact.get(key)
    return found if isinstance(found, int) else 0


def _processors(fact: Document) -> float:
    """Percent of one processor: what it used of the machine's time since the look before, times the processors."""
    now, before = _part(fact, "cpu_stats"), _part(fact, "precpu_stats")
    used = _number(_part(now, "cpu_usage"), "total_usage") - _number(_part(before, "cpu_usage"), "total_usage")
    passed = _number(now, "system_cpu_usage") - _number(before, "system_cpu_usage")
    return used / passed * (_number(now, "online_cpus") or 1) * 100 if used > 0 and passed > 0 else 0.0


def _memory(fact: Document) -> int:
    """Usage without the page cache that could be given up at once, as Docker computes it on version 1 and 2."""
    used, details = _number(fact, "usage"), _part(fact, "stats")
    spare = _number(details, "total_inactive_file") or _number(details, "inactive_file")
    return used - spare if spare < used else used


def _network(fact: Document) -> tuple[int, int]:
    found = [_part(_part(fact, "networks"), name) for name in _part(fact, "networks")]
    return sum(_number(each, "rx_bytes") for each in found), sum(_number(each, "tx_bytes") for each in found)


def _block(fact: Document) -> tuple[int, int]:
    entries = _part(fact, "blkio_stats").get("io_service_bytes_recursive")
    found = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []

    def total(operation: str) -> int:
        return sum(_number(entry, "value") for entry in found if str(entry.get("op", "")).lower() == operation)

    return total("read"), total("write")


def _binary(size: float) -> str:
    """Bytes in binary units with four significant digits: `1.5MiB`."""
    unit = 0
    while size >= 1024 and unit < 5:
        size /= 1024
        unit += 1
    return f"{size:.4g}{('B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB')[unit]}"
