"""A socket in front of a Podman service that spoils chosen calls, and passes on all others.

What it spoils is a request by its method and path, as `POST /containers/create`; how is one of
the functions below. Each connection carries one request, so a spoiled one harms no other.
"""

from __future__ import annotations

import json
import re
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from testbed.processes import wait_until

_CHUNK_BYTES = 65536
_HEAD = re.compile(rb"(\w+) (?:/v4\.0\.0/libpod)?(/[^ ?]*)[^\r]*\r\n.*?\r\n\r\n", re.DOTALL)
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)\r\n")

WORDS = "the storage is on fire"
"""What a spoiled service says of itself."""

Fault: TypeAlias = Callable[[socket.socket, bytes, Path], None]
"""Serves one client, whose request is not read yet but given, in place of the service."""


def internal_error(client: socket.socket, request: bytes, _service: Path) -> None:
    """Answer 500 in the words of Podman; the service hears of nothing."""
    _read(client, len(request))
    body = json.dumps({"cause": WORDS, "message": f"internal: {WORDS}", "response": 500}).encode()
    head = f"HTTP/1.1 500 Internal Server Error\r\nContent-Length: {len(body)}\r\n"
    client.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)


def reset(_client: socket.socket, _request: bytes, _service: Path) -> None:
    """Reset the connection, as closing does while there is something to read; nothing is done."""


def cut_in_headers(client: socket.socket, request: bytes, service: Path) -> None:
    """Let the service do what is asked, and break off within the headers of its reply."""
    with _asked(client, request, service) as behind:
        client.sendall(behind.recv(_CHUNK_BYTES)[:20])


def cut_in_body(client: socket.socket, request: bytes, service: Path) -> None:
    """Let the service do what is asked, and break off half way through the body of its reply."""
    with _asked(client, request, service) as behind:
        data = b""
        while not data.partition(b"\r\n\r\n")[2] and (more := behind.recv(_CHUNK_BYTES)):
            data += more
        head, gap, body = data.partition(b"\r\n\r\n")
        # A reply without a body is cut before the end of its head.
        client.sendall(head + gap + body[: len(body) // 2] if body else head[:-5])


@dataclass
class _Plan:
    call: re.Pattern[str]
    fault: Fault
    left: int | None
    hits: int = 0


@dataclass
class FaultyProxy:
    """A listening socket; each connection to it is one to the service behind it."""

    path: Path
    service: Path
    _plans: list[_Plan] = field(default_factory=list)
    _streams: set[socket.socket] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Listen, without faults until there are some."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(128)
        threading.Thread(target=self._accept, daemon=True).start()

    def spoil(self, call: str, fault: Fault, times: int | None = None) -> None:
        """Spoil the next so many calls, or all, whose `METHOD /path` the expression matches."""
        self._plans.append(_Plan(re.compile(call), fault, times))

    def wait_for_hits(self, hits: int) -> None:
        """Wait until so many calls have been spoiled."""
        wait_until(f"{hits} calls are spoiled", lambda: self.hits >= hits)

    @property
    def hits(self) -> int:
        """How many calls were spoiled."""
        return sum(plan.hits for plan in self._plans)

    def heal(self) -> None:
        """Spoil nothing more."""
        for plan in self._plans:
            plan.left = 0

    def forget(self) -> None:
        """Spoil nothing, and count from nought."""
        self._plans.clear()

    def break_streams(self) -> None:
        """Break off whatever reply is under way."""
        for stream in tuple(self._streams):
            with suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            request = _peek(client)
            if head := _HEAD.match(request):
                self._fault(f"{head[1].decode()} {head[2].decode()}")(client, request, self.service)

    def _fault(self, call: str) -> Fault:
        for plan in self._plans:
            if plan.left != 0 and plan.call.search(call):
                plan.hits += 1
                plan.left = None if plan.left is None else plan.left - 1
                return plan.fault
        return self._pass_on

    def _pass_on(self, client: socket.socket, request: bytes, service: Path) -> None:
        with _asked(client, request, service) as behind:
            # A client that goes away shows by the end of what it sends.
            threading.Thread(target=_close_with, args=(client, behind), daemon=True).start()
            self._streams.add(client)
            try:
                while data := behind.recv(_CHUNK_BYTES):
                    client.sendall(data)
            finally:
                self._streams.discard(client)
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Take no connection any more, and break all that are open."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.break_streams()


def _peek(client: socket.socket) -> bytes:
    """The head of the request that comes, left unread."""
    seen = -1
    while True:
        # Blocks for the first byte; for more there is no event while the first is unread.
        data = client.recv(_CHUNK_BYTES, socket.MSG_PEEK)
        if not data or len(data) == seen or b"\r\n\r\n" in data:
            return data[: data.find(b"\r\n\r\n") + 4]
        seen = len(data)


def _read(client: socket.socket, size: int) -> bytes:
    """The request whose head has this size, read with its body."""
    data = b""
    while len(data) < size and (more := client.recv(size - len(data))):
        data += more
    length = _LENGTH.search(data)
    size += int(length[1]) if length else 0
    while len(data) < size and (more := client.recv(size - len(data))):
        data += more
    return data


@contextmanager
def _asked(client: socket.socket, request: bytes, service: Path) -> Iterator[socket.socket]:
    """A connection to the service, which has the whole request and closes after its reply."""
    with socket.socket(socket.AF_UNIX) as behind:
        behind.connect(str(service))
        whole = _read(client, len(request))
        line, _, rest = whole.partition(b"\r\n")
        rest = re.sub(rb"(?i)^connection:[^\r]*\r\n", b"", rest, flags=re.MULTILINE)
        behind.sendall(line + b"\r\nConnection: close\r\n" + rest)
        yield behind


def _close_with(client: socket.socket, behind: socket.socket) -> None:
    with suppress(OSError):
        while client.recv(_CHUNK_BYTES):
            pass
        behind.shutdown(socket.SHUT_RDWR)


@contextmanager
def faulty_proxy(service: Path) -> Iterator[FaultyProxy]:
    """A proxy in front of the service's socket; in a directory with a short path."""
    with tempfile.TemporaryDirectory(prefix="agentd-proxy-") as directory:
        proxy = FaultyProxy(Path(directory, "podman.sock"), service)
        try:
            yield proxy
        finally:
            proxy.close()
