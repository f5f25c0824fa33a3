"""A line on a terminal that says what is waited for, below what was written there.

It is drawn over itself and erased before anything else is written. The cursor stays in its first
column and no mode of the terminal is changed: so there is nothing to restore, however the process
ends, and a line that wraps because the window was made narrower is erased with all its rows.

Only this module imports rich, and only a command at a terminal imports it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Final

import trio
from rich.console import Console, OverflowMethod
from rich.spinner import Spinner
from rich.text import Text

from .tables import span

ERASE_REST: Final = "\x1b[J"
"""From the cursor to the end of the screen."""

TICK_SECONDS: Final = 0.1
QUIET_SECONDS: Final = 0.5
"""How long nothing else must have been written before the line is drawn again."""


class StatusLine:
    """What is waited for, since when, and details of it, on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        ascii_only = self._console.options.ascii_only
        self._overflow: Final[OverflowMethod] = "crop" if ascii_only else "ellipsis"
        self._spinner = Spinner("line" if ascii_only else "dots")
        self._phase = ""
        self._detail = ""
        self._since = self._not_before = time.monotonic()
        self._drawn = False
        self._styled = True
        self._covered = False

    def say(self, phase: str, detail: str = "") -> None:
        """What is waited for from now on; the clock starts anew with each phase."""
        if phase != self._phase:
            self._phase, self._since = phase, time.monotonic()
        self._detail = detail

    def give_way(self, *, covered: bool) -> None:
        """Something else is written, and no style of ours must end one of its own from now on.

        While `covered`, there is no line of the terminal that the status could have for itself.
        """
        self.erase()
        self._styled = False
        self._covered = covered
        self._not_before = time.monotonic() + QUIET_SECONDS

    def draw(self) -> None:
        """Put the line on the terminal, or its new state."""
        now = time.monotonic()
        if not self._phase or self._covered or now < self._not_before or not _in_foreground():
            return
        with self._console.capture() as line:
            # The last column stays free: a full line would leave the cursor behind it.
            self._console.print(
                self._line(now),
                end="",
                no_wrap=True,
                overflow=self._overflow,
                width=max(1, _columns() - 1),
            )
        self._write(f"\r{line.get()}{ERASE_REST}\r")
        self._drawn = True

    def erase(self) -> None:
        """Leave the terminal as it was without the line."""
        if self._drawn:
            self._drawn = False
            # What was typed meanwhile, such as Ctrl-C, may have moved the cursor.
            self._write(f"\r{ERASE_REST}")

    def _write(self, text: str) -> None:
        # A terminal that has gone ends the process, or somebody has taken it on purpose.
        with suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()

    def _line(self, now: float) -> Text:
        frame = self._spinner.render(now)
        elapsed = span(timedelta(seconds=now - self._since))
        words = [
            (str(frame), "cyan"),
            (f" {self._phase}", "bold"),
            (f" {elapsed}", "dim"),
            (f"  {self._detail}" if self._detail else "", ""),
        ]
        return Text.assemble(*(words if self._styled else [text for text, _ in words]))

    @asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        """The line moves while inside, and is gone behind it."""
        error: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._move)
                yield
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # The line has no errors of its own, so this is the body's; raised below as it was.
            error = group.exceptions[0]
        finally:
            self.erase()
        if error is not None:
            raise error

    @trio.lowlevel.enable_ki_protection
    async def _move(self) -> None:
        # Protected: Ctrl-C is for the body.
        while True:
            self.draw()
            await trio.sleep(TICK_SECONDS)


def _in_foreground() -> bool:
    """Whether the terminal is ours to draw on: with `&` and after Ctrl-Z it is the shell's."""
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except OSError:
        return True


def _columns() -> int:
    """Of the terminal, now."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80
