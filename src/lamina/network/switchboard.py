"""The switchboard: a small single-threaded process that answers names for containers and holds their ports of the host.

It outlives the daemon as containers do, and ends when nobody needs it. DNS sockets lie in the containers' network namespaces,
where launchers made them; what it does not know is asked of the host's servers. Of published ports it holds the sockets, and
forwards what the kernel does not translate: connections by ::1, or by IPv6 to a container without it. It listens on
ROOT/run/switchboard.sock; each message is answered by {"ok": true}:

    {"op": "names", "container", "endpoints": [{"network", "name", "names": […], "addresses": […], "links": {alias: name}}],
     "links": {alias: name}, "servers": […], "outside": bool}  replaces what is known of a container; an alias that an endpoint has
                                                           holds on its network, others hold on all
    {"op": "serve", "container"} + UDP socket, TCP socket  the container asks here
    {"op": "ports", "container", "ports": [[protocol, address, port], …]} + sockets
    {"op": "lead", "container", "to": [address, address]}  where its ports by IPv4 and by IPv6 lead from now on, "" for nowhere
    {"op": "watch", "container"} + pidfd                   all of it ends with that process
    {"op": "drop", "container"}    {"op": "list"} -> {"containers": {id: [what it has here]}}    {"op": "end"}
"""

from __future__ import annotations

import _socket
import errno
import os
import select
import sys
import time

from lamina.linux import channel
from lamina.network import names
from lamina.network.forwarding import Datagrams, Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SOCKET = "switchboard.sock"
_IDLE = 60.0
"""Seconds after which it ends where no container needs it."""
_PATIENCE = 2.5
"""Seconds that a server is waited for before the next is asked."""
_MOST_PENDING, _MOST_OF_ONE = 512, 256
"""Questions that are passed on at a time, of all containers and of one: a container that asks without end leaves room for others."""
_MOST_DIALOGUES = 32
"""Connections on which a container may ask at a time: those of one must not take the descriptors that all others need."""
_MOST_FAILURES = 10
"""Times in a row that a descriptor's handler may fail before it is heard no more: one that fails before it has read is called without end."""


class Container:
    """What is held for one container."""

    __slots__ = ("datagrams", "dialogues", "endpoints", "fds", "links", "outside", "servers", "targets", "watched")

    def __init__(self) -> None:
        self.endpoints: list[dict[str, Any]] = []
        self.links: dict[str, str] = {}
        self.servers: list[str] = []
        self.outside = True
        self.fds: dict[int, str] = {}
        self.datagrams: dict[int, Datagrams] = {}
        self.targets: dict[int, str] = {}
        self.dialogues = 0
        self.watched = False


class Pending:
    """A question that was passed on: who asked (`reply` takes the answer), and where it is asked now."""

    __slots__ = ("container", "deadline", "query", "reply", "servers", "sock")

    def __init__(self, container: Container, query: bytes, reply: Callable[[bytes], None]) -> None:
        self.container, self.query, self.reply = container, query, reply
        self.servers = list(container.servers)
        self.sock: Any = None
        self.deadline = 0.0


