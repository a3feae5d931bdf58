"""Mounts as they are asked for (-v, --mount, --tmpfs, VOLUME, --volumes-from) and as the runtime takes them: pure functions."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from lamina.container.document import Document, flag, mapping, number, objects, text, texts
from lamina.container.model import Container, MountPoint
from lamina.errors import InvalidArgument
from lamina.runtime.launch import Mount
from lamina.runtime.plan import ATTRIBUTES

_PROPAGATIONS = {"private", "rprivate", "shared", "rshared", "slave", "rslave"}
_MODES = ({"ro", "rw"}, {"z", "Z"}, {"nocopy"}, {"delegated", "cached", "consistent"}, _PROPAGATIONS)
"""Of each kind a bind has one at most."""
_COUNT = r"(0x[0-9a-f]+|[0-9]+)[kmgtpe]?"
_TMPFS_DATA = {
    "size": rf"{_COUNT}|[0-9]+%", "mode": "[0-7]+", "uid": "[0-9]+", "gid": "[0-9]+", "nr_inodes": _COUNT, "nr_blocks": _COUNT, "mpol": ".*",
    "huge": ".*",
}  # fmt: skip
"""The options of a tmpfs that have a value, and what that may be: shmem.c's."""


class InvalidMount(InvalidArgument):
    """A mount that makes no sense, in Docker's words."""


def asked_mounts(config: Document, host: Document, inherited: Sequence[MountPoint] = (), *, root: str = "") -> tuple[MountPoint, ...]:
    """Every mount of a new container, by target. Anonymous volumes have no name yet. Later kinds win over earlier ones:
    volumes of the image, those `inherited` by --volumes-from, binds, --mount, --tmpfs. `root` is the engine's data root.

    Raises:
        InvalidMount: one is malformed, or two have one target.
    """
    driver = text(host, "VolumeDriver")
    explicit = [replace(bind, driver=driver if bind.kind == "volume" else "") for bind in map(parse_bind, texts(host, "Binds"))]
    explicit += [parse_mount(mount) for mount in objects(host, "Mounts")]
    explicit += [
        MountPoint("tmpfs", checked_target(target), data=checked_tmpfs(text(mapping(host, "Tmpfs"), target)))
        for target in mapping(host, "Tmpfs")
    ]
    explicit = [_propagated(mount, root) if mount.kind == "bind" else mount for mount in explicit]
    _refuse_duplicates(explicit)
    # An image's VOLUME may be relative: it lies below the root, as with dockerd.
    anonymous = [
        MountPoint("volume", checked_target(f"/{target}"), copy=True, owned=True, driver=driver) for target in mapping(config, "Volumes")
    ]
    chosen = {mount.target: mount for mount in (*anonymous, *inherited, *explicit)}
    return tuple(chosen[target] for target in sorted(chosen))


def parse_bind(bind: str) -> MountPoint:
    """One entry of Binds: `source:target[:options]`, `name:target`, or a target alone."""
    parts = bind.split(":")
    if len(parts) > 3 or "" in parts:
        raise InvalidMount(f"invalid volume specification: '{bind}'")
    kind = "bind" if len(parts) > 1 and parts[0].startswith("/") else "volume"
    target = checked_target(parts[min(len(parts), 2) - 1], f"invalid volume specification: '{bind}': {_wrong(kind)}")
    if kind == "volume" and len(parts) == 1:
        return MountPoint("volume", target, copy=True, owned=True, mode="z")
    source, mode = parts[0], parts[2] if len(parts) == 3 else ""
    options = [option for option in mode.split(",") if option]
    kinds = [next((kind for kind in _MODES if option in kind), None) for option in options]
    if None in kinds or any(kinds.count(kind) > 1 for kind in kinds):
        raise InvalidMount(f"invalid mode: {mode}")
    propagation = next((option for option in options if option in _PROPAGATIONS), "")
    point = MountPoint("bind", target, read_only="ro" in options, mode=mode, propagation=propagation)
    if kind == "bind":
        if "nocopy" in options:
            raise InvalidMount(f"invalid volume specification: '{bind}': {_wrong(kind)}field VolumeOptions must not be specified")
        return replace(point, source=posixpath.normpath(source))
    if propagation:
        raise InvalidMount(f"invalid volume specification: '{bind}': {_wrong(kind)}field BindOptions must not be specified")
    return replace(point, kind="volume", name=source, copy="nocopy" not in options, mode=mode or "z")


