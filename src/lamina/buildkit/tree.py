"""fsutil's protocol, by which BuildKit's clients send file trees: the entries as a list, then the bytes of the files that are asked for."""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from lamina.buildkit.failure import Refused
from lamina.buildkit.http2 import Gone, Stream
from lamina.buildkit.messages import Packet, Stat
from lamina.buildkit.wire import decode, encode

_STAT, _REQUEST, _DATA, _END, _ERROR = range(5)
_PIECE = 32 << 10
_AT_ONCE = 64  # the sender reads no further request while it holds 128
_KINDS = {1 << 31: tarfile.DIRTYPE, 1 << 27: tarfile.SYMTYPE, 1 << 25: tarfile.FIFOTYPE}
_DEVICE, _CHARACTER, _SOCKET = 1 << 26, 1 << 21, 1 << 24
_SPECIAL = ((1 << 23, stat.S_ISUID), (1 << 22, stat.S_ISGID), (1 << 20, stat.S_ISVTX))


class TreeRefused(Refused):
    """The sender cannot give the tree, or gives another than it said."""


@dataclass(slots=True)
class _Coming:
    """A file that was asked for: where its bytes go, and how many there are to be."""

    path: str
    place: int
    size: int
    got: int = 0


def receive(stream: Stream, fd: int, progress: Callable[[int], None]) -> None:
    """Write the tree that the client sends as a plain tar to the file `fd`; `progress` is told of bytes as they come.

    Raises:
        TreeRefused: the client says what is wrong, or a file changed meanwhile.
    """
    _Receiver(stream, fd, progress).run()


class _Receiver:
    def __init__(self, stream: Stream, fd: int, progress: Callable[[int], None]) -> None:
        self._stream, self._fd, self._progress = stream, fd, progress
        self._count = self._place = 0
        self._listed = False
        self._waiting: deque[tuple[int, _Coming]] = deque()
        self._coming: dict[int, _Coming] = {}

    def run(self) -> None:
        while not self._listed or self._waiting or self._coming:
            packet = self._packet()
            if packet is None:
                raise TreeRefused("the client ended in the middle of the build context")
            if packet.type == _STAT:
                self._entry(packet.stat)
            elif packet.type == _DATA:
                self._data(packet.id, packet.data)
            self._ask()
        os.ftruncate(self._fd, self._place + 2 * tarfile.BLOCKSIZE)
        self._stream.send(encode(Packet(type=_END)))
        while (last := self._packet()) is not None and last.type != _END:
            pass
        with contextlib.suppress(Gone):  # it may have ended the call by now
            self._stream.finish()

    def _packet(self) -> Packet | None:
        raw = self._stream.receive()
        if raw is None:
            return None
        packet = decode(Packet, raw)
        if packet.type == _ERROR:
            raise TreeRefused(f"error from sender: {packet.data.decode(errors='replace')[:1000]}")
        return packet

    def _entry(self, entry: Stat | None) -> None:
        if entry is None:
            self._listed = True
            return
        number = self._count
        self._count += 1
        if entry.mode & _SOCKET:
            return
        info = described(entry)
        header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        _write(self._fd, header, self._place)
        self._place += len(header)
        self._progress(len(entry.path))
        if info.isreg() and info.size:
            self._waiting.append((number, _Coming(entry.path, self._place, info.size)))
            self._place += -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE

    def _ask(self) -> None:
        while self._waiting and len(self._coming) < _AT_ONCE:
            number, coming = self._waiting.popleft()
            self._coming[number] = coming
            self._stream.send(encode(Packet(type=_REQUEST, id=number)))

    def _data(self, number: int, data: bytes) -> None:
        coming = self._coming.get(number)
        if coming is None:
            raise TreeRefused("the client sends a file that nobody asked for")
        if coming.got + len(data) > coming.size or (not data and coming.got < coming.size):
            raise TreeRefused(f"{coming.path} cannot be read, or changed while it was being sent")
        if not data:
            del self._coming[number]
            return
        _write(self._fd, data, coming.place + coming.got)
        coming.got += len(data)
        self._progress(len(data))


def _write(fd: int, data: bytes, place: int) -> None:
    """All of it: a disk that gets full takes a part."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, place)
        view, place = view[written:], place + written


def send(stream: Stream, tar: str) -> None:
    """Send the files of a plain tar, which a client writes into its folder.

    Raises:
        TreeRefused: it cannot write them.
    """
    with tarfile.open(tar, "r:") as archive:
        members = sorted((member for member in archive if member.name.strip("/.")), key=lambda member: member.name.split("/"))
        for member in members:
            stream.send(encode(Packet(type=_STAT, stat=_stat(archive, member))))
        stream.send(encode(Packet(type=_STAT)))
        while (raw := stream.receive()) is not None:
            packet = decode(Packet, raw)
            if packet.type == _ERROR:
                raise TreeRefused(f"error from receiver: {packet.data.decode(errors='replace')[:1000]}")
            if packet.type == _END:
                stream.send(encode(Packet(type=_END)))
                return
            if packet.type == _REQUEST and packet.id < len(members):
                _send_file(stream, archive, members[packet.id], packet.id)


def _send_file(stream: Stream, archive: tarfile.TarFile, member: tarfile.TarInfo, number: int) -> None:
    file = archive.extractfile(member)
    while file is not None and (data := file.read(_PIECE)):
        stream.send(encode(Packet(type=_DATA, id=number, data=data)))
    stream.send(encode(Packet(type=_DATA, id=number)))


def _stat(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Stat:
    """An entry as fsutil has it; a further name of a file is a file of its own."""
    kind = next((flag for flag, kind in _KINDS.items() if kind == member.type), 0)
    if member.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        kind = _DEVICE | (_CHARACTER if member.type == tarfile.CHRTYPE else 0)
    mode = kind | member.mode & 0o777 | sum(flag for flag, bit in _SPECIAL if member.mode & bit)
    size = archive.getmember(member.linkname).size if member.islnk() else member.size
    link = member.linkname if member.issym() else ""
    time = int(member.mtime * 10**9)
    return Stat(member.name, mode, member.uid, member.gid, size, time, link, member.devmajor, member.devminor)


def described(entry: Stat) -> tarfile.TarInfo:
    """An entry as a tar has it. A link name on what is not a symbolic link makes it another name of a file before it."""
    info = tarfile.TarInfo(entry.path.lstrip("/"))
    info.mode = entry.mode & 0o777 | sum(bit for flag, bit in _SPECIAL if entry.mode & flag)
    info.uid, info.gid = entry.uid, entry.gid
    info.mtime = entry.mtime // 10**9
    records = {f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape") for name, value in entry.xattrs.items()}
    if entry.mtime % 10**9:
        records["mtime"] = f"{entry.mtime // 10**9}.{entry.mtime % 10**9:09d}"
    info.pax_headers = records
    info.type = next((kind for flag, kind in _KINDS.items() if entry.mode & flag), tarfile.REGTYPE)
    if entry.mode & _DEVICE:
        info.type = tarfile.CHRTYPE if entry.mode & _CHARACTER else tarfile.BLKTYPE
        info.devmajor, info.devminor = entry.devmajor, entry.devminor
    if entry.linkname:
        info.linkname = entry.linkname
        if info.type == tarfile.REGTYPE:
            info.type, info.linkname = tarfile.LNKTYPE, entry.linkname.lstrip("/")
    if info.type == tarfile.REGTYPE:
        info.size = entry.size
    return info
