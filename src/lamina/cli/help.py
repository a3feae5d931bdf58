"""Help, rendered from the same tables that commands are read by."""

from __future__ import annotations

from posix import isatty

from lamina.cli.catalog import ALIASES, COMMANDS, GLOBAL_FLAGS, GROUPS
from lamina.cli.flags import Flag, table
from lamina.cli.terminal import size

_NARROWEST = 24  # columns of text beside a head, also where a terminal is narrower than both

_FIRST = ("run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search", "version", "info")
_OWN = ("images --tree", "layers", "which", "blame", "ls", "cat", "image diff", "image find", "image mount", "image squash")
_TREE = "Show the layers of all images as one tree: which they share, and what each takes"

_SWARM = "There is no swarm mode: an engine serves one machine. docker compose runs several containers on one."
_THROUGH_DOCKER = "docker's own command does it with this engine: export DOCKER_HOST=unix:///run/lamina.sock"
_ABSENT = dict.fromkeys(("config", "node", "secret", "service", "stack", "swarm"), _SWARM) | {
    "buildx": f"'lamina build' builds; {_THROUGH_DOCKER}",
    "checkpoint": "There are no checkpoints of processes. 'lamina snapshot' keeps the files that a container wrote.",
    "compose": _THROUGH_DOCKER,
    "context": "--host, LAMINA_HOST or DOCKER_HOST say which engine is meant.",
    "manifest": _THROUGH_DOCKER,
    "plugin": "There are no plugins.",
    "system dial-stdio": _THROUGH_DOCKER,
    "volume update": f"Only volumes of a cluster can be updated. {_SWARM}",
    "trust": "Signatures of images are not verified.",
}
"""Docker's commands that `lamina` does not have."""


def render(name: str) -> str:
    """The help of a command, of a group, or of everything where `name` is empty."""
    if not name:
        return _everything()
    if name in GROUPS:
        return _group(name)
    _, _, _, _, usage, summary, flags = COMMANDS[name]
    lines = ["Usage:  " + usage_of(name, flags, usage), "", summary]
    others = sorted({name} | {other for other, target in ALIASES.items() if target == name})
    if len(others) > 1:
        lines += ["", "Aliases:", "  " + ", ".join(f"lamina {other}" for other in others)]
    return "\n".join([*lines, *_options("Options:", table(flags))]) + "\n"


def usage_of(name: str, flags: str, usage: str) -> str:
    """`lamina run [OPTIONS] IMAGE …`."""
    return " ".join(part for part in ("lamina", name, "[OPTIONS]" if flags else "", usage) if part)


def closest(word: str, group: str = "") -> list[str]:
    """Commands that somebody may have meant by `word` (below `group`): spelled alike, or the same word in a group."""
    from difflib import get_close_matches

    known = {name.rpartition(" ")[2]: name for name in (*COMMANDS, *ALIASES, *GROUPS) if name.rpartition(" ")[0] == group}
    found = [known[name] for name in get_close_matches(word, sorted(known), n=2, cutoff=0.66)]
    return found or sorted(name for name in COMMANDS if name.rpartition(" ")[2] == word)[:3]


def absent(name: str) -> str:
    """Why a command of docker's is not here, and what to use instead; empty where docker has none either."""
    return _ABSENT.get(name, "")


def _options(title: str, flags: list[Flag]) -> list[str]:
    flags = sorted(flags, key=lambda flag: flag.name)
    heads = [
        f"  {f'-{flag.letter}, ' if flag.letter else '    '}--{flag.name}{'' if flag.kind == 'bool' else f' {flag.kind}'}" for flag in flags
    ]
    return ["", title, *_set(list(zip(heads, (flag.help for flag in flags), strict=True)))] if flags else []


def _list(title: str, rows: list[tuple[str, str]]) -> list[str]:
    return ["", title, *_set([(f"  {name}", summary) for name, summary in rows])]


def _set(rows: list[tuple[str, str]]) -> list[str]:
    """Two columns; on a terminal the second is wrapped to its width."""
    from textwrap import wrap

    width = max(len(head) for head, _ in rows) + 3
    terminal = size(1)[1] if isatty(1) else 0
    room = max(terminal - width, _NARROWEST) if terminal else 1 << 20
    return [line for head, text in rows for line in _beside(f"{head:<{width}}", wrap(text, room, break_long_words=False) or [""])]


def _beside(head: str, lines: list[str]) -> list[str]:
    return [head + lines[0], *(" " * len(head) + line for line in lines[1:])]


def _group(name: str) -> str:
    summary, commands = GROUPS[name]
    rows = []
    for command in commands.split():
        full = f"{name} {command}"
        rows.append((command, GROUPS[full][0] if full in GROUPS else COMMANDS.summary(ALIASES.get(full, full))))
    tail = ["", f"Run 'lamina {name} COMMAND --help' for more information on a command."]
    return "\n".join([f"Usage:  lamina {name} COMMAND", "", summary, *_list("Commands:", rows), *tail]) + "\n"


def _everything() -> str:
    single = [name for name in sorted(COMMANDS) if " " not in name and name not in _FIRST and name not in _OWN]
    parts = ["Usage:  lamina [OPTIONS] COMMAND", "", "A container engine whose heart is images and layers"]
    parts += _list("Common Commands:", [(name, COMMANDS.summary(name)) for name in _FIRST])
    parts += _list("Layers and files of images:", [(name, COMMANDS.summary(name) if name in COMMANDS else _TREE) for name in _OWN])
    parts += _list("Management Commands:", [(name, GROUPS[name][0]) for name in sorted(GROUPS) if " " not in name])
    parts += _list("Commands:", [(name, COMMANDS.summary(name)) for name in single])
    parts += _options("Global Options:", table(GLOBAL_FLAGS))
    return "\n".join([*parts, "", "Run 'lamina COMMAND --help' for more information on a command."]) + "\n"
