"""Following a session's output: a tail of its log file, and nothing in between.

The file is the only fan-out. Whoever comes late reads from the start, whoever is slow holds up
nobody, and a session that has ended reads like one that runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, ParamSpec, TypeAlias, TypeVar

import trio

from ..audit import Record
from ..audit.files import explained
from ..errors import AuditError
from ..watch import MODIFIED, Hint
from .choice import EVERYTHING, Choice, Chooser, Piece, TailSearch
from .disk import DISK_SECONDS, check_wanted, on_disk
from .engine import Engine
from .output_log import NO_LIMIT
from .output_reader import LogReader
from .session import Session

PAUSE_SECONDS: Final = 0.02
"""Between two reads of a log that grows, so that many small writes are read as few."""

Sink: TypeAlias = Callable[[Sequence[Piece]], Awaitable[None]]
"""Takes what one read gave, in order."""

_T = TypeVar("_T")
_P = ParamSpec("_P")


async def follow_output(
    session: Session,
    engine: Engine,
    sink: Sink,
    choice: Choice = EVERYTHING,
    *,
    follow: bool = True,
) -> None:
    """Give `sink` the chosen output of a session, masked and in order, until it is complete.

    Without `follow`, until there is no more just now; what may be the beginning of a value to
    mask is then left out. Cancelling it harms nothing. Whatever `sink` raises ends it.

    Raises:
        AuditError, DiskTimeout: the log cannot be read.
    """
    hint = Hint()
    with await _read(_open, session, choice) as reader, session.waking(hint):
        chooser = await _begin(reader, choice, follow=follow)
        while not session.output_complete:
            grew = await _pass_on(reader, chooser, sink)
            if not follow:
                return
            if grew:
                await trio.sleep(PAUSE_SECONDS)
            elif not session.output_complete:
                # Watched only while there is nothing to do: a client that does not read must not
                # cost the daemon an event for each of the container's writes.
                with engine.watcher.watch(session.record.output_raw, MODIFIED, hint):
                    # What came before the watch gives no hint.
                    if not await _read(reader.has_more):
                        await hint.wait()
        await _pass_on_all(reader, chooser, sink)


async def past_output(record: Record, sink: Sink, choice: Choice = EVERYTHING) -> None:
    """Give `sink` the chosen output in a closed record, which was masked when it was closed.

    Raises:
        AuditError: the record was never closed, or its output was withheld; or it is unreadable.
        DiskTimeout: it cannot be read in time.
    """
    with await _read(_open_past, record, choice) as reader:
        chooser = await _begin(reader, choice, follow=True)
        await _pass_on_all(reader, chooser, sink)


async def _begin(reader: LogReader, choice: Choice, *, follow: bool) -> Chooser:
    """Put the reader where the chosen output begins. For a tail the log is read once before;
    without `follow`, what comes meanwhile is then left out, or the tail would be longer."""
    if choice.tail is None:
        return Chooser(choice)
    search = TailSearch(choice)
    with reader.unmasked() as before:
        offset = 0
        while entries := await _read(before.read):
            search.feed(offset, entries)
            offset = before.consumed
        if not follow:
            reader.stop_behind(before)
    start = search.start
    reader.seek(start.offset)
    return Chooser(choice, start)


async def _pass_on(reader: LogReader, chooser: Chooser, sink: Sink) -> bool:
    """Give `sink` what there is; whether there was anything, chosen or not."""
    anything = False
    while (pieces := await _read(_next, reader, chooser)) is not None:
        anything = True
        if pieces:
            await sink(pieces)
    return anything


def _next(reader: LogReader, chooser: Chooser) -> list[Piece] | None:
    """What is chosen of one read; None when there was nothing to be had. Blocking."""
    entries = reader.read()
    return chooser.feed(entries) if entries else None


async def _pass_on_all(reader: LogReader, chooser: Chooser, sink: Sink) -> None:
    """Give `sink` what there is, and what was held back: there will be no more."""
    await _pass_on(reader, chooser, sink)
    if rest := chooser.feed(reader.finish()):
        await sink(rest)


async def _read(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What `work` gives, which reads the log: no reader waits for a disk that hangs."""
    with explained("read the output of the session"):
        return await on_disk(DISK_SECONDS, "the disk of the record", work, *args, **kwargs)


def _open(session: Session, choice: Choice) -> LogReader:
    """The raw log, or the one that a closed record has in its place. Blocking."""
    record, limit = session.record, session.start.limits.output
    if session.needles is None:
        raise AuditError(
            f"what to mask in {record.output_raw} is not known any more, so none of it is shown"
        )
    try:
        return _reader(record.output_raw, session.needles, limit, choice)
    except FileNotFoundError:
        return _reader(record.output_log, session.needles, NO_LIMIT, choice)


def _open_past(record: Record, choice: Choice) -> LogReader:
    """The log of a closed record. Blocking."""
    log = record.output_log
    try:
        return _reader(log, (), NO_LIMIT, choice)
    except FileNotFoundError:
        raise AuditError(
            f"there is no {log}: the record was not closed, and its output is not masked"
        ) from None


def _reader(log: Path, needles: Sequence[bytes], limit: int, choice: Choice) -> LogReader:
    """Closed again if nobody waits for it any more. Raises `OSError`."""
    reader = LogReader(log, needles, limit, by_time=choice.by_time)
    try:
        check_wanted()
    except trio.Cancelled:
        reader.close()
        raise
    return reader
