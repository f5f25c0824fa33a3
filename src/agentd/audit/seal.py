"""Sealing what a session left: nobody may write it any more, and a manifest says what it is.

Two walks. The first makes the tree traversable and looks for names outside the record; if it
finds one, nothing has been sealed yet. The second seals and takes digests, and refuses names that
the first has not seen. The top stays open until `seal_top`: a record that is not published is not
sealed either.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from ..errors import AuditError
from .manifest import LONGEST_PATH, ManifestWriter, text
from .tree import Check, Entry, walk

SEALED_DIRECTORY: Final = 0o555
SEALED_FILE: Final = 0o444
ACTIVE_DIRECTORY: Final = 0o700

_TRAVERSABLE: Final = 0o700


class RecordLimits(NamedTuple):
    """How much of a record gets digests: the rest is sealed and listed without."""

    bytes: int
    entries: int = 100_000


def check_tree(root: Path, check: Check) -> Mapping[tuple[int, int], int]:
    """Make `root` traversable; gives the number of names of each file that has more than one.

    Raises:
        AuditError: an entry has a name outside the tree, through which it could be changed after
            the sealing; or as `walk`.
        OSError: as `walk`.
    """
    names: dict[tuple[int, int], int] = {}
    outside: set[tuple[int, int]] = set()

    def visit(entry: Entry) -> None:
        if entry.is_directory:
            mode = entry.status.st_mode & 0o7777
            if mode & _TRAVERSABLE != _TRAVERSABLE:
                entry.chmod(mode | _TRAVERSABLE)
        # What has one name alone has it here: a large tree need not be remembered.
        elif entry.status.st_nlink > 1:
            names[entry.identity] = names.get(entry.identity, 0) + 1
            if names[entry.identity] == entry.status.st_nlink:
                outside.discard(entry.identity)
            else:
                outside.add(entry.identity)

    walk(root, visit, check)
    if outside:
        _refuse_first(root, names, outside, check)
    return names


def _refuse_first(
    root: Path,
    names: Mapping[tuple[int, int], int],
    outside: Collection[tuple[int, int]],
    check: Check,
) -> NoReturn:
    def visit(entry: Entry) -> None:
        if not entry.is_directory and entry.identity in outside:
            raise AuditError(
                f"refusing to seal multi-linked audit entry {entry.shown} in {root.parent}: it has"
                f" {entry.status.st_nlink} names, of which {names[entry.identity]} lie in the"
                " record; remove the others"
            )

    walk(root, visit, check)
    raise AuditError(f"{root} was changed while it was looked at: a multi-linked entry is gone")


def seal_tree(
    root: Path,
    known: Mapping[tuple[int, int], int],
    manifest: ManifestWriter,
    check: Check,
) -> None:
    """Seal all below `root`, and write `root` and each entry to the manifest.

    Raises:
        AuditError: an entry has got a name since that `check_tree` did not see; or as `walk`.
        OSError: as `walk`.
    """
    places = _Places(root.name)

    def visit(entry: Entry) -> None:
        links = entry.status.st_nlink
        if not entry.is_directory and links > known.get(entry.identity, 1):
            raise AuditError(
                f"{entry.shown} in {root.parent} was replaced while the record was sealed,"
                " or given another name"
            )
        mode = SEALED_DIRECTORY if entry.is_directory else SEALED_FILE
        if entry.is_symlink:
            # A link has no mode of its own to change.
            mode = entry.status.st_mode & 0o7777
        elif entry.depth:
            entry.chmod(mode)
        places.note(entry, manifest.add(entry, places.of(entry), mode, check))

    walk(root, visit, check)


def seal_top(root: Path) -> None:
    """Seal the directory `root` itself, durably. Raises `OSError`."""
    _chmod_top(root, SEALED_DIRECTORY)


def reopen_top(root: Path) -> None:
    """Give `root` the mode of an open record, as far as that is possible."""
    with suppress(OSError):
        _chmod_top(root, ACTIVE_DIRECTORY)


def _chmod_top(root: Path, mode: int) -> None:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Places:
    """Where entries are, in the manifest's words; remembers the directories above the walk."""

    def __init__(self, top: str) -> None:
        self._top = top
        self._path: list[bytes] = []
        self._lines: list[int] = []

    def of(self, entry: Entry) -> dict[str, Any]:
        if entry.path_bytes + len(self._top) < LONGEST_PATH:
            parts = [self._top.encode(), *self._path[: entry.depth - 1]]
            if entry.depth:
                parts.append(entry.name)
            path, is_text = text(b"/".join(parts))
            return {"path": path} if is_text else {"path": path, "utf8": False}
        name, is_text = text(entry.name)
        place = {"in": self._lines[entry.depth - 1], "name": name}
        return place if is_text else {**place, "utf8": False}

    def note(self, entry: Entry, line: int) -> None:
        if entry.is_directory:
            del self._path[max(entry.depth - 1, 0) :]
            del self._lines[entry.depth :]
            if entry.depth:
                self._path.append(entry.name)
            self._lines.append(line)
