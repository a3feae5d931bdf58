"""Small processes of ours that outlive whoever starts them: in a session of their own, without environment, ready when they say so."""

from __future__ import annotations

import os
import subprocess
import sys

from lamina.errors import Internal


def start(module: str, directory: str) -> None:
    """Run `module.main()` with the arguments DIRECTORY and a descriptor, and return when it has closed that one.

    Raises:
        Internal: it said something else.
    """
    ready, told = os.pipe()
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = f"import sys; sys.path.insert(0, {source!r}); from {module} import main; main()"
    try:
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code, directory, str(told)],
            pass_fds=[told],
            start_new_session=True,
            cwd="/",
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(told)
        if os.read(ready, 1) != b"":
            raise Internal(f"{module} said something unexpected at its start")
    finally:
        os.close(ready)
