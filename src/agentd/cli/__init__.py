"""The `agentd` command. Nothing slow is imported until a command is chosen."""

from __future__ import annotations

import sys

from .. import __version__

# As in typing, whose import would cost more than all of this.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

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
    words = sys.argv[1:]
    if _asks_version(words):
        # Before cyclopts, which takes six times as long to import as Python to start.
        print(VERSION_LINE)
        return
    from .app import run_command_line  # noqa: PLC0415

    sys.exit(run_command_line(words))


def _asks_version(words: list[str]) -> bool:
    rest = words[1:] if words and words[0] in COMMANDS else words
    return len(rest) == 1 and rest[0] in _VERSION_FLAGS
