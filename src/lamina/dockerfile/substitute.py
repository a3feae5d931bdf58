"""Variables replaced in a whole instruction: which words of which instruction expand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from lamina.dockerfile import ast
from lamina.dockerfile.errors import DockerfileError
from lamina.dockerfile.expand import Expander

_Word = Callable[[str], str]


def expanded(instruction: ast.Instruction, env: Mapping[str, str], *, escape: str = "\\") -> ast.Instruction:
    """`instruction` with the variables of `env` put in; RUN, CMD, ENTRYPOINT, SHELL, HEALTHCHECK and ONBUILD stay as they are.

    Raises:
        DockerfileError: see Expander.word; or a word then holds a NUL, at which the kernel would end it.
    """
    expander = Expander(escape)

    def word(text: str) -> str:
        replaced = expander.word(text, env)
        if "\0" in replaced:
            raise DockerfileError(f"{instruction.keyword} must not hold a NUL")
        return replaced

    match instruction:
        case ast.Env(pairs=pairs):
            return replace(instruction, pairs=tuple((_present(word(name), "ENV name"), word(value)) for name, value in pairs))
        case ast.Label(pairs=pairs):
            return replace(instruction, pairs=tuple((word(name), word(value)) for name, value in pairs))
        case ast.Arg(pairs=arguments):
            return replace(instruction, pairs=tuple((word(name), None if value is None else word(value)) for name, value in arguments))
        case ast.Workdir(path=path):
            return replace(instruction, path=_present(word(path), "WORKDIR"))
        case ast.User(user=user):
            return replace(instruction, user=word(user))
        case ast.StopSignal(signal=signal):
            return replace(instruction, signal=word(signal))
        case ast.Expose(ports=ports):
            return replace(instruction, ports=tuple(part for port in ports for part in expander.words(port, env)))
        case ast.Volume(paths=paths):
            return replace(instruction, paths=tuple(_present(word(path), "VOLUME") for path in paths))
        case ast.Copy() | ast.Add():
            return _files(instruction, word, lambda text: expander.inline(text, env))
    return instruction


def _present(text: str, what: str) -> str:
    if not text:
        raise DockerfileError(f"{what} is empty after its variables were replaced")
    return text


def _files(instruction: ast.Copy | ast.Add, word: _Word, inline: _Word) -> ast.Instruction:
    documents = tuple(
        replace(document, content=inline(document.content)) if document.expand else document for document in instruction.heredocs
    )
    changed = replace(
        instruction,
        sources=tuple(word(source) for source in instruction.sources),
        target=word(instruction.target),
        chown=word(instruction.chown),
        chmod=word(instruction.chmod),
        exclude=tuple(word(pattern) for pattern in instruction.exclude),
        heredocs=documents,
    )
    return replace(changed, checksum=word(changed.checksum)) if isinstance(changed, ast.Add) else changed
