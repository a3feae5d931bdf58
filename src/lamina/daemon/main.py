"""laminad: one engine on a root, served on sockets until a signal ends it."""

from __future__ import annotations

import contextlib
import ctypes
import encodings.idna  # noqa: F401  resolving a host name would import it, perhaps from a newer version by then
import errno
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence

import lamina
from lamina.api import app
from lamina.api.carrying import MOST, Carriers
from lamina.api.http import Secure, Server
from lamina.api.listen import checked, listen
from lamina.daemon.engine import Engine
from lamina.daemon.settings import Settings, parse
from lamina.distribution.proxies import Proxies
from lamina.errors import Exhausted, InvalidArgument, LaminaError
from lamina.worker import WorkerPool

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_SWITCH_SECONDS = 0.0005
_STACK_BYTES = 512 << 10
_M_ARENA_MAX = -8  # malloc.h
_log = logging.getLogger("lamina.daemon")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the process's exit code."""
    try:
        settings, version = parse(sys.argv[1:] if arguments is None else arguments)
        if version:
            print(f"laminad {lamina.__version__}")
            return 0
        tune()
        set_up_logging(settings)
        run(settings)
    except LaminaError as error:
        print(f"laminad: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"laminad: no space left on the disk{f' of {error.filename}' if error.filename else ''} (free some)", file=sys.stderr)
        return Exhausted.exit_code
    return 0


def run(settings: Settings) -> None:
    """Serve until a signal comes. The caller's thread waits for it; all others have it blocked."""
    for host in settings.hosts:
        checked(host)
    _refuse_held(settings.pidfile)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    with Engine.open(
        settings.root,
        storage_driver=settings.storage_driver,
        insecure_registries=settings.insecure_registries,
        registry_mirrors=settings.registry_mirrors,
        labels=settings.labels,
        what="daemon",
        verify=settings.verify,
        runtimes=settings.runtimes,
        experimental=settings.experimental,
        storage_options=settings.storage_options,
        originals=settings.originals,
        user_namespaces=settings.user_namespaces,
        logging=settings.logging,
        proxies=settings.proxies.or_else(Proxies.from_environment(os.environ)),
        defaults=settings.defaults,
        address_pools=settings.address_pools,
    ) as engine:
        pool = WorkerPool(MOST, path=tuple(sys.path))
        server = app.server(engine, lamina.__version__, experimental=settings.experimental, carriers=Carriers(pool))
        with _listening(server, settings), _pidfile(settings.pidfile):
            gc.collect()
            gc.freeze()
            _ready()
            _log.info("listening on %s", ", ".join(settings.hosts))
            number = _wait_for_signal()
            _log.info("ending on %s; containers go on", signal.Signals(number).name)
        server.close()
        pool.close()


def secured(settings: Settings) -> Secure | None:
    """What makes TLS of a TCP connection; None where it is to stay plain.

    Raises:
        InvalidCertificates: a file is missing or wrong.
    """
    if not settings.tls_verify:
        _log.warning("listening on TCP without --tlsverify: whoever reaches the port is root on this machine")
    if not (settings.tls or settings.tls_verify):
        return None
    # here, not above: a daemon on a unix socket alone need not load it
    from lamina.tls import contexts, pump

    context = contexts.server_context(
        certificate=settings.tls_certificate, key=settings.tls_key, authority=settings.tls_authority if settings.tls_verify else ""
    )
    return lambda sock: pump.behind(sock, context, server=True)


def tune() -> None:
    """Settings of the process: short turns of the interpreter, small stacks, few malloc arenas (idle memory)."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    threading.stack_size(_STACK_BYTES)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def set_up_logging(settings: Settings) -> None:
    """One line an event on stderr."""
    level = {"warn": "WARNING", "fatal": "CRITICAL"}.get(settings.log_level, settings.log_level.upper())
    level = "DEBUG" if settings.debug else level
    logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if level != "DEBUG":
        # It warns of each try that failed: who asked is told if the last one does.
        logging.getLogger("urllib3").setLevel("ERROR")


def _wait_for_signal() -> int:
    """The signal that ends the daemon; SIGHUP (dockerd: read the configuration again) is only noted."""
    while True:
        number = signal.sigwait(_SIGNALS)
        if number != signal.SIGHUP:
            return number
        _log.info("SIGHUP: the configuration is read at start only")


@contextlib.contextmanager
def _pidfile(path: str) -> Iterator[None]:
    if not path:
        yield
        return
    _refuse_held(path)
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
    except OSError as error:
        raise InvalidArgument(f"pidfile {path} cannot be written: {(error.strerror or str(error)).lower()}") from None
    try:
        yield
    finally:
        if _process_of(path) == os.getpid():
            with contextlib.suppress(OSError):
                os.unlink(path)


def _refuse_held(pidfile: str) -> None:
    """Raises InvalidArgument where it names another process that runs."""
    if pidfile and (other := _process_of(pidfile)) not in (0, os.getpid()):
        raise InvalidArgument(f"pidfile {pidfile} is that of process {other}, which is running: end it, or give another --pidfile")


def _process_of(pidfile: str) -> int:
    """The running process that the file names, 0: none."""
    try:
        with open(pidfile, encoding="ascii") as file:
            number = int(file.read(32))
        os.kill(number, 0)
    except (OSError, ValueError, OverflowError):
        return 0
    return number if number > 0 else 0


@contextlib.contextmanager
def _listening(server: Server, settings: Settings) -> Iterator[None]:
    """All addresses; at the end, also that of a start that fails, the files of those sockets that were made here go."""
    made = []
    try:
        for host in settings.hosts:
            sock = listen(host)
            made.append(host)
            server.listen(sock, secured(settings) if host.startswith("tcp://") else None)
        yield
    finally:
        for host in made:
            if host.startswith("unix://"):
                with contextlib.suppress(OSError):
                    os.unlink(host.removeprefix("unix://"))


def _ready() -> None:
    """Tell systemd, where it started us (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
        sock.send(b"READY=1")


if __name__ == "__main__":
    sys.exit(main())
