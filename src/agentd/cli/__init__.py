"""The `agentd` command. Nothing slow is imported until a command is chosen."""

from __future__ import annotations

import os
import sys

from .. import __version__

# As in typing, whose import would cost more than all of this.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TextIO

VERSION_LINE = f"agentd {__version__}"

COMMANDS: Final = {
    "daemon": "Run the daemon in the foreground.",
    "run": "Run a session of an agent, and show it.",
    "ps": "Show the live sessions, and the past ones.",
    "logs": "Show the output of a session.",
    "stop": "Ask a live session to stop.",
    "inspect": "Show all that is known of a session.",
    "agents": "Show the declared agents.",
    "schedule": "Show when an agent's schedule fires next.",
    "check": "Look whether the daemon and its agents would work here.",
    "plan": "Show what a session of an agent would get.",
    "audit": "Verify the records of past sessions, and prune them.",
    "metrics": "Print what the daemon counts and measures, for Prometheus.",
    "status": "Show how the daemon does.",
    "reload": "Have the daemon read its configuration again.",
    "shutdown": "End the daemon.",
    "completion": "Print what teaches a shell to complete agentd's words.",
}
"""Each is a function of its own name in a module of that name, whose help is its docstring, or an
`App` that has commands of its own."""

_VERSION_FLAGS = frozenset({"--version", "-V"})


def main() -> None:
    """Run the command line and exit with its status."""
    sys.exit(_run(sys.argv[1:]))


def _run(words: list[str]) -> int:
    """Answer, and see to it that the answer was written: a reader or a disk that has gone away is
    one line or none, and no traceback."""
    _stand_in_for_closed()
    try:
        status = _answer(words)
        sys.stdout.flush()
    except (OSError, BaseExceptionGroup) as error:
        status = _unwritten(error)
    _let_go(sys.stderr)
    return status


def _answer(words: list[str]) -> int:
    if _asks_version(words):
        # Before cyclopts, which takes six times as long to import as Python to start.
        print(VERSION_LINE)
        return 0
    from .app import run_command_line  # noqa: PLC0415

    return run_command_line(words)


def _asks_version(words: list[str]) -> bool:
    rest = words[1:] if words and words[0] in COMMANDS else words
    return len(rest) == 1 and rest[0] in _VERSION_FLAGS


def _stand_in_for_closed() -> None:
    """Give a standard stream that was closed a descriptor again, before a file of ours gets its
    number. Writing to standard output fails on it, as on a closed one; messages go nowhere."""
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def _unwritten(error: OSError | BaseExceptionGroup) -> int:
    """The exit status when output could not be written; any other error is raised again."""
    import errno  # noqa: PLC0415
    from contextlib import suppress  # noqa: PLC0415

    from ..errors import EXIT_BROKEN_PIPE, EXIT_FAILURE, AgentdError, leaves  # noqa: PLC0415

    # Errors of write(2). Those of our own files name the file, or are no `OSError` any more.
    of_writing = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}
    found = [each for each in leaves(error) if not isinstance(each, AgentdError)]
    faults = [each for each in found if isinstance(each, OSError) and each.filename is None]
    if not faults or found != faults or not of_writing.issuperset(each.errno for each in faults):
        raise error
    _let_go(sys.stdout)
    if isinstance(faults[0], BrokenPipeError):
        # Whoever read us, such as head(1), has had enough.
        return EXIT_BROKEN_PIPE
    # It may be standard error that cannot be written.
    with suppress(OSError):
        print(f"agentd: cannot write the output: {faults[0].strerror}", file=sys.stderr)
    return EXIT_FAILURE


def _let_go(stream: TextIO) -> None:
    """Write what `stream` still holds; if that fails, it goes nowhere, also at the very end."""
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
