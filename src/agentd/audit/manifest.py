"""`agentd/manifest.json`: every entry of a closed record, with what proves that it is the same.

One JSON document with an entry a line, written as the record is walked: `runa` first, then what is
agentd's own; the content of a directory in order of names, but its directories last. An entry has a
`path` below the record, and `"utf8": false` when that path is percent-encoded because it is no text
(`"target_utf8": false` says the same of a link's target); one whose path is longer than
`LONGEST_PATH` has the line number of its directory and its name instead. A file has its size in
bytes and its SHA-256, unless the record's limit was used up before it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import Any, BinaryIO, Final
from urllib.parse import quote_from_bytes

import msgspec

from .tree import Check, Entry

LONGEST_PATH: Final = 1024
"""Bytes; a deep tree of long names would else make a manifest of its depth squared."""

_SLICE: Final = 1024 * 1024
_KINDS: Final = (
    (stat.S_ISREG, "file"),
    (stat.S_ISDIR, "directory"),
    (stat.S_ISLNK, "symlink"),
    (stat.S_ISFIFO, "fifo"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "character device"),
    (stat.S_ISBLK, "block device"),
)


class ManifestWriter:
    """Writes entries as they come and knows the digest of what it wrote."""

    def __init__(self, file: BinaryIO, max_bytes: int, max_entries: int) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._bytes_left = max_bytes
        self._entries_left = max_entries
        self._lines = 0
        self._write(b'{"version":1,"entries":[')

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)

    def add(self, entry: Entry, place: dict[str, Any], mode: int, check: Check) -> int:
        """Write an entry sealed with `mode`; gives its line, from 0.

        `check` is called between slices of a large file, and may raise.
        """
        row = {**place, "type": kind(entry.status.st_mode), "mode": f"{mode:04o}"}
        if entry.is_file:
            row["size"] = entry.status.st_size
            digest = self._digest_of(entry, check)
            if digest is not None:
                row["sha256"] = digest
        elif entry.is_symlink:
            row["target"], is_text = text(os.readlink(b"", dir_fd=entry.descriptor))
            if not is_text:
                row["target_utf8"] = False
        self._write((b"," if self._lines else b"") + b"\n" + msgspec.json.encode(row))
        self._lines += 1
        self._entries_left -= 1
        return self._lines - 1

    def _digest_of(self, entry: Entry, check: Check) -> str | None:
        """The file's SHA-256, or None beyond the record's limit or when its size changes."""
        size = entry.status.st_size
        if size > self._bytes_left or self._entries_left <= 0:
            return None
        self._bytes_left -= size
        digest = hashlib.sha256()
        left = size
        with entry.opened() as descriptor:
            # No further than the size: whoever still writes to it could make this endless.
            while left and (data := os.read(descriptor, min(left, _SLICE))):
                digest.update(data)
                left -= len(data)
                check()
            unchanged = os.fstat(descriptor).st_size == size and not left
        return digest.hexdigest() if unchanged else None

    def finish(self) -> str:
        """Write the end; gives the SHA-256 of the whole manifest."""
        self._write(b"\n]}\n")
        return self._digest.hexdigest()


def kind(mode: int) -> str:
    """What an entry is, in a word."""
    return next((name for test, name in _KINDS if test(mode)), "other")


def text(raw: bytes) -> tuple[str, bool]:
    """`raw` as text, and whether it is UTF-8; percent-encoded when it is not."""
    try:
        return raw.decode(), True
    except UnicodeDecodeError:
        return quote_from_bytes(raw), False
