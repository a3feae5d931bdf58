"""A layer as a tree: members of a tar go in, in their order; out comes what they amount to.

The rules where archives are careless, or hostile:

* Paths are cleaned (`./a//b/` is `a/b`, a leading `/` is dropped); one with `..` is refused.
* A parent that is missing is made, as *implied*. A parent that is a symbolic link of this layer is
  followed inside the layer, as a chroot would; nothing outside of the layer can be named.
* A later entry replaces an earlier one; a directory over a directory keeps what is in it.
* A hard link needs its target in the layer, before it, and no directory.
* Whiteouts hide what lower layers have, never what this layer has, in whatever order they come
  (image-spec layer.md "Whiteouts"). `.wh.x` beside a directory `x` makes `x` opaque.
* A character device 0:0 is a whiteout, since overlayfs takes it for one.
* Extended attributes trusted.* and overlay's own are dropped: forged, they redirect overlayfs.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lamina.layer.errors import ArchiveTooLarge, InvalidArchive, shown
from lamina.layer.tar.member import HARDLINK, Extent, Member
from lamina.spec import whiteout

NAME_LIMIT, LINK_LIMIT, PATH_LIMIT, ID_LIMIT, DEPTH_LIMIT = 255, 4095, 4095, (1 << 32) - 2, 1000
_SYMLINKS_LIMIT = 40
_TIME_LIMIT = (1 << 62) * 10**9
_DIR, _REG, _LNK, _CHR = stat.S_IFDIR, stat.S_IFREG, stat.S_IFLNK, stat.S_IFCHR
_FORBIDDEN_NAMESPACES = (b"trusted.", b"user.overlay.")
_KEPT_NAMESPACES = (b"user.", b"security.", b"system.posix_acl_access", b"system.posix_acl_default", b"trusted.")
Xattrs = tuple[tuple[bytes, bytes], ...]


class Node:
    """An inode of the layer. Mutable while the tree is built, read afterwards."""

    __slots__ = (
        "children",
        "content",
        "extents",
        "gid",
        "hidden",
        "implied",
        "link",
        "mode",
        "mtime_ns",
        "nid",
        "offset",
        "opaque",
        "rdev",
        "size",
        "uid",
        "xattrs",
    )

    def __init__(self, mode: int, uid: int, gid: int, size: int, mtime_ns: int, offset: int) -> None:
        self.mode, self.uid, self.gid, self.size, self.mtime_ns, self.offset = mode, uid, gid, size, mtime_ns, offset
        self.children: dict[bytes, Node] | None = None
        self.hidden: set[bytes] | None = None
        self.implied = self.opaque = False
        self.link = b""
        self.rdev = (0, 0)
        self.xattrs: Xattrs = ()
        self.extents: tuple[Extent, ...] | None = None
        self.nid = self.content = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """Above which a layer is refused. `tar_size` is in bytes, of the uncompressed tar."""

    tar_size: int = 1 << 38
    entries: int = 4_000_000


class Tree:
    """Takes members; `finish` it before walking."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.root = _directory()
        self.entries = 0
        self._limit = (limits or Limits()).entries
        self._parent_path: bytes | None = b""
        assert self.root.children is not None
        self._parent: dict[bytes, Node] = self.root.children
        self._parent_node = self.root

    def add(self, member: Member) -> Node | None:
        """Take the next member. Returns the file that its content is of, if it is a regular one.

        Raises:
            InvalidArchive: it does what no layer may.
            ArchiveTooLarge: there are too many.
        """
        path, mode, uid, gid, size, mtime_ns, offset, link, major, minor, xattrs, extents = member
        self.entries += 1
        if self.entries > self._limit:
            raise ArchiveTooLarge(f"archive has more than {self._limit} entries")
        head, _, name = (path[:-1] if path[-1:] == b"/" else path).rpartition(b"/")
        if head != self._parent_path or not name or name == b"." or name == b"..":
            parts = _clean(path, path)
            if not parts:
                self._set_root(member)
                return None
            if any(part[:8] == b".wh..wh." for part in parts[:-1]):
                return None  # aufs kept its own files in such directories
            self._enter(parts, path, head if name == parts[-1] else None)
            name = parts[-1]
        if len(name) > NAME_LIMIT or b"\0" in name:
            raise InvalidArchive(f"name too long in archive: {shown(path)}")
        if name[:4] == b".wh." and self._whiteout(name, path):
            return None
        if mode == HARDLINK:
            self._link(name, path, link)
            return None
        if uid > ID_LIMIT or gid > ID_LIMIT or uid < 0 or gid < 0:
            raise InvalidArchive(f"owner out of range in archive: {shown(path)}")
        if not -_TIME_LIMIT < mtime_ns < _TIME_LIMIT:
            raise InvalidArchive(f"time out of range in archive: {shown(path)}")
        node = Node(mode, uid, gid, size, mtime_ns, offset)
        kind = mode & 0o170000
        if xattrs:
            node.xattrs = kept_xattrs(xattrs, path)
        if kind == _REG:
            node.extents = extents
            self._put(name, node)
            return node
        if kind == _LNK:
            if not 0 < len(link) <= LINK_LIMIT or b"\0" in link:
                raise InvalidArchive(f"symbolic link to nothing or too far: {shown(path)}")
            node.link, node.size = link, len(link)
        elif kind == _DIR:
            self._add_directory(name, node)
            return None
        elif (major or minor or kind == _CHR) and self._device(name, node, major, minor, path):
            return None
        self._put(name, node)
        return None

    def finish(self) -> None:
        """Settle the whiteouts, when all members were seen."""
        for node in nodes(self.root):
            if not node.hidden:
                continue
            assert node.children is not None
            for name in node.hidden:
                child = node.children.get(name)
                if child is None:
                    node.children[name] = Node(_CHR, 0, 0, 0, 0, 0)
                elif child.children is not None:
                    child.opaque = True

    def implied(self) -> Iterator[tuple[bytes, Node]]:
        """The directories that no member listed, parents first. The root is never one: most layers leave it out."""
        return ((path, node) for path, node in walk(self.root) if node.implied)

    def _put(self, name: bytes, node: Node) -> None:
        self._parent[name] = node

    def _add_directory(self, name: bytes, node: Node) -> None:
        old = self._parent.get(name)
        if old is not None and old.children is not None:
            _describe(old, node)
            return
        node.children = {}
        self._put(name, node)

    def _device(self, name: bytes, node: Node, major: int, minor: int, path: bytes) -> bool:
        """Set the device's numbers; True if it was a whiteout in disguise."""
        if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
            raise InvalidArchive(f"device number out of range in archive: {shown(path)}")
        node.rdev = (major, minor)
        if node.mode & 0o170000 != _CHR or major or minor:
            return False
        self._hide(name)
        return True

    def _hide(self, name: bytes) -> None:
        if self._parent_node.hidden is None:
            self._parent_node.hidden = set()
        self._parent_node.hidden.add(name)

    def _whiteout(self, name: bytes, path: bytes) -> bool:
        """Take a name that starts like a whiteout; False if it is an ordinary name after all."""
        if whiteout.is_opaque(name):
            self._parent_node.opaque = True
        elif whiteout.is_metadata(name):
            pass
        elif (hidden := whiteout.hidden(name)) is None:
            raise InvalidArchive(f"malformed whiteout in archive: {shown(path)}")
        else:
            self._hide(hidden)
        return True

    def _link(self, name: bytes, path: bytes, link: bytes) -> None:
        target = self._find(link, path)
        if target is None:
            raise InvalidArchive(f"hard link to a file that is not in the archive: {shown(path)} to {shown(link)}")
        if target.children is not None:
            raise InvalidArchive(f"hard link to a directory: {shown(path)} to {shown(link)}")
        if self._parent.get(name) is not target:
            self._put(name, target)

    def _find(self, link: bytes, path: bytes) -> Node | None:
        """What a hard link's target names; symbolic links on the way there are followed, at its end they are not."""
        parts = _clean(link, path)
        node: Node | None = self.root
        if parts:
            holder = self._descend(parts[:-1], path, make=False)
            node = holder.children.get(parts[-1]) if holder is not None and holder.children is not None else None
        return node

    def _enter(self, parts: list[bytes], path: bytes, spelled: bytes | None) -> None:
        """Make the directory that holds `path` the current one.

        It is remembered as it is `spelled`: members of one directory mostly follow each other.
        Only one is, so a member that changes a directory on the way to it makes this forget it.
        """
        holder = self._descend(parts[:-1], path, make=True)
        assert holder is not None and holder.children is not None
        self._parent_path, self._parent, self._parent_node = spelled, holder.children, holder

    def _descend(self, parts: list[bytes], path: bytes, *, make: bool) -> Node | None:
        """The directory that `parts` lead to, following symbolic links within the layer."""
        trail = [self.root]
        left, followed = parts[::-1], 0
        while left:
            part = left.pop()
            here = trail[-1]
            assert here.children is not None
            if part == b"..":  # only from a link's target: at the root it stays there, as in a chroot
                if len(trail) > 1:
                    trail.pop()
                continue
            child = here.children.get(part)
            if child is not None and child.link:
                followed += 1
                if followed > _SYMLINKS_LIMIT:
                    raise InvalidArchive(f"too many symbolic links on the way to {shown(path)}")
                if child.link[:1] == b"/":
                    trail = trail[:1]
                left += [step for step in child.link.split(b"/") if step not in (b"", b".")][::-1]
                continue
            if child is None:
                if not make:
                    return None
                child = here.children[part] = self._imply(part, path)
            if child.children is None:
                raise InvalidArchive(f"entry inside of what is not a directory: {shown(path)}")
            trail.append(child)
            if len(trail) > DEPTH_LIMIT:
                raise InvalidArchive(f"path too deep in archive: {shown(path)}")
        return trail[-1]

    def _imply(self, part: bytes, path: bytes) -> Node:
        if len(part) > NAME_LIMIT:
            raise InvalidArchive(f"name too long in archive: {shown(path)}")
        if part[:4] == b".wh.":
            raise InvalidArchive(f"whiteout used as a directory in archive: {shown(path)}")
        return _directory()

    def _set_root(self, member: Member) -> None:
        if member.mode & 0o170000 != _DIR:
            raise InvalidArchive(f"the archive's root is not a directory: {shown(member.path)}")
        described = Node(member.mode, member.uid, member.gid, 0, member.mtime_ns, 0)
        described.xattrs = kept_xattrs(member.xattrs, b"/")
        _describe(self.root, described)


