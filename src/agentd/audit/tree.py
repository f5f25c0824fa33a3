"""Walking a tree that a hostile session made.

Nothing here follows a symlink, opens what is not a regular file, recurses by the call stack, or
holds a descriptor for each level; paths may be longer than the kernel takes and names need not be
text. Every entry is reached through a descriptor of its own directory, so that renaming something
above it leads nowhere. Of a directory's files only a batch of names is held in memory at a time.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from ..errors import AuditError
from .files import refused

_ENTRY: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_SHOWN: Final = 1024
_BATCH: Final = 4096

Check: TypeAlias = Callable[[], object]
"""Asked between slices of long work: it raises to end the work; what it returns is ignored."""

Leave: TypeAlias = Callable[[bytes, int], None]


class Above(NamedTuple):
    """A directory above the place where the walk stands; a deep tree has many."""

    name: bytes
    identity: tuple[int, int]
    path_bytes: int
    depth: int
    above: Above | None


class Entry(NamedTuple):
    """One entry of a tree, while the walk stands on it.

    `descriptor` is an O_PATH descriptor of the entry itself, valid until the walk goes on. The
    root has depth 0; `path_bytes` is the length of the path from there. `above` is the entry's
    directory, None for the root; `within` is a descriptor of that directory.
    """

    name: bytes
    depth: int
    path_bytes: int
    status: os.stat_result
    descriptor: int
    above: Above | None = None
    within: int = -1

    @property
    def shown(self) -> str:
        """The path from the root's own name on, for a message; of a long path its end."""
        return _shown(self.name, self.above)

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
    directory: Above
    directories: list[str]


def _stay(_name: bytes, _within: int) -> None:
    """What is done with a directory that the walk has left: nothing."""


def walk(root: Path, visit: Callable[[Entry], None], check: Check, leave: Leave = _stay) -> None:
    """Call `visit` for the directory `root` and everything below it.

    A directory comes before what it holds, and its directories after all else in it. `visit` may
    change an entry's mode, and remove it when it is no directory; a directory must be readable and
    searchable after it. `leave` is called after all in a directory below `root`, with its name and
    a descriptor of the directory that it is in. `check` is asked before each entry and while a
    large directory is read.

    Raises:
        AuditError: something is mounted in the tree, the tree changed while it was walked, or an
            entry below `root` cannot be read or changed.
        OSError: `root` itself cannot be opened.
    """
    check()
    descriptor = os.open(root, _ENTRY)
    try:
        top = Entry(os.fsencode(root.name), 0, 0, os.fstat(descriptor), descriptor)
        if not top.is_directory:
            raise AuditError(f"{root} is no directory any more")
        visit(top)
        _Walk(root, top, visit, check, leave).below(top)
    finally:
        os.close(descriptor)


class _Walk:
    """One walk: the directory that it stands in, and the way back up."""

    def __init__(
        self,
        root: Path,
        top: Entry,
        visit: Callable[[Entry], None],
        check: Check,
        leave: Leave,
    ) -> None:
        self._root = root
        self._device = top.status.st_dev
        self._mount = _mount(top.descriptor)
        self._visit = visit
        self._check = check
        self._leave = leave
        self._levels: list[_Level] = []
        self._here = -1
        """A descriptor for reading the directory of the last level."""

    def below(self, top: Entry) -> None:
        try:
            self._descend(top)
            while self._levels:
                level = self._levels[-1]
                if level.directories:
                    self._look_at(level.directories.pop(), level.directory)
                else:
                    self._ascend()
        finally:
            if self._here >= 0:
                os.close(self._here)

    def _descend(self, entry: Entry) -> None:
        """Stand in a directory and look at all in it that is none."""
        inner = os.open(f"/proc/self/fd/{entry.descriptor}", _DIRECTORY)
        if self._here >= 0:
            os.close(self._here)
        self._here = inner
        directory = Above(entry.name, entry.identity, entry.path_bytes, entry.depth, entry.above)
        directories: list[str] = []
        with os.scandir(inner) as found:
            # Sorted for the reader of a manifest; a directory too large for that is in batches.
            while names := sorted(each.name for each in islice(found, _BATCH)):
                directories += [
                    name for name in names if not self._look_at(name, directory, enter=False)
                ]
        # Taken from the end.
        directories.sort(reverse=True)
        self._levels.append(_Level(directory, directories))

    def _look_at(self, name: str, directory: Above, *, enter: bool = True) -> bool:
        """Visit an entry; false for a directory, left alone, that is not to be entered."""
        self._check()
        try:
            with _opened(self._here, name, directory) as entry:
                if entry.is_directory and not enter:
                    return False
                self._refuse_mount(entry)
                self._visit(entry)
                if entry.is_directory:
                    self._descend(entry)
        except OSError as error:
            where = f"{_shown(os.fsencode(name), directory)} in {self._root.parent}"
            raise refused(f"read or change {where}", error) from error
        return True

    def _ascend(self) -> None:
        """Stand in the directory above, which must be the one that the walk came from."""
        left = self._levels.pop().directory
        if not self._levels:
            return
        parent = os.open("..", _DIRECTORY, dir_fd=self._here)
        os.close(self._here)
        self._here = parent
        status = os.fstat(parent)
        if (status.st_dev, status.st_ino) != self._levels[-1].directory.identity:
            raise AuditError("the record was changed while it was walked: a directory has moved")
        try:
            self._leave(left.name, parent)
        except OSError as error:
            where = f"{_shown(left.name, left.above)} in {self._root.parent}"
            raise refused(f"read or change {where}", error) from error

    def _refuse_mount(self, entry: Entry) -> None:
        # The device number does not tell: a session without any right can make a btrfs subvolume,
        # and files on overlayfs may have another one than their directory. Nor does it differ when
        # a directory of the same file system is bound here.
        suspect = entry.is_directory or entry.status.st_dev != self._device
        if suspect and _mount(entry.descriptor) != self._mount:
            raise AuditError(f"something is mounted in the record, at {entry.shown}; unmount it")


@contextmanager
def _opened(directory: int, name: str, above: Above) -> Iterator[Entry]:
    descriptor = os.open(name, _ENTRY, dir_fd=directory)
    try:
        encoded = os.fsencode(name)
        length = above.path_bytes + len(encoded) + (above.depth > 0)
        entry = Entry(
            encoded, above.depth + 1, length, os.fstat(descriptor), descriptor, above, directory
        )
        # The number of an entry's names says where they are only while this is one of them.
        if not _agree(entry.status, os.stat(name, dir_fd=directory, follow_symlinks=False)):
            raise AuditError(f"{entry.shown} was replaced while the record was walked")
        yield entry
    finally:
        os.close(descriptor)


def _agree(one: os.stat_result, other: os.stat_result) -> bool:
    same = (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
    return same and (stat.S_ISDIR(one.st_mode) or one.st_nlink == other.st_nlink)


def _shown(name: bytes, above: Above | None) -> str:
    parts = [name]
    while above is not None:
        parts.append(above.name)
        above = above.above
    return quoted(b"/".join(reversed(parts)))


def quoted(path: bytes) -> str:
    """A path on one line of a message, whatever bytes it has; of a long one its end."""
    return repr(os.fsdecode(path if len(path) <= _SHOWN else b"..." + path[-_SHOWN:]))


def _mount(descriptor: int) -> bytes:
    """The line of proc_pid_fdinfo(5) that names the mount of an open entry."""
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_bytes().splitlines()
    return next(line for line in lines if line.startswith(b"mnt_id:"))
