"""run, create, start, attach and exec: what has streams."""

from __future__ import annotations

import posix

from lamina.cli.flags import Arguments, UsageError
from lamina.cli.proxies import variables
from lamina.cli.session import Session, is_terminal
from lamina.client.running import Program, Run
from lamina.client.transport import Response
from lamina.errors import LaminaError, NotFound

TYPE_CHECKING = False  # the name type checkers know; typing and collections.abc would cost 2 ms each
if TYPE_CHECKING:
    from types import ModuleType

_CONTAINER = """\
- add-host list|Add a custom host-to-IP mapping (host:ip)
- annotation map|Add an annotation to the container (passed through to the OCI runtime)
a attach list|Attach to STDIN, STDOUT or STDERR
- blkio-weight uint16|Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
- blkio-weight-device list|Block IO weight (relative device weight)
- cap-add list|Add Linux capabilities
- cap-drop list|Drop Linux capabilities
- cgroup-parent string|Optional parent cgroup for the container
- cgroupns string|Cgroup namespace to use (host|private)
- cidfile string|Write the container ID to the file
- cpu-period int|Limit CPU CFS (Completely Fair Scheduler) period
- cpu-quota int|Limit CPU CFS (Completely Fair Scheduler) quota
- cpu-rt-period int|Limit CPU real-time period in microseconds
- cpu-rt-runtime int|Limit CPU real-time runtime in microseconds
c cpu-shares int|CPU shares (relative weight)
- cpus decimal|Number of CPUs
- cpuset-cpus string|CPUs in which to allow execution (0-3, 0,1)
- cpuset-mems string|MEMs in which to allow execution (0-3, 0,1)
- device list|Add a host device to the container
- device-cgroup-rule list|Add a rule to the cgroup allowed devices list
- device-read-bps list|Limit read rate (bytes per second) from a device
- device-read-iops list|Limit read rate (IO per second) from a device
- device-write-bps list|Limit write rate (bytes per second) to a device
- device-write-iops list|Limit write rate (IO per second) to a device
- disable-content-trust bool|Skip image verification (default true)
- dns list|Set custom DNS servers
- dns-option list|Set DNS options
- dns-search list|Set custom DNS search domains
- domainname string|Container NIS domain name
- entrypoint string|Overwrite the default ENTRYPOINT of the image
e env list|Set environment variables
- env-file list|Read in a file of environment variables
- expose list|Expose a port or a range of ports
- gpus gpu-request|GPU devices to add to the container ('all' to pass all GPUs)
- group-add list|Add additional groups to join
- health-cmd string|Command to run to check health
- health-interval duration|Time between running the check (ms|s|m|h)
- health-retries int|Consecutive failures needed to report unhealthy
- health-start-interval duration|Time between running the check during the start period (ms|s|m|h)
- health-start-period duration|Start period for the container to initialize before starting health-retries countdown (ms|s|m|h)
- health-timeout duration|Maximum time to allow one check to run (ms|s|m|h)
h hostname string|Container host name
- init bool|Run an init inside the container that forwards signals and reaps processes
i interactive bool|Keep STDIN open even if not attached
- ip string|IPv4 address (e.g., 172.30.100.104)
- ip6 string|IPv6 address (e.g., 2001:db8::33)
- ipc string|IPC mode to use
- isolation string|Container isolation technology
- kernel-memory bytes|Kernel memory limit
l label list|Set meta data on a container
- label-file list|Read in a line delimited file of labels
- link list|Add link to another container
- link-local-ip list|Container IPv4/IPv6 link-local addresses
- log-driver string|Logging driver for the container
- log-opt list|Log driver options
- mac-address string|Container MAC address (e.g., 92:d0:c6:0a:29:33)
m memory bytes|Memory limit
- memory-reservation bytes|Memory soft limit
- memory-swap bytes|Swap limit equal to memory plus swap: '-1' to enable unlimited swap
- memory-swappiness int|Tune container memory swappiness (0 to 100) (default -1)
- mount mount|Attach a filesystem mount to the container
- name string|Assign a name to the container
- network network|Connect a container to a network
- network-alias list|Add network-scoped alias for the container
- no-healthcheck bool|Disable any container-specified HEALTHCHECK
- oom-kill-disable bool|Disable OOM Killer
- oom-score-adj int|Tune host's OOM preferences (-1000 to 1000)
- pid string|PID namespace to use
- pids-limit int|Tune container pids limit (set -1 for unlimited)
- platform string|Set platform if server is multi-platform capable
- privileged bool|Give extended privileges to this container
p publish list|Publish a container's port(s) to the host
P publish-all bool|Publish all exposed ports to random ports
q quiet bool|Suppress the pull output
- read-only bool|Mount the container's root filesystem as read only
- restart string|Restart policy to apply when a container exits (default "no")
- rm bool|Automatically remove the container and its associated anonymous volumes when it exits
- runtime string|Runtime to use for this container
- security-opt list|Security Options
- shm-size bytes|Size of /dev/shm
- stop-signal string|Signal to stop the container
- stop-timeout int|Timeout (in seconds) to stop a container
- storage-opt list|Storage driver options for the container
- sysctl map|Sysctl options
- tmpfs list|Mount a tmpfs directory
t tty bool|Allocate a pseudo-TTY
- ulimit ulimit|Ulimit options
- use-api-socket bool|Bind mount Docker API socket and required auth
u user string|Username or UID (format: <name|uid>[:<group|gid>])
- userns string|User namespace to use
- uts string|UTS namespace to use
v volume list|Bind mount a volume
- volume-driver string|Optional volume driver for the container
- volumes-from list|Mount volumes from the specified container(s)
w workdir string|Working directory inside the container
"""
"""What `run` and `create` have in common."""

