"""An HTTP proxy on the loopback address that knows CONNECT alone, and remembers where it led."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_ADDRESS = "127.0.0.1"
_CHUNK_BYTES = 65536


@dataclass
class ConnectProxy:
    """A running proxy."""

    port: int
    asked: list[str] = field(default_factory=list)
    """The hosts and ports to which it was asked to lead."""

    @property
    def url(self) -> str:
        """What `https_proxy` is set to."""
        return f"http://{_ADDRESS}:{self.port}"


@contextmanager
def connect_proxy() -> Iterator[ConnectProxy]:
    """A proxy, until the exit."""

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            proxy.asked.append(self.path)
            host, _, port = self.path.rpartition(":")
            with socket.create_connection((host, int(port))) as behind:
                self.send_response(200)
                self.end_headers()
                back = threading.Thread(target=_pass_on, args=(behind, self.connection))
                back.start()
                _pass_on(self.connection, behind)
                back.join()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((_ADDRESS, 0), Handler) as server:
        proxy = ConnectProxy(server.server_port)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK_BYTES):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
