"""The `agentd` command. Nothing slow is imported until a command is chosen."""

from __future__ import annotations

import sys

from .. import __version__

VERSION_LINE = f"agentd {__version__}"

_COMMANDS = frozenset({"daemon", "logs", "ps", "run", "stop"})
_VERSION_FLAGS = frozenset({"--version", "-V"})


def main() -> None:
    """Run the command line and exit with its status."""
    words = sys.argv[1:]
    if _asks_version(words):
        # Before cyclopts, which takes six times as long to import as Python to start.
        print(VERSION_LINE)
        return
    from .app import run_command_line  # noqa: PLC0415

    sys.exit(run_command_line(words))


def _asks_version(words: list[str]) -> bool:
    rest = words[1:] if words and words[0] in _COMMANDS else words
    return len(rest) == 1 and rest[0] in _VERSION_FLAGS