TABLE = {
    "run": (
        1,
        -1,
        False,
        "IMAGE [COMMAND] [ARG...]",
        f"""\
{_CONTAINER}d detach bool|Run container in background and print container ID
- detach-keys string|Override the key sequence for detaching a container
- pull string|Pull image before running ("always", "missing", "never") (default "missing")
- sig-proxy bool|Proxy received signals to the process (default true)
- verify bool|Look at every byte of the image's layers before the start
""",
    ),
    "create": (
        1,
        -1,
        False,
        "IMAGE [COMMAND] [ARG...]",
        f"""\
{_CONTAINER}- pull string|Pull image before creating ("always", "missing", "never") (default "missing")
""",
    ),
    "start": (
        1,
        -1,
        True,
        "CONTAINER [CONTAINER...]",
        """\
a attach bool|Attach STDOUT/STDERR and forward signals
- checkpoint string|Restore from this checkpoint
- checkpoint-dir string|Use a custom checkpoint storage directory
- detach-keys string|Override the key sequence for detaching a container
i interactive bool|Attach container's STDIN
- verify bool|Look at every byte of the image's layers before the start
""",
    ),
    "attach": (
        1,
        1,
        True,
        "CONTAINER",
        """\
- detach-keys string|Override the key sequence for detaching a container
- no-stdin bool|Do not attach STDIN
- sig-proxy bool|Proxy all received signals to the process (default true)
""",
    ),
    "exec": (
        2,
        -1,
        False,
        "CONTAINER COMMAND [ARG...]",
        """\
d detach bool|Detached mode: run command in the background
- detach-keys string|Override the key sequence for detaching a container
e env list|Set environment variables
- env-file list|Read in a file of environment variables
i interactive bool|Keep STDIN open even if not attached
- privileged bool|Give extended privileges to the command
t tty bool|Allocate a pseudo-TTY
u user string|Username or UID (format: "<name|uid>[:<group|gid>]")
w workdir string|Working directory inside the container
""",
    ),
}

_DAEMON_FAILED, _NOT_EXECUTABLE, _NOT_FOUND = 125, 126, 127


