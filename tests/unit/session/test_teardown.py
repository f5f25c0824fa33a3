"""Giving parts of a session back: shielded, bounded, noted, and in nobody's way."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from agentd.errors import PodmanError
from agentd.session.teardown import INSIST_SECONDS, TEARDOWN_SECONDS, Teardown


@pytest.fixture
def teardown() -> Teardown:
    return Teardown()


@pytest.mark.contract("SES-27")
async def test_a_step_that_works_leaves_no_note(teardown: Teardown) -> None:
    with teardown.step("removal"):
        await trio.lowlevel.checkpoint()
    assert teardown.failures == []
    assert teardown.error is None


@pytest.mark.contract("SES-27", "SES-29")
async def test_failures_are_noted_by_stage_and_the_next_step_goes_on(teardown: Teardown) -> None:
    with teardown.step("container removal"):
        await trio.lowlevel.checkpoint()
        raise PodmanError("busy")
    with teardown.step("secret removal"):
        await trio.lowlevel.checkpoint()
        raise PodmanError("locked")
    assert teardown.error == "container removal: busy; secret removal: locked"


@pytest.mark.contract("LOG-20")
async def test_a_failure_is_logged_when_it_happens(
    teardown: Teardown, logged: list[dict[str, object]]
) -> None:
    with teardown.step("secret removal"):
        await trio.lowlevel.checkpoint()
        raise PodmanError("locked")
    assert [(line["event"], line["step"], line["error"]) for line in logged] == [
        ("runner.lifecycle_failure", "secret removal", "locked")
    ]


async def test_a_bug_is_not_taken_for_a_failure_to_clean_up(teardown: Teardown) -> None:
    with pytest.raises(KeyError), teardown.step("removal"):
        await trio.lowlevel.checkpoint()
        raise KeyError("bug")
    assert teardown.failures == []


@pytest.mark.contract("SES-30")
async def test_the_error_on_its_way_is_not_replaced(teardown: Teardown) -> None:
    with pytest.raises(ValueError, match="first"):
        try:
            raise ValueError("first")
        finally:
            with teardown.step("removal"):
                await trio.lowlevel.checkpoint()  # noqa: ASYNC102
                raise PodmanError("second")
    assert teardown.failures == ["removal: second"]


@pytest.mark.contract("SES-23")
async def test_a_cancelled_session_still_cleans_up_and_stays_cancelled(teardown: Teardown) -> None:
    cleaned = False
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep_forever()
        finally:
            with teardown.step("removal"):
                await trio.lowlevel.checkpoint()  # noqa: ASYNC102
                cleaned = True
    assert cleaned
    assert scope.cancelled_caught
    assert teardown.failures == []


@pytest.mark.contract("F-34")
async def test_a_step_that_hangs_is_given_up_and_noted(
    teardown: Teardown, autojump_clock: MockClock
) -> None:
    with teardown.step("removal"):
        await trio.sleep_forever()
    assert trio.current_time() == TEARDOWN_SECONDS
    assert teardown.failures == [f"removal: not done within {TEARDOWN_SECONDS:g} s"]


@pytest.mark.contract("F-34")
async def test_a_step_that_hangs_under_cancellation_is_given_up_too(
    teardown: Teardown, autojump_clock: MockClock
) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        finally:
            with teardown.step("removal"):
                await trio.sleep_forever()  # noqa: ASYNC102
    assert scope.cancelled_caught
    assert len(teardown.failures) == 1


async def test_what_podman_fails_is_tried_again(
    teardown: Teardown, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentd.session.teardown.INSIST_SECONDS", INSIST_SECONDS)
    failures = [PodmanError("busy"), PodmanError("away")]

    async def remove() -> None:
        await trio.lowlevel.checkpoint()
        if failures:
            raise failures.pop()

    await teardown.insist("removal", remove)
    assert (teardown.failures, trio.current_time()) == ([], 2.0)


async def test_what_podman_keeps_failing_is_noted_after_a_while(
    teardown: Teardown, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentd.session.teardown.INSIST_SECONDS", INSIST_SECONDS)

    async def remove() -> None:
        await trio.lowlevel.checkpoint()
        raise PodmanError("busy")

    await teardown.insist("removal", remove)
    assert (teardown.failures, trio.current_time()) == (["removal: busy"], INSIST_SECONDS)
