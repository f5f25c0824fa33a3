"""How a session ended: the closed list of labels, and the tables from and to exit codes."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

EXIT_TIMED_OUT: Final = 124
"""What `agentd run` exits with after a timeout; the same code as coreutils' timeout(1)."""

LAST_SIGNAL: Final = 64
"""SIGRTMAX on Linux: exit codes 129 to 192 are signals, 193 to 255 are not."""


class Label(StrEnum):
    """The labels a session may end with; runa's names, and ours for what runa cannot say."""

    SUCCESS = "success"
    GENERIC_FAILURE = "generic_failure"
    USAGE_ERROR = "usage_error"
    BLOCKED = "blocked"
    NOTHING_READY = "nothing_ready"
    WORK_FAILED = "work_failed"
    INFRASTRUCTURE_FAILURE = "infrastructure_failure"
    COMMAND_NOT_EXECUTABLE = "command_not_executable"
    COMMAND_NOT_FOUND = "command_not_found"
    TERMINATED_BY_SIGNAL = "terminated_by_signal"
    TIMED_OUT = "timed_out"


FINE: Final = frozenset({Label.SUCCESS, Label.BLOCKED, Label.NOTHING_READY})
"""Ends that ask nothing of the operator: `agentd run` exits 0 and the log line is at info."""

_BY_EXIT_CODE: Final = {
    0: Label.SUCCESS,
    1: Label.GENERIC_FAILURE,
    2: Label.USAGE_ERROR,
    3: Label.BLOCKED,
    4: Label.NOTHING_READY,
    5: Label.WORK_FAILED,
    6: Label.INFRASTRUCTURE_FAILURE,
    126: Label.COMMAND_NOT_EXECUTABLE,
    127: Label.COMMAND_NOT_FOUND,
}


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A session's labelled end.

    `exit_code` is the container's own and is absent after a timeout; `signal` is the signal's
    number and stands only beside `terminated_by_signal`.
    """

    label: Label
    exit_code: int | None = None
    signal: int | None = None

    def __str__(self) -> str:
        """The words of `agentd run`'s last line, without the leading `session`."""
        if self.label is Label.TIMED_OUT:
            return "timed out"
        if self.label in FINE:
            return self.label.value
        signal = "" if self.signal is None else f", signal {self.signal}"
        return f"{self.label.value} (exit code {self.exit_code}{signal})"

    @property
    def process_exit_code(self) -> int:
        """What a command that waited for the session should exit with."""
        if self.label in FINE:
            return 0
        if self.exit_code is None:
            return EXIT_TIMED_OUT
        return self.exit_code


TIMED_OUT: Final = Outcome(Label.TIMED_OUT)


def from_exit_code(code: int) -> Outcome:
    """Label a container's exit code (0 to 255); the raw code is always kept.

    Codes 129 to 192 are shells' way to say "ended by signal code - 128"; 128 itself and codes
    above name no signal of Linux and are plain failures.
    """
    if 128 < code <= 128 + LAST_SIGNAL:
        return Outcome(Label.TERMINATED_BY_SIGNAL, exit_code=code, signal=code - 128)
    return Outcome(_BY_EXIT_CODE.get(code, Label.GENERIC_FAILURE), exit_code=code)
