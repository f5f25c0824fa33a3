"""A socket in front of a Podman service that holds every reply back for a while.

Requests pass at once, so what they ask for happens in time; only the answer is late, as from a
service whose host is busy.
"""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CHUNK_BYTES = 65536


class SlowProxy:
    """A listening socket; each connection to it is one to the service behind it."""

    def __init__(self, path: Path, service: Path) -> None:
        """Listen on `path`, without delay until `delay_seconds` is set."""
        self.path = path
        self.delay_seconds = 0.0
        self._service = service
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(128)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Pass on what comes from either end, until one of them is closed."""
        with client, socket.socket(socket.AF_UNIX) as service:
            service.connect(str(self._service))
            requests = threading.Thread(target=_pass_on, args=(client, service, lambda: 0.0))
            requests.start()
            _pass_on(service, client, lambda: self.delay_seconds)
            requests.join()

    def close(self) -> None:
        """Take no connection any more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _pass_on(
    source: socket.socket, target: socket.socket, delay_seconds: Callable[[], float]
) -> None:
    with suppress(OSError):
        while data := source.recv(_CHUNK_BYTES):
            time.sleep(delay_seconds())
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def slow_proxy(service: Path) -> Iterator[SlowProxy]:
    """A proxy in front of the service's socket; in a directory with a short path."""
    with tempfile.TemporaryDirectory(prefix="agentd-proxy-") as directory:
        proxy = SlowProxy(Path(directory, "podman.sock"), service)
        try:
            yield proxy
        finally:
            proxy.close()