def run(session: Session, arguments: Arguments) -> int:
    """Create and start a container; the exit code of its command."""
    try:
        return _run(session, arguments)
    except NoTerminal:
        raise
    except NoIdFile as error:
        error.exit_code = _start_code(error.message)
        raise
    except LaminaError as error:
        code = error.exit_code
        error.exit_code = code if code in (_NOT_EXECUTABLE, _NOT_FOUND) else _DAEMON_FAILED
        raise


def _run(session: Session, arguments: Arguments) -> int:
    detached, tty = arguments.on("detach"), arguments.on("tty")
    if detached and arguments.given("attach"):
        raise UsageError("conflicting options: cannot specify both --attach and --detach")
    verify = session.verifies(arguments)
    asked = Run(session.engine) if detached else Run(session.engine, connections=2, meanwhile=_streams)
    config = _config(session, arguments, asked)
    stdin = bool(config["AttachStdin"])
    _refuse_without_terminal(tty=tty, stdin=stdin)
    apart = detached or not (stdin or config["AttachStdout"] or config["AttachStderr"])
    made = _create(session, arguments, config, asked)
    if apart:
        _start(asked, made, verify=verify)
        session.print(made)
        return 0
    keys = arguments.text("detach-keys")
    wired, waiting = asked.follow(
        made,
        stdin=stdin,
        stdout=bool(config["AttachStdout"]),
        stderr=bool(config["AttachStderr"]),
        detach_keys=keys,
        condition="removed" if arguments.on("rm") else "next-exit",
    )
    if arguments.on("sig-proxy", default=True):
        _streams().pass_signals(session.engine, made)
    try:
        _start(asked, made, verify=verify)
    except LaminaError:
        if arguments.on("rm"):
            waiting.read()
        raise
    if _streams().converse(session.engine, made, wired, stdin=stdin, tty=tty, keys=keys):
        return 0
    return _exit_code(waiting)


def _streams() -> ModuleType:
    from lamina.cli import streams

    return streams


class NoTerminal(LaminaError):
    """A terminal's input was asked for, and there is none. Of `run` too this is 1, as with Docker's CLI."""


class NoIdFile(LaminaError):
    """The file of --cidfile cannot be made. `run` has the exit codes of a failed start for it, as Docker's CLI."""


def _refuse_without_terminal(*, tty: bool, stdin: bool) -> None:
    if tty and stdin and not is_terminal(0):
        raise NoTerminal("the input device is not a TTY")


def _tell_size(config: object) -> None:
    from lamina.cli.terminal import size

    rows, columns = size(1)
    if rows and isinstance(config, dict):
        config["ConsoleSize"] = [rows, columns]


def create(session: Session, arguments: Arguments) -> int:
    """Create a container; prints its ID."""
    asked = Run(session.engine)
    session.print(_create(session, arguments, _config(session, arguments, asked), asked))
    return 0


def _config(session: Session, arguments: Arguments, asked: Run) -> dict[str, object]:
    """What the container is to be; connected to the engine before it is read."""
    asked.reach()
    from lamina.cli.hostconfig import container_config

    return container_config(arguments, session.environment)


def _create(session: Session, arguments: Arguments, config: dict[str, object], asked: Run) -> str:
    given = [str(word) for word in config["Env"]] if isinstance(config["Env"], list) else []
    more = variables(session, {word.partition("=")[0] for word in given})
    config["Env"] = given + [f"{name}={value}" for name, value in more.items()]
    if arguments.given("disable-content-trust") or "DOCKER_CONTENT_TRUST" in session.environment:
        from lamina.cli import trust

        trust.refuse(session, arguments, f"the signature of {arguments.words[0]} cannot be verified")
    if arguments.on("tty"):
        _tell_size(config["HostConfig"])
    path = arguments.text("cidfile")
    if not path:
        return _made(session, arguments, config, asked)
    # made before the container, so that one can never hide the other
    with _new_file(path) as file:
        try:
            made = _made(session, arguments, config, asked)
        except BaseException:
            posix.unlink(path)  # as docker: empty, it would only stand in the way of the next
            raise
        file.write(made)
    return made


