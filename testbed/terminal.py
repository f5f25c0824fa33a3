"""A terminal with a command of `agentd` on it: a real pty, and a screen that shows what comes."""

from __future__ import annotations

import codecs
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from testbed.processes import SECONDS, WaitError

_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios;"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.argv[1], sys.argv[1:])"
)
_CUT = re.compile(r"\x1b(\[[0-9;?]*)?\Z")
_TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|[\r\n]|[^\x00-\x1f\x7f-\x9f]+|(?s:.)")


class Screen:
    """Rows of text, and the few control sequences that `agentd` itself may use; others fail."""

    def __init__(self, columns: int) -> None:
        """An empty screen."""
        self.columns = columns
        self._rows = [""]
        self._row = self._column = 0
        self._cut = ""

    @property
    def rows(self) -> list[str]:
        """What is to be seen, without blanks at the ends."""
        return [row.rstrip() for row in self._rows]

    def feed(self, text: str) -> None:
        """Show what a program writes."""
        text = self._cut + text
        self._cut = text[text.rindex("\x1b") :] if _CUT.search(text) else ""
        for match in _TOKEN.finditer(text.removesuffix(self._cut)):
            token = match[0]
            if token == "\r":
                self._column = 0
            elif token == "\n":
                self._down()
            elif match[2] == "J" and not match[1]:
                self._rows[self._row :] = [self._rows[self._row][: self._column]]
            elif match[2] != "m":
                assert token.isprintable(), f"a control sequence: {token!r} in {text!r}"
                self._write(token)

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self._rows):
            self._rows.append("")

    def _write(self, text: str) -> None:
        for char in text:
            if self._column == self.columns:
                self._column = 0
                self._down()
            row = self._rows[self._row].ljust(self._column)
            self._rows[self._row] = row[: self._column] + char + row[self._column + 1 :]
            self._column += 1


class Terminal:
    """A command that runs on a terminal of its own, as the foreground of a session."""

    def __init__(
        self,
        program: tuple[str | Path, ...],
        environ: Mapping[str, str],
        *,
        columns: int = 100,
        stdout: int | None = None,
    ) -> None:
        self._master, slave = os.openpty()
        self.screen = Screen(columns)
        self.resize(columns)
        self.modes = termios.tcgetattr(slave)
        self.written = ""
        """All that came, undecoded bytes escaped."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._slave = slave
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *program],
            env={"TERM": "xterm-256color", "LANG": "C.UTF-8", **environ},
            stdin=slave,
            stdout=slave if stdout is None else stdout,
            stderr=slave,
            start_new_session=True,
        )

    def resize(self, columns: int) -> None:
        """Give the terminal another width."""
        size = struct.pack("HHHH", 24, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)
        self.screen.columns = columns

    @property
    def rows(self) -> list[str]:
        """What is to be seen."""
        return self.screen.rows

    def wait_for(self, what: str, matches: Callable[[list[str]], bool]) -> list[str]:
        """Wait until the screen shows something; gives its rows."""
        deadline = time.monotonic() + SECONDS
        while not matches(self.rows):
            if not self._read(deadline):
                raise WaitError(f"the terminal does not show {what}: {self.written!r}")
        return self.rows

    def wait_for_text(self, text: str) -> list[str]:
        """Wait until a row shows this text somewhere; gives the rows."""
        return self.wait_for(text, lambda rows: any(text in row for row in rows))

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.write(self._master, b"\x03")

    def wait(self) -> int:
        """Wait for the command's end, and take all that it wrote; its exit status."""
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                raise WaitError(f"the command does not end: {self.written!r}")
            self._read(min(deadline, time.monotonic() + 0.05))
        while self._read(time.monotonic()):
            pass
        return self.process.returncode

    def modes_now(self) -> list[object]:
        """The terminal's modes, tcgetattr(3)."""
        return termios.tcgetattr(self._slave)

    def close(self) -> None:
        """End the command if it still runs, and the terminal."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self._slave)
        os.close(self._master)

    def _read(self, deadline: float) -> bool:
        """Take what there is, or comes until then; whether anything came."""
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        text = self._decoder.decode(os.read(self._master, 65536))
        self.written += text
        self.screen.feed(text)
        return True


@contextmanager
def terminal(
    program: tuple[str | Path, ...],
    environ: Mapping[str, str],
    *,
    columns: int = 100,
    stdout: int | None = None,
) -> Iterator[Terminal]:
    """A command on a terminal, which is gone at the end."""
    made = Terminal(program, environ, columns=columns, stdout=stdout)
    try:
        yield made
    finally:
        made.close()
