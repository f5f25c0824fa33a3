"""docs/errors.md says what the source does: codes, classes, exit statuses and outcomes."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from agentd import errors
from agentd.errors import AgentdError
from agentd.outcome import EXIT_TIMED_OUT, TIMED_OUT, Label, Outcome, from_exit_code

DOCUMENT = Path(__file__).parents[2] / "docs/errors.md"
EXIT_CODES = range(256)


def tree(cls: type[AgentdError]) -> list[type[AgentdError]]:
    return [cls, *(deep for sub in cls.__subclasses__() for deep in tree(sub))]


def rows(heading: str) -> list[list[str]]:
    """The rows of the one table below a heading, without the table's head."""
    section = DOCUMENT.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines[2:]]


def codes(cell: str) -> set[int]:
    """The numbers in `1, 7–125`."""
    ends = [part.split("–") for part in re.findall(r"[0-9]+(?:–[0-9]+)?", cell)]
    return {code for part in ends for code in range(int(part[0]), int(part[-1]) + 1)}


OUTCOMES = {row[0]: row for row in rows("Outcomes")}


@pytest.mark.contract("CLI-24")
def test_every_error_is_in_the_table_with_its_class_and_exit_status() -> None:
    raised = [cls for cls in tree(AgentdError) if cls.__module__ == errors.__name__]
    told = [tuple(row[:3]) for row in rows("Errors")]
    assert told == [(cls.code, cls.__name__, str(cls.exit_code)) for cls in in_order(raised)]


def in_order(classes: list[type[AgentdError]]) -> list[type[AgentdError]]:
    """As they stand in the source."""
    names = list(vars(errors))
    return sorted(classes, key=lambda cls: names.index(cls.__name__))


def test_every_error_says_when_it_is_raised_and_what_to_do() -> None:
    assert [row for row in rows("Errors") if len(row) != 5 or not all(row)] == []


def test_every_exit_status_is_in_its_table() -> None:
    told = {int(row[0]) for row in rows("Exit statuses")}
    raised = {int(row[2]) for row in rows("Errors")}
    interrupted = {errors.EXIT_INTERRUPTED, 128 + signal.SIGTERM}
    ours = {0, errors.EXIT_FAILURE, EXIT_TIMED_OUT, errors.EXIT_BROKEN_PIPE}
    assert told == ours | interrupted | raised


@pytest.mark.contract("SOC-08")
def test_every_label_is_in_the_table() -> None:
    assert list(OUTCOMES) == [label.value for label in Label]


@pytest.mark.contract("SES-33")
@pytest.mark.parametrize("label", [label for label in Label if label is not Label.TIMED_OUT])
def test_a_label_has_the_exit_codes_that_the_table_gives_it(label: Label) -> None:
    labelled = {code for code in EXIT_CODES if from_exit_code(code).label is label}
    assert codes(OUTCOMES[label][1]) == labelled


@pytest.mark.contract("CLI-23")
@pytest.mark.parametrize("label", list(Label))
def test_a_run_exits_as_the_table_says(label: Label) -> None:
    _, containers, run, _ = OUTCOMES[label]
    ends: list[Outcome] = [from_exit_code(code) for code in codes(containers)] or [TIMED_OUT]
    expected = [end.exit_code if run == "the same" else int(run) for end in ends]
    assert [end.process_exit_code for end in ends] == expected
