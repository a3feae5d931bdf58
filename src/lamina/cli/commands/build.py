"""`lamina build`: packs the context, sends it, shows the steps."""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from lamina.cli import trust
from lamina.cli.contextpacking import ContextPacker, joined, summed
from lamina.cli.credentials import Credentials, header
from lamina.cli.flags import Arguments, UsageError, read_value
from lamina.cli.hostconfig import labels, ulimits
from lamina.cli.progress import Display, message_error, metered, unpainted
from lamina.cli.proxies import variables
from lamina.cli.screen import Screen
from lamina.cli.session import Session
from lamina.cli.units import parse_size
from lamina.client.images import Images, Pairs
from lamina.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from lamina.cli.giving import Giving

TABLE = {
    "build": (
        1,
        1,
        True,
        "PATH | URL | -",
        """\
- add-host list|Add a custom host-to-IP mapping ("host:ip")
- build-arg list|Set build-time variables
- cache-from strings|Images to consider as cache sources
- cgroup-parent string|Set the parent cgroup for the "RUN" instructions during build
- compress bool|Compress the build context using gzip
- cpu-period int|Limit the CPU CFS (Completely Fair Scheduler) period
- cpu-quota int|Limit the CPU CFS (Completely Fair Scheduler) quota
c cpu-shares int|CPU shares (relative weight)
- cpuset-cpus string|CPUs in which to allow execution (0-3, 0,1)
- cpuset-mems string|MEMs in which to allow execution (0-3, 0,1)
- disable-content-trust bool|Skip image verification (default true)
- explain bool|Say why each step hit or missed the cache
f file string|Name of the Dockerfile (Default is "PATH/Dockerfile")
- force-rm bool|Always remove intermediate containers
- iidfile string|Write the image ID to the file
- isolation string|Container isolation technology
- label list|Set metadata for an image
m memory bytes|Memory limit
- memory-swap bytes|Swap limit equal to memory plus swap: -1 to enable unlimited swap
- network string|Set the networking mode for the RUN instructions during build (default "default")
- no-cache bool|Do not use cache when building the image
- platform string|Set platform if server is multi-platform capable
- pull bool|Always attempt to pull a newer version of the image
q quiet bool|Suppress the build output and print image ID on success
- rm bool|Remove intermediate containers after a successful build (default true)
- secret list|Secret to give to RUN --mount=type=secret (format: "id=mysecret[,src=/local/secret|,env=VARIABLE]")
- security-opt strings|Security options
- shm-size bytes|Size of "/dev/shm"
- squash bool|Squash newly built layers into a single new layer
- ssh list|SSH agent to give to RUN --mount=type=ssh (format: "default|<id>[=<socket>]")
t tag list|Name and optionally a tag in the "name:tag" format
- target string|Set the target build stage to build
- ulimit ulimit|Ulimit options
""",
    ),
}

Kept = Callable[[str], bool]
_TEXTS = (
    ("target", "target"),
    ("networkmode", "network"),
    ("cpusetcpus", "cpuset-cpus"),
    ("cpusetmems", "cpuset-mems"),
    ("cgroupparent", "cgroup-parent"),
    ("isolation", "isolation"),
)
_NUMBERS = (("cpushares", "cpu-shares"), ("cpuperiod", "cpu-period"), ("cpuquota", "cpu-quota"))
_SIZES = (("memory", "memory"), ("memswap", "memory-swap"), ("shmsize", "shm-size"))
_SWITCHES = (
    ("nocache", "no-cache"),
    ("pull", "pull"),
    ("q", "quiet"),
    ("forcerm", "force-rm"),
    ("squash", "squash"),
    ("explain", "explain"),
)
_EPOCH = "SOURCE_DATE_EPOCH"


def build(session: Session, arguments: Arguments) -> int:
    """Build an image from a Dockerfile."""
    place, dockerfile = arguments.words[0], arguments.text("file")
    trust.refuse(session, arguments, "the signatures of base images cannot be verified")
    if place == "-" and dockerfile == "-":
        raise UsageError("invalid argument: can't use stdin for both build context and dockerfile")
    iidfile = arguments.text("iidfile")
    if iidfile and os.path.exists(iidfile):
        os.unlink(iidfile)
    context = _context(place, dockerfile)
    pairs = _query(arguments, context.dockerfile, session)
    pieces: Iterable[bytes | memoryview] = ()
    if context.remote:
        pairs.append(("remote", context.remote))
    else:
        sent = _compressed(context.pieces) if arguments.on("compress") else context.pieces
        pieces = metered(sent, None, "Sending build context")
    registries = header(Credentials(session.config_directory, session.environment).all())
    giving = _giving(arguments, session)
    pairs.append(("session", giving.id if giving else "none"))
    try:
        messages = Images(session.engine).build(pairs, pieces, registries)
        image = _quietly(messages) if arguments.on("quiet") else _shown(messages, session.environment)
    finally:
        if giving:
            giving.close()
    if arguments.on("quiet"):
        session.print(image)
    if iidfile:
        with open(iidfile, "w", encoding="ascii") as file:
            file.write(image)
    return 0