class Switchboard:
    """Everything the process knows."""

    def __init__(self, listener: Any, directory: str) -> None:
        self._listener, self._place = listener, os.path.join(directory, SOCKET)
        self._containers: dict[str, Container] = {}
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._pending: dict[int, Pending] = {}
        self._failures: dict[int, int] = {}
        self._turn = 0
        self._ended = False
        self._last_use = time.monotonic()
        self.watch(listener.fileno(), lambda _: self._accept())

    # --- the loop

    def watch(self, fd: int, handler: Callable[[int], None], events: int = select.EPOLLIN) -> None:
        """Call `handler` with the events whenever `fd` is ready."""
        if fd in self._handlers:
            self._poll.modify(fd, events)
        else:
            self._poll.register(fd, events)
        self._handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """No more; before the descriptor is closed."""
        self._failures.pop(fd, None)
        if self._handlers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def serve(self) -> None:
        """Work until told to end, or until nobody needs it."""
        while not self._ended:
            for fd, events in self._poll.poll(0.5 if self._pending else _IDLE):
                self._handle(fd, events)
            self._overdue()
            if self._containers:
                self._last_use = time.monotonic()
            elif time.monotonic() - self._last_use > _IDLE or not os.path.exists(self._place):
                self._end()

    def _handle(self, fd: int, events: int) -> None:
        handler = self._handlers.get(fd)
        try:
            if handler is not None:
                handler(events)
            self._failures.pop(fd, None)  # only those in a row count
        except Exception:
            # Whatever one container or server has sent: the names and ports of all others must not go with it.
            self._failures[fd] = self._failures.get(fd, 0) + 1
            if self._failures[fd] >= _MOST_FAILURES and fd != self._listener.fileno():
                self.forget(fd)

    def _end(self) -> None:
        self._listener.close()
        try:
            os.unlink(self._place)
        except OSError:
            pass
        self._ended = True

    # --- engines

    def _accept(self) -> None:
        try:
            connection = channel.accept(self._listener)
        except OSError:
            return  # it went away before it was accepted, or no descriptor is left: it waits
        self.watch(connection.fileno(), lambda _: self._answer(connection))

    def _answer(self, connection: channel.Channel) -> None:
        try:
            message, fds = connection.recv()
            connection.send(self._perform(message, fds))
        except (channel.ChannelClosed, channel.BadMessage, OSError):
            self.forget(connection.fileno())
            connection.close()

    def _perform(self, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        operation, who = message.get("op"), str(message.get("container", ""))
        self._last_use = time.monotonic()
        if operation == "names":
            self._learn(self._known(who), message)
        elif operation == "serve" and len(fds) == 2:
            self._serve_names(who, *fds)
        elif operation == "ports" and len(fds) == len(message["ports"]):
            self._hold(self._known(who), message["ports"], fds)
        elif operation == "lead" and who in self._containers:
            self._lead(self._containers[who], *message["to"])
        elif operation == "watch" and len(fds) == 1:
            self._watch_end(who, fds[0])
        else:
            channel.close_all(fds)
        if operation == "drop":
            self._drop(who)
        elif operation == "list":
            return {"ok": True, "containers": {name: sorted(set(found.fds.values())) for name, found in self._containers.items()}}
        elif operation == "end":
            self._end()
        return {"ok": True}

    def _known(self, who: str) -> Container:
        return self._containers.setdefault(who, Container())

    def _learn(self, container: Container, message: dict[str, Any]) -> None:
        container.endpoints = [{**endpoint, "links": _lower(endpoint.get("links", {}))} for endpoint in message["endpoints"]]
        links, local = _lower(message["links"]), {alias for endpoint in container.endpoints for alias in endpoint["links"]}
        container.links = {alias: name for alias, name in links.items() if alias not in local}
        container.servers, container.outside = list(message["servers"]), bool(message["outside"])

    def _watch_end(self, who: str, pidfd: int) -> None:
        container = self._known(who)
        container.watched = True
        self._keep(container, pidfd, "end", lambda _: self._drop(who))

    def _keep(self, container: Container, fd: int, what: str, handler: Callable[[int], None]) -> None:
        container.fds[fd] = what
        self.watch(fd, handler)

    def _drop(self, who: str) -> None:
        container = self._containers.pop(who, None)
        for datagrams in container.datagrams.values() if container else ():
            datagrams.lead("")
        for fd in container.fds if container else ():
            self.forget(fd)
            os.close(fd)

    # --- ports

    def _hold(self, container: Container, ports: list[list[Any]], fds: list[int]) -> None:
        for (protocol, address, port), fd in zip(ports, fds, strict=True):
            os.set_blocking(fd, False)
            container.targets[fd] = address
            if protocol == "udp":
                datagrams = container.datagrams[fd] = Datagrams(self, fd, address, port)
                self._keep(container, fd, "port", datagrams.from_outside)
            else:
                self._keep(container, fd, "port", self._forwarder(container, fd, port))

    def _lead(self, container: Container, to4: str, to6: str) -> None:
        for fd in container.targets:
            address = container.targets[fd] = to6 if _family(fd) == _socket.AF_INET6 else to4
            if fd in container.datagrams:
                container.datagrams[fd].lead(address)

    def _forwarder(self, container: Container, fd: int, port: int) -> Callable[[int], None]:
        def connected(_: int) -> None:
            accepted = accept(fd)
            if accepted < 0:
                return
            try:
                if not container.targets[fd]:
                    raise OSError(errno.EHOSTUNREACH, "it leads nowhere")
                Stream(self, accepted, container.targets[fd], port)
            except OSError:
                os.close(accepted)  # or no descriptor is left: this client is turned away

        return connected

    # --- names

    def _serve_names(self, who: str, udp: int, tcp: int) -> None:
        container = self._known(who)
        for fd in (udp, tcp):
            os.set_blocking(fd, False)
        self._keep(container, udp, "names", lambda _: self._datagram(container, udp))
        self._keep(container, tcp, "names", lambda _: self._dialogue(container, tcp))

    def _datagram(self, container: Container, fd: int) -> None:
        try:
            sock = _socket.socket(-1, -1, -1, os.dup(fd))
        except OSError:
            return  # no descriptor is left: whoever asks will ask again
        try:
            query, client = sock.recvfrom(4096)
        except OSError:
            sock.close()
            return

        def reply(response: bytes) -> None:
            try:
                sock.sendto(names.fitting(response, 1232), client)
            except OSError:
                pass
            sock.close()

        self._ask(container, query, reply, lambda: sock.close())

    def _dialogue(self, container: Container, fd: int) -> None:
        accepted = accept(fd)
        if accepted < 0:
            return
        if container.dialogues >= _MOST_DIALOGUES:
            os.close(accepted)
            return
        container.dialogues += 1
        sock = _socket.socket(-1, -1, -1, accepted)
        sock.setblocking(False)
        got = bytearray()

        def close() -> None:
            self.forget(accepted)
            sock.close()
            container.dialogues -= 1

        def reply(response: bytes) -> None:
            try:
                sock.sendall(len(response).to_bytes(2, "big") + response)
            except OSError:
                pass
            close()

        def readable(_: int) -> None:
            try:
                data = sock.recv(4096)
            except OSError:
                data = b""
            got.extend(data)
            if not data or len(got) > 4096:
                close()
            elif len(got) >= 2 and len(got) >= 2 + int.from_bytes(got[:2], "big"):
                self.forget(accepted)
                self._ask(container, bytes(got[2 : 2 + int.from_bytes(got[:2], "big")]), reply, close)

        self.watch(accepted, readable)

    def _ask(self, container: Container, query: bytes, reply: Callable[[bytes], None], ignore: Callable[[], None]) -> None:
        """Answer a query, now or when a server has: one of the two callables is called, once."""
        question = names.parse_question(query)
        if question is None:
            ignore()
            return
        records = self._look_up(container, question)
        if records is not None:
            reply(names.answer(query, question, records))
        elif not container.outside or not container.servers or self._crowded(container):
            reply(names.refusal(query, question, names.SERVER_FAILURE))
        else:
            self._pass_on(Pending(container, query, reply))

    def _crowded(self, container: Container) -> bool:
        own = sum(pending.container is container for pending in self._pending.values())
        return own >= _MOST_OF_ONE or len(self._pending) >= _MOST_PENDING

    def _look_up(self, container: Container, question: names.Question) -> list[bytes] | None:
        """The records of a name that a network of the container's has; None where none has it."""
        if question.kind == names.PTR:
            found = self._name_of(container, names.reversed_address(question.name))
            return [names.encode_name(found)] if found else None
        addresses: list[str] | None = None
        for own in container.endpoints:
            wanted = own["links"].get(question.name) or container.links.get(question.name, question.name)
            for other in self._containers.values():
                for endpoint in other.endpoints:
                    if endpoint["network"] == own["network"] and self._called(endpoint, wanted):
                        addresses = [*(addresses or []), *endpoint["addresses"]]
            if addresses is not None:
                break
        if addresses is None:
            return None
        family = {names.A: _socket.AF_INET, names.AAAA: _socket.AF_INET6}.get(question.kind)
        records = [
            _socket.inet_pton(family, address) for address in addresses if family and (":" in address) == (family == _socket.AF_INET6)
        ]
        # Whoever takes the first address reaches all of a name's containers in turn.
        self._turn += 1
        turn = self._turn % len(records) if records else 0
        return records[turn:] + records[:turn]

    def _called(self, endpoint: dict[str, Any], name: str) -> bool:
        return any(name in (known.lower(), f"{known.lower()}.{endpoint['name'].lower()}") for known in endpoint["names"])

    def _name_of(self, container: Container, address: str) -> str:
        for own in container.endpoints:
            for other in self._containers.values():
                for endpoint in other.endpoints:
                    if endpoint["network"] == own["network"] and address in endpoint["addresses"] and endpoint["names"]:
                        return f"{endpoint['names'][0]}.{endpoint['name']}"
        return ""

    def _pass_on(self, pending: Pending) -> None:
        """Ask the next server; SERVFAIL after the last."""
        while pending.servers:
            server = pending.servers.pop(0)
            family = _socket.AF_INET6 if ":" in server else _socket.AF_INET
            try:
                sock = _socket.socket(family, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
                sock.connect((server, 53))
                sock.send(pending.query)
            except OSError:
                continue
            pending.sock, pending.deadline = sock, time.monotonic() + _PATIENCE
            self._pending[sock.fileno()] = pending
            self.watch(sock.fileno(), lambda _: self._answered(pending))
            return
        question = names.parse_question(pending.query)
        if question is not None:
            pending.reply(names.refusal(pending.query, question, names.SERVER_FAILURE))

    def _answered(self, pending: Pending) -> None:
        try:
            response = pending.sock.recv(65535)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EINTR):
                return
            response = b""
        if response and response[:2] != pending.query[:2]:
            return
        self._settle(pending)
        if response:
            pending.reply(response)
        else:
            self._pass_on(pending)

    def _settle(self, pending: Pending) -> None:
        self._pending.pop(pending.sock.fileno(), None)
        self.forget(pending.sock.fileno())
        pending.sock.close()

    def _overdue(self) -> None:
        now = time.monotonic()
        for pending in [pending for pending in self._pending.values() if pending.deadline < now]:
            self._settle(pending)
            self._pass_on(pending)


def _lower(links: dict[str, str]) -> dict[str, str]:
    return {alias.lower(): name.lower() for alias, name in links.items()}


def _family(fd: int) -> int:
    sock = _socket.socket(-1, -1, -1, os.dup(fd))
    try:
        return int(sock.family)
    finally:
        sock.close()


def accept(fd: int) -> int:
    """The next connection of a listening socket, -1 where there is none, or no descriptor for it."""
    try:
        listener: Any = _socket.socket(-1, -1, -1, os.dup(fd))
    except OSError:
        return -1
    try:
        return int(listener._accept()[0])
    except OSError:
        return -1
    finally:
        listener.close()


def main() -> None:
    """`switchboard DIRECTORY READY`: listen in DIRECTORY, say so by closing descriptor READY."""
    directory, ready = sys.argv[-2], int(sys.argv[-1])
    listener = channel.listen(directory, SOCKET)
    os.close(ready)
    Switchboard(listener, directory).serve()


if __name__ == "__main__":
    main()
