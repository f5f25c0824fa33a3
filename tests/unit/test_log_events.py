"""docs/log-events.md names what the source logs, with its levels and fields: neither drifts."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest

from agentd.names import Label

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/log-events.md"

ROW = re.compile(r"\| `((?:agentd|runner)\.\w+)` \| ([a-z, ]+) \|([^|]*)\|")
NAME = re.compile(r"(agentd|runner)\.[a-z_]+")
LEVELS = {"debug", "info", "warning", "error"}

OTHER_NAMES = {"agentd.sock", "agentd.pid", "agentd.check"}
LABELS = {value for name, value in vars(Label).items() if name.isupper()}
ON_EVERY_RUNNER_LINE = frozenset({"session_id", "agent", "container_name"})


Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class Told(NamedTuple):
    """What is told of an event, by the source or by the document."""

    levels: frozenset[str]
    fields: frozenset[str]


def logged() -> dict[str, Told]:
    """Every event that a function of the source logs."""
    found: dict[str, Told] = {}
    for path in (ROOT / "src").rglob("*.py"):
        module = ast.parse(path.read_text())
        for function in ast.walk(module):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for name, told in calls(function, module):
                    known = found.get(name, Told(frozenset(), frozenset()))
                    found[name] = Told(known.levels | told.levels, known.fields | told.fields)
    return found


def calls(function: Function, module: ast.Module) -> Iterator[tuple[str, Told]]:
    """The calls `log.LEVEL("event", …)`, and `tell("event", …)` with `tell = log.LEVEL if …`."""
    for node in ast.walk(function):
        match node:
            case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_], keywords=keywords):
                levels = levels_of(func) or levels_of_name(func, function)
                if levels and NAME.fullmatch(name):
                    fields = fields_of(keywords, function, module)
                    yield name, Told(frozenset(levels), frozenset(fields))


def levels_of(node: ast.AST) -> set[str]:
    """The levels whose methods of `log` stand in an expression."""
    return {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute)
        and isinstance(each.value, ast.Name)
        and (each.value.id, each.attr in LEVELS) == ("log", True)
    }


def levels_of_name(func: ast.AST, function: ast.AST) -> set[str]:
    return levels_of(assigned(func.id, function)) if isinstance(func, ast.Name) else set()


def fields_of(keywords: list[ast.keyword], function: Function, module: ast.Module) -> set[str]:
    """The keywords of a call; for `**fields`, the keys of the dictionary that was assigned to it.

    Or, in a function that takes `**fields`, the keywords of the calls of that function.
    """
    found = {each.arg for each in keywords if each.arg is not None}
    for each in keywords:
        if each.arg is None:
            assert isinstance(each.value, ast.Name), "spread nothing but a name"
            spread = each.value.id
            if function.args.kwarg is not None and function.args.kwarg.arg == spread:
                found |= handed_to(function, module)
            else:
                value = assigned(spread, function)
                assert isinstance(value, ast.Dict), "write the fields out, or in one dictionary"
                found |= {str(key.value) for key in value.keys if isinstance(key, ast.Constant)}
    return found


def handed_to(function: Function, module: ast.Module) -> set[str]:
    return {
        field
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and called(node.func) == function.name
        for field in fields_of(node.keywords, function, module)
    }


def called(function: ast.expr) -> str:
    """The name of a function, or of a method of the caller's own object."""
    match function:
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self"), attr=name):
            return name
    return ""


def assigned(name: str, function: ast.AST) -> ast.AST:
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                return value
    return ast.Pass()


def documented() -> dict[str, Told]:
    return {
        name: Told(frozenset(levels.split(", ")), frozenset(re.findall(r"`(\w+)`", fields)))
        for name, levels, fields in ROW.findall(DOCUMENT.read_text())
    }


SOURCE, DOCUMENTED = logged(), documented()


@pytest.mark.contract("LOG-01")
def test_the_source_logs_what_is_documented() -> None:
    assert SOURCE.keys() == DOCUMENTED.keys()


@pytest.mark.contract("LOG-01")
@pytest.mark.parametrize("name", sorted(SOURCE.keys() & DOCUMENTED.keys()))
def test_an_event_has_the_documented_levels_and_fields(name: str) -> None:
    bound = ON_EVERY_RUNNER_LINE if name.startswith("runner.") else frozenset()
    source = Told(SOURCE[name].levels, SOURCE[name].fields - bound)
    assert source == DOCUMENTED[name]


def test_no_event_is_logged_in_a_way_that_the_comparison_misses() -> None:
    """Whatever looks like an event's name, and is no label of a container, was found."""
    texts = {
        node.value
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    names = {text for text in texts if NAME.fullmatch(text)} - OTHER_NAMES - LABELS
    assert names == SOURCE.keys()
