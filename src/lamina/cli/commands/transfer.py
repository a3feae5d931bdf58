"""pull, push, search, login and logout: what concerns registries."""

from __future__ import annotations

import sys

from lamina.cli import trust
from lamina.cli.credentials import DEFAULT_REGISTRY, Credentials, header, server_of
from lamina.cli.flags import Arguments, UsageError
from lamina.cli.output import filters, print_rows
from lamina.cli.progress import Display, message_error
from lamina.cli.references import familiar, platform_json, split_name
from lamina.cli.session import Session, is_terminal
from lamina.cli.table import cut
from lamina.client.images import Images
from lamina.client.system import System
from lamina.errors import InvalidArgument, LaminaError

TABLE = {
    "pull": (
        1,
        1,
        True,
        "NAME[:TAG|@DIGEST]",
        """\
a all-tags bool|Download all tagged images in the repository
- disable-content-trust bool|Skip image verification (default true)
- platform string|Set platform if server is multi-platform capable
q quiet bool|Suppress verbose output
- verify bool|Look at every byte of the layers that are here, and mend what is damaged
""",
    ),
    "push": (
        1,
        1,
        True,
        "NAME[:TAG]",
        """\
a all-tags bool|Push all tags of an image to the repository
- disable-content-trust bool|Skip image verification (default true)
- platform string|Push a platform-specific manifest as a single-platform image to the registry.
q quiet bool|Suppress verbose output
""",
    ),
    "search": (
        1,
        1,
        True,
        "TERM",
        """\
f filter filter|Filter output based on conditions provided
- format string|Format output as "table", "json" or by a Go template
- limit int|Max number of search results
- no-trunc bool|Don't truncate output
""",
    ),
    "login": (
        0,
        1,
        True,
        "[SERVER]",
        """\
p password string|Password or Personal Access Token (PAT)
- password-stdin bool|Take the Password or Personal Access Token (PAT) from stdin
u username string|Username
""",
    ),
    "logout": (0, 1, True, "[SERVER]", ""),
}


def pull_image(
    session: Session,
    name: str,
    *,
    platform: str = "",
    quiet: bool = False,
    to_error: bool = False,
    every: bool = False,
    verify: bool = False,
) -> None:
    """Pull, and show how far it is. `verify` looks at every byte of the layers that are here."""
    repository, tag = split_name(name)
    if not repository:
        raise InvalidArgument(f"invalid reference format: {name!r}")
    if every and tag:
        raise InvalidArgument("tag can't be used with --all-tags/-a")
    if not tag and not every:
        tag = "latest"
        if not quiet and not to_error:
            session.print("Using default tag: latest")
    pairs = [("fromImage", repository)] + ([("tag", tag)] if tag else []) + ([("platform", platform)] if platform else [])
    pairs += [("verify", "1")] if verify else []
    auth = Credentials(session.config_directory, session.environment).get(server_of(repository))
    messages = Images(session.engine).pull(pairs, header(auth))
    if not quiet:
        Display(2 if to_error else 1).show(messages)
        return
    for message in messages:
        if error := message_error(message):
            raise error


def pull(session: Session, arguments: Arguments) -> int:
    """Fetch an image from a registry."""
    name, quiet = arguments.words[0], arguments.on("quiet")
    trust.refuse(session, arguments, f"the signature of {name} cannot be verified")
    every = arguments.on("all-tags")
    pull_image(session, name, platform=session.platform(arguments), quiet=quiet, every=every, verify=session.verifies(arguments))
    repository, tag = split_name(name)
    separator = "@" if ":" in tag else ":"
    session.print(familiar(repository) if every else f"{familiar(repository)}{separator}{tag or 'latest'}")
    return 0


