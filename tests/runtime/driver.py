"""Launches one container as the OCI command line would, holding init before its first operation until told.

driver.py DIRECTORY HOLD    DIRECTORY/document.json says what; a byte on descriptor HOLD lets init go;
                                      old: overlayfs takes no descriptors, and detached mounts are not copied, as before Linux 6.15
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys

from lamina.linux import overlay
from lamina.runtime import cgroup, idmapping
from lamina.runtime.launcher import launch
from lamina.runtime.reports import LaunchFailed


def _refuse(*_arguments: object, **_options: object) -> int:
    raise OSError(errno.EINVAL, "an older kernel")


def main() -> None:
    # Whoever runs the tests may ignore them (nohup, a shell in the background), and what is ignored is restored by one more call.
    for number, usual in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGQUIT, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        signal.signal(number, usual)
    directory, hold = sys.argv[1], int(sys.argv[2])
    with open(f"{directory}/document.json", encoding="utf-8") as file:
        document = json.load(file)
    if len(sys.argv) > 3:
        overlay._by_descriptors = overlay._mapped_by_descriptors = idmapping._copies = _refuse  # type: ignore[assignment]
    document["plan"]["steps"].insert(0, ["wait", "hold"])
    null = os.open("/dev/null", os.O_RDWR)
    slots = {"hold": hold, "filter": os.open(f"{directory}/filter.bpf", os.O_RDONLY), "stdin": null, "stdout": null, "stderr": null}
    try:
        launched = launch(document, slots, cgroup.here())
    except LaunchFailed as error:
        print(json.dumps({"kind": error.kind, "message": error.message}))
        return
    _, status = os.waitpid(launched.pid, 0)
    if launched.cgroup is not None:
        launched.cgroup.remove()
    print(json.dumps({"status": status}))


if __name__ == "__main__":
    main()
