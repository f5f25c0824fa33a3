"""Following a session's output: a tail of its log file, and nothing in between.

The file is the only fan-out. Whoever comes late reads from the start, whoever is slow holds up
nobody, and a session that has ended reads like one that runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import trio

from ..audit import Record
from ..errors import AuditError
from ..watch import MODIFIED, Hint
from .choice import EVERYTHING, Choice, Chooser, Piece, TailSearch
from .engine import Engine
from .output_log import NO_LIMIT
from .output_reader import LogReader
from .session import Session

PAUSE_SECONDS: Final = 0.02
"""Between two reads of a log that grows, so that many small writes are read as few."""

Sink: TypeAlias = Callable[[Sequence[Piece]], Awaitable[None]]
"""Takes what one read gave, in order."""


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
        AuditError: the log cannot be read.
    """
    hint = Hint()
    with _open(session, choice) as reader, session.waking(hint):
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
                    if not await trio.to_thread.run_sync(reader.has_more):
                        await hint.wait()
        await _pass_on_all(reader, chooser, sink)


async def past_output(record: Record, sink: Sink, choice: Choice = EVERYTHING) -> None:
    """Give `sink` the chosen output in a closed record, which was masked when it was closed.

    Raises:
        AuditError: the record was never closed, or its output was withheld; or it is unreadable.
    """
    log = record.output_log
    try:
        reader = LogReader(log, (), NO_LIMIT, by_time=choice.by_time)
    except FileNotFoundError:
        raise AuditError(
            f"there is no {log}: the record was not closed, and its output is not masked"
        ) from None
    except OSError as error:
        raise AuditError(f"cannot read {log}: {error.strerror}") from error
    with reader:
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
        while entries := await trio.to_thread.run_sync(before.read):
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
    while (pieces := await trio.to_thread.run_sync(_next, reader, chooser)) is not None:
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


def _open(session: Session, choice: Choice) -> LogReader:
    """The raw log, or the one that a closed record has in its place."""
    raw, limit = session.record.output_raw, session.start.limits.output
    if session.needles is None:
        raise AuditError(f"what to mask in {raw} is not known any more, so none of it is shown")
    try:
        return LogReader(raw, session.needles, limit, by_time=choice.by_time)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise AuditError(f"cannot read {raw}: {error}") from error
    try:
        return LogReader(
            session.record.output_log, session.needles, NO_LIMIT, by_time=choice.by_time
        )
    except OSError as error:
        raise AuditError(f"cannot read {session.record.output_log}: {error}") from error
