"""Writes docs/cli.md, the reference of the command line, from the program itself.

`./dev reference` runs it; a unit test fails when the file is not what it would write. Everything is
taken from the commands' signatures and docstrings, and not from cyclopts' own help pages, whose
form changes with its version and the width of the terminal.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cyclopts import App, Argument

from agentd.cli import COMMANDS
from agentd.cli.app import build_app

FILE: Final = Path(__file__).parents[1] / "docs/cli.md"

HEAD: Final = """\
# The command line

<!-- Written by ./dev reference from the program. Change the docstrings, not this file. -->

`agentd --help` and `agentd COMMAND --help` show the same on a terminal, `agentd --version` shows
the version. `agentd` alone is `agentd daemon`, and `agentd --config PATH` is
`agentd daemon --config PATH`.

An error is a line `agentd: SENTENCE` on standard error; of a configuration, a line for each fault.
[errors.md](errors.md) has every exit status and every error.
"""

_NAMES: Final = {str: "TEXT", int: "NUMBER", float: "NUMBER", Path: "PATH"}


def reference() -> str:
    """The whole document."""
    table = "".join(f"| [`{name}`](#agentd-{name}) | {text} |\n" for name, text in COMMANDS.items())
    overview = f"| command | does |\n|---|---|\n{table}"
    return "\n".join([HEAD, overview, *_commands()])


def _commands() -> Iterator[str]:
    for name in COMMANDS:
        root = build_app(name)
        yield from _command(root, root[name], ("agentd", name))


def _command(root: App, app: App, words: tuple[str, ...]) -> Iterator[str]:
    names = [each for each in app if not each.startswith("-")]
    heading = f"{'#' * len(words)} {' '.join(words)}\n"
    if app.default_command is None:
        yield f"{heading}\n{app.help.strip()}\n"
    else:
        assert callable(app.default_command)
        arguments = list(
            app.assemble_argument_collection(
                default_parameter=root.default_parameter, parse_docstring=True
            )
        )
        usage = " ".join([*words, *filter(None, map(_place, arguments)), "[OPTIONS]"])
        text = _described(inspect.getdoc(app.default_command) or "")
        yield f"{heading}\n```text\n{usage}\n```\n\n{text}\n{_table(arguments)}"
    for each in names:
        yield from _command(root, app[each], (*words, each))


def _described(doc: str) -> str:
    """A docstring without its arguments; lines that are set in are what can be typed."""
    text = doc.partition("\nArgs:\n")[0].strip()
    parts = [
        f"```sh\n{inspect.cleandoc(part)}\n```" if part.startswith("    ") else part
        for part in re.split(r"\n\n(?!\s*\n)", text)
    ]
    return "\n\n".join(parts) + "\n"


def _table(arguments: list[Argument]) -> str:
    rows = [
        f"| {_shown(each)} | {_default(each)} | {_cell(each.parameter.help or '')} |\n"
        for each in arguments
        if each.show
    ]
    return f"| argument | default | meaning |\n|---|---|---|\n{''.join(rows)}" if rows else ""


def _is_option(argument: Argument) -> bool:
    return argument.names[0].startswith("-")


def _is_variadic(argument: Argument) -> bool:
    return argument.field_info.kind is inspect.Parameter.VAR_POSITIONAL


def _place(argument: Argument) -> str | None:
    """A positional argument as the usage line shows it."""
    if _is_option(argument) or not argument.show:
        return None
    name = argument.names[0] + ("..." if _is_variadic(argument) else "")
    return name if argument.required else f"[{name}]"


def _shown(argument: Argument) -> str:
    kind = _kind(argument.hint)
    if not _is_option(argument):
        return f"`{argument.names[0]}`"
    names = ", ".join(f"`{name}`" for name in argument.names)
    return f"{names} {kind}".rstrip()


def _kind(hint: object) -> str:
    """What is written after an option; nothing after a flag."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(f"`{each}`" for each in inner)
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(filter(None, (_kind(each) for each in inner if each is not type(None))))
    if origin in {list, tuple, typing.Annotated}:
        return _kind(inner[0])
    return "" if hint is bool else _NAMES[typing.cast(type, hint)]


def _default(argument: Argument) -> str:
    value = argument.field_info.default
    if argument.required:
        return "required"
    if value in (None, False, (), inspect.Parameter.empty):
        return ""
    return f"`{value}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


if __name__ == "__main__":
    FILE.write_text(reference())
