"""run, create, start, attach and exec: what has streams."""

from __future__ import annotations

from lamina.cli.flags import Arguments, UsageError
from lamina.cli.hostconfig import container_config, read_environment
from lamina.cli.session import Session, is_terminal
from lamina.client.containers import Containers, Hijacked
from lamina.client.transport import Response
from lamina.errors import LaminaError, NotFound

_DAEMON_FAILED, _NOT_EXECUTABLE, _NOT_FOUND = 125, 126, 127


def run(session: Session, arguments: Arguments) -> int:
    """Create and start a container; the exit code of its command."""
    try:
        return _run(session, arguments)
    except LaminaError as error:
        code = error.exit_code
        error.exit_code = code if code in (_NOT_EXECUTABLE, _NOT_FOUND) else _DAEMON_FAILED
        raise


def _run(session: Session, arguments: Arguments) -> int:
    containers = Containers(session.engine)
    detached, tty = arguments.on("detach"), arguments.on("tty")
    if detached and arguments.given("attach"):
        raise UsageError("conflicting options: cannot specify both --attach and --detach")
    config = container_config(arguments, session.environment)
    stdin = bool(config["AttachStdin"])
    _refuse_without_terminal(tty=tty, stdin=stdin)
    if tty:
        _tell_size(config)
    made = _create(session, arguments, config)
    if detached or not (stdin or config["AttachStdout"] or config["AttachStderr"]):
        _start(containers, made, verify=arguments.on("verify"))
        session.print(made)
        return 0
    keys = arguments.text("detach-keys")
    wired = containers.attach(made, stdin=stdin, stdout=bool(config["AttachStdout"]), stderr=bool(config["AttachStderr"]), detach_keys=keys)
    if arguments.on("sig-proxy", default=True):
        _proxy(containers, made)
    waiting = containers.waiting(made, "removed" if arguments.on("rm") else "next-exit")
    try:
        _start(containers, made, verify=arguments.on("verify"))
    except LaminaError:
        if arguments.on("rm"):
            waiting.read()
        raise
    if _converse(containers, made, wired, stdin=stdin, tty=tty, keys=keys):
        return 0
    return _exit_code(waiting)


def _refuse_without_terminal(*, tty: bool, stdin: bool) -> None:
    if tty and stdin and not is_terminal(0):
        raise LaminaError("the input device is not a TTY")


def _tell_size(config: dict[str, object]) -> None:
    from lamina.cli.terminal import size

    rows, columns = size(1)
    host = config["HostConfig"]
    if rows and isinstance(host, dict):
        host["ConsoleSize"] = [rows, columns]


def create(session: Session, arguments: Arguments) -> int:
    """Create a container; prints its ID."""
    session.print(_create(session, arguments, container_config(arguments, session.environment)))
    return 0


def _create(session: Session, arguments: Arguments, config: dict[str, object]) -> str:
    if arguments.given("disable-content-trust") or "DOCKER_CONTENT_TRUST" in session.environment:
        from lamina.cli import trust

        trust.refuse(session, arguments, f"the signature of {arguments.words[0]} cannot be verified")
    path = arguments.text("cidfile")
    # made before the container, so that one can never hide the other
    cid = _new_file(path) if path else None
    when, image = arguments.text("pull", "missing"), arguments.words[0]
    if when not in ("always", "missing", "never"):
        raise UsageError(f'invalid pull option: {when!r}: must be one of "always", "missing" or "never"')
    if when == "always":
        _pull(session, arguments, image)
    secrets = _shared_socket(session, arguments, config)
    try:
        made = _ask(session, arguments, config)
    except NotFound as error:
        if when != "missing" or "image" not in error.message.lower():
            raise
        session.note(f"Unable to find image '{_with_tag(image)}' locally")
        _pull(session, arguments, image)
        made = _ask(session, arguments, config)
    if cid is not None:
        with cid:
            cid.write(made)
    if secrets:
        from lamina.cli.apisocket import hand_over

        hand_over(session, made, secrets)
    return made


def _shared_socket(session: Session, arguments: Arguments, config: dict[str, object]) -> bytes:
    if not arguments.on("use-api-socket"):
        return b""
    from lamina.cli.apisocket import share

    return share(session, config)


def _ask(session: Session, arguments: Arguments, config: dict[str, object]) -> str:
    answer = Containers(session.engine).create(config, name=arguments.text("name"), platform=arguments.text("platform"))
    warnings = answer.get("Warnings")
    for warning in warnings if isinstance(warnings, list) else []:
        session.warn(str(warning))
    return str(answer.get("Id", ""))


def _new_file(path: str):  # type: ignore[no-untyped-def]
    try:
        return open(path, "x", encoding="ascii")
    except FileExistsError:
        raise LaminaError(f"container ID file found, make sure the other container isn't running or delete {path}") from None


def _with_tag(image: str) -> str:
    return image if "@" in image or ":" in image.rsplit("/", 1)[-1] else f"{image}:latest"


def _pull(session: Session, arguments: Arguments, image: str) -> None:
    from lamina.cli.commands.transfer import pull_image

    pull_image(session, image, platform=arguments.text("platform"), quiet=arguments.on("quiet"), to_error=True)


def _start(containers: Containers, name: str, keys: str = "", *, verify: bool = False) -> None:
    try:
        containers.start(name, detach_keys=keys, verify=verify)
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


