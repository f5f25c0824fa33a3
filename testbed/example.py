"""The programs of `examples/library` as processes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from testbed.agentd_client import Ended, Record
from testbed.processes import SECONDS, Lines

LIBRARY = Path(__file__).parents[1] / "examples/library"

_RECORD = re.compile(r"record (/.*)\n")


class Example:
    """A running program."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.stdout = Lines(process.stdout)
        self.stderr = Lines(process.stderr)

    def wait_for_line(self, text: str) -> str:
        """The first line of its standard output that contains `text`."""
        return self.stdout.wait_for(f"line with '{text}'", lambda line: text in line)

    def record(self, lines: Lines) -> Record:
        """The record that one of these lines names."""
        line = lines.wait_for("record", lambda line: bool(_RECORD.search(line)))
        found = _RECORD.search(line)
        assert found is not None
        return Record(Path(found[1]))

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it without a chance to clean up."""
        self.process.kill()
        self.process.wait(SECONDS)

    def wait(self) -> Ended:
        """Wait for its end."""
        code = self.process.wait(SECONDS)
        return Ended(code, self.stdout.complete(), self.stderr.complete())


@contextmanager
def example(name: str, *words: str, environ: Mapping[str, str]) -> Iterator[Example]:
    """A program that runs; killed at the end, if it still does then."""
    process = subprocess.Popen(
        [sys.executable, LIBRARY / name, *words],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    running = Example(process)
    try:
        yield running
    finally:
        running.kill()
        running.stdout.complete()
        running.stderr.complete()
