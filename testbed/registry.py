"""Debian's `docker-registry` on a loopback port of its own, which a test may stop and start.

A private Podman service takes every registry at 127.0.0.1 for an insecure one, so plain HTTP does.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.podman_service import PodmanService
from testbed.processes import Lines

USER, PASSWORD = "reader", "sesame"
# What `htpasswd -nbB reader sesame` prints: the registry knows bcrypt only.
_HTPASSWD = "reader:$2y$04$ykC/BmdMv1nwxHgItfoeTOdl57U4.LbbY.8RpmrtHuBp9EE2YHDxi\n"

_ADDRESS = "127.0.0.1"
_STOP_SECONDS = 10.0


class Registry:
    """A registry with a directory and a port of its own; not started."""

    def __init__(self, base: Path, *, private: bool = False) -> None:
        """A private one wants `USER` and `PASSWORD`."""
        base.mkdir(parents=True)
        # It keeps the port for the registry, whether that runs or not: bound and not listening, it
        # refuses connections, and lets a listener with the same option in.
        self._reservation = socket.socket()
        self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reservation.bind((_ADDRESS, 0))
        self.host = f"{_ADDRESS}:{self._reservation.getsockname()[1]}"
        # JSON is YAML.
        self._config = base / "config.yml"
        self._config.write_text(json.dumps(_config(base, self.host, private=private)))
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Lines | None = None

    def start(self) -> None:
        """Serve, if it does not yet; returns when connections are taken."""
        if self._process is not None:
            return
        # A variable such as REGISTRY_AUTH_FILE, which Podman knows too, would change the settings.
        environ = {name: text for name, text in os.environ.items() if name[:9] != "REGISTRY_"}
        self._process = subprocess.Popen(
            [_program(), "serve", self._config],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._log = Lines(self._process.stdout)
        self._log.wait_for("registry that listens", lambda line: "listening on" in line)

    def stop(self) -> None:
        """End it; connections are refused from now on."""
        if self._process is not None:
            self.go_on()
            self._process.terminate()
            self._process.wait(_STOP_SECONDS)
            self._process = None

    def fall_silent(self) -> None:
        """Take connections from now on and answer none."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End the silence."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def push(self, service: PodmanService, image: str, name: str) -> str:
        """Put an image of the service's store into the registry; its full name here."""
        full = f"{self.host}/{name}"
        # zstd takes half the time that gzip takes.
        options = ("--quiet", "--compression-format", "zstd", "--creds", f"{USER}:{PASSWORD}")
        service.podman("push", *options, image, full)
        return full

    def requests(self) -> list[str]:
        """The requests that it has answered since its start, as its log tells them."""
        assert self._log is not None
        return [line for line in self._log.text.splitlines() if '"GET /v2/' in line]

    def close(self) -> None:
        """End it and give the port back."""
        self.stop()
        self._reservation.close()


@contextmanager
def registry(base: Path, *, private: bool = False) -> Iterator[Registry]:
    """A registry that runs, and is gone at the end."""
    made = Registry(base, private=private)
    try:
        made.start()
        yield made
    finally:
        made.close()


def _program() -> str:
    found = shutil.which("docker-registry")
    if found is None:
        raise FileNotFoundError("docker-registry is not installed: run the tests by ./dev tests")
    return found


def _config(base: Path, host: str, *, private: bool) -> dict[str, object]:
    (base / "htpasswd").write_text(_HTPASSWD)
    auth = {"auth": {"htpasswd": {"realm": "testbed", "path": str(base / "htpasswd")}}}
    return {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(base / "storage")}},
        "http": {"addr": host},
        **(auth if private else {}),
    }
