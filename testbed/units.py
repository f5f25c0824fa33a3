"""The unit files of examples/, as systemd.syntax(7) has them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final, NamedTuple

EXAMPLES: Final = Path(__file__).parents[1] / "examples"
AUDIT_ROOT: Final = "/var/lib/tesserine/audit"
"""Where the units have the records; tests put a directory of their own in its place."""


class Entry(NamedTuple):
    """A line of a unit file."""

    section: str
    key: str
    value: str


def entries(path: Path) -> list[Entry]:
    """The entries of a unit file, in order; lines that go on are one, and comments are none."""
    found = []
    section = ""
    for line in re.sub(r"\\\n\s*", "", path.read_text()).splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            found.append(Entry(section, key, value))
    return found


def values(path: Path, key: str) -> list[str]:
    """What a unit file says for a key, in any section."""
    return [entry.value for entry in entries(path) if entry.key == key]


def words(path: Path, key: str) -> list[str]:
    """The command that a unit file has for this key, without its program."""
    (command,) = values(path, key)
    return shlex.split(command)[1:]


def options(arguments: list[str]) -> list[str]:
    """Arguments with every option in one word with its value: `--name=agentd`."""
    found: list[str] = []
    for word in arguments:
        open_ended = found and found[-1].startswith("--") and "=" not in found[-1]
        if open_ended and not word.startswith("--"):
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found
