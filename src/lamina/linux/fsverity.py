"""fs-verity: files that the kernel never lets change again, and whose bytes it compares with a tree of hashes whenever it reads them.

Documentation/filesystems/fsverity.rst. Ext4 has it where it was made or tuned with `-O verity`, f2fs and btrfs too, on kernels with
CONFIG_FS_VERITY.
"""

from __future__ import annotations

import errno
import fcntl
import struct

_ENABLE, _MEASURE = 0x40806685, 0xC0046686
_SHA256, _BLOCK = 1, 4096
_ARGUMENT = struct.Struct("=IIIIQIIQ88x")
"""struct fsverity_enable_arg: version, hash algorithm, block size, salt and signature, which are not used."""
_DIGEST = struct.Struct("=HH")
_LONGEST = 64
_UNSUPPORTED = (errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM, errno.EACCES)


def enable(fd: int) -> bool:
    """Seal an open file (for reading; nobody may have it open for writing). Reads all of it. False: it cannot be done on this file system.

    Raises:
        OSError: not now: it is being written to (ETXTBSY), or the disk is full.
    """
    try:
        fcntl.ioctl(fd, _ENABLE, _ARGUMENT.pack(1, _SHA256, _BLOCK, 0, 0, 0, 0, 0))
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        if error.errno != errno.EEXIST:
            raise
    return True


def measure(fd: int) -> bytes | None:
    """The digest of a sealed file, which stands for all its bytes, without reading them; None: it is not sealed.

    Raises:
        OSError: the kernel cannot tell.
    """
    buffer = bytearray(_DIGEST.pack(_SHA256, _LONGEST) + bytes(_LONGEST))
    try:
        fcntl.ioctl(fd, _MEASURE, buffer)
    except OSError as error:
        if error.errno in (errno.ENODATA, *_UNSUPPORTED):
            return None
        raise
    _, size = _DIGEST.unpack_from(buffer)
    return bytes(buffer[_DIGEST.size : _DIGEST.size + size])
