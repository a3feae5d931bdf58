"""`lamina completion SHELL`: scripts for shells, and the words that they ask for."""

from __future__ import annotations

from lamina.cli.catalog import ALIASES, COMMANDS, GLOBAL_FLAGS, GROUPS
from lamina.cli.flags import Arguments, UsageError, table
from lamina.cli.session import Session
from lamina.client.containers import Containers
from lamina.client.images import Images
from lamina.client.transport import Transport
from lamina.errors import LaminaError

TABLE = {
    "completion": (1, -1, False, "bash|fish|zsh", ""),
}

_SCRIPTS = {
    "bash": """\
_lamina() {
    local IFS=$'\\n' line=${COMP_LINE:0:COMP_POINT} typed words
    words=("${COMP_WORDS[@]:0:COMP_CWORD+1}")
    if [[ $line ]]; then
        IFS=$' \\t' read -ra words <<<"$line"
        [[ $line == *[[:space:]] ]] && words+=("")
    fi
    typed=${words[-1]}
    COMPREPLY=($(compgen -W "$(lamina completion _ "${words[@]:1}" 2>/dev/null)" -- "$typed"))
    COMPREPLY=("${COMPREPLY[@]#"${typed%"${typed##*[:=]}"}"}") # bash puts in only what comes after these
}
complete -o default -F _lamina lamina
""",
    "zsh": """\
#compdef lamina
_lamina() { compadd -- ${(f)"$(lamina completion _ "${(@)words[2,CURRENT]}" 2>/dev/null)"} || _files }
compdef _lamina lamina
""",
    "fish": """\
complete -c lamina -a '(lamina completion _ (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
""",
}
_GLOBAL = ["--host", "--help", "--version"]
_NAMED = {
    "network": "NETWORK",
    "volumes-from": "CONTAINER",
    "link": "CONTAINER",
    "volume": "VOLUME",
    "cache-from": "IMAGE",
    "base": "IMAGE",
}
_FIXED = {
    "pull": ["always", "missing", "never"],
    "restart": ["always", "no", "on-failure", "unless-stopped"],
    "signal": ["SIGHUP", "SIGINT", "SIGKILL", "SIGQUIT", "SIGSTOP", "SIGTERM", "SIGUSR1", "SIGUSR2"],
}
_HINT = {
    "bash": "# lamina completion bash > /etc/bash_completion.d/lamina\n",
    "zsh": "",
    "fish": "# lamina completion fish > ~/.config/fish/completions/lamina.fish\n",
}


def completion(session: Session, arguments: Arguments) -> int:
    """Print a shell's script; with `_` instead of a shell, what may stand for the last of the words after it."""
    shell, words = arguments.words[0], arguments.words[1:]
    if shell == "_":
        session.print("\n".join(candidates(session, words or [""])))
        return 0
    if shell not in _SCRIPTS or words:
        raise UsageError(f"no such shell: {' '.join(arguments.words)[:100]!r}: it is bash, fish or zsh")
    session.print(f"{_SCRIPTS[shell]}{_HINT[shell]}".rstrip("\n"))
    return 0


def candidates(session: Session, words: list[str]) -> list[str]:
    """What the last of `words` may become; the others stand before it."""
    before, partial = words[:-1], words[-1]
    name, rest = _command(_plain(before))
    flags = {f"--{flag.name}": flag for flag in table(COMMANDS[name][6])} if name in COMMANDS else {}
    flags |= {f"-{flag.letter}": flag for flag in flags.values() if flag.letter}
    asked, equals, _ = partial.partition("=")
    if equals and asked in flags:
        found = [f"{asked}={value}" for value in _values(session, flags[asked].name)]
    elif partial.startswith("-"):
        found = [each for each in flags if each.startswith("--")] + (["--help"] if flags or name in COMMANDS else _GLOBAL)
    elif before and before[-1] in flags and flags[before[-1]].kind != "bool":
        found = _values(session, flags[before[-1]].name)
    elif name in COMMANDS:
        values = {at + 1 for at, word in enumerate(before) if word in flags and flags[word].kind != "bool"}
        given = [word for at, word in enumerate(before) if at not in values]
        found = _names(session, COMMANDS[name][4], later=len(_command(_plain(given))[1]) > 0 and bool(rest))
    else:
        found = [other.rpartition(" ")[2] for other in (*COMMANDS, *ALIASES, *GROUPS) if other.rpartition(" ")[0] == name]
    return sorted({word for word in found if word.startswith(partial)})


def _values(session: Session, flag: str) -> list[str]:
    """What a flag's value may be, where that is known; files are the shell's."""
    return _FIXED[flag] if flag in _FIXED else _things(session, _NAMED.get(flag, ""))


def _plain(words: list[str]) -> list[str]:
    """Without flags, and without what follows those before the command."""
    valued = {f"--{flag.name}" for flag in table(GLOBAL_FLAGS) if flag.kind != "bool"} | {"-H"}
    return [word for at, word in enumerate(words) if not word.startswith("-") and not (at and words[at - 1] in valued)]


def _command(words: list[str]) -> tuple[str, list[str]]:
    """The command or group that the words name, and those after it; "" where they name none yet."""
    name, rest = "", list(words)
    while rest and (name == "" or name in GROUPS):
        name, rest = f"{name} {rest[0]}".strip(), rest[1:]
        name = ALIASES.get(name, name)
    return name, rest


def _names(session: Session, usage: str, *, later: bool) -> list[str]:
    """Names of what the command's usage asks for first, and later where it takes several."""
    first = usage.replace("[OPTIONS]", "").strip(" [").split(" ")[0].rstrip(".]")
    return [] if later and f"{first}..." not in usage else _things(session, first)


def _things(session: Session, kind: str) -> list[str]:
    """Names of a kind of thing. No engine is started for them, and one that does not answer has none."""
    engine, found = Transport(session.engine.address), list[object]()
    all_kinds = kind == "NAME|ID"
    try:
        if all_kinds or "CONTAINER" in kind:
            found += [str(name).lstrip("/") for row in Containers(engine).list([("all", "1")]) for name in _list(row.get("Names"))]
        if all_kinds or "IMAGE" in kind:
            found += [tag for row in Images(engine).list([]) for tag in _list(row.get("RepoTags"))]
        for thing, path in (("NETWORK", "/networks"), ("VOLUME", "/volumes")):
            if all_kinds or kind.startswith(thing):
                told = engine.get(path)
                rows = _list(told.get("Volumes") if isinstance(told, dict) else told)
                found += [row.get("Name") for row in rows if isinstance(row, dict)]
    except LaminaError:
        pass
    return [str(name) for name in found]


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
