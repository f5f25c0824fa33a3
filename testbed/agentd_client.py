"""Client commands of `agentd` as processes, what it wrote, and the record of its session."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.processes import SECONDS, Lines, WaitError, wait_until

AGENTD = Path(sys.executable).with_name("agentd")

SCRIPTED = ["/bin/sh", "-c", 'eval "$AGENTD_WORK_UNIT"']
"""The command of an agent that does what each run's work unit says, in the words of sh."""

HOLD = "mkfifo .runa/hold; echo ready; read -r _ <.runa/hold; rm .runa/hold"
"""For such an agent: says that it is ready, and waits for `Record.release`."""

SESSION = re.compile(r"^agentd: session ([0-9a-f]{16}), record (/.*)$", re.MULTILINE)
"""How `agentd run` tells which session it is about."""


@dataclass(frozen=True)
class Ended:
    """How a client ended, and what it wrote."""

    code: int
    stdout: str
    stderr: str

    @property
    def session_id(self) -> str:
        """The id that the client was told."""
        return _session(self.stderr)[1]

    @property
    def record(self) -> Record:
        """The record of the client's session."""
        return Record(Path(_session(self.stderr)[2]))


def _session(text: str) -> re.Match[str]:
    match = SESSION.search(text)
    if match is None:
        raise AssertionError(f"there is no session in: {text}")
    return match


@dataclass(frozen=True)
class Record:
    """One session's record on disk."""

    directory: Path

    @property
    def facts(self) -> dict[str, Any]:
        """What `session.json` says."""
        facts: dict[str, Any] = json.loads((self.directory / "agentd/session.json").read_bytes())
        return facts

    @property
    def runa(self) -> Path:
        """What the session wrote."""
        return self.directory / "runa"

    def read(self, name: str) -> str:
        """A file that the session wrote below `.runa`."""
        return (self.runa / name).read_text(errors="surrogateescape")

    def release(self) -> None:
        """Let an agent go on that waits at `HOLD`."""
        descriptors: list[int] = []

        def reader_is_there() -> bool:
            with suppress(OSError):
                descriptors.append(os.open(self.runa / "hold", os.O_WRONLY | os.O_NONBLOCK))
            return bool(descriptors)

        wait_until("the agent reads its FIFO", reader_is_there)
        os.write(descriptors[0], b"\n")
        os.close(descriptors[0])


class Client:
    """A running client command; most are `agentd run`."""

    def __init__(self, words: tuple[str, ...], environ: Mapping[str, str]) -> None:
        """Start `agentd` with these words."""
        self.process = subprocess.Popen(
            [AGENTD, *words],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.stdout = Lines(self.process.stdout)
        self.stderr = Lines(self.process.stderr)

    def wait_for_line(self, text: str) -> None:
        """Wait until the session has written this line to its standard output."""
        self.stdout.wait_for(f"line '{text}'", lambda line: line == f"{text}\n")

    @property
    def session_id(self) -> str:
        """The session's id, once the client knows it."""
        return _session(self.stderr.wait_for("session", lambda line: bool(SESSION.match(line))))[1]

    @property
    def record(self) -> Record:
        """The session's record, once the client knows it."""
        self.stderr.wait_for("session", lambda line: bool(SESSION.match(line)))
        return Record(Path(_session(self.stderr.text)[2]))

    def wait(self) -> Ended:
        """Wait for the client's end."""
        try:
            code = self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise WaitError(f"the client does not end: {self.stderr.complete()}") from None
        return Ended(code, self.stdout.complete(), self.stderr.complete())