def _made(session: Session, arguments: Arguments, config: dict[str, object], asked: Run) -> str:
    when, image = arguments.text("pull") or "missing", arguments.words[0]
    if when not in ("always", "missing", "never"):
        raise UsageError(f'invalid pull option: {when!r}: must be one of "always", "missing" or "never"')
    if when == "always":
        _pull(session, arguments, image)
        asked.reach()  # by now the first connection may have been idle for too long
    secrets = _shared_socket(session, arguments, config)
    try:
        made = _ask(session, arguments, config, asked)
    except NotFound as error:
        if when != "missing" or "image" not in error.message.lower():
            raise
        session.note(f"Unable to find image '{_with_tag(image)}' locally")
        _pull(session, arguments, image)
        made = _ask(session, arguments, config, asked)
    if secrets:
        from lamina.cli.apisocket import hand_over

        hand_over(session, made, secrets)
    return made


def _shared_socket(session: Session, arguments: Arguments, config: dict[str, object]) -> bytes:
    if not arguments.on("use-api-socket"):
        return b""
    from lamina.cli.apisocket import share

    return share(session, config)


def _ask(session: Session, arguments: Arguments, config: dict[str, object], asked: Run) -> str:
    answer = asked.create(config, name=arguments.text("name"), platform=session.platform(arguments))
    warnings = answer.get("Warnings")
    for warning in warnings if isinstance(warnings, list) else []:
        session.warn(str(warning))
    return str(answer.get("Id", ""))


def _new_file(path: str):  # type: ignore[no-untyped-def]
    try:
        return open(path, "x", encoding="ascii")
    except FileExistsError:
        raise LaminaError(f"container ID file found, make sure the other container isn't running or delete {path}") from None
    except OSError as error:
        raise NoIdFile(f"failed to create the container ID file: open {path}: {(error.strerror or str(error)).lower()}") from None


def _with_tag(image: str) -> str:
    return image if "@" in image or ":" in image.rsplit("/", 1)[-1] else f"{image}:latest"


def _pull(session: Session, arguments: Arguments, image: str) -> None:
    from lamina.cli.commands.transfer import pull_image

    pull_image(session, image, platform=session.platform(arguments), quiet=arguments.on("quiet"), to_error=True)


def _start(asked: Run, name: str, *, verify: bool = False) -> None:
    try:
        asked.start(name, verify=verify)
    except LaminaError as error:
        error.exit_code = _start_code(error.message)
        raise


def _start_code(message: str) -> int:
    """The exit code of a failed start. Docker's API says it in words only; these are the words Docker's own CLI looks for."""
    lower = message.lower()
    if any(words in lower for words in ("executable file not found", "no such file or directory", "system cannot find the file")):
        return _NOT_FOUND
    if any(words in lower for words in ("permission denied", "is a directory")):
        return _NOT_EXECUTABLE
    return _DAEMON_FAILED


def _exit_code(waiting: Response) -> int:
    answer = waiting.json()
    told = answer if isinstance(answer, dict) else {}
    error = told.get("Error")
    if isinstance(error, dict) and error.get("Message"):
        raise LaminaError(str(error["Message"]))
    code = told.get("StatusCode")
    return code if isinstance(code, int) else _DAEMON_FAILED


