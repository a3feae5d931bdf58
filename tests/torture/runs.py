"""Containers one after the other, and what daemon, zygote and their helpers take meanwhile. `./dev runs [COUNT]`.

Half of the containers are on a bridge, every tenth publishes a port and has an anonymous volume. Ends with 1 if memory or descriptors grew.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.harness import Daemon, busybox_tar
from tests.torture.churn import BASE, Api, children, name_of

_SAMPLES = 10
_GROWTH = 4 << 20
"""Bytes of private memory by which a process may end above its first sample: what an allocator keeps, not a leak of 20,000 runs."""
_DESCRIPTORS = 8


@dataclass(frozen=True)
class Sample:
    """What a process has: private memory in bytes, descriptors, threads."""

    memory: int
    descriptors: int
    threads: int


def sample(pid: int) -> Sample:
    """Look at a process."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    private = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))
    return Sample(private << 10, len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")))


def live(api: Api, number: int) -> None:
    """One container from create to removal."""
    bridge, rich = number % 2 == 0, number % 10 == 0
    body = {
        "Image": BASE, "Cmd": ["true"], "Volumes": {"/v": {}} if rich else {}, "ExposedPorts": {"80/tcp": {}} if rich else {},
        "HostConfig": {"NetworkMode": "bridge" if bridge else "none", "PortBindings": {"80/tcp": [{}]} if rich else {}},
    }  # fmt: skip
    made = api.call("POST", "/containers/create", body)
    assert made.status == 201, made
    container = made.document["Id"]
    with api.begun("POST", f"/containers/{container}/wait?condition=next-exit") as waiting:
        started = api.call("POST", f"/containers/{container}/start")
        assert started.status == 204, started
        ended = api.ended(waiting)
    assert ended.document["StatusCode"] == 0, ended
    gone = api.call("DELETE", f"/containers/{container}?v=1")
    assert gone.status == 204, gone


def watched(daemon: Daemon) -> dict[str, int]:
    """Processes that live as long as the daemon, by name."""
    assert daemon.process is not None
    found = {"laminad": daemon.process.pid}
    for pid in children(daemon.process.pid):
        if name_of(pid).startswith("lamina-"):
            found[name_of(pid)] = pid
    return found


def run(daemon: Daemon, count: int) -> list[dict[str, Sample]]:
    """`count` lives, with samples: the first after a twentieth of them, when everything was needed once."""
    api = Api(daemon.socket)
    first = max(count // 20, 20)
    marks = {first + (count - first) * number // _SAMPLES for number in range(_SAMPLES + 1)}
    samples = []
    begun = time.monotonic()
    for number in range(1, count + 1):
        live(api, number)
        if number in marks:
            samples.append({name: sample(pid) for name, pid in watched(daemon).items()})
            told = "  ".join(
                f"{name} {at.memory / 2**20:.1f} MB, {at.descriptors} descriptors, {at.threads} threads" for name, at in samples[-1].items()
            )
            print(f"{number:6} runs, {(time.monotonic() - begun) / number * 1000:.0f} ms each: {told}", flush=True)
    return samples


def grown(samples: list[dict[str, Sample]]) -> list[str]:
    """What grew from the first sample to the last, in words."""
    first, last = samples[0], samples[-1]
    words = []
    for name in sorted(first.keys() & last.keys()):
        if last[name].memory > first[name].memory + _GROWTH:
            words.append(f"{name}'s memory grew by {(last[name].memory - first[name].memory) / 2**20:.1f} MB")
        if last[name].descriptors > first[name].descriptors + _DESCRIPTORS:
            words.append(f"{name}'s descriptors grew from {first[name].descriptors} to {last[name].descriptors}")
    return words


def main(arguments: list[str]) -> int:
    """The command."""
    count = int(arguments[0]) if arguments else 20_000
    with tempfile.TemporaryDirectory(prefix="lamina-runs-") as folder:
        daemon = Daemon(Path(folder, "d")).start()
        try:
            daemon.docker("import", str(busybox_tar(Path(folder, "busybox.tar"))), BASE)
            words = grown(run(daemon, count))
        finally:
            daemon.remove()
    print("\n".join(words) or "flat")
    return 1 if words else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
