"""The public names: each is there, typed, and told of in the documents."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import agentd
from agentd import errors, wire

PACKAGE = Path(agentd.__file__)
DOCUMENT = (Path(__file__).parents[2] / "docs/library.md").read_text()
NAMES = sorted(agentd._PUBLIC)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_what_its_module_defines(name: str) -> None:
    assert getattr(agentd, name) is not None


def test_all_lists_the_public_names() -> None:
    assert sorted(agentd.__all__) == sorted([*NAMES, "__version__"])


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(PACKAGE.read_text())
    all_guarded = [
        each
        for each in tree.body
        if isinstance(each, ast.If) and ast.unparse(each.test) == "TYPE_CHECKING"
    ]
    imported = [
        alias.asname or alias.name
        for guarded in all_guarded
        for each in guarded.body
        if isinstance(each, ast.ImportFrom) and each.level
        for alias in each.names
    ]
    assert sorted(imported) == NAMES


def test_the_document_has_every_public_name_and_no_other() -> None:
    section = DOCUMENT.partition("## Every public name")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == sorted(agentd.__all__)


def test_the_document_names_no_error_that_there_is_not() -> None:
    section = DOCUMENT.partition("## Errors")[2].partition("\n## ")[0]
    rows = [row for row in section.splitlines() if row.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert named
    assert [name for name in named if not hasattr(errors, name)] == []


def test_every_option_of_a_run_is_in_the_document() -> None:
    assert [name for name in wire.RunOptions.__annotations__ if f"`{name}`" not in DOCUMENT] == []


def test_every_call_of_the_client_is_in_the_document() -> None:
    calls = [name for name in vars(agentd.Client) if not name.startswith("_")]
    assert [name for name in calls if not re.search(rf"`(async with )?{name}\(", DOCUMENT)] == []


def test_an_unknown_name_is_said_to_be_none() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        agentd.nothing  # noqa: B018
