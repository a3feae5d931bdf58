"""Messages between our own processes: JSON objects with descriptors, one per packet, over unix SOCK_SEQPACKET sockets.

A packet is the body's length (u32, little endian) and the body; a body over 64 KiB travels in a memfd, the
packet's last descriptor. Each message carries `"v": 1`; a reader refuses a newer one. Only builtin
modules are imported, since zygote, monitors and keeper live with what this file loads.
"""

from __future__ import annotations

import _json
import _socket
import errno
import os
import select
import struct

from lamina.errors import Corrupt, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

VERSION = 1
MAX_FDS = 250
MAX_MESSAGE = 256 << 20
_INLINE = 64 << 10
_LENGTH = struct.Struct("<I")


class ChannelClosed(Unavailable):
    """The other end is gone."""


class ChannelTimeout(Unavailable):
    """Nothing arrived in time."""


class BadMessage(Corrupt):
    """What arrived is not a message of a version known here."""


class _Grammar:
    """What the C scanner asks of a json.JSONDecoder; building it here spares importing `json` and `re`."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}


def _refuse(value: object) -> object:
    raise TypeError(f"a {type(value).__name__} cannot travel in a message")


_scan: Any = _json.make_scanner(_Grammar())  # type: ignore[arg-type]
_encode: Any = _json.make_encoder(None, _refuse, _json.encode_basestring_ascii, None, ":", ",", False, False, True)


def encode(value: object) -> bytes:
    """Compact JSON of plain data."""
    return "".join(_encode(value, 0)).encode()


def decode(data: bytes) -> Any:
    """The value of one compact JSON text.

    Raises:
        BadMessage: it is not JSON, or something follows it.
    """
    try:
        text = data.decode()
        value, end = _scan(text, 0)
    except (ValueError, StopIteration, RecursionError):
        raise BadMessage("a message is not JSON") from None
    if end != len(text):
        raise BadMessage("something follows a message")
    return value


class Channel:
    """One end of a conversation. Several threads may send; one at a time may receive. Owns its socket."""

    __slots__ = ("_sock", "_version")

    def __init__(self, sock: Any) -> None:
        """Take over a connected SOCK_SEQPACKET socket (a `socket.socket`, or a `_socket.socket`)."""
        self._sock = sock
        self._version = VERSION

    def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one message; `fds` are duplicated to the receiver, the caller keeps its own.

        Raises:
            ChannelClosed: nobody will read it.
            ValueError: over MAX_FDS descriptors, or over MAX_MESSAGE bytes.
        """
        self.send_bytes(encode({"v": self._version, **message}), fds)

    def send_bytes(self, body: bytes, fds: Sequence[int] = ()) -> None:
        """Send a message that `encode` made. See `send`."""
        if len(fds) > MAX_FDS or len(body) > MAX_MESSAGE:
            raise ValueError(f"a message of {len(body)} bytes and {len(fds)} descriptors is too big")
        if len(body) <= _INLINE:
            return self._send_packet([_LENGTH.pack(len(body)), body], fds)
        spill = os.memfd_create("message", os.MFD_CLOEXEC)
        try:
            write_all(spill, body)
            return self._send_packet([_LENGTH.pack(len(body))], [*fds, spill])
        finally:
            os.close(spill)

    def _send_packet(self, parts: list[bytes], fds: Sequence[int]) -> None:
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
        try:
            self._sock.sendmsg(parts, rights, _socket.MSG_NOSIGNAL)
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN):
                raise ChannelClosed("the other end of a channel is gone") from None
            raise

    def recv(self, timeout: float | None = None) -> tuple[dict[str, Any], list[int]]:
        """Wait at most `timeout` seconds (None: for ever) for one message and the descriptors it carries, which the caller owns.

        Raises:
            ChannelClosed: the other end closed.
            ChannelTimeout: nothing came in time.
            BadMessage: it is malformed or of a newer version; its descriptors are closed.
        """
        body, fds = self.recv_bytes(timeout)
        try:
            message = decode(body)
            if not isinstance(message, dict) or not isinstance(message.get("v"), int) or message["v"] > VERSION:
                raise BadMessage("a message is of a newer version")
            # A process that is older, a monitor of an earlier daemon's, is answered in its version.
            self._version = message["v"]
            return message, fds
        except BadMessage:
            close_all(fds)
            raise

    def recv_bytes(self, timeout: float | None = None) -> tuple[bytes, list[int]]:
        """See `recv`; the body is not parsed."""
        if timeout is not None and not _readable(self._sock.fileno(), timeout):
            raise ChannelTimeout(f"no answer came within {timeout:g} seconds")
        packet, ancillary, flags, _ = _told_once(self._sock.recvmsg, _INLINE + _LENGTH.size, 4096, _socket.MSG_CMSG_CLOEXEC)
        fds = _descriptors(ancillary)
        if not packet and not fds:
            raise ChannelClosed("the other end of a channel is gone")
        try:
            return _body(packet, fds, flags), fds
        except BadMessage:
            close_all(fds)
            raise

    def fileno(self) -> int:
        """The socket's descriptor, for poll."""
        return int(self._sock.fileno())

    def detach(self) -> int:
        """Give the descriptor to the caller; the channel is closed."""
        return int(self._sock.detach())

    def hang_up(self) -> None:
        """End the conversation, for every duplicate of this end as well."""
        try:
            self._sock.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass  # the other end was first

    def close(self) -> None:
        """Close this end; repeating does nothing."""
        self._sock.close()