def _giving(arguments: Arguments, session: Session) -> Giving | None:
    """The session that gives --secret and --ssh; None where there are none."""
    secrets, agents = arguments.many("secret"), arguments.many("ssh")
    if not secrets and not agents:
        return None
    from lamina.cli.giving import begun

    return begun(session.engine, secrets, agents, session.environment)


def _compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The context packed by gzip, always in the same way."""
    packer = zlib.compressobj(wbits=31)
    for piece in pieces:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()


def _shown(messages: Iterator[dict[str, object]], environment: Mapping[str, str]) -> str:
    found = Display(coloured=Screen(environment).colours).show(messages)
    return next((str(aux["ID"]) for aux in reversed(found) if "ID" in aux), "")


def _quietly(messages: Iterator[dict[str, object]]) -> str:
    """The image's ID; what the build said goes to standard error if it fails."""
    said: list[str] = []
    image = ""
    for message in messages:
        if error := message_error(message):
            sys.stderr.write("".join(said))
            raise error
        aux = message.get("aux")
        if isinstance(aux, dict):
            image = str(aux.get("ID") or image)
        said.append(unpainted(str(message.get("stream") or "")))
    return image or "".join(said).strip()


def _query(arguments: Arguments, dockerfile: str, session: Session) -> Pairs:
    pairs = [("t", read_value("tag", name, _tag)) for name in arguments.many("tag")] + [("version", "1"), ("dockerfile", dockerfile)]
    pairs += [(key, arguments.text(name)) for key, name in (*_TEXTS, *_NUMBERS) if arguments.given(name)]
    pairs += [("platform", platform)] if (platform := session.platform(arguments)) else []
    pairs += [(key, read_value(name, arguments.text(name), _size)) for key, name in _SIZES if arguments.given(name)]
    pairs += [(key, "1") for key, name in _SWITCHES if arguments.on(name)]
    pairs.append(("rm", "1" if arguments.on("rm", default=True) else "0"))
    if values := _build_args(arguments, session):
        pairs.append(("buildargs", json.dumps(values)))
    if marks := labels(arguments):
        pairs.append(("labels", json.dumps(marks)))
    if sources := arguments.many("cache-from"):
        pairs.append(("cachefrom", json.dumps([name for word in sources for name in word.split(",")])))
    if hosts := arguments.many("add-host"):
        pairs.append(("extrahosts", json.dumps([read_value("add-host", host, _host) for host in hosts])))
    if options := arguments.many("security-opt"):
        pairs.append(("securityopt", json.dumps(options)))
    if limits := ulimits(arguments):
        pairs.append(("ulimits", json.dumps(limits)))
    return pairs


def _tag(name: str) -> str:
    from lamina.spec.reference import Reference  # with regular expressions, which no other command needs

    Reference.parse(name)
    return name


def _host(text: str) -> str:
    name, colon, address = text.replace("=", ":", 1).partition(":")
    if not name or not address:
        raise InvalidArgument("write it as name:address")
    return f"{name}{colon}{address.removeprefix('[').removesuffix(']')}"


def _size(text: str) -> str:
    return "-1" if text == "-1" else str(parse_size(text))


def _build_args(arguments: Arguments, session: Session) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for word in arguments.many("build-arg"):
        name, equals, value = word.partition("=")
        if not name:
            raise UsageError(f"invalid build argument: {word!r} has no name")
        found[name] = value if equals else session.environment.get(name)
    if session.environment.get(_EPOCH):
        found.setdefault(_EPOCH, session.environment[_EPOCH])
    return {**found, **variables(session, found)}


class _Context:
    def __init__(self, pieces: Iterable[bytes], dockerfile: str, remote: str = "") -> None:
        self.pieces, self.dockerfile, self.remote = pieces, dockerfile, remote


def _context(place: str, dockerfile: str) -> _Context:
    if place.startswith(("http://", "https://", "git://", "git@", "github.com/")):
        return _Context((), dockerfile or "Dockerfile", place)
    if place == "-":
        return _from_stdin(dockerfile)
    if not os.path.isdir(place):
        raise NotFound(
            f"unable to prepare context: path {place!r} not found"
            if not os.path.exists(place)
            else f"the context {place!r} is not a directory"
        )
    return _from_directory(os.path.realpath(place), dockerfile)


