"""Following a session's output: a tail of its log file, and nothing in between.

The file is the only fan-out. Whoever comes late reads from the start, whoever is slow holds up
nobody, and a session that has ended reads like one that runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Literal

import trio

from ..audit import Record
from ..errors import AuditError
from ..watch import MODIFIED, Hint
from .engine import Engine
from .output_log import NO_LIMIT
from .output_reader import LogReader
from .session import Session

Sink = Callable[[Literal["stdout", "stderr"], bytes], Awaitable[None]]


async def follow_output(
    session: Session, engine: Engine, sink: Sink, *, follow: bool = True
) -> None:
    """Give `sink` all output of a session, masked and in order, until it is complete.

    Without `follow`, until there is no more just now; what may be the beginning of a value to
    mask is then left out. Cancelling it harms nothing. Whatever `sink` raises ends it.

    Raises:
        AuditError: the log cannot be read.
    """
    hint = Hint()
    with ExitStack() as stack:
        reader = stack.enter_context(_open(session))
        stack.enter_context(session.waking(hint))
        if not session.output_complete:
            raw = session.record.output_raw
            stack.enter_context(engine.watcher.watch(raw, MODIFIED, hint))
        while True:
            # Asked before the read: what comes between the two is then still read.
            last = session.output_complete
            pieces = await trio.to_thread.run_sync(reader.read)
            for stream, data in pieces:
                await sink(stream, data)
            if pieces:
                continue
            if last:
                break
            if not follow:
                return
            await hint.wait()
        for stream, data in reader.finish():
            await sink(stream, data)


async def past_output(record: Record, sink: Sink) -> None:
    """Give `sink` the output in a closed record, which was masked when it was closed.

    Raises:
        AuditError: the record was never closed, or its output was withheld; or it is unreadable.
    """
    log = record.output_log
    try:
        reader = LogReader(log, (), NO_LIMIT)
    except FileNotFoundError:
        raise AuditError(
            f"there is no {log}: the record was not closed, and its output is not masked"
        ) from None
    except OSError as error:
        raise AuditError(f"cannot read {log}: {error.strerror}") from error
    with reader:
        while pieces := await trio.to_thread.run_sync(reader.read):
            for stream, data in pieces:
                await sink(stream, data)
        for stream, data in reader.finish():
            await sink(stream, data)


def _open(session: Session) -> LogReader:
    """The raw log, or the one that a closed record has in its place."""
    try:
        return LogReader(session.record.output_raw, session.needles, session.agent.limits.output)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise AuditError(f"cannot read {session.record.output_raw}: {error}") from error
    try:
        return LogReader(session.record.output_log, session.needles, NO_LIMIT)
    except OSError as error:
        raise AuditError(f"cannot read {session.record.output_log}: {error}") from error
