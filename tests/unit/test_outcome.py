"""How ends are labelled, worded, and turned into exit statuses."""

from __future__ import annotations

import pytest

from agentd.outcome import TIMED_OUT, Label, Outcome, from_exit_code

NAMED = {
    0: "success",
    1: "generic_failure",
    2: "usage_error",
    3: "blocked",
    4: "nothing_ready",
    5: "work_failed",
    6: "infrastructure_failure",
    126: "command_not_executable",
    127: "command_not_found",
}
PLAIN = (*range(7, 126), 128, *range(193, 256))


@pytest.mark.contract("SES-32")
@pytest.mark.parametrize(("code", "label"), NAMED.items())
def test_runas_codes_have_their_labels(code: int, label: str) -> None:
    assert from_exit_code(code) == Outcome(Label(label), exit_code=code)


@pytest.mark.contract("SES-33", "F-29")
@pytest.mark.parametrize("number", [1, 2, 9, 15, 64])
def test_codes_of_signals_name_the_signal(number: int) -> None:
    code = 128 + number
    assert from_exit_code(code) == Outcome(Label.TERMINATED_BY_SIGNAL, code, number)


@pytest.mark.contract("SES-33", "SES-34", "F-29")
def test_all_other_codes_are_plain_failures_with_their_code() -> None:
    assert [from_exit_code(code) for code in PLAIN] == [
        Outcome(Label.GENERIC_FAILURE, exit_code=code) for code in PLAIN
    ]


@pytest.mark.contract("SES-38", "CLI-22")
def test_a_timeout_has_no_code_of_its_own_and_exits_124() -> None:
    assert (TIMED_OUT.exit_code, TIMED_OUT.signal) == (None, None)
    assert TIMED_OUT.process_exit_code == 124
    assert str(TIMED_OUT) == "timed out"


@pytest.mark.contract("CLI-19")
@pytest.mark.parametrize("code", [0, 3, 4])
def test_fine_ends_exit_zero_and_are_a_bare_label(code: int) -> None:
    outcome = from_exit_code(code)
    assert outcome.process_exit_code == 0
    assert str(outcome) == outcome.label.value


@pytest.mark.contract("CLI-20")
def test_other_ends_are_told_with_their_code() -> None:
    assert str(from_exit_code(23)) == "generic_failure (exit code 23)"


@pytest.mark.contract("CLI-21")
def test_a_signal_is_told_with_code_and_number() -> None:
    assert str(from_exit_code(130)) == "terminated_by_signal (exit code 130, signal 2)"


@pytest.mark.contract("CLI-23")
@pytest.mark.parametrize("code", [1, 2, 5, 6, 126, 127, 128, 130, 137, 200, 255])
def test_other_ends_exit_with_the_sessions_own_code(code: int) -> None:
    assert from_exit_code(code).process_exit_code == code


@pytest.mark.contract("SOC-08")
def test_the_labels_are_this_closed_list() -> None:
    expected = {*NAMED.values(), "terminated_by_signal", "timed_out"}
    assert {label.value for label in Label} == expected
