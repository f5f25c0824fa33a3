"""Removing a tree that a hostile session made: by descriptors, following nothing, at any depth."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from .tree import Check, Entry, walk

_ENTERABLE: Final = 0o700
_BLOCK: Final = 512
"""Bytes that `st_blocks` counts in, stat(2)."""


def remove_tree(top: Path, check: Check) -> int:
    """Remove the directory `top` and all below it; gives the bytes that this freed on the disk.

    Blocking. It may be repeated after any failure. `check` is called between entries, and raises to
    end the work.

    Raises:
        AuditError: something is mounted in the tree, or an entry cannot be removed.
        OSError: `top` itself cannot be opened or removed.
    """
    removal = _Removal()
    while True:
        before = removal.removed
        walk(top, removal.visit, check, removal.leave)
        try:
            top.rmdir()
        except OSError as error:
            # Some file systems hide entries from who removes others meanwhile.
            if error.errno != errno.ENOTEMPTY or removal.removed == before:
                raise
        else:
            return removal.freed


class _Removal:
    def __init__(self) -> None:
        self.removed = 0
        self.freed = 0

    def visit(self, entry: Entry) -> None:
        if entry.is_directory:
            mode = entry.status.st_mode & 0o7777
            if mode & _ENTERABLE != _ENTERABLE:
                entry.chmod(mode | _ENTERABLE)
            return
        os.unlink(entry.name, dir_fd=entry.within)
        self.removed += 1
        if entry.status.st_nlink == 1:
            self.freed += _bytes(entry)

    def leave(self, name: bytes, within: int) -> None:
        size = os.stat(name, dir_fd=within, follow_symlinks=False).st_blocks * _BLOCK
        try:
            os.rmdir(name, dir_fd=within)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
        else:
            self.removed += 1
            self.freed += size


def tree_size(top: Path, check: Check) -> int:
    """The bytes on the disk that `remove_tree` would free. Raises as that."""
    size = 0
    seen: set[tuple[int, int]] = set()

    def visit(entry: Entry) -> None:
        nonlocal size
        if not entry.is_directory and entry.status.st_nlink > 1:
            if entry.identity in seen:
                return
            seen.add(entry.identity)
        if entry.depth:
            size += _bytes(entry)

    walk(top, visit, check)
    return size


def _bytes(entry: Entry) -> int:
    return entry.status.st_blocks * _BLOCK
