"""Git repositories served on the loopback address, which containers reach by the host's network."""

from __future__ import annotations

import os
import socketserver
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_ADDRESS = "127.0.0.1"
_IDENTITY = {
    f"GIT_{role}_{field}": text
    for role in ("AUTHOR", "COMMITTER")
    for field, text in (("NAME", "testbed"), ("EMAIL", "testbed@example.invalid"))
}


@dataclass(frozen=True)
class GitDaemon:
    """A running git server and the directory it serves."""

    base: Path
    port: int

    def url(self, name: str) -> str:
        """The clone URL of a repository."""
        return f"git://{_ADDRESS}:{self.port}/{name}"

    def add_repository(
        self,
        name: str,
        files: Mapping[str, str],
        links: Mapping[str, str] | None = None,
        submodules: Mapping[str, str] | None = None,
    ) -> str:
        """Make a repository with one commit of these files and symlinks; return its clone URL.

        `submodules` are URLs by path, each at a commit that exists nowhere.
        """
        repository = self.base / name
        _git("init", "--quiet", "--bare", "--initial-branch=main", str(repository))
        with tempfile.TemporaryDirectory() as tree:
            for path, text in files.items():
                target = Path(tree, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
            for path, goal in (links or {}).items():
                Path(tree, path).symlink_to(goal)
            there = (f"--git-dir={repository}", f"--work-tree={tree}")
            modules = Path(tree, ".gitmodules")
            for path, url in (submodules or {}).items():
                with modules.open("a") as file:
                    file.write(f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n')
            _git(*there, "add", "--all", "--force")
            for path in submodules or {}:
                entry = f"160000,{'1' * 40},{path}"
                _git(*there, "update-index", "--add", "--cacheinfo", entry)
            _git(*there, "commit", "--quiet", "--allow-empty", "--message=The first commit")
        return self.url(name)


@contextmanager
def git_daemon(base: Path, port: int = 0) -> Iterator[GitDaemon]:
    """Serve the repositories below `base`, by default on a free port."""
    base.mkdir(parents=True, exist_ok=True)
    with _Listener(base, port) as listener:
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield GitDaemon(base, listener.server_address[1])
        finally:
            listener.shutdown()
            thread.join()


class _Listener(socketserver.ThreadingTCPServer):
    """Hands each connection to a `git daemon --inetd` of its own.

    Owning the listening socket spares us both guessing a free port and waiting for readiness.
    """

    allow_reuse_address = True

    def __init__(self, base: Path, port: int) -> None:
        self.base = base
        super().__init__((_ADDRESS, port), _Connection)


class _Connection(socketserver.BaseRequestHandler):
    server: _Listener

    def handle(self) -> None:
        subprocess.run(
            [
                *("git", "daemon", "--inetd", "--export-all"),
                *(f"--base-path={self.server.base}", str(self.server.base)),
            ],
            check=False,
            env=git_environment(),
            stdin=self.request,
            stdout=self.request,
            stderr=subprocess.DEVNULL,
        )


def _git(*args: str) -> None:
    subprocess.run(["git", *args], check=True, env=git_environment(), stdin=subprocess.DEVNULL)


def git_environment() -> dict[str, str]:
    """An environment in which no configuration of the machine or its user counts."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    return inherited | _IDENTITY | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
