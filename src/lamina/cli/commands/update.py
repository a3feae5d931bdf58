"""`lamina update`."""

from __future__ import annotations

from lamina.cli.flags import Arguments
from lamina.cli.hostconfig import limits
from lamina.cli.session import Session
from lamina.client.containers import Containers
from lamina.errors import LaminaError

TABLE = {
    "update": (
        1,
        -1,
        True,
        "CONTAINER [CONTAINER...]",
        """\
- blkio-weight uint16|Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
- cpu-period int|Limit CPU CFS (Completely Fair Scheduler) period
- cpu-quota int|Limit CPU CFS (Completely Fair Scheduler) quota
- cpu-rt-period int|Limit the CPU real-time period in microseconds
- cpu-rt-runtime int|Limit the CPU real-time runtime in microseconds
c cpu-shares int|CPU shares (relative weight)
- cpus decimal|Number of CPUs
- cpuset-cpus string|CPUs in which to allow execution (0-3, 0,1)
- cpuset-mems string|MEMs in which to allow execution (0-3, 0,1)
m memory bytes|Memory limit
- memory-reservation bytes|Memory soft limit
- memory-swap bytes|Swap limit equal to memory plus swap: -1 to enable unlimited swap
- pids-limit int|Tune container pids limit (set -1 for unlimited)
- restart string|Restart policy to apply when a container exits
""",
    ),
}


def update(session: Session, arguments: Arguments) -> int:
    """Change limits and restart policies of containers, whether they run or not."""
    changes = limits(arguments)
    if not changes:
        raise LaminaError("you must provide one or more flags when using this command")
    containers = Containers(session.engine)

    def one(name: str) -> None:
        warnings = containers.update(name, changes).get("Warnings")
        for warning in warnings if isinstance(warnings, list) else []:
            session.warn(str(warning))

    return session.each(arguments.words, one)