def start(session: Session, arguments: Arguments) -> int:
    """Start containers; with -a or -i one, and its exit code."""
    from lamina.client.containers import Containers

    containers, verify = Containers(session.engine), session.verifies(arguments)
    attached = arguments.on("attach") or arguments.on("interactive")
    if not attached:
        return session.each(arguments.words, lambda name: containers.start(name, checkpoint=arguments.text("checkpoint"), verify=verify))
    if len(arguments.words) > 1:
        raise LaminaError("you cannot start and attach multiple containers at once")
    name = arguments.words[0]
    facts = containers.inspect(name)
    tty, stdin = _facts(facts, "Config", "Tty"), arguments.on("interactive") and _facts(facts, "Config", "OpenStdin")
    _refuse_without_terminal(tty=tty, stdin=stdin)
    keys, asked = arguments.text("detach-keys"), Run(session.engine)
    condition = "removed" if _facts(facts, "HostConfig", "AutoRemove") else "next-exit"
    wired, waiting = asked.follow(name, stdin=stdin, stdout=True, stderr=True, detach_keys=keys, condition=condition)
    if arguments.on("sig-proxy", default=True) and not tty:
        _streams().pass_signals(session.engine, name)
    _start(asked, name, verify=verify)
    return 0 if _streams().converse(session.engine, name, wired, stdin=stdin, tty=tty, keys=keys) else _exit_code(waiting)


def _facts(facts: dict[str, object], part: str, name: str) -> bool:
    section = facts.get(part)
    return bool(section.get(name)) if isinstance(section, dict) else False


def attach(session: Session, arguments: Arguments) -> int:
    """Attach to a running container; its exit code, or as docker's 1 where the user left it."""
    from lamina.client.containers import Containers

    containers, name = Containers(session.engine), arguments.words[0]
    facts = containers.inspect(name)
    if not _facts(facts, "State", "Running"):
        raise LaminaError("you cannot attach to a stopped container, start it first")
    if _facts(facts, "State", "Paused"):
        raise LaminaError("you cannot attach to a paused container, unpause it first")
    tty = _facts(facts, "Config", "Tty")
    stdin = not arguments.on("no-stdin") and _facts(facts, "Config", "OpenStdin")
    _refuse_without_terminal(tty=tty, stdin=stdin)
    keys = arguments.text("detach-keys")
    wired, waiting = Run(session.engine).follow(name, stdin=stdin, stdout=True, stderr=True, detach_keys=keys)
    if arguments.on("sig-proxy", default=True) and not tty:
        _streams().pass_signals(session.engine, name)
    return 1 if _streams().converse(session.engine, name, wired, stdin=stdin, tty=tty, keys=keys) else _exit_code(waiting)


def exec(session: Session, arguments: Arguments) -> int:
    """Run a program in a running container; its exit code, or as docker's 1 where the user left it."""
    name, *command = arguments.words
    detached, tty = arguments.on("detach"), arguments.on("tty")
    stdin = arguments.on("interactive") and not detached
    _refuse_without_terminal(tty=tty and not detached, stdin=stdin)
    asked = Program(session.engine, connections=1, meanwhile=None if detached else _streams)
    asked.reach()
    config: dict[str, object] = {
        "AttachStdin": stdin,
        "AttachStdout": not detached,
        "AttachStderr": not detached,
        "Tty": tty,
        "Cmd": command,
        "Env": _exec_environment(session, arguments),
        "Privileged": arguments.on("privileged"),
        "User": arguments.text("user"),
        "WorkingDir": arguments.text("workdir"),
        "DetachKeys": arguments.text("detach-keys"),
    }
    if tty:
        _tell_size(config)
    made = asked.create(name, config)
    if not made:
        raise LaminaError("the engine gave the program no ID")
    wired = asked.start(made, tty=tty, detach=detached)
    if wired is None:
        return 0
    if _streams().converse(session.engine, made, wired, stdin=stdin, tty=tty, keys=arguments.text("detach-keys"), program=True):
        return 1
    code = asked.exit_code(made)
    return 1 if code is None else code


def _exec_environment(session: Session, arguments: Arguments) -> list[str]:
    """--env-file and --env. A file that cannot be read breaks the command line of `run` and `create` only, as with Docker's CLI."""
    from lamina.cli.hostconfig import UnreadableFile, read_environment

    try:
        return read_environment(arguments, session.environment)
    except UnreadableFile as error:
        error.exit_code = 1
        raise
