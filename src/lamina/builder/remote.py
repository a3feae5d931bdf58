"""Contexts by address: a git repository, a tar, or a Dockerfile alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from lamina.builder import context
from lamina.builder.context import InvalidContext, Received
from lamina.builder.fetching import Fetcher, shown
from lamina.builder.gitsource import Git, parse_git
from lamina.builder.request import Context
from lamina.worker.workers import Workers

_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
_DOCKERFILE = ".dockerfile.remote"


def receive(
    address: str,
    scratch: str,
    workers: Workers,
    git: Git,
    fetcher: Fetcher,
    wanted: Sequence[str],
    alive: Callable[[dict[str, Any]], None],
) -> tuple[Received, dict[str, bytes]]:
    """The context at `address`, and the small files `wanted` of it.  See context.receive.

    Raises:
        InvalidContext: the address is of no kind that can be a context.
        AddressNotFound, AddressUnreachable, GitFailed: it gives nothing.
    """
    repository = parse_git(address)
    if repository is not None:
        checkout = git.checkout(repository, git.commit(repository), os.path.join(scratch, "repository"))
        folder = _folder(checkout.path, repository.folder)
        received = Received(directory=folder, time=checkout.time)
        return received, context.documents(received, workers, wanted, alive)
    if not address.startswith(("http://", "https://")):
        raise InvalidContext(f"no such build context: {shown(address)}", hint="give an address of a git repository, a tar or a Dockerfile")
    path = fetcher.fetch(address, scratch).path
    with open(path, "rb", buffering=0) as file:  # what is read here is not to be missing from the descriptor
        if _is_archive(file.read(512)):
            file.seek(0)
            return context.receive(Context(fd=file.fileno()), scratch, workers, wanted, alive)
        file.seek(0)
        text = file.read(context.DOCUMENT_LIMIT + 1)
    if len(text) > context.DOCUMENT_LIMIT or b"\0" in text:
        raise InvalidContext(f"{shown(address)} is neither a tar nor a Dockerfile")
    return Received(dockerfile=_DOCKERFILE), {_DOCKERFILE: text}


def _folder(root: str, folder: str) -> str:
    """The folder of a checkout that is asked for; links in it are not followed.

    Raises:
        InvalidContext: there is none.
    """
    path = root
    for part in folder.split("/") if folder else ():
        path = os.path.join(path, part)
        if os.path.islink(path) or not os.path.isdir(path):
            raise InvalidContext(f"the repository has no folder {folder[:200]}")
    return path


def _is_archive(head: bytes) -> bool:
    return head.startswith(_PACKED) or head[257:262] == b"ustar"