def parse_mount(mount: Document) -> MountPoint:
    """One entry of Mounts."""
    kind, source = text(mount, "Type"), text(mount, "Source")
    if not text(mount, "Target"):
        raise InvalidMount(f"{_wrong(kind)}field Target must not be empty")
    point = MountPoint(kind, checked_target(text(mount, "Target"), _wrong(kind)), read_only=flag(mount, "ReadOnly"))
    _refuse_fields(kind, mount)
    if kind == "tmpfs":
        return replace(point, data=_tmpfs_data(mapping(mount, "TmpfsOptions"), source))
    if kind == "bind":
        if not source.startswith("/"):
            raise InvalidMount(f"{_wrong(kind)}invalid mount path: '{source}' mount path must be absolute")
        options = mapping(mount, "BindOptions")
        propagation, made = text(options, "Propagation"), flag(options, "CreateMountpoint")
        if propagation and propagation not in _PROPAGATIONS:
            raise InvalidMount(f'invalid mount config for type "bind": invalid propagation mode: {propagation[:100]}')
        if flag(options, "ReadOnlyNonRecursive") and flag(options, "ReadOnlyForceRecursive"):
            raise InvalidMount("mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive")
        return replace(
            point,
            source=posixpath.normpath(source),
            propagation=propagation,
            must_exist=not made,
            recursive=not flag(options, "NonRecursive"),
            deep=not flag(options, "ReadOnlyNonRecursive"),
        )
    if kind == "volume":
        return _volume_mount(point, source, mapping(mount, "VolumeOptions"))
    if kind == "image":
        return replace(point, name=source, read_only=True, subpath=_subpath(kind, text(mapping(mount, "ImageOptions"), "Subpath")))
    if kind not in ("cluster", "npipe"):
        raise InvalidMount(f"{_wrong(kind)}mount type unknown")
    raise InvalidMount(f"{_wrong(kind)}this type is not available here")


def shows_root(source: str, root: str) -> bool:
    """Whether a bind of `source` shows something of the data root, or all of it: with what is mounted there for others."""
    return bool(root) and posixpath.commonpath((source, root)) in (source, root)


def _propagated(mount: MountPoint, root: str) -> MountPoint:
    """A bind with the propagation that was asked for, or Docker's choice. One that shows the data root is told of what is unmounted
    there: a private copy of others' mounts would keep these, and the room that they take, as long as it is there."""
    if not shows_root(mount.source, root):
        return replace(mount, propagation=mount.propagation or "rprivate")
    if mount.propagation not in ("", "rslave", "rshared"):
        raise InvalidMount(
            f'{_wrong("bind")}must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, '
            f'daemon root: "{root}", bind mount source: "{mount.source}", propagation: "{mount.propagation}"'
        )
    return replace(mount, propagation=mount.propagation or "rslave")


def _wrong(kind: str) -> str:
    return f'invalid mount config for type "{kind[:100]}": '


def _refuse_fields(kind: str, mount: Document) -> None:
    """Refuse what a mount of this kind does not have, or misses."""
    if kind in ("bind", "image") and not text(mount, "Source"):
        raise InvalidMount(f"{_wrong(kind)}field Source must not be empty")
    for field in ("VolumeOptions",) if kind == "bind" else ("BindOptions",) if kind in ("volume", "tmpfs", "image") else ():
        if mount.get(field) is not None:
            raise InvalidMount(f"{_wrong(kind)}field {field} must not be specified")
    if kind == "volume" and flag(mount, "ReadOnly") and not text(mount, "Source"):
        raise InvalidMount(f"{_wrong(kind)}must not set ReadOnly mode when using anonymous volumes")


def _volume_mount(point: MountPoint, name: str, asked: Document) -> MountPoint:
    driver = mapping(asked, "DriverConfig")
    subpath = _subpath("volume", text(asked, "Subpath"))
    if subpath and not name:
        raise InvalidMount('invalid mount config for type "volume": must not set Subpath when using anonymous volumes')
    return replace(
        point,
        name=name,
        mode="z",
        # a part of a volume is there already: nothing is copied into it
        copy=not flag(asked, "NoCopy") and not subpath,
        owned=not name,
        driver=text(driver, "Name"),
        subpath=subpath,
        labels={key: str(value) for key, value in mapping(asked, "Labels").items()},
        options={key: str(value) for key, value in mapping(driver, "Options").items()},
    )


