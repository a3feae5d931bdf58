"""Finding images: by what a user types, and by Docker's filters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from lamina.apitypes.filters import lets_through
from lamina.errors import InvalidArgument, LaminaError
from lamina.image.known import Known
from lamina.image.model import AmbiguousId, Image, ImageNotFound, Variant
from lamina.spec.digest import Digest
from lamina.spec.moment import seconds
from lamina.spec.platform import Platform
from lamina.spec.reference import Reference

Filters = Mapping[str, Sequence[str]]
_PREFIX = re.compile(r"(?:sha256:)?([a-f0-9]{1,64})\Z")
_TRUE, _FALSE = ("1", "true", "True", "t"), ("0", "false", "False", "f")
FILTERS = frozenset({"dangling", "label", "label!", "before", "since", "until", "reference"})


class PlatformNotHere(ImageNotFound):
    """The image is here, but not for that platform."""


def resolve(catalog: Known, text: str, platform: Platform | None = None) -> tuple[Image, Reference | None]:
    """The image `text` means, and the name by which it was found (None: by its ID).

    In Docker's order: a whole ID (or a digest that `images --digests` shows), a name with tag or digest (`latest` where it has neither), the beginning of an ID.
    With `platform`, the one for it among those that the name stands for.

    Raises:
        ImageNotFound, AmbiguousId, InvalidReference
    """
    image, name = _resolve(catalog, text)
    if platform is None:
        return image, name
    here = {image.id: (image.config.platform, image)}
    here |= {each.image.id: (each.platform, each.image) for each in variants(catalog, image, name) if each.image is not None}
    fitting = [(its, each) for its, each in here.values() if its.matches(platform)]
    if fitting:
        return next((each for its, each in fitting if its.variant == platform.variant), fitting[0][1]), name
    raise PlatformNotHere(
        f"image with reference {text} was found but does not provide the specified platform ({platform})",
        hint=f"it is here for {', '.join(sorted(str(its) for its, _ in here.values()))}",
    )


def variants(catalog: Known, image: Image, name: Reference | None) -> tuple[Variant, ...]:
    """What a name stands for, platform by platform; of an ID, what all names of the image do."""
    names = [name] if name is not None else [*image.names, *image.digests]
    resolved = dict.fromkeys(found[1] for each in names if (found := catalog.named(each)) is not None and found[0].id == image.id)
    rows: dict[Digest, Variant] = {}
    for each in resolved or [image.manifest]:
        for variant in catalog.variants.of(each):  # names may stand for other manifests of the same image
            rows.setdefault(variant.descriptor.digest if variant.image is None else variant.image.id, variant)
    return tuple(rows.values())


def _resolve(catalog: Known, text: str) -> tuple[Image, Reference | None]:
    whole = _whole_id(text)
    if whole is not None:
        return _by_id(catalog, whole, text), None
    named = _by_name(catalog, text)
    if named is not None:
        return named
    prefix = _PREFIX.match(text)
    found = catalog.starting_with(prefix.group(1)) if prefix else []
    if len(found) > 1:
        raise AmbiguousId(f"several images have IDs that begin with {text}", hint="write more of the ID")
    if not found:
        raise ImageNotFound(f"No such image: {_shown(text)}")
    return found[0], None


def created_seconds(image: Image) -> int:
    """When the image says it was created, seconds since 1970; 0 where it does not say."""
    return int(timestamp(image.config.created))


def timestamp(text: str) -> float:
    """RFC 3339 as seconds since 1970; 0.0 for what is not a time, or is Go's zero time."""
    try:
        # Nanoseconds are more digits than fromisoformat takes.
        return max(0.0, datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).timestamp())
    except ValueError:
        return 0.0


def select(catalog: Known, filters: Filters, *, now: float, everything: bool = False) -> list[Image]:
    """The images that pass all filters (several values of one: any of them, labels: all), newest first.

    Without `everything`, images without a name that others were built from, steps of builds, and the other platforms of
    a name are left out. `now` is seconds since 1970.

    Raises:
        InvalidArgument: an unknown filter or a value that makes no sense.
    """
    unknown = set(filters) - FILTERS
    if unknown:
        raise InvalidArgument(f"invalid filter '{min(unknown)}'")
    images = catalog.all()
    needed = catalog.parents() | catalog.held()
    tests = _tests(catalog, filters, needed, now)
    chosen = [image for image in images if (everything or not _hidden(image, needed)) and all(test(image) for test in tests)]
    if patterns := filters.get("reference", ()):
        chosen = [named for image in chosen if (named := _matching(image, patterns)) is not None]
    return sorted(chosen, key=lambda image: (created_seconds(image), image.tagged, image.id), reverse=True)


def _hidden(image: Image, needed: set[Digest]) -> bool:
    return not image.names and not image.digests and (image.intermediate or image.id in needed)


