"""docs/configuration.md has every key that there is, with its default, and no other."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from agentd.config import schema
from agentd.quantities import parse_duration, parse_size

TEXT = (Path(__file__).parents[3] / "docs/configuration.md").read_text()

SECTIONS: dict[str, type[msgspec.Struct]] = {
    "daemon": schema.Daemon,
    "agents": schema.Agent,
    "agents.command": schema.Command,
    "agents.credentials": schema.Credential,
    "agents.repo_token": schema.RepoToken,
    "agents.mounts": schema.Mount,
    "agents.limits": schema.Limits,
    "agents.isolation": schema.Isolation,
}
READERS = {"duration": parse_duration, "size": parse_size}
ROW = re.compile(r"^\| `(?P<key>\w+)` \| (?P<type>[a-z ]+) \| (?P<default>[^|]+) \|", re.MULTILINE)


class Key(NamedTuple):
    """A key as it is, or as the document tells it."""

    required: bool
    default: Any


def section(name: str) -> str:
    return re.split(r"^## ", TEXT.split(f"\n## {name}\n")[1], flags=re.MULTILINE)[0]


def told(name: str) -> Iterator[tuple[str, Key]]:
    for row in ROW.finditer(section(name)):
        literal = re.fullmatch("`(.*)`", row["default"])
        default: Any = tomllib.loads(f"x = {literal[1]}")["x"] if literal else None
        if literal and row["type"] in READERS:
            default = READERS[row["type"]](default)
        yield row["key"], Key(row["default"] == "required", default)


def declared(table: type[msgspec.Struct]) -> Iterator[tuple[str, Key]]:
    """Defaults that are tables themselves are told in a section of their own."""
    for field in msgspec.structs.fields(table):
        plain = isinstance(field.default, str | int | float)
        yield field.name, Key(field.required, field.default if plain else None)


def test_every_table_of_a_configuration_has_a_section() -> None:
    tables = {each for each in vars(schema).values() if isinstance(each, msgspec.StructMeta)}
    assert tables - {msgspec.Struct, schema.Config} == {*SECTIONS.values()}


@pytest.mark.contract("CFG-06", "CFG-31")
@pytest.mark.parametrize("name", SECTIONS)
def test_the_keys_and_their_defaults_are_those_of_the_program(name: str) -> None:
    assert dict(told(name)) == dict(declared(SECTIONS[name]))


@pytest.mark.parametrize("name", SECTIONS)
def test_every_key_stands_in_an_example(name: str) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", section(name), re.DOTALL)
    shown = set(re.findall(r"^(\w+) = ", example, re.MULTILINE))
    elsewhere = {each.removeprefix("agents.") for each in SECTIONS if "." in each}
    assert set(SECTIONS[name].__struct_fields__) - shown <= elsewhere
