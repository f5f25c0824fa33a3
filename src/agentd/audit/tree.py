"""Walking a tree that a hostile session made.

Nothing here follows a symlink, opens what is not a regular file, recurses by the call stack, or
holds a descriptor for each level; paths may be longer than the kernel takes and names need not be
text. Every entry is reached through a descriptor of its own directory, so that renaming something
above it leads nowhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import AuditError
from .files import refused

_ENTRY: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_SHOWN: Final = 1024


class Entry(NamedTuple):
    """One entry of a tree, while the walk stands on it.

    `descriptor` is an O_PATH descriptor of the entry itself, valid until the walk goes on. The
    root has depth 0; `path_bytes` is the length of the path from there. `above` is the entry's
    directory, None for the root.
    """

    name: bytes
    depth: int
    path_bytes: int
    status: os.stat_result
    descriptor: int
    above: Entry | None = None

    @property
    def shown(self) -> str:
        """The path from the root's own name on, for a message; of a long path its end."""
        parts: list[bytes] = []
        here: Entry | None = self
        while here is not None:
            parts.append(here.name)
            here = here.above
        path = b"/".join(reversed(parts))
        return repr(os.fsdecode(path if len(path) <= _SHOWN else b"..." + path[-_SHOWN:]))

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory, and not a link to one."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.status.st_mode)

    @property
    def identity(self) -> tuple[int, int]:
        """What tells it from every other file: device and inode."""
        return self.status.st_dev, self.status.st_ino

    def chmod(self, mode: int) -> None:
        """Change its mode by its descriptor; no path is looked up and nothing is opened."""
        # fchmod(2) refuses an O_PATH descriptor; its link in /proc leads to the very inode.
        Path(f"/proc/self/fd/{self.descriptor}").chmod(mode)

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor for reading it; for regular files only, others could block."""
        descriptor = os.open(f"/proc/self/fd/{self.descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


class _Level(NamedTuple):
    entry: Entry
    names: list[str]


def walk(root: Path, visit: Callable[[Entry], None]) -> None:
    """Call `visit` for the directory `root` and everything below it, directories first.

    `visit` may change an entry's mode; a directory must be readable and searchable after it.

    Raises:
        AuditError: something is mounted in the tree, the tree changed while it was walked, or an
            entry below `root` cannot be read or changed.
        OSError: `root` itself cannot be opened.
    """
    descriptor = os.open(root, _ENTRY)
    try:
        top = Entry(os.fsencode(root.name), 0, 0, os.fstat(descriptor), descriptor)
        if not top.is_directory:
            raise AuditError(f"{root} is no directory any more")
        visit(top)
        _walk_below(root, top, os.open(f"/proc/self/fd/{descriptor}", _DIRECTORY), visit)
    finally:
        os.close(descriptor)


def _walk_below(root: Path, top: Entry, directory: int, visit: Callable[[Entry], None]) -> None:
    levels: list[_Level] = []
    try:
        mount = _mount(directory)
        levels.append(_Level(top, _names(directory)))
        while levels:
            here = levels[-1]
            if not here.names:
                levels.pop()
                if levels:
                    directory = _up(directory, levels[-1].entry)
                continue
            entry = _enter(directory, here)
            try:
                _refuse_mount(entry, top, mount)
                visit(entry)
                if entry.is_directory:
                    inner = os.open(f"/proc/self/fd/{entry.descriptor}", _DIRECTORY)
                    os.close(directory)
                    directory = inner
                    levels.append(_Level(entry, _names(directory)))
            except OSError as error:
                raise refused(f"read or change {entry.shown} in {root.parent}", error) from error
            finally:
                os.close(entry.descriptor)
    finally:
        os.close(directory)


def _names(directory: int) -> list[str]:
    # Sorted, so that two walks agree; taken from the end.
    return sorted(os.listdir(directory), reverse=True)


def _enter(directory: int, here: _Level) -> Entry:
    name = here.names.pop()
    descriptor = os.open(name, _ENTRY, dir_fd=directory)
    encoded = os.fsencode(name)
    above = here.entry
    length = above.path_bytes + len(encoded) + (above.depth > 0)
    return Entry(encoded, above.depth + 1, length, os.fstat(descriptor), descriptor, above)


def _refuse_mount(entry: Entry, top: Entry, mount: bytes) -> None:
    # The device number does not tell: a session without any right can make a btrfs subvolume,
    # and files on overlayfs may have another one than their directory. Nor does it differ when a
    # directory of the same file system is bound here.
    suspect = entry.is_directory or entry.status.st_dev != top.status.st_dev
    if suspect and _mount(entry.descriptor) != mount:
        raise AuditError(f"something is mounted in the record, at {entry.shown}; unmount it")


def _mount(descriptor: int) -> bytes:
    """The line of proc_pid_fdinfo(5) that names the mount of an open entry."""
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_bytes().splitlines()
    return next(line for line in lines if line.startswith(b"mnt_id:"))


def _up(directory: int, expected: Entry) -> int:
    """Exchange a directory's descriptor for its parent's, which must be the one we came from."""
    parent = os.open("..", _DIRECTORY, dir_fd=directory)
    status = os.fstat(parent)
    if (status.st_dev, status.st_ino) != expected.identity:
        os.close(parent)
        raise AuditError("the record was changed while it was walked: a directory has moved")
    os.close(directory)
    return parent