def _directory() -> Node:
    node = Node(_DIR | 0o755, 0, 0, 0, 0, 0)
    node.children, node.implied = {}, True
    return node


def _describe(node: Node, other: Node) -> None:
    """Give a directory another's attributes; what is in it stays."""
    node.mode, node.uid, node.gid, node.mtime_ns, node.xattrs = other.mode, other.uid, other.gid, other.mtime_ns, other.xattrs
    node.implied = False


def _clean(path: bytes, whole: bytes) -> list[bytes]:
    if len(path) > PATH_LIMIT or b"\0" in path:
        raise InvalidArchive(f"path too long in archive: {shown(whole)}")
    parts = [part for part in path.split(b"/") if part and part != b"."]
    if b".." in parts:
        raise InvalidArchive(f"path escapes the archive's root: {shown(path)}")
    return parts


def kept_xattrs(xattrs: Iterable[tuple[bytes, bytes]], path: bytes) -> Xattrs:
    """The attributes that a layer keeps, sorted by name, the last of equal names.

    Raises:
        InvalidArchive: one is larger than Linux allows.
    """
    kept = {}
    for name, value in xattrs:
        if name.startswith(_FORBIDDEN_NAMESPACES) or not name.startswith(_KEPT_NAMESPACES):
            continue
        if len(name) > 255 or len(value) > 65535 - 16 or b"\0" in name:
            raise InvalidArchive(f"extended attribute too large in archive: {shown(path)}")
        kept[name] = value
    return tuple(sorted(kept.items()))


def nodes(root: Node) -> Iterator[Node]:
    """Every directory below `root` and it itself."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        assert node.children is not None
        stack += [child for child in node.children.values() if child.children is not None]


def walk(root: Node, path: bytes = b"") -> Iterator[tuple[bytes, Node]]:
    """Paths and nodes below `root`, parents before children, names in byte order."""
    stack = [(path, root)]
    while stack:
        here, node = stack.pop()
        if node is not root:
            yield here, node
        if node.children:
            prefix = here + b"/" if here else b""
            stack += [(prefix + name, child) for name, child in sorted(node.children.items(), reverse=True)]
