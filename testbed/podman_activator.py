"""What systemd's `podman.socket` does: a socket that starts Podman on the first connection.

The service takes the socket over, ends when it has been idle for a while, and is started again by
the next connection, which waits meanwhile in the socket's queue.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from testbed.podman_service import STOP_SECONDS, PodmanService, spawn_with_listener
from testbed.processes import wait_until


class Activator:
    """Holds the socket, on the store of a service that others use too."""

    def __init__(self, service: PodmanService, path: Path, idle_seconds: int, log: Path) -> None:
        """Listen at `path`; nothing is started yet."""
        self.path = path
        self.starts = 0
        self._command = [*service.command, "system", "service", "--time", str(idle_seconds)]
        self._environ = service.environ
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(128)
        self._wake, self._woken = os.pipe()
        self._thread = threading.Thread(target=self._hold, daemon=True)
        self._thread.start()

    def _hold(self) -> None:
        sources = [self._listener.fileno(), self._wake]
        while self._wake not in select.select(sources, [], [])[0]:
            with self._log.open("ab") as output:
                process = spawn_with_listener(
                    self._command,
                    self._listener,
                    output.fileno(),
                    self._environ,
                    self.path.parent,
                )
            self._process = process
            self.starts += 1
            process.wait()

    def wait_until_idle(self) -> None:
        """Wait until the service has ended by itself."""
        process = self._process
        wait_until("the idle service ends", lambda: process is None or process.poll() is not None)

    def kill(self) -> None:
        """End the service at once, as an upgrade or a lack of memory does."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Start nothing more, and end what runs."""
        os.write(self._woken, b"x")
        if self._process is not None:
            self.kill()
        self._thread.join(STOP_SECONDS)
        self._listener.close()
        self.path.unlink()
        os.close(self._wake)
        os.close(self._woken)


@contextmanager
def activated(service: PodmanService, idle_seconds: int, log: Path) -> Iterator[Activator]:
    """The store of `service`, at a socket beside its own."""
    path = service.socket.with_name("activated.sock")
    activator = Activator(service, path, idle_seconds, log)
    try:
        yield activator
    finally:
        activator.close()
