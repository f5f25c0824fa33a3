"""Comparing a closed record with its manifest: what the sealing saw is there, and nothing else.

Nothing is changed, and nothing is trusted but `session.json`: who can rewrite that, and knows how,
can make a record that verifies. Owners, times and the order of entries do not matter, so that a
copy verifies as well.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from ..errors import AuditError
from .files import opened_file
from .manifest import kind
from .manifest_reader import TOP, Manifest, Row, UnreadableManifest, digest, key_of
from .metadata import End
from .record import Record, read_session_json
from .tree import Check, Entry, quoted, walk

MAX_FINDINGS: Final = 20

_SLICE: Final = 1024 * 1024

State = Literal["verified", "damaged", "incomplete", "gone"]
"""`incomplete`: its session lives, or it was never closed. `gone`: removed meanwhile."""


class Finding(msgspec.Struct, frozen=True):
    """One difference: the entry's path below the record, quoted, and what is wrong with it."""

    entry: str
    problem: str


class Verdict(msgspec.Struct, frozen=True):
    """What is to be said of a record.

    `without_digest` counts files that the manifest lists without one, because they lie beyond
    `limits.record`: only their sizes could be compared. Of the differences the first
    `MAX_FINDINGS` are there, and `findings_total` counts all.
    """

    state: State
    entries: int = 0
    without_digest: int = 0
    findings: tuple[Finding, ...] = ()
    findings_total: int = 0


def verify(record: Record, check: Check) -> Verdict:
    """Compare a record with its manifest. Blocking, and long when the record is large.

    `check` is called between slices, and raises to end the work.
    """
    verdict = _Verification(record, check).verdict()
    if verdict.state == "damaged" and not os.path.lexists(record.directory):
        return Verdict("gone")
    return verdict


class _Verification:
    """One record's comparison, and what it has found so far."""

    def __init__(self, record: Record, check: Check) -> None:
        self._record = record
        self._check = check
        self._found: list[Finding] = []
        self._total = 0
        self._entries = 0
        self._without_digest = 0

    def verdict(self) -> Verdict:
        try:
            facts = read_session_json(self._record.session_json)
        except AuditError as error:
            self._note("'agentd/session.json'", str(error))
            return self._verdict()
        if facts.end is None:
            return Verdict("incomplete")
        if facts.start.session_id != self._record.directory.name:
            self._note("'agentd/session.json'", f"is of session {facts.start.session_id!r}")
        try:
            self._check_manifest(facts.end)
        except (UnreadableManifest, AuditError) as error:
            self._note("'agentd/manifest.json'", str(error))
        except OSError as error:
            self._note("'agentd/manifest.json'", _unreadable(error))
        return self._verdict()

    def _verdict(self) -> Verdict:
        state: State = "damaged" if self._total else "verified"
        return Verdict(state, self._entries, self._without_digest, tuple(self._found), self._total)

    def _note(self, entry: str | Entry, problem: str) -> None:
        self._total += 1
        if len(self._found) < MAX_FINDINGS:
            # Only now: the path of an entry at a great depth takes its time.
            shown = entry.shown if isinstance(entry, Entry) else entry
            self._found.append(Finding(shown, problem))

    def _check_manifest(self, end: End) -> None:
        expected = end.manifest_sha256
        with opened_file(self._record.manifest) as file:
            found = digest(file, self._check)
            if found != expected:
                # What else differs from a manifest that proves nothing is not worth telling.
                self._note(
                    "'agentd/manifest.json'",
                    f"is not the one that session.json names: its SHA-256 is {found},"
                    f" and was {expected}",
                )
                return
            self._compare(Manifest(file, self._check), _unlisted(end))

    def _compare(self, manifest: Manifest, unlisted: Mapping[bytes, Row]) -> None:
        self._look_for_strays()
        comparison = _Comparison(manifest, unlisted, self._check, self._note)
        trees = (self._record.runa, self._record.agentd)
        whole = [self._walked(root, comparison) for root in trees]
        self._entries, self._without_digest = comparison.entries, comparison.without_digest
        if all(whole):
            for path, _ in zip(manifest.paths_left(), range(MAX_FINDINGS), strict=False):
                self._note(quoted(path), "is missing")
            self._total += max(0, manifest.left - MAX_FINDINGS)

    def _look_for_strays(self) -> None:
        with os.scandir(os.fsencode(self._record.directory)) as found:
            for entry in found:
                if entry.name not in {b"runa", b"agentd"}:
                    self._note(quoted(entry.name), "does not belong to a record")

    def _walked(self, root: Path, comparison: _Comparison) -> bool:
        """Compare what is below; false when that could not be done to the end."""
        try:
            walk(root, comparison.visit, self._check)
        except AuditError as error:
            self._note(repr(root.name), f"could not be compared to the end: {error}")
        except OSError as error:
            self._note(repr(root.name), _unreadable(error))
        else:
            return True
        return False


