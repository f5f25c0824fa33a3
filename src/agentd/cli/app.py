"""The commands, their parsing, and how the process ends."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

from ..errors import (
    EXIT_BROKEN_PIPE,
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    AgentdError,
    UsageError,
    leaves,
)
from . import COMMANDS, VERSION_LINE
from .printable import printable


def build_app(chosen: str = "") -> App:
    """The command tree. Only the module of the `chosen` command is imported, so the others show a
    line of help and not their own."""
    app = App(
        name="agentd",
        help=(
            "Run autonomous AI agent sessions in ephemeral Podman containers.\n\n"
            "Without a command, agentd runs the daemon: 'agentd [--config PATH]'."
        ),
        version=VERSION_LINE,
        version_flags=["--version", "-V"],
        suppress_keyboard_interrupt=False,
        # Options stay options, and flags have no opposite that nobody declared.
        default_parameter=Parameter(negative=()),
    )
    for name, line in COMMANDS.items():
        text = None if name == chosen else line
        app.command(f"agentd.cli.{name}:{name}", name=name, help=text)
    return app


def run_command_line(words: list[str]) -> int:
    """Run one command; gives the exit status. Errors end as one line each on standard error."""
    try:
        arguments = normalized(words)
        result = build_app(arguments[0])(
            arguments,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    except UnusedCliTokensError as error:
        unused = " ".join(map(repr, error.unused_tokens or ()))
        return _fail(f"too many words: {unused}; quote what belongs together", EXIT_USAGE)
    except CycloptsError as error:
        return _fail(str(error).strip(), EXIT_USAGE)
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit:
        # So rich ends when nobody reads the help that it writes; nobody else exits here.
        return EXIT_BROKEN_PIPE
    except (AgentdError, BaseExceptionGroup) as error:
        return _report(error)
    return result if isinstance(result, int) else 0


def normalized(words: list[str]) -> list[str]:
    """The command line with the daemon's shorthands written out.

    No command means `daemon`; `--config` may stand before it. `help` means `--help`.

    Raises:
        UsageError: `--config` stands twice, or before another command.
    """
    if not words:
        return ["daemon"]
    if words[0] == "help":
        return [*words[1:], "--help"]
    if words[0] != "--config" and not words[0].startswith("--config="):
        return words
    size = 2 if words[0] == "--config" else 1
    option, rest = words[:size], words[size:]
    if rest[:1] == ["daemon"]:
        rest = rest[1:]
    elif rest and not rest[0].startswith("-"):
        raise UsageError(f"--config is only supported for daemon mode, not for 'agentd {rest[0]}'")
    if any(word == "--config" or word.startswith("--config=") for word in rest):
        raise UsageError("--config may be provided only once")
    return ["daemon", *option, *rest]


def _report(error: BaseException) -> int:
    """Say what went wrong, once for each plain error; anything unforeseen is raised again."""
    found = leaves(error)
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in found):
        return _interrupted()
    known = [leaf for leaf in found if isinstance(leaf, AgentdError)]
    if len(known) != len(found):
        raise error
    for leaf in known:
        _fail(leaf.message, leaf.exit_code)
    return known[0].exit_code if known else EXIT_FAILURE


def _interrupted() -> int:
    # Nothing is left to do but to exit; who has no patience for that ends it at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return EXIT_INTERRUPTED


def _fail(message: str, status: int) -> int:
    # Nobody may read it, and the status tells all the same.
    with suppress(OSError):
        for line in message.splitlines():
            print(f"agentd: {printable(line)}", file=sys.stderr)
    return status
