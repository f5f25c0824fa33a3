"""The parts of sentences that the reading and the rules of a configuration share."""

from __future__ import annotations

from datetime import date, time
from pathlib import Path
from typing import Any, Final, get_args

from ..paths import is_utf8
from .schema import Agent, Command, Credential, Mount

EXAMPLES: Final = {
    (Agent, "name"): 'name = "site-builder"',
    (Agent, "base_image"): 'base_image = "localhost/my-agent:latest"',
    (Agent, "methodology_dir"): 'methodology_dir = "methodology"',
    (Agent, "command"): '[agents.command] with argv = ["my-agent"]',
    (Command, "argv"): 'argv = ["my-agent"]',
    (Mount, "source"): 'source = "/path/on/the/host"',
    (Mount, "target"): 'target = "/path/in/the/container"',
    (Mount, "read_only"): "read_only = true",
    (Credential, "name"): 'name = "VARIABLE_OF_THE_SESSION"',
    (Credential, "source"): 'source = "VARIABLE_OF_THE_DAEMON"',
}
"""What to add when a required key is missing."""

RETIRED: Final = {
    "profiles": "this table is now `[[agents]]`",
    "runa": "the `[agents.runa]` table is retired: remove it; runa is part of the session image,"
    " and `[agents.command]` gives the agent that runa starts",
}

_NOUNS: Final[dict[object, str]] = {
    str: "a string",
    Path: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}


def of(agent: Agent) -> str:
    """Whose field it is, to end a sentence with."""
    return f" for agent {agent.name!r}"


def who(agent: Agent) -> str:
    """Who did it, to begin a sentence with."""
    return f"agent {agent.name!r}"


def text_fault(key: str, value: str, whose: str) -> str | None:
    """What is wrong with a word that must be there and stand alone, as a sentence, or None."""
    if not value.strip():
        return f"field '{key}' must not be empty{whose}"
    if value != value.strip():
        return f"field '{key}' must not have leading or trailing whitespace{whose}"
    return None


def path_fault(key: str, path: Path | str, whose: str = "") -> str | None:
    """Why a path on the host cannot be used, whatever lies there, as a sentence, or None."""
    text = str(path)
    if "\0" in text:
        return f"field '{key}' must not hold a NUL byte{whose}"
    if not is_utf8(text):
        # Not of the configuration's own text, but the directory that the file lies in may be so.
        return (
            f"field '{key}' must be UTF-8{whose}, and {text!r} is not;"
            " move the configuration, or write an absolute path"
        )
    return None


def noun(hint: Any) -> str:
    """What a value of type `hint` is, for people."""
    choices = get_args(hint)
    return "one of " + ", ".join(f'"{choice}"' for choice in choices) if choices else _NOUNS[hint]


def kind_of(raw: object, hint: Any = None) -> str:
    """What a TOML value is, for people; a string is only shown where a choice was wanted."""
    if isinstance(raw, str):
        return repr(raw) if get_args(hint) else "a string"
    if isinstance(raw, bool):
        return "a boolean"
    if isinstance(raw, int | float):
        # An integer in hexadecimal may be longer than Python agrees to print.
        return f"the number {raw}" if abs(raw) < 2**63 else "a number out of range"
    if isinstance(raw, list):
        return "an array"
    if isinstance(raw, date | time):
        return "a date or time"
    return "a table"