def _proxy(containers: Containers, name: str) -> None:
    from lamina.cli.streams import forward_signals

    def kill(signal: str) -> None:
        try:
            containers.act(name, "kill", [("signal", signal)])
        except LaminaError:
            pass  # it has ended meanwhile

    forward_signals(kill)


def _exit_code(waiting: Response) -> int:
    answer = waiting.json()
    told = answer if isinstance(answer, dict) else {}
    error = told.get("Error")
    if isinstance(error, dict) and error.get("Message"):
        raise LaminaError(str(error["Message"]))
    code = told.get("StatusCode")
    return code if isinstance(code, int) else _DAEMON_FAILED


def _converse(containers: Containers, name: str, wired: Hijacked, *, stdin: bool, tty: bool, keys: str, program: bool = False) -> bool:
    """Copy the streams to their end; true where the user detached."""
    from lamina.cli.streams import Streams

    if not tty:
        return Streams(wired, stdin=stdin, tty=False).copy()
    from lamina.cli.streams import on_resize
    from lamina.cli.terminal import DEFAULT_DETACH, DetachKeys, Raw, detach_sequence, size

    def resize() -> None:
        rows, columns = size(1)
        if rows:
            try:
                containers.resize(name, rows, columns, program=program)
            except LaminaError:
                pass  # it ends while we ask

    resize()
    on_resize(resize)
    if not stdin:
        return Streams(wired, stdin=False, tty=True).copy()
    watch = DetachKeys(detach_sequence(keys or DEFAULT_DETACH))
    with Raw(0):
        detached = Streams(wired, stdin=True, tty=True, keys=watch.feed).copy()
    if detached:
        from lamina.cli.streams import write_all

        write_all(2, b"read escape sequence\n")
    return detached


def start(session: Session, arguments: Arguments) -> int:
    """Start containers; with -a or -i one, and its exit code."""
    containers = Containers(session.engine)
    attached = arguments.on("attach") or arguments.on("interactive")
    if not attached:
        return session.each(
            arguments.words, lambda name: containers.start(name, checkpoint=arguments.text("checkpoint"), verify=arguments.on("verify"))
        )
    if len(arguments.words) > 1:
        raise LaminaError("you cannot start and attach multiple containers at once")
    name = arguments.words[0]
    facts = containers.inspect(name)
    tty, stdin = _facts(facts, "Config", "Tty"), arguments.on("interactive") and _facts(facts, "Config", "OpenStdin")
    _refuse_without_terminal(tty=tty, stdin=stdin)
    keys = arguments.text("detach-keys")
    wired = containers.attach(name, stdin=stdin, stdout=True, stderr=True, detach_keys=keys)
    if arguments.on("sig-proxy", default=True) and not tty:
        _proxy(containers, name)
    waiting = containers.waiting(name, "removed" if _facts(facts, "HostConfig", "AutoRemove") else "next-exit")
    _start(containers, name, verify=arguments.on("verify"))
    return 0 if _converse(containers, name, wired, stdin=stdin, tty=tty, keys=keys) else _exit_code(waiting)


def _facts(facts: dict[str, object], part: str, name: str) -> bool:
    section = facts.get(part)
    return bool(section.get(name)) if isinstance(section, dict) else False


def attach(session: Session, arguments: Arguments) -> int:
    """Attach to a running container; its exit code."""
    containers, name = Containers(session.engine), arguments.words[0]
    facts = containers.inspect(name)
    if not _facts(facts, "State", "Running"):
        raise LaminaError("you cannot attach to a stopped container, start it first")
    if _facts(facts, "State", "Paused"):
        raise LaminaError("you cannot attach to a paused container, unpause it first")
    tty = _facts(facts, "Config", "Tty")
    stdin = not arguments.on("no-stdin") and _facts(facts, "Config", "OpenStdin")
    _refuse_without_terminal(tty=tty, stdin=stdin)
    waiting = containers.waiting(name)
    keys = arguments.text("detach-keys")
    wired = containers.attach(name, stdin=stdin, stdout=True, stderr=True, detach_keys=keys)
    if arguments.on("sig-proxy", default=True) and not tty:
        _proxy(containers, name)
    return 0 if _converse(containers, name, wired, stdin=stdin, tty=tty, keys=keys) else _exit_code(waiting)


def exec(session: Session, arguments: Arguments) -> int:
    """Run a program in a running container; its exit code."""
    containers = Containers(session.engine)
    name, *command = arguments.words
    detached, tty = arguments.on("detach"), arguments.on("tty")
    stdin = arguments.on("interactive") and not detached
    _refuse_without_terminal(tty=tty and not detached, stdin=stdin)
    config: dict[str, object] = {
        "AttachStdin": stdin,
        "AttachStdout": not detached,
        "AttachStderr": not detached,
        "Tty": tty,
        "Cmd": command,
        "Env": read_environment(arguments, session.environment),
        "Privileged": arguments.on("privileged"),
        "User": arguments.text("user"),
        "WorkingDir": arguments.text("workdir"),
        "DetachKeys": arguments.text("detach-keys"),
    }
    made = containers.exec_create(name, config)
    if not made:
        raise LaminaError("the engine gave the program no ID")
    wired = containers.exec_start(made, tty=tty, detach=detached)
    if wired is None:
        return 0
    if _converse(containers, made, wired, stdin=stdin, tty=tty, keys=arguments.text("detach-keys"), program=True):
        return 0
    code = containers.exec_inspect(made).get("ExitCode")
    return code if isinstance(code, int) else 1