def _unreadable(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}"


def _unlisted(end: End) -> Mapping[bytes, Row]:
    """What a closed record holds besides what its manifest lists, by key."""
    own = key_of(TOP, b"agentd")
    unlisted = {
        own: Row(type="directory", mode="0755"),
        key_of(own, b"session.json"): Row(type="file", mode="0444"),
        key_of(own, b"manifest.json"): Row(type="file", mode="0444"),
    }
    if end.output is not None and end.output.masked == "withheld":
        # The output that nobody can mask any more is neither sealed nor shown.
        unlisted[key_of(own, b"output.raw")] = Row(type="file", mode="0600")
    return unlisted


class _Comparison:
    """The walks over a record, against what the manifest lists."""

    def __init__(
        self,
        manifest: Manifest,
        unlisted: Mapping[bytes, Row],
        check: Check,
        note: Callable[[Entry, str], None],
    ) -> None:
        self._manifest = manifest
        self._unlisted = unlisted
        self._check = check
        self._note = note
        self._keys: list[bytes | None] = []
        """Of the directories above; None for one that is not listed, with all that is in it."""
        self.entries = 0
        self.without_digest = 0

    def visit(self, entry: Entry) -> None:
        """Compare one entry. Raises `UnreadableManifest`."""
        del self._keys[entry.depth :]
        above = self._keys[-1] if entry.depth else TOP
        key = None if above is None else key_of(above, entry.name)
        row = None if key is None else self._unlisted.get(key) or self._manifest.take(key)
        if entry.is_directory:
            self._keys.append(key if row else None)
        if row is not None:
            self.entries += 1
            for problem in self._differences(entry, row):
                self._note(entry, problem)
        elif above is not None:
            self._note(entry, "is not in the manifest")

    def _differences(self, entry: Entry, row: Row) -> Iterator[str]:
        found = kind(entry.status.st_mode)
        if found != row.type:
            yield f"is a {found}, and was a {row.type}"
            return
        mode = f"{stat.S_IMODE(entry.status.st_mode):04o}"
        if mode != row.mode:
            yield f"has mode {mode}, and was sealed with {row.mode}"
        if entry.is_file:
            yield from self._file_differences(entry, row)
        elif entry.is_symlink:
            target = os.readlink(b"", dir_fd=entry.descriptor)
            if target != row.target_bytes:
                yield f"leads to {quoted(target)}, and led to {quoted(row.target_bytes or b'')}"

    def _file_differences(self, entry: Entry, row: Row) -> Iterator[str]:
        size = entry.status.st_size
        if row.size is not None and size != row.size:
            yield f"has {size} bytes, and had {row.size}"
        elif row.sha256 is None:
            # Of agentd's own that the manifest does not list nothing is known to compare.
            self.without_digest += row.size is not None
        else:
            try:
                found = self._digest(entry)
            except OSError as error:
                # A bad block costs one finding, and not the comparison of all the rest.
                yield _unreadable(error)
            else:
                if found != row.sha256:
                    yield f"has another content: its SHA-256 is {found}, and was {row.sha256}"

    def _digest(self, entry: Entry) -> str:
        digest = hashlib.sha256()
        left = entry.status.st_size
        with entry.opened() as descriptor:
            # No further than the size: whoever writes to it could make this endless.
            while left and (data := os.read(descriptor, min(left, _SLICE))):
                digest.update(data)
                left -= len(data)
                self._check()
        return digest.hexdigest()
