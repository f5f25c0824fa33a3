"""Errors: one code a class, the same class on both sides of the wire."""

from __future__ import annotations

import re

import pytest

from agentd import errors
from agentd.errors import AgentdError, ConfigError, PodmanTimeout, ShuttingDown, from_code, leaves


def tree(cls: type[AgentdError]) -> list[type[AgentdError]]:
    return [cls, *(deep for sub in cls.__subclasses__() for deep in tree(sub))]


CLASSES = [cls for cls in tree(AgentdError) if cls.__module__ == errors.__name__]


def test_every_code_belongs_to_one_class() -> None:
    codes = [cls.code for cls in CLASSES]
    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_has_a_code_of_its_own_in_snake_case(cls: type[AgentdError]) -> None:
    assert "code" in vars(cls)
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", cls.code)


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_exits_as_the_table_of_outcomes_says(cls: type[AgentdError]) -> None:
    # 130 is runa's and the shells' word for an interruption.
    assert cls.exit_code in {1, 2, 6, 130}


@pytest.mark.contract("CLI-24")
@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_is_the_same_after_the_wire(cls: type[AgentdError]) -> None:
    rebuilt = from_code(cls.code, "what happened")
    assert type(rebuilt) is cls
    assert rebuilt.message == "what happened"


def test_an_unknown_code_is_a_plain_error() -> None:
    rebuilt = from_code("from_the_future", "what happened")
    assert type(rebuilt) is AgentdError
    assert rebuilt.message == "what happened"


def test_problems_of_a_configuration_are_a_line_each() -> None:
    assert ConfigError(["one", "two"]).message == "one\ntwo"


def test_shutting_down_says_so_by_itself() -> None:
    assert ShuttingDown().message == "agentd is shutting down"


def test_podmans_status_and_cause_stay_with_the_error() -> None:
    error = PodmanTimeout("late", status=500, cause="why")
    assert (error.status, error.cause, error.code) == (500, "why", "podman_timeout")


def test_a_plain_error_is_its_own_leaf() -> None:
    error = ValueError()
    assert leaves(error) == [error]


def test_the_leaves_of_nested_groups_are_flat_and_in_order() -> None:
    one, two, three = ValueError(1), KeyboardInterrupt(), ValueError(3)
    nested = BaseExceptionGroup("outer", [one, BaseExceptionGroup("inner", [two]), three])
    assert leaves(nested) == [one, two, three]