def _readable(fd: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def waits(fd: int) -> bool:
    """Whether a message waits at this end of a channel, to be received yet. Where the other end is gone none does."""
    if not _readable(fd, 0):
        return False
    sock = _socket.socket(fileno=os.dup(fd))
    try:
        return bool(_told_once(sock.recv, 1, _socket.MSG_PEEK))
    except OSError:
        return False
    finally:
        sock.close()


def _told_once(receive: Callable[..., Any], *arguments: int) -> Any:
    """What a call receives; once more where it is told that the other end went and left something unread. That comes before what the other
    end has sent, and only once."""
    try:
        return receive(*arguments)
    except ConnectionResetError:
        return receive(*arguments)


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    found: list[int] = []
    for level, kind, data in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            found += struct.unpack_from(f"{len(data) // 4}i", data)
    return found


def _body(packet: bytes, fds: list[int], flags: int) -> bytes:
    """The message's body; takes the memfd off `fds` where it lies there."""
    if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC) or len(packet) < _LENGTH.size:
        raise BadMessage("a message was cut")
    (size,) = _LENGTH.unpack_from(packet)
    if size <= _INLINE:
        body = packet[_LENGTH.size :]
    elif not fds or size > MAX_MESSAGE:
        raise BadMessage("a message has no body")
    else:
        spill = fds.pop()
        body = os.pread(spill, size, 0)
        os.close(spill)
    if len(body) != size:
        raise BadMessage("a message was cut")
    return body


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """write(2) until all is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors, whatever each close says."""
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            pass


def pair() -> tuple[Channel, Channel]:
    """Two connected ends, closed on exec."""
    left, right = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    return Channel(left), Channel(right)


def from_fd(fd: int) -> Channel:
    """Take over a descriptor that another process passed."""
    return Channel(_socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, fd))


def listen(directory: str | int, name: str, *, backlog: int = 64) -> Any:
    """A listening socket at `directory`/`name` (mode 0600), replacing a stale one; `accept` takes connections from it.

    `directory` is a path or a descriptor; it may be deeper than the 108 bytes of sun_path.
    """
    fd = directory if isinstance(directory, int) else os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        try:
            os.unlink(name, dir_fd=fd)
        except FileNotFoundError:
            pass
        sock.bind(f"/proc/self/fd/{fd}/{name}")
        os.chmod(name, 0o600, dir_fd=fd)
        sock.listen(backlog)
        return sock
    except BaseException:
        sock.close()
        raise
    finally:
        if fd is not directory:
            os.close(fd)


def accept(listener: Any) -> Channel:
    """The next connection to a listening socket; raises BlockingIOError where that is non-blocking and none waits."""
    fd, _ = listener._accept()
    return from_fd(fd)


def connect(directory: str | int, name: str, timeout: float = 0.0) -> Channel:
    """Connect to whoever listens at `directory`/`name`, and wait at most `timeout` seconds (0: for ever) where it has too many callers.

    Raises:
        ChannelClosed: nobody does.
        ChannelTimeout: it did not take the earlier callers in time.
    """
    try:
        fd = directory if isinstance(directory, int) else os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ChannelClosed(f"nobody listens on {name}") from None
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        # Not settimeout, with which the kernel would refuse at once.
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, struct.pack("ll", int(timeout), int(timeout % 1 * 1e6)))
        sock.connect(f"/proc/self/fd/{fd}/{name}")
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, struct.pack("ll", 0, 0))
        return Channel(sock)
    except BlockingIOError:
        sock.close()
        raise ChannelTimeout(f"no answer came within {timeout:g} seconds") from None
    except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
        sock.close()
        raise ChannelClosed(f"nobody listens on {name}") from None
    finally:
        if fd is not directory:
            os.close(fd)
