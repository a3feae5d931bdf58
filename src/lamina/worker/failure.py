"""Errors on their way between processes: kind, message, hint and the leaf's name."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from lamina import errors
from lamina.errors import Internal, LaminaError


def described(error: BaseException) -> dict[str, Any]:
    """The error as plain data; what is not ours becomes `Internal`, except a full disk."""
    if not isinstance(error, LaminaError):
        error = _translated(error)
    leaf = type(error)
    return {"code": error.code, "leaf": f"{leaf.__module__}:{leaf.__name__}", "message": error.message, "hint": error.hint}


def raised(told: dict[str, Any]) -> LaminaError:
    """The error again, of the same leaf class where that is known here, else of its kind."""
    leaf = _leaf(str(told.get("leaf", "")))
    kind = leaf if leaf is not None and leaf.code == told.get("code") else _kind(str(told.get("code", "")))
    error = kind.__new__(kind)
    LaminaError.__init__(error, str(told.get("message", "")), hint=str(told.get("hint", "")))
    return error


def _translated(error: BaseException) -> LaminaError:
    import errno

    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return errors.Exhausted("no space left on the disk of the data root", hint="free some, or run `lamina system prune`")
    if isinstance(error, MemoryError):
        return errors.Exhausted("a worker process ran out of memory")
    return Internal(f"{type(error).__name__}: {error}"[:500])


def _leaf(name: str) -> type[LaminaError] | None:
    module, _, leaf = name.partition(":")
    if not module.startswith("lamina.") or not leaf.isidentifier():
        return None
    try:
        found = getattr(sys.modules.get(module) or importlib.import_module(module), leaf, None)
    except ImportError:
        return None
    return found if isinstance(found, type) and issubclass(found, LaminaError) else None


def _kind(code: str) -> type[LaminaError]:
    kinds = {kind.code: kind for kind in LaminaError.__subclasses__() if kind.__module__ == errors.__name__}
    return kinds.get(code, Internal)
