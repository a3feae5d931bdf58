"""Starting helper processes with this interpreter: bare (`-I -S`), detached, or from a sealed copy of it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def sealed_copy(path: str) -> int:
    """A descriptor of a copy of an executable in memory that nobody can write to, whatever rights they have."""
    fd = os.memfd_create("lamina", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        while os.sendfile(fd, source, None, 1 << 24):
            pass
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
        return fd
    finally:
        os.close(source)


def start_sealed(module: str, stdin: int, log: int) -> subprocess.Popen[bytes]:
    """Run `module.main()` in a bare interpreter from a sealed copy, `stdin` as its standard input, errors going to `log`."""
    code = f"import sys; sys.path.insert(0, {SOURCE!r}); from {module} import main; main()"
    copy = sealed_copy(os.path.realpath(sys.executable))
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code],
            executable=f"/proc/self/fd/{copy}",
            pass_fds=[copy],
            stdin=stdin,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment(),
        )
    finally:
        os.close(copy)


def environment() -> dict[str, str]:
    """What such a process needs of the environment: where a shared interpreter's library lies, and that its functions are looked up at
    once, since every fork would do it again."""
    directory = sysconfig.get_config_var("LIBDIR")
    library = {"LD_LIBRARY_PATH": str(directory)} if sysconfig.get_config_var("Py_ENABLE_SHARED") and directory else {}
    return {"LD_BIND_NOW": "1", **library}


def run_sealed(module: str, arguments: Sequence[str]) -> None:
    """Become `module.main()` in a bare interpreter from a sealed copy; standard streams and environment are kept. Does not return."""
    code = f"import sys; sys.path.insert(0, {SOURCE!r}); from {module} import main; main()"
    copy = sealed_copy(os.path.realpath(sys.executable))
    os.set_inheritable(copy, True)
    os.execve(f"/proc/self/fd/{copy}", [sys.executable, "-I", "-S", "-c", code, *arguments], {**os.environ, **environment()})
