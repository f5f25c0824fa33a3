"""A small disk of a test's own, which can be full, read-only or gone. Needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Disk:
    """A tmpfs, and the one place at which it is seen. The tmpfs itself is mounted elsewhere, so
    that it is the same disk with the same files after it was away."""

    def __init__(self, itself: Path, place: Path) -> None:
        """Nothing is mounted yet."""
        self._itself = itself
        self.place = place
        self._ballast = itself / "ballast"

    def mount(self) -> None:
        """Let the disk be seen at its place."""
        _run("mount", "--bind", self._itself, self.place)

    def unmount(self) -> None:
        """Take it away, though files of it are open."""
        _run("umount", "--lazy", self.place)

    def cover_read_only(self) -> None:
        """Let all that is opened from now on be on a read-only disk, as after an error of its own.

        One on which a file is open for writing, as of a container's monitor, cannot be made so; the
        kernel does it to its own.
        """
        self.mount()
        _run("mount", "-o", "remount,bind,ro", self.place)

    def uncover(self) -> None:
        """Undo `cover_read_only`."""
        self.unmount()

    def fill(self) -> None:
        """Leave no room for another byte."""
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 20))
            except OSError:
                pass
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    def empty(self) -> None:
        """Make room again."""
        self._ballast.unlink()


@contextmanager
def small_disk(base: Path, size: str) -> Iterator[Disk]:
    """A disk of this size, mounted at `base/audit`; gone at the end, whatever was done to it."""
    itself, place = base / "disk", base / "audit"
    for directory in (itself, place):
        directory.mkdir(mode=0o700, parents=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", itself)
    _run("mount", "--make-private", itself)
    disk = Disk(itself, place)
    disk.mount()
    try:
        yield disk
    finally:
        while os.path.ismount(place):
            disk.unmount()
        _run("umount", "--lazy", itself)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)
