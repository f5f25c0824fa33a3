"""Reading `manifest.json` of a record that somebody may have changed, an entry at a time.

Of each entry only a key and its place in the file are held in memory. A key is a hash of the key
of its directory and its name, so that no order of entries matters and deep trees need no paths.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import BinaryIO, Final
from urllib.parse import unquote_to_bytes

import msgspec

from .tree import Check

TOP: Final = b""
"""The key of the record's own directory."""

_VERSION: Final = 1
_HEAD: Final = re.compile(rb'\{"version":([0-9]{1,9}),"entries":\[\n')
_LAST: Final = b"]}\n"
_LONGEST_LINE: Final = 2**16
"""Bytes: a path, and a link's target of 4095 bytes, with every byte of them escaped."""

_SLICE: Final = 1024 * 1024


class UnreadableManifest(Exception):
    """It is no manifest, or one of a version that this agentd does not know."""


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the manifest says of an entry."""

    type: str
    mode: str
    path: str | None = None
    directory: int | None = msgspec.field(default=None, name="in")
    name: str | None = None
    utf8: bool = True
    size: int | None = None
    sha256: str | None = None
    target: str | None = None
    target_utf8: bool = True

    @property
    def target_bytes(self) -> bytes | None:
        """A link's target."""
        return None if self.target is None else _raw(self.target, is_text=self.target_utf8)


_ROW: Final = msgspec.json.Decoder(Row)


def key_of(directory: bytes, name: bytes) -> bytes:
    """The key of what is called so in the directory with that key."""
    return hashlib.blake2b(directory + b"/" + name, digest_size=20).digest()


def digest(file: BinaryIO, check: Check) -> str:
    """The SHA-256 of a file that has been opened. Raises `OSError`."""
    file.seek(0)
    digest = hashlib.sha256()
    while data := file.read(_SLICE):
        digest.update(data)
        check()
    return digest.hexdigest()


class Manifest:
    """The entries of a manifest; each may be taken once."""

    def __init__(self, file: BinaryIO, check: Check) -> None:
        """Read all of it; the file must stay open.

        Raises:
            UnreadableManifest: it is damaged, or of another version.
            OSError: it cannot be read.
        """
        self._file = file
        self._offsets: dict[bytes, int] = {}
        self._directories: dict[int, tuple[bytes, int]] = {}
        """By the numbers of their lines: keys and offsets."""
        self._above = (TOP, TOP)
        """A path and its key; the next entry's directory is mostly the same."""
        self._check_head()
        for number, (offset, row) in enumerate(self._rows()):
            check()
            key = self._key(row, number)
            if key in self._offsets:
                raise UnreadableManifest(f"it lists an entry twice, at line {number + 2}")
            self._offsets[key] = offset
            if row.type == "directory":
                self._directories[number] = (key, offset)

    def take(self, key: bytes) -> Row | None:
        """The entry with this key, or None when none is left. Raises as the constructor."""
        offset = self._offsets.pop(key, None)
        return None if offset is None else self._row_at(offset)

    @property
    def left(self) -> int:
        """How many entries have not been taken."""
        return len(self._offsets)

    def paths_left(self) -> Iterator[bytes]:
        """Where the entries are that have not been taken. Raises as the constructor."""
        for offset in self._offsets.values():
            yield self._path(self._row_at(offset))

    def _check_head(self) -> None:
        self._file.seek(0)
        head = _HEAD.fullmatch(self._file.readline(_LONGEST_LINE))
        if head is None:
            raise UnreadableManifest("it does not begin as a manifest does")
        if int(head[1]) != _VERSION:
            raise UnreadableManifest(
                f"it is of version {int(head[1])}, and this agentd knows {_VERSION} alone;"
                " use the agentd that wrote it"
            )

    def _rows(self) -> Iterator[tuple[int, Row]]:
        offset = self._file.tell()
        while (line := self._file.readline(_LONGEST_LINE)) != _LAST:
            yield offset, _row(line)
            offset += len(line)
        if self._file.read(1):
            raise UnreadableManifest("it goes on after its end")

    def _row_at(self, offset: int) -> Row:
        self._file.seek(offset)
        return _row(self._file.readline(_LONGEST_LINE))

    def _key(self, row: Row, number: int) -> bytes:
        if row.path is not None:
            above, _, name = _raw(row.path, is_text=row.utf8).rpartition(b"/")
            if above != self._above[0]:
                self._above = (above, _chain(above))
            return key_of(self._above[1], name)
        if row.directory in self._directories and row.name is not None:
            return key_of(self._directories[row.directory][0], _raw(row.name, is_text=row.utf8))
        raise UnreadableManifest(f"line {number + 2} does not say where its entry is")

    def _path(self, row: Row) -> bytes:
        parts = []
        while row.directory is not None and row.name is not None:
            parts.append(_raw(row.name, is_text=row.utf8))
            row = self._row_at(self._directories[row.directory][1])
        return b"/".join([_raw(row.path or "", is_text=row.utf8), *reversed(parts)])


def _chain(path: bytes) -> bytes:
    """The key of a directory, from its path below the record."""
    key = TOP
    for name in path.split(b"/") if path else ():
        key = key_of(key, name)
    return key


def _row(line: bytes) -> Row:
    try:
        return _ROW.decode(line.removesuffix(b"\n").removesuffix(b","))
    except ValueError as error:
        raise UnreadableManifest(f"it is damaged: {error}") from error


def _raw(text: str, *, is_text: bool) -> bytes:
    """The bytes that `manifest.text` wrote as `text`."""
    return text.encode(errors="surrogatepass") if is_text else unquote_to_bytes(text)
