"""DNS messages, as far as a server of few names needs them (RFC 1035): questions read, answers made. Pure; only builtin modules."""

from __future__ import annotations

import _socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

A, PTR, AAAA = 1, 12, 28
SERVER_FAILURE = 2
_HEADER = struct.Struct("!HHHHHH")
_INTERNET = 1
_LIFETIME = 600
"""Seconds that an answer may be remembered: Docker's."""
_RESPONSE, _RECURSION_WANTED, _RECURSION_AVAILABLE = 0x8000, 0x0100, 0x0080
_TRUNCATED = 0x0200


class Question:
    """What is asked: `name` in lower case without the dot at its end, `kind` a record type, `end` where the question ends."""

    __slots__ = ("end", "flags", "id", "kind", "name")

    def __init__(self, number: int, flags: int, name: str, kind: int, end: int) -> None:
        self.id, self.flags, self.name, self.kind, self.end = number, flags, name, kind, end


def parse_question(message: bytes) -> Question | None:
    """The one question of a query; None where the message is something else."""
    if len(message) < _HEADER.size:
        return None
    number, flags, questions, _, _, _ = _HEADER.unpack_from(message)
    if flags & _RESPONSE or questions != 1 or flags & 0x7800:
        return None
    labels, offset = [], _HEADER.size
    while True:
        if offset >= len(message):
            return None
        length = message[offset]
        if length == 0:
            break
        if length > 63 or offset + 1 + length > len(message):
            return None
        labels.append(message[offset + 1 : offset + 1 + length])
        offset += 1 + length
    if offset + 5 > len(message) or offset - _HEADER.size > 254:
        return None
    kind, network = struct.unpack_from("!HH", message, offset + 1)
    name = b".".join(labels).lower().decode("latin-1")
    return Question(number, flags, name, kind, offset + 5) if network == _INTERNET else None


def answer(query: bytes, question: Question, records: Sequence[bytes]) -> bytes:
    """Say what the records of the question's type are; none means that the name has none of that type."""
    flags = _RESPONSE | _RECURSION_AVAILABLE | question.flags & _RECURSION_WANTED
    head = _HEADER.pack(question.id, flags, 1, len(records), 0, 0)
    body = query[_HEADER.size : question.end]
    for record in records:
        body += struct.pack("!HHHIH", 0xC00C, question.kind, _INTERNET, _LIFETIME, len(record)) + record
    return head + body


def refusal(query: bytes, question: Question, code: int) -> bytes:
    """Say that there is no answer."""
    flags = _RESPONSE | _RECURSION_AVAILABLE | question.flags & _RECURSION_WANTED | code
    return _HEADER.pack(question.id, flags, 1, 0, 0, 0) + query[_HEADER.size : question.end]


def fitting(response: bytes, limit: int = 512) -> bytes:
    """The response for a datagram: one that is too long is cut to its question, which has the client ask by TCP. A server's response may
    be anything: without a question that can be read it is cut to its head."""
    if len(response) <= limit:
        return response
    number, flags, questions, _, _, _ = _HEADER.unpack_from(response)
    end = _HEADER.size
    while end < limit and 0 < response[end] < 64:
        end += 1 + response[end]
    asked = response[_HEADER.size : end + 5] if questions == 1 and end < limit - 5 and not response[end] else b""
    return _HEADER.pack(number, flags | _TRUNCATED, bool(asked), 0, 0, 0) + asked


def encode_name(name: str) -> bytes:
    """A name as labels."""
    labels = [label.encode("latin-1", "replace")[:63] for label in name.split(".") if label]
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def reversed_address(name: str) -> str:
    """The address that a PTR question is about, as inet_ntop writes it; "" where it is about none."""
    if name.endswith(".in-addr.arpa"):
        parts = name.removesuffix(".in-addr.arpa").split(".")
        return ".".join(reversed(parts)) if len(parts) == 4 else ""
    digits = name.removesuffix(".ip6.arpa").split(".")  # RFC 3596, 2.5
    if not name.endswith(".ip6.arpa") or len(digits) != 32:
        return ""
    try:
        return _socket.inet_ntop(_socket.AF_INET6, bytes.fromhex("".join(reversed(digits))))
    except ValueError:
        return ""