def push(session: Session, arguments: Arguments) -> int:
    """Send an image, or every tag of a repository, to its registry."""
    repository, tag = split_name(arguments.words[0])
    trust.refuse(session, arguments, f"{arguments.words[0]} cannot be signed")
    every, quiet = arguments.on("all-tags"), arguments.on("quiet")
    if every and tag:
        raise InvalidArgument("tag can't be used with --all-tags/-a")
    if not every and not tag:
        tag = "latest"
        if not quiet:
            session.print("Using default tag: latest")
    platform = platform_json(arguments.text("platform"))
    auth = Credentials(session.config_directory, session.environment).get(server_of(repository))
    messages = Images(session.engine).push(repository, "" if every else tag, header(auth), platform)
    if not quiet:
        Display().show(messages)
        return 0
    for message in messages:
        if error := message_error(message):
            raise error
    session.print(familiar(repository) + (f":{tag}" if tag else ""))
    return 0


_SEARCH_HEADERS = {"StarCount": "STARS", "IsOfficial": "OFFICIAL"}


def search(session: Session, arguments: Arguments) -> int:
    """Look for repositories in a registry."""
    term = arguments.words[0]
    pairs = [("term", term), *filters(arguments.many("filter"))]
    pairs += [("limit", arguments.text("limit"))] if arguments.given("limit") else []
    auth = Credentials(session.config_directory, session.environment).get(server_of(term))
    whole, form, rows = arguments.on("no-trunc"), arguments.text("format"), []
    yes, no = ("true", "false") if form == "json" else ("[OK]", "")
    for fact in Images(session.engine).search(pairs, header(auth)):
        text = " ".join(str(fact.get("description") or "").split())
        rows.append(
            {
                "Name": fact.get("name", ""),
                "Description": text if whole else cut(text, 45),
                "StarCount": str(fact.get("star_count", 0)),
                "IsOfficial": yes if fact.get("is_official") else no,
            }
        )
    print_rows(session, form, rows, ["Name", "Description", "StarCount", "IsOfficial"], _SEARCH_HEADERS)
    return 0


def login(session: Session, arguments: Arguments) -> int:
    """Check credentials with their registry and keep them."""
    server = arguments.words[0].removeprefix("https://").removeprefix("http://").rstrip("/") if arguments.words else DEFAULT_REGISTRY
    if server in ("docker.io", "index.docker.io"):
        server = DEFAULT_REGISTRY
    credentials = Credentials(session.config_directory, session.environment)
    stored = credentials.get(server)
    username, password = _ask(session, arguments, stored)
    auth = {"username": username, "password": password, "serveraddress": server}
    if stored.get("identitytoken") and not arguments.given("username"):
        auth = {key: str(value) for key, value in stored.items()}
    answer = System(session.engine).login(dict(auth))
    place = credentials.store(server, username, password, str(answer.get("IdentityToken") or ""))
    if place:
        session.note(
            f"\nWARNING! Your credentials are stored unencrypted in '{place}'.\nConfigure a credential helper to remove this warning.\n"
        )
    session.print(str(answer.get("Status") or "Login Succeeded"))
    return 0


def _ask(session: Session, arguments: Arguments, stored: dict[str, object]) -> tuple[str, str]:
    username, password = arguments.text("username"), arguments.text("password")
    if arguments.on("password-stdin"):
        if not username:
            raise UsageError("the --password-stdin option requires --username")
        if arguments.given("password"):
            raise UsageError("conflicting options: cannot specify both --password and --password-stdin")
        return username, sys.stdin.read().rstrip("\r\n")
    if arguments.given("password"):
        session.warn("Using --password via the CLI is insecure. Use --password-stdin.")
    if not username and stored.get("username"):
        session.print("Authenticating with existing credentials...")
        return str(stored["username"]), str(stored.get("password", ""))
    if not (username and password) and not is_terminal(0):
        raise LaminaError("cannot perform an interactive login from a non TTY device", hint="use --username and --password-stdin")
    try:
        return username or input("Username: "), password or _hidden("Password: ")
    except EOFError:
        raise LaminaError(f"no {'password' if username else 'user name or password'} was given") from None


def _hidden(prompt: str) -> str:
    from getpass import getpass

    return getpass(prompt)


def logout(session: Session, arguments: Arguments) -> int:
    """Forget a registry's credentials."""
    server = arguments.words[0] if arguments.words else DEFAULT_REGISTRY
    erased = Credentials(session.config_directory, session.environment).erase(server)
    session.print(f"Removing login credentials for {server}" if erased else f"Not logged in to {server}")
    return 0