def _subpath(kind: str, path: str) -> str:
    """A path below a volume's or image's root, cleaned.

    Raises:
        InvalidMount: it leads elsewhere.
    """
    cleaned = posixpath.normpath(path) if path else ""
    if cleaned.startswith(("/", "../")) or cleaned == "..":
        raise InvalidMount(f'invalid mount config for type "{kind}": subpath must be a relative path within the {kind}')
    return "" if cleaned == "." else cleaned


def _tmpfs_data(options: Document, source: str) -> str:
    """The options of a tmpfs of --mount as words."""
    if source:
        raise InvalidMount('invalid mount config for type "tmpfs": field Source must not be specified')
    size, mode = number(options, "SizeBytes"), number(options, "Mode")
    more = [
        pair for pair in options.get("Options") or () if isinstance(pair, list) and pair and all(isinstance(word, str) for word in pair)
    ]
    words = [f"size={size}"] if size else []
    words += [f"mode={mode:o}"] if mode else []
    return checked_tmpfs(",".join([*words, *("=".join(pair) for pair in more)]))


def checked_tmpfs(data: str) -> str:
    """A tmpfs' options, as they are.

    Raises:
        InvalidMount: one that tmpfs does not have, or a value that it cannot have.
    """
    for word in filter(None, data.split(",")):
        key, equals, value = word.partition("=")
        known = re.fullmatch(_TMPFS_DATA.get(key, "(?!)"), value, re.IGNORECASE) if equals else word in ATTRIBUTES or word in _PROPAGATIONS
        if not known:
            raise InvalidMount(f'invalid tmpfs option "{word[:100]}"')
    return data


def checked_target(target: str, where: str = "") -> str:
    """The target, cleaned. `where` begins what is said of a wrong one.

    Raises:
        InvalidMount: it is not absolute, or the root itself.
    """
    if not target.startswith("/"):
        raise InvalidMount(f"{where}invalid mount path: '{target}' mount path must be absolute")
    cleaned = posixpath.normpath("/" + target.lstrip("/"))
    if cleaned == "/":
        raise InvalidMount(f"{where}invalid specification: destination can't be '/'")
    return cleaned


def inherited_mounts(container: Container, mode: str) -> list[MountPoint]:
    """What --volumes-from takes from another container; `mode` is "", ro or rw. An anonymous volume goes with the last that has it."""
    if mode not in ("", "ro", "rw", "z", "Z"):
        raise InvalidMount(f"invalid mode: {mode}")
    taken = [mount for mount in container.mounts if mount.kind != "tmpfs"]
    # An image is mounted for each container anew.
    return [
        replace(mount, copy=False, read_only=mount.read_only or mode == "ro", source="" if mount.kind == "image" else mount.source)
        for mount in taken
    ]


def runtime_mounts(mounts: Iterable[MountPoint], parts: Mapping[str, str]) -> list[Mount]:
    """As the runtime takes them, parents before children. `parts` gives the host path of what is mounted of a volume, by target."""
    return [_runtime_mount(mount, parts.get(mount.target, mount.source)) for mount in sorted(mounts, key=lambda mount: mount.target)]


def _runtime_mount(mount: MountPoint, source: str) -> Mount:
    if mount.kind == "tmpfs":
        return Mount("tmpfs", mount.target, readonly=mount.read_only, options=tuple(filter(None, mount.data.split(","))))
    words = ([mount.propagation] if mount.propagation else []) + ([] if mount.recursive else ["bind"])
    # Read-only reaches what is mounted below, where something is brought along.
    options = (*words, *(["ro"] if mount.read_only and not (mount.recursive and mount.deep) else []))
    return Mount("volume" if mount.kind == "image" else mount.kind, mount.target, source, mount.read_only, options)


def _refuse_duplicates(mounts: Sequence[MountPoint]) -> None:
    seen: set[str] = set()
    for mount in mounts:
        if mount.target in seen:
            raise InvalidMount(f"Duplicate mount point: {mount.target}")
        seen.add(mount.target)