def _tests(catalog: Known, filters: Filters, needed: set[Digest], now: float) -> list[Callable[[Image], bool]]:
    tests: list[Callable[[Image], bool]] = []
    if values := filters.get("dangling", ()):
        wanted = truth("dangling", values)
        tests.append(lambda image: (image.dangling and image.id not in needed) == wanted)
    if {"label", "label!"} & set(filters):
        tests.append(lambda image: lets_through(image.config.config.labels, filters))
    for value in filters.get("before", ()):
        moment = timestamp(resolve(catalog, value)[0].config.created)
        tests.append(lambda image, moment=moment: timestamp(image.config.created) < moment)  # type: ignore[misc]
    for value in filters.get("since", ()):
        moment = timestamp(resolve(catalog, value)[0].config.created)
        tests.append(lambda image, moment=moment: timestamp(image.config.created) > moment)  # type: ignore[misc]
    for value in filters.get("until", ()):
        moment = seconds(value, now)
        tests.append(lambda image, moment=moment: timestamp(image.config.created) < moment)  # type: ignore[misc]
    return tests


def truth(name: str, values: Sequence[str]) -> bool:
    """What the values of a filter say that is true or false. Raises InvalidArgument: nothing, or both."""
    answers = {value in _TRUE for value in values if value in _TRUE or value in _FALSE}
    if len(answers) != 1 or not all(value in _TRUE or value in _FALSE for value in values):
        raise InvalidArgument(f"invalid filter '{name}={','.join(values)[:100]}'")
    return answers.pop()


def has_label(image: Image, wanted: str) -> bool:
    """Whether the image has the label `key` or `key=value`."""
    key, equals, value = wanted.partition("=")
    labels = image.config.config.labels
    return key in labels and (not equals or labels[key] == value)


def _matching(image: Image, patterns: Sequence[str]) -> Image | None:
    """The image with the names that a pattern matches; None where there are none."""
    tests = [_glob(_familiar(pattern)) for pattern in patterns]
    names = tuple(name for name in image.names if _matches(name, tests))
    digests = tuple(name for name in image.digests if _matches(name, tests))
    return replace(image, names=names, digests=digests) if names or digests else None


def _matches(name: Reference, tests: Sequence[re.Pattern[str]]) -> bool:
    return any(test.fullmatch(name.familiar) or test.fullmatch(name.familiar_name) for test in tests)


def _familiar(pattern: str) -> str:
    """A pattern that says which registry it means, as names here leave Docker's out."""
    short = pattern.removeprefix("docker.io/")
    return short.removeprefix("library/") if short != pattern else pattern


def _glob(pattern: str) -> re.Pattern[str]:
    """Go's path.Match as a regular expression: a star stops at slashes.

    Its time is bounded by the product of both lengths: what follows a star is taken where it comes first, once and for all, but for the
    last star, since a later place is never better.
    """
    if not re.fullmatch(r"(?:[^\[\]\\]|\\.|\[\^?(?:[^\]\\]|\\.)+\])*", pattern, re.DOTALL):
        raise InvalidArgument(f"invalid filter 'reference={pattern[:100]}'")
    parts = re.findall(r"\\.|\[\^?(?:[^\]\\]|\\.)+\]|.", pattern, re.DOTALL)
    last = max((at for at, part in enumerate(parts) if part == "*"), default=-1)
    stars = (")(?>[^/]*?", ")(?:[^/]*")
    pieces = (stars[at == last] if part == "*" else _glob_part(part) for at, part in enumerate(parts))
    try:
        return re.compile(f"(?>{''.join(pieces)})", re.DOTALL)
    except re.error:
        raise InvalidArgument(f"invalid filter 'reference={pattern[:100]}'") from None


def _glob_part(part: str) -> str:
    if part == "?":
        return "[^/]"
    if part.startswith("[") and len(part) > 1:
        return part.replace("[[", r"[\[")
    return re.escape(part[1:] if part.startswith("\\") and len(part) > 1 else part)


def _whole_id(text: str) -> Digest | None:
    try:
        return Digest.parse(text if text.startswith("sha256:") else f"sha256:{text}")
    except LaminaError:
        return None


def _by_id(catalog: Known, whole: Digest, text: str) -> Image:
    try:
        return catalog.get(whole)
    except ImageNotFound:
        for image in catalog.all():
            if any(name.digest == whole for name in image.digests):
                return image
        raise ImageNotFound(f"No such image: {_shown(text)}") from None


def _by_name(catalog: Known, text: str) -> tuple[Image, Reference] | None:
    try:
        reference = Reference.parse(text).with_default_tag()
    except InvalidArgument:
        if _PREFIX.match(text):
            return None
        raise
    if reference.digest is not None:
        reference = replace(reference, tag="")
    found = catalog.named(reference)
    return (found[0], reference) if found else None


def _shown(text: str) -> str:
    """As Docker says it: with the tag that was looked for."""
    try:
        return Reference.parse(text).with_default_tag().familiar
    except InvalidArgument:
        return text
