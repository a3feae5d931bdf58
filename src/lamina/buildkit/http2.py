"""gRPC's transport: HTTP/2 (RFC 9113, by h2) over a socket that is already there, for either side, and the length that stands before
each message."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from lamina.buildkit.failure import CANCELLED, UNAVAILABLE, Refused

_WINDOW = 4 << 20
_FRAME = 1 << 20
_READ = 1 << 18
_MESSAGE_LIMIT = 16 << 20  # what BuildKit's own side takes
Headers = Sequence[tuple[str, str]]


class Gone(Refused):
    """The other side is gone, or gave this call up."""


class Stream:
    """One call: messages both ways. Any thread may send, one at a time; one may receive."""

    def __init__(self, transport: Transport, number: int, fields: Headers = ()) -> None:
        """`fields` are the headers that came; `headers` has the last of equal names."""
        self._transport, self.number, self.fields, self.headers = transport, number, fields, dict(fields)
        self._arrived: queue.SimpleQueue[tuple[bytes, int] | None] = queue.SimpleQueue()
        self._buffer = bytearray()
        self._failure: Refused | None = None
        self._ended = self._answered = False
        self._callbacks: list[Callable[[], None]] = []

    def receive(self) -> bytes | None:
        """The next message; None where the other side has no more.

        Raises:
            Refused: the other side ended the call with an error, or is gone.
        """
        if not self._reaches(5):
            return None
        size = int.from_bytes(self._buffer[1:5])
        if self._buffer[0] or size > _MESSAGE_LIMIT:
            raise Refused("a message is compressed or too long")
        if not self._reaches(5 + size):
            return None
        message = bytes(self._buffer[5 : 5 + size])
        del self._buffer[: 5 + size]
        return message

    def _reaches(self, size: int) -> bool:
        """Whether so many bytes have come, or yet come, before the end."""
        while len(self._buffer) < size:
            if self._ended:
                if self._failure is not None:
                    raise self._failure
                return False
            got = self._arrived.get()
            if got is None:
                self._ended = True
                continue
            self._buffer += got[0]
            self._transport.taken(self.number, got[1])
        return True

    def send(self, message: bytes, *, last: bool = False) -> None:
        """Send one message, and with `last` that no more will come; waits while the other side has no room.

        Raises:
            Gone: it can no longer be sent.
        """
        self._transport.send(self, b"\0" + len(message).to_bytes(4) + message, last=last)

    def finish(self) -> None:
        """Say that no more will come from this side."""
        self._transport.send(self, b"", last=True)

    def headers_once(self) -> None:
        """The serving side's first headers, before its first message."""
        if not self._answered:
            self._answered = True
            self._transport.headers(self, ((":status", "200"), ("content-type", "application/grpc")))

    def trailers(self, trailers: Headers) -> None:
        """End the call from the serving side."""
        with contextlib.suppress(Gone):
            self.headers_once()
            self._transport.headers(self, trailers, last=True)

    def cancel(self) -> None:
        """Give the call up."""
        self._transport.reset(self)

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Have `callback` called once the other side has given the call up or is gone."""
        self._callbacks.append(callback)
        if self.gone:
            callback()

    @property
    def gone(self) -> bool:
        """Whether nobody waits for it any more."""
        return isinstance(self._failure, Gone)

    def arrived(self, data: bytes, counted: int) -> None:
        """For the transport: bytes came; `counted` is what they count for flow control."""
        self._arrived.put((data, counted))

    def over(self, failure: Refused | None) -> None:
        """For the transport: nothing more will come."""
        if self._failure is None:
            self._failure = failure
        self._arrived.put(None)
        if isinstance(failure, Gone):
            for callback in self._callbacks:
                callback()


class Transport:
    """One connection. `serve`, on the serving side, is given each call in a thread of its own; without it this side calls."""

    def __init__(self, sock: socket.socket, serve: Callable[[Stream], None] | None = None) -> None:
        self._sock, self._serve = sock, serve
        config = h2.config.H2Configuration(client_side=serve is None, header_encoding="utf-8", validate_inbound_headers=False)
        self._h2 = h2.connection.H2Connection(config)
        self._h2.local_settings = h2.settings.Settings(
            client=serve is None,
            initial_values={
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
                h2.settings.SettingCodes.MAX_FRAME_SIZE: _FRAME,
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1000,
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
            },
        )
        self._h2.max_inbound_frame_size = _FRAME
        self._room = threading.Condition()
        self._streams: dict[int, Stream] = {}
        self._closed = False
        # Now, not in `run`: a call may be made before that has begun, and this side's preface comes first.
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_WINDOW * 4)
        with contextlib.suppress(OSError):
            self._flush()

    def run(self, pending: bytes = b"") -> None:
        """Read until the connection ends; `pending` was read before."""
        try:
            while data := pending or self._sock.recv(_READ):
                pending = b""
                with self._room:
                    events = self._h2.receive_data(data)
                    self._flush()
                for event in events:
                    self._event(event)
        except (OSError, h2.exceptions.ProtocolError):
            pass
        finally:
            self._over()

    def call(self, path: str, metadata: Headers = ()) -> Stream:
        """Begin a call.

        Raises:
            Gone: the connection is.
        """
        head = ((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost"))
        rest = (("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "lamina"), *metadata)
        with self._room:
            if self._closed:
                raise Gone("the client is gone", code=UNAVAILABLE)
            number = self._h2.get_next_available_stream_id()
            stream = self._streams[number] = Stream(self, number)
            self._h2.send_headers(number, [*head, *rest])
            self._flush()
        return stream

    def close(self) -> None:
        """Cut the connection."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def headers(self, stream: Stream, headers: Headers, *, last: bool = False) -> None:
        """Send headers or trailers of a call.

        Raises:
            Gone: it is over.
        """
        with self._room, _translated():
            self._check(stream)
            self._h2.send_headers(stream.number, list(headers), end_stream=last)
            self._flush()

    def send(self, stream: Stream, data: bytes, *, last: bool = False) -> None:
        """Send bytes of a call, as fast as the other side has room."""
        view = memoryview(data)
        with self._room, _translated():
            while view or last:
                self._check(stream)
                room = min(self._h2.local_flow_control_window(stream.number), self._h2.max_outbound_frame_size)
                if view and room <= 0:
                    self._room.wait()
                    continue
                piece, view = view[:room], view[room:]
                self._h2.send_data(stream.number, bytes(piece), end_stream=last and not view)
                self._flush()
                if not view:
                    return

    def taken(self, number: int, counted: int) -> None:
        """That many bytes of a call were used: the other side may send as many more."""
        with self._room, contextlib.suppress(h2.exceptions.ProtocolError, KeyError, OSError):
            if counted and not self._closed:
                self._h2.acknowledge_received_data(counted, number)
                self._flush()

    def reset(self, stream: Stream) -> None:
        """Give a call up."""
        with self._room, contextlib.suppress(h2.exceptions.ProtocolError, OSError):
            self._h2.reset_stream(stream.number, h2.errors.ErrorCodes.CANCEL)
            self._flush()
            self._room.notify_all()
        stream.over(Gone("the call was given up", code=CANCELLED))

    def _check(self, stream: Stream) -> None:
        if self._closed or stream.gone:
            raise Gone("the client is gone", code=UNAVAILABLE)

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data:
            self._sock.sendall(data)

    def _event(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.DataReceived(stream_id=number, data=data, flow_controlled_length=counted):
                stream = self._streams.get(number)
                if stream is None:
                    self.taken(number, counted)
                else:
                    stream.arrived(data, counted)
            case h2.events.RequestReceived(stream_id=number, headers=headers):
                self._begin(number, _texts(headers))
            case (
                h2.events.ResponseReceived(stream_id=number, headers=headers)
                | h2.events.TrailersReceived(stream_id=number, headers=headers)
            ):
                self._answered(number, dict(_texts(headers)))
            case h2.events.StreamEnded(stream_id=number):
                self._end(number, None)
            case h2.events.StreamReset(stream_id=number):
                self._end(number, Gone("the call was given up", code=CANCELLED))
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                with self._room:
                    self._room.notify_all()

    def _begin(self, number: int, fields: Headers) -> None:
        stream = self._streams[number] = Stream(self, number, fields)
        if self._serve is not None:
            threading.Thread(target=self._attend, args=(stream, self._serve), name="grpc", daemon=True).start()

    def _attend(self, stream: Stream, serve: Callable[[Stream], None]) -> None:
        try:
            serve(stream)
        except (OSError, Gone):
            pass
        finally:
            self._streams.pop(stream.number, None)

    def _answered(self, number: int, headers: Mapping[str, str]) -> None:
        stream, status = self._streams.get(number), headers.get("grpc-status")
        if stream is not None and status not in (None, "0"):
            stream.over(Refused(unquote(headers.get("grpc-message", "")), code=int(status or 2)))

    def _end(self, number: int, failure: Refused | None) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        if self._serve is None or failure is not None:
            self._streams.pop(number, None)
        stream.over(failure)
        with self._room:
            self._room.notify_all()

    def _over(self) -> None:
        with self._room:
            self._closed = True
            self._room.notify_all()
        for stream in list(self._streams.values()):
            stream.over(Gone("the client is gone", code=UNAVAILABLE))


def _texts(headers: Sequence[tuple[bytes | str, bytes | str]]) -> Headers:
    return [(str(name), str(value)) for name, value in headers]


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (h2.exceptions.ProtocolError, OSError) as error:
        raise Gone(f"the client is gone: {error}", code=UNAVAILABLE) from None
