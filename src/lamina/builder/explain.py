"""`build --explain`: why a step hit or missed the cache, in words.

Of each step that is done, what it depended on is kept (an account) under its text and under its place in the stage. A step that
misses is compared with the one of the same text, else with the one that stood there last time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lamina.builder import manifest
from lamina.builder.made import Made
from lamina.builder.site import Site
from lamina.builder.state import State
from lamina.dockerfile import ast
from lamina.image.model import Image
from lamina.spec.digest import Digest

_VARIABLE = re.compile(r"\$\{?(\w+)")
_MOST = 3
_WIDTH = 80
Account = dict[str, Any]


class Accounts:
    """What the steps of one stage depended on last time, and now."""

    def __init__(self, site: Site, stage: ast.Stage) -> None:
        self._site, self._cache = site, site.engine.cache
        self._stage = f"{site.request.dockerfile} {stage.name or stage.index} {stage.start.base}"
        self._seen: Counter[str] = Counter()
        self._place = 0

    def known_files(self, instruction: ast.Instruction) -> str:
        """The digest of the files that this step copied last time; "" where that is not known."""
        before = self._cache.account(self._text_key(instruction.text))
        return str(before["files"]) if before else ""

    def of(self, state: State, instruction: ast.Instruction, made: Made) -> Account:
        """What a step depends on now. Call it once a step, in order."""
        key = self._text_key(instruction.text)
        self._seen[instruction.text] += 1
        self._place += 1
        return {
            "keys": [key, _digest(f"{self._stage} place {self._place}")],
            "text": instruction.text,
            "what": repr(replace(instruction, line=0, end_line=0, text="")),
            "image": str(state.image.id) if state.image else "",
            "stack": str(state.top or ""),
            "arguments": _seen(instruction, state.arguments.visible(state.environment)),
            "env": _seen(instruction, state.environment),
            "user": state.container.user,
            "cwd": state.container.working_dir,
            "depends": dict(made.depends),
            "files": made.files,
            "manifest": made.manifest,
        }

    def keep(self, account: Account, made: Made, image: Image) -> None:
        """Remember what a step that was done depended on."""
        kept = {name: value for name, value in account.items() if name not in ("keys", "manifest")}
        for key in account["keys"]:
            self._cache.put_account(key, kept, image)
        if made.manifest:
            self._cache.put_manifest(made.files, made.manifest, image)

    def why_hit(self, account: Account) -> str:
        """Why nothing was to be done."""
        same = "the same files in the same place on" if account["files"] else "the same instruction on"
        return f"hit: {same} the same image {account['image'][7:19]}".rstrip()

    def why_work_hit(self, made: Made) -> str:
        """Why only the configuration was to be written anew."""
        if made.floating:
            return "hit: --link makes the same layer on every image"
        return "hit: the same work was done on the same files; only the configuration before it is another"

    def why_missed(self, account: Account) -> str:
        """What differs from last time."""
        if self._site.request.no_cache:
            return "miss: --no-cache was given"
        by_text, by_place = (self._cache.account(key) for key in account["keys"])
        if by_text is not None:
            return f"miss: {'; '.join(self._differences(by_text, account))}"
        if by_place is not None and by_place["text"] != account["text"]:
            return f"miss: the instruction changed, it was {_short(by_place['text'])}"
        return "miss: it was not built here before"

    def _differences(self, before: Account, now: Account) -> list[str]:
        found = [
            *_changed("build argument", before["arguments"], now["arguments"]),
            *_changed("environment variable", before["env"], now["env"]),
            *self._files(before, now),
            *_changed("", before["depends"], now["depends"]),
            *(f"{name} was {before[key] or 'not set'}, is {now[key] or 'not set'}" for key, name in _NAMES if before[key] != now[key]),
        ]
        if not found and before["what"] != now["what"]:
            found = ["its variables stand for other values"]
        if not found and before["stack"] != now["stack"]:
            found = ["the files before it changed: an earlier step was done anew"]
        if not found and before["image"] != now["image"]:
            found = ["the configuration before it changed"]
        return found or ["what it made last time is gone"]

    def _files(self, before: Account, now: Account) -> Iterator[str]:
        if before["files"] == now["files"]:
            return
        changes = manifest.changes(self._cache.manifest(before["files"]), now["manifest"] or self._cache.manifest(now["files"]))
        if changes is None:
            yield "its files changed"
            return
        for word, paths in zip(("new", "changed", "gone"), changes, strict=True):
            if paths:
                yield f"{_files_word(paths)} {word}: {_listed(paths)}"
        if not any(changes):
            yield "its files come in another order or under other names"

    def _text_key(self, text: str) -> str:
        return _digest(f"{self._stage} text {self._seen[text]} {text}")


_NAMES = (("user", "the user"), ("cwd", "the working directory"))


def _seen(instruction: ast.Instruction, variables: Mapping[str, str]) -> dict[str, str]:
    """Those of `variables` that an instruction depends on: a RUN on all of them, others on those they name."""
    if isinstance(instruction, ast.Run):
        return dict(variables)
    return {name: variables[name] for name in _VARIABLE.findall(instruction.text) if name in variables}


def _digest(text: str) -> str:
    return str(Digest.of(text.encode("utf-8", "surrogateescape")))


def _changed(what: str, before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """What was put in, taken away or changed between two mappings."""
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        label = f"{what} {name}".strip()
        if not what and old is not None and new is not None and name.startswith("mount "):
            yield f"what {label} shows changed"
        elif old is None:
            yield f"{label} is new ({_short(new or '')})"
        elif new is None:
            yield f"{label} is gone"
        else:
            yield f"{label} was {_short(old)}, is {_short(new)}"


def _files_word(paths: Sequence[str]) -> str:
    return "file" if len(paths) == 1 else f"{len(paths)} files"


def _listed(paths: Sequence[str]) -> str:
    more = len(paths) - _MOST
    return ", ".join(paths[:_MOST]) + (f" and {more} more" if more > 0 else "")


def _short(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…")