def _from_stdin(dockerfile: str) -> _Context:
    """A tar, plain or compressed, as it is; other text is the Dockerfile of an empty context."""
    first = b""
    while len(first) < 512 and (piece := os.read(0, 65536)):
        first += piece
    rest = _and_stdin(first)
    packed = summed(first) or first[:2] == b"\x1f\x8b" or first[:4] in (b"\x28\xb5\x2f\xfd", b"\xfd7zX") or first[:3] == b"BZh"
    if packed:
        return _Context(rest, dockerfile or "Dockerfile")
    if dockerfile:
        raise InvalidArgument("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")
    return _Context(pack("", lambda path: False, extra={"Dockerfile": b"".join(rest)}), "Dockerfile")


def _and_stdin(first: bytes) -> Iterator[bytes]:
    yield first
    while piece := os.read(0, 1 << 18):
        yield piece


def _from_directory(root: str, dockerfile: str) -> _Context:
    extra: dict[str, bytes] = {}
    always: tuple[str, ...] = ()
    path = ""
    if dockerfile == "-":
        name = ".dockerfile.stdin"
        extra[name] = sys.stdin.buffer.read()
    else:
        path = _usual(root) if not dockerfile else dockerfile if os.path.exists(dockerfile) else os.path.join(root, dockerfile)
        if not os.path.exists(path):
            raise NotFound(f"failed to read dockerfile: {path} not found", hint="" if dockerfile else "name it with -f")
        real = os.path.realpath(path)
        if real.startswith(root.rstrip("/") + "/") and os.path.commonpath([root, os.path.abspath(path)]) == root:
            name = os.path.relpath(os.path.abspath(path), root)
            always = (name, f"{name}.dockerignore", os.path.relpath(real, root))
        else:
            name = ".dockerfile.outside"
            with open(path, "rb") as file:
                extra[name] = file.read()
    from lamina.cli import ignored

    rules = ignored.ignore_file(root, path)
    kept, within = ignored.read(rules)
    if not extra:
        return _Context(pack(root, kept, within, always=(*always, ".dockerignore")), name)
    extra[".dockerignore"] = _ignoring(root, rules, name)
    return _Context(pack(root, lambda path: path != ".dockerignore" and kept(path), within, extra=extra), name)


def _ignoring(root: str, rules: str, name: str) -> bytes:
    """A .dockerignore with the text of the one at `rules` ("": there is none), that leaves out one more file, and itself where the context has
    none of that name."""
    text = b""
    if rules:
        with open(rules, "rb") as file:
            text = file.read() + b"\n"
    more = [name] if os.path.isfile(os.path.join(root, ".dockerignore")) else [".dockerignore", name]
    return text + "".join(f"{line}\n" for line in more).encode()


def _usual(root: str) -> str:
    """Where a Dockerfile is expected; in lower case, as Docker allows, where it is only there."""
    usual, lower = (os.path.join(root, name) for name in ("Dockerfile", "dockerfile"))
    return lower if os.path.exists(lower) and not os.path.exists(usual) else usual


def pack(
    root: str, kept: Kept, within: Kept = lambda path: True, *, always: Iterable[str] = (), extra: dict[str, bytes] | None = None
) -> Iterator[bytes]:
    """The tar of a build context (no directory where `root` is empty) in sorted order, what `kept` refuses left out; `always` and the
    `extra` files are in it anyway. A directory that is left out is read only where `within` it something may be kept.

    Files belong to root, as in Docker's contexts; hard links stay links, sockets are left out.
    """
    needed = set(always)
    read = lambda path: within(path) or any(name.startswith(f"{path}/") for name in needed)  # noqa: E731
    return joined(_packed(root, _walk(root, kept, read, needed) if root else (), extra or {}))


def _packed(root: str, paths: Iterable[str], extra: dict[str, bytes]) -> Iterator[bytes]:
    packer = ContextPacker()
    for path in paths:
        yield from packer.add(os.path.join(root, path), path)
    for name, data in extra.items():
        yield from packer.add_bytes(name, data)
    yield from packer.finish()


def _walk(root: str, kept: Kept, within: Kept, needed: set[str], below: str = "") -> Iterator[str]:
    with os.scandir(os.path.join(root, below)) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = f"{below}/{entry.name}" if below else entry.name
        shown = path in needed or kept(path)
        if entry.is_dir(follow_symlinks=False):
            inside = _walk(root, kept, within, needed, path)
            if shown:
                yield path
                yield from inside
            elif within(path):
                # a later `!` pattern may keep something below
                first = next(inside, None)
                if first is not None:
                    yield path
                    yield first
                    yield from inside
        elif shown:
            yield path
