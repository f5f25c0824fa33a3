"""A session's events on the terminal."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, TextIO

from .. import wire
from .printable import printable

if TYPE_CHECKING:
    from .status_line import StatusLine


class Show:
    """Writes the agent's output to standard output and standard error, and ours to the latter.

    With a status line, what is waited for stands there and in no lines of its own.
    """

    def __init__(self, *, quiet: bool = False, status: StatusLine | None = None) -> None:
        self._quiet = quiet
        self._status = status
        self._at_line_start = True
        self.session_id: str | None = None
        """The session that the events are about, once the daemon has said so."""

    def alive(self) -> AbstractAsyncContextManager[None]:
        """The status line, if there is one, is shown while inside."""
        return nullcontext() if self._status is None else self._status.alive()

    def event(self, event: wire.Event) -> None:
        """Show one event. Raises `BrokenPipeError` when nobody reads any more."""
        match event:
            case wire.Progress(text=text):
                self._wait("pulling the image", text, text)
            case wire.Queued():
                self.session_id = event.session_id
                where = f"number {event.position} in the queue"
                self._wait("queued", where, f"session {event.session_id} is {where}")
            case wire.Accepted():
                self.session_id = event.session_id
                self.note(f"session {event.session_id}, record {event.record}")
                self._wait("starting")
            case wire.StateChanged(state=state):
                self._wait("closing the record" if state == "closing" else state)
            case wire.Output() if not self._quiet:
                self._output(event)
            case _:
                pass

    def note(self, text: str) -> None:
        """Say something of our own, unless it was to be quiet."""
        if self._status is not None:
            self._status.erase()
        if not self._quiet:
            print(f"agentd: {printable(text)}", file=sys.stderr, flush=True)

    def _wait(self, phase: str, detail: str = "", line: str | None = None) -> None:
        """Say what is waited for; where there is no status line, with a `line` if it has one."""
        if self._status is not None:
            self._status.say(phase, printable(detail))
        elif line is not None:
            self.note(line)

    def _output(self, event: wire.Output) -> None:
        stream = sys.stdout if event.stream == "stdout" else sys.stderr
        if self._status is not None:
            if stream.isatty():
                self._at_line_start = event.data.endswith(b"\n")
            covered = not self._at_line_start or _is_pipe(sys.stdout)
            self._status.give_way(covered=covered)
        # Bytes as they came: an agent's output need not be text.
        time = b"" if event.time is None else event.time.encode() + b" "
        stream.buffer.write(time + event.data)
        stream.flush()


def show_run(*, quiet: bool) -> Show:
    """Shows a run: with a status line where somebody sees it."""
    if quiet or not can_draw(sys.stderr, os.environ):
        return Show(quiet=quiet)
    from .status_line import StatusLine  # noqa: PLC0415 - it imports rich

    return Show(status=StatusLine())


def can_draw(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether a line can be drawn over on what `stream` writes to: a terminal that is none of a
    build server's."""
    return (
        stream.isatty()
        and environ.get("TERM", "dumb") not in {"dumb", "unknown", ""}
        and not environ.get("CI")
    )


def _is_pipe(stream: TextIO) -> bool:
    """Whether another program reads it: that may write to the terminal whenever it likes."""
    mode = os.fstat(stream.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
