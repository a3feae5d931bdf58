"""Git repositories by address, for ADD and for contexts: which ones they are, their commits, and their files."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from lamina.builder.fetching import shown
from lamina.builder.request import Cancellation
from lamina.distribution.proxies import Proxies
from lamina.errors import InvalidArgument, Unavailable
from lamina.linux.removing import discard_tree

_SCP = re.compile(r"[a-zA-Z0-9_.-]+@[a-zA-Z0-9.-]+:(?!/)[^\s]+\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_TAIL = re.compile(r"\.git(?:[#?].*)?\Z")
_HOSTS = ("github.com/", "gitlab.com/", "bitbucket.org/")
_KEYS = frozenset({"ref", "branch", "tag", "commit", "checksum", "subdir", "keep-git-dir", "submodules"})


class GitFailed(Unavailable):
    """The repository, or what was asked for in it, cannot be had."""


class InvalidGitAddress(InvalidArgument):
    """The address of a git repository is malformed."""


@dataclass(frozen=True, slots=True)
class GitAddress:
    """A repository at `url`; `ref` is a branch, a tag or a commit ("" the default branch), `folder` what is wanted of it.

    `commit` is what the ref must come to, or begin with; "" for any.
    """

    url: str
    ref: str = ""
    folder: str = ""
    commit: str = ""
    keep_git_dir: bool | None = None
    submodules: bool = True


@dataclass(frozen=True, slots=True)
class Checkout:
    """A commit of a repository in a folder of the host; `time` is when it was committed, in nanoseconds."""

    commit: str
    path: str
    time: int


def parse_git(text: str) -> GitAddress | None:
    """The address of a git repository (`URL#ref:folder`, or `URL?ref=…&subdir=…`); None if `text` is not one.

    Raises:
        InvalidGitAddress: a key of the query is unknown, or the folder leads out; or the text is no address of anything.
    """
    plain = text.removeprefix("https://").removeprefix("http://")
    try:
        scheme = urlsplit(text).scheme if "://" in text else ""
    except ValueError:
        raise InvalidGitAddress(f"invalid address: {text[:100]!r}") from None
    if scheme in ("git", "ssh") or _SCP.match(text.partition("#")[0]) or (scheme in ("http", "https") and _TAIL.search(text)):
        pass
    elif not scheme and plain.startswith(_HOSTS):
        text = f"https://{text}"
    else:
        return None
    address = _queried(text)
    if address.folder and ("\0" in address.folder or ".." in address.folder.split("/")):
        raise InvalidGitAddress(f"invalid folder of a git repository: {address.folder[:100]!r}")
    for word in (address.url, address.ref, address.commit):
        if word.startswith("-") or "\0" in word or "\n" in word:
            raise InvalidGitAddress(f"invalid git address: {word[:100]!r}")
    return address


def _queried(text: str) -> GitAddress:
    head, _, fragment = text.partition("#")
    ref, _, folder = fragment.partition(":")
    address = GitAddress(head, ref, folder.strip("/"))
    if "?" not in head or "://" not in head:
        return address
    parts = urlsplit(head)
    if fragment:
        raise InvalidGitAddress("a git address has either a fragment or a query, not both")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(set(given) - _KEYS)
    if unknown:
        raise InvalidGitAddress(f"unknown key in a git address: {unknown[0][:50]!r}", hint=f"known are {', '.join(sorted(_KEYS))}")
    ref = given.get("ref") or (f"refs/heads/{given['branch']}" if given.get("branch") else "")
    ref = ref or (f"refs/tags/{given['tag']}" if given.get("tag") else "")
    commit = given.get("commit") or given.get("checksum") or ""
    return replace(
        address,
        url=urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")),
        ref=ref or commit,
        commit=commit,
        folder=given.get("subdir", "").strip("/"),
        keep_git_dir=_flag(given, "keep-git-dir"),
        submodules=_flag(given, "submodules") is not False,
    )


def _flag(given: dict[str, str], key: str) -> bool | None:
    return None if key not in given else given[key].lower() not in ("0", "false", "f")


class Git:
    """Runs the host's git. Nothing of the user's or the host's settings counts; it never asks, and never runs a repository's hooks.

    `home` is an empty folder.
    """

    def __init__(self, home: str, cancellation: Cancellation, proxies: Proxies) -> None:
        self._home, self._cancellation, self._proxies = home, cancellation, proxies

    def commit(self, address: GitAddress) -> str:
        """The commit that the address's ref comes to now, without fetching it.

        Raises:
            GitFailed: the repository cannot be reached, or has no such ref.
        """
        if _COMMIT.match(address.ref):
            return self._promised(address, address.ref)
        wanted = [address.ref, f"{address.ref}^{{}}"] if address.ref else ["HEAD"]
        found: dict[str, str] = {}
        for line in self._run(address, ["ls-remote", "--", address.url, *wanted]).splitlines():
            commit, _, name = line.partition("\t")
            found[name] = commit
        for name in _candidates(address.ref):
            if name in found:
                return self._promised(address, found[name])
        if address.ref and re.fullmatch(r"[0-9a-f]{7,39}", address.ref):
            raise GitFailed(f"no such ref in {shown(address.url)}: {address.ref[:100]}", hint="give a commit with all its 40 digits")
        raise GitFailed(f"no such ref in {shown(address.url)}: {address.ref[:100] or 'HEAD'}")

    def checkout(self, address: GitAddress, commit: str, path: str) -> Checkout:
        """The files of `commit` in the new folder `path`, its .git included; nothing is left where it fails.

        Raises:
            GitFailed: the commit cannot be had, or has no such folder.
        """
        try:
            os.mkdir(path)
            self._fetch(address, commit, path)
            self._run(address, ["-C", path, "-c", "advice.detachedHead=false", "checkout", "--quiet", "--force", commit])
            if address.submodules and os.path.exists(os.path.join(path, ".gitmodules")):
                self._run(address, ["-C", path, "submodule", "update", "--quiet", "--init", "--recursive", "--depth=1"])
            seconds = int(self._run(address, ["-C", path, "log", "-1", "--format=%ct", commit]).strip() or 0)
        except BaseException:
            discard_tree(path)
            raise
        return Checkout(commit, path, seconds * 10**9)

    def _fetch(self, address: GitAddress, commit: str, path: str) -> None:
        """The commit alone where the server lets it; else everything."""
        self._run(address, ["init", "--quiet", "--initial-branch=main", path])
        self._run(address, ["-C", path, "remote", "add", "origin", "--", address.url])
        shallow = ["-C", path, "fetch", "--quiet", "--depth=1", "--no-tags", "origin", commit]
        try:
            self._run(address, shallow)
        except GitFailed:
            self._cancellation.check()
            self._run(
                address, ["-C", path, "fetch", "--quiet", "--tags", "--update-head-ok", "origin", "+refs/heads/*:refs/remotes/origin/*"]
            )

    def _promised(self, address: GitAddress, commit: str) -> str:
        if address.commit and not commit.startswith(address.commit):
            raise InvalidGitAddress(f"expected checksum to match {address.commit[:64]}, got {commit} of {shown(address.url)}")
        return commit

    def _run(self, address: GitAddress, arguments: Sequence[str]) -> str:
        self._cancellation.check()
        program = shutil.which("git")
        if program is None:
            raise GitFailed("git is not installed on the engine's host", hint="apt-get install git")
        command = [program, "-c", "core.hooksPath=/dev/null", "-c", "core.symlinks=true", "-c", "core.autocrlf=false", *arguments]
        try:
            with subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment(),
                cwd=self._home,
                process_group=0,
            ) as process:
                # With git's own helpers: one that waits for its server would hold what git writes to open.
                forget = self._cancellation.on_cancel(lambda: _kill_group(process))
                try:
                    out, error = process.communicate()
                finally:
                    forget()
        except OSError as failure:
            raise GitFailed(f"git cannot be started: {failure.strerror}") from None
        self._cancellation.check()
        if process.returncode:
            raise GitFailed(f"git cannot get {shown(address.url)}: {_last_words(error)}")
        return out.decode("utf-8", "replace")

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": self._home,
            "LC_ALL": "C",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
            "GIT_SSH_COMMAND": "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=accept-new",
            **self._proxies.environment(),
        }


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a group and has not been waited for, and all of the group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _candidates(ref: str) -> list[str]:
    """The names under which ls-remote may show a ref, the one that counts first: a branch, then what a tag points to."""
    if not ref:
        return ["HEAD"]
    names = [ref] if ref.startswith("refs/") else [f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/{ref}"]
    return [candidate for name in names for candidate in (f"{name}^{{}}", name)]


def _last_words(error: bytes) -> str:
    """git's own reason, one sentence of it."""
    lines = [line.strip() for line in error.decode("utf-8", "replace").splitlines() if line.strip()]
    found = next((line for line in reversed(lines) if line.startswith(("fatal:", "error:"))), lines[-1] if lines else "it failed")
    return shown(found.removeprefix("fatal: ").removeprefix("error: ").rstrip("."))
