"""The `agentd` command as a process, and a daemon that says what a test tells it to."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from agentd import wire

SECONDS = 30.0


class Result:
    """What a run of the command left behind."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        self.status = done.returncode
        self.out = done.stdout.decode()
        self.err = done.stderr.decode(errors="replace")

    def __repr__(self) -> str:
        return f"status {self.status}\n{self.out}\n{self.err}"


def agentd(*words: str | bytes, **environ: str) -> Result:
    """Run it with nothing in the environment but what a test gives."""
    done = subprocess.run(
        [sys.executable, "-m", "agentd", *words],
        check=False,
        capture_output=True,
        env={"PATH": os.environ["PATH"], "COLUMNS": "100", **environ},
        stdin=subprocess.DEVNULL,
        timeout=SECONDS,
    )
    return Result(done)


class FakeDaemon:
    """Answers so many connections with the same events, and keeps what it was asked last."""

    def __init__(self, path: Path, events: list[wire.Event], connections: int = 1) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._events = events
        self._connections = connections
        self.request: wire.Request | None = None
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        # Who closes us, and a client that goes away, end it.
        with suppress(OSError):
            for _ in range(self._connections):
                self._answer_one()

    def _answer_one(self) -> None:
        connection, _ = self._listener.accept()
        with connection, connection.makefile("rwb") as file:
            length = int.from_bytes(file.read(4), "big")
            if length:
                self.request = wire.decode_request(file.read(length))
                for event in self._events:
                    file.write(wire.frame(wire.encode(event)))

    def close(self) -> None:
        # Wakes an accept that no client has come for.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(SECONDS)
        self._listener.close()
