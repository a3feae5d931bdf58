"""The structures on disk, all little-endian (fs/erofs/erofs_fs.h)."""

from __future__ import annotations

import stat
import struct
from collections.abc import Mapping

BLOCK_BITS = 9
BLOCK = 1 << BLOCK_BITS
MAGIC = 0xE0F5E1E2
SUPERBLOCK_AT = 1024
DEVICE_AT = 2048
INODES_AT = 2560
"""Where inodes start behind at most four devices."""
NID = 32
"""The unit of inode numbers, in bytes: an inode's number is where it starts, since meta_blkaddr is 0."""
MAPPED = 1 << 22
"""From this block number on, blocks are the tar's; metadata end before it."""

COMPAT = 3  # superblock checksum, mtime
INCOMPAT_CHUNKED, INCOMPAT_DEVICES = 4, 8

# magic checksum compat blkszbits extslots root_nid inos epoch nsec blocks meta_blkaddr xattr_blkaddr uuid volume incompat u1 devices slot dirbits
SUPERBLOCK = struct.Struct("<IIIBBHQQIIII16s16sIHHHB37x")
DEVICE = struct.Struct("<64sII56x")
INODE = struct.Struct("<HHHHQIIIIqII16x")  # format xattr_icount mode _ size u ino uid gid mtime nsec nlink
INODE_HEAD = struct.Struct("<HHHHQI")  # the first fields of INODE
INODE_SIZE = struct.Struct("<8xQ28xI")  # two fields of INODE: size, nlink
DIRENT = struct.Struct("<QHBB")  # nid nameoff type _
CHUNK = struct.Struct("<HHI")  # _ device block
XATTR = struct.Struct("<BBH")  # name length, name index, value size
XATTR_HEADER = 12

PLAIN, INLINE, CHUNKED = 1, 5, 9  # extended inode | layout << 1
CHUNK_INDEXES = 0x20
HOLE = 0xFFFFFFFF
INLINE_LIMIT = 384
"""Longer tails go into a block: a shorter one can always be placed so that it crosses none."""

FILE_TYPES: Mapping[int, int] = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}

_PREFIXES = (
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
)


def inodes_at(devices: int) -> int:
    """Where inodes start behind a table of that many devices."""
    return max(INODES_AT, DEVICE_AT + -(-devices * DEVICE.size // BLOCK) * BLOCK)


def xattr_index(name: bytes) -> tuple[int, bytes]:
    """The number of a name's prefix, and the rest of the name."""
    for index, prefix in _PREFIXES:
        if name.startswith(prefix):
            return index, name[len(prefix) :]
    raise ValueError(f"no prefix of EROFS: {name!r}")


def xattr_name(index: int, rest: bytes) -> bytes:
    """Undoes `xattr_index`."""
    return dict(_PREFIXES)[index] + rest


def encode_device(major: int, minor: int) -> int:
    """The kernel's 32-bit form of a device number (new_encode_dev)."""
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


def decode_device(number: int) -> tuple[int, int]:
    """Undoes `encode_device`."""
    return (number >> 8) & 0xFFF, number & 0xFF | (number >> 12) & 0xFFF00


def crc32c(data: bytes) -> int:
    """CRC-32C from ~0 without the final inversion, as EROFS wants it of the superblock's block."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _CRC[(value ^ byte) & 0xFF] ^ value >> 8
    return value


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_CRC = _crc_table()


def checksum(block: bytes) -> int:
    """The checksum of the 512 bytes that start with the superblock; the field itself counts as zero."""
    return crc32c(block[:4] + bytes(4) + block[8:BLOCK])
