"""Who may begin, and who waits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from agentd import config, wire
from agentd.current import Current
from agentd.errors import (
    AgentdError,
    OverlapSkipped,
    PodmanError,
    ShuttingDown,
    StoppedBeforeStart,
)
from agentd.places import Places, Waiting
from tests.unit import builders


def a_run(name: str, agent: str = "a", overlap: str | None = None) -> Waiting:
    """A run by hand, or a scheduled one of an agent with such an `overlap`."""
    declared = builders.agent(name=agent, overlap=overlap or "skip")
    trigger = "manual" if overlap is None else "schedule"
    return Waiting(name, builders.invocation(agent=declared, trigger=trigger))


def bounded(most: int) -> Current:
    return Current(config.Config(config.Daemon(max_sessions=most), ()))


class Runs:
    """Runs that ask for a place, and what became of them."""

    def __init__(self, nursery: trio.Nursery, most: int) -> None:
        self.current = bounded(most)
        self.places = Places(self.current)
        self.begun: list[str] = []
        self.refused: dict[str, AgentdError] = {}
        self.told: dict[str, list[int]] = {}
        self._nursery = nursery

    async def ask(self, name: str, agent: str = "a", *, alone: bool = False) -> Waiting:
        run = a_run(name, agent, "queue" if alone else None)
        self._nursery.start_soon(self._take, run)
        await wait_all_tasks_blocked()
        return run

    async def _take(self, run: Waiting) -> None:
        told = self.told.setdefault(run.session_id, [])

        def tell(event: wire.Progress | wire.Queued) -> None:
            assert isinstance(event, wire.Queued)
            told.append(event.position)

        try:
            await self.places.take(run, tell)
        except AgentdError as error:
            self.refused[run.session_id] = error
        else:
            self.begun.append(run.session_id)

    async def end(self, agent: str = "a") -> None:
        self.places.release(agent)
        await wait_all_tasks_blocked()

    @property
    def waiting(self) -> list[str]:
        return [run.session_id for run in self.places.waiting]


@pytest.fixture
async def one() -> AsyncIterator[Runs]:
    """With one place."""
    async with trio.open_nursery() as nursery:
        yield Runs(nursery, 1)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def unbounded() -> AsyncIterator[Runs]:
    async with trio.open_nursery() as nursery:
        yield Runs(nursery, 0)
        nursery.cancel_scope.cancel()


@pytest.mark.contract("DSP-21")
async def test_without_a_bound_nobody_waits(unbounded: Runs) -> None:
    for name in "1234":
        await unbounded.ask(name)
    assert (unbounded.begun, unbounded.waiting) == (["1", "2", "3", "4"], [])


@pytest.mark.contract("F-55")
async def test_beyond_the_bound_runs_begin_in_the_order_in_which_they_came(one: Runs) -> None:
    for name in "123":
        await one.ask(name)
    assert (one.begun, one.waiting) == (["1"], ["2", "3"])
    await one.end()
    assert (one.begun, one.waiting) == (["1", "2"], ["3"])


@pytest.mark.contract("F-55")
async def test_who_waits_is_told_every_position(one: Runs) -> None:
    for name in "1234":
        await one.ask(name)
    await one.end()
    assert one.told == {"1": [], "2": [1], "3": [2, 1], "4": [3, 2]}


async def test_a_run_that_is_stopped_makes_room_in_the_queue(one: Runs) -> None:
    await one.ask("1")
    second = await one.ask("2")
    await one.ask("3")
    stopped = StoppedBeforeStart("stopped")
    one.places.turn_away(second, stopped)
    await wait_all_tasks_blocked()
    assert (one.refused, one.waiting, one.told["3"]) == ({"2": stopped}, ["3"], [2, 1])


async def test_a_drain_turns_all_away_that_wait(one: Runs) -> None:
    for name in "123":
        await one.ask(name)
    one.places.close()
    await wait_all_tasks_blocked()
    assert (one.begun, one.waiting) == (["1"], [])
    assert {type(error) for error in one.refused.values()} == {ShuttingDown}


async def test_an_adopted_session_has_a_place_though_there_is_none(one: Runs) -> None:
    one.places.hold("a")
    one.places.hold("a")
    await one.ask("1")
    await one.end()
    assert one.waiting == ["1"]
    await one.end()
    assert one.begun == ["1"]


async def test_a_run_that_must_be_alone_waits_for_its_agent_and_lets_others_pass(
    unbounded: Runs,
) -> None:
    await unbounded.ask("1", "a")
    await unbounded.ask("2", "a", alone=True)
    await unbounded.ask("3", "b")
    assert (unbounded.begun, unbounded.waiting) == (["1", "3"], ["2"])
    await unbounded.end("a")
    assert unbounded.begun == ["1", "3", "2"]


async def test_who_gives_up_waiting_costs_no_place() -> None:
    places = Places(bounded(1))
    places.hold("a")
    with trio.move_on_after(0):
        await places.take(a_run("1"), lambda _event: None)
    assert places.waiting == ()
    places.release("a")
    with trio.fail_after(1):
        await places.take(a_run("2"), lambda _event: None)


async def test_who_gives_up_when_the_place_is_there_gives_it_back() -> None:
    places = Places(bounded(1))
    with trio.CancelScope() as scope:
        scope.cancel()
        await places.take(a_run("1"), lambda _event: None)
    assert scope.cancelled_caught
    with trio.fail_after(1):
        await places.take(a_run("2"), lambda _event: None)


# --- runs of one agent ---------------------------------------------------------------------------

RESTRAINED = pytest.mark.parametrize("overlap", ["skip", "queue"])


@contextmanager
def admitted(places: Places, *overlaps: str | None) -> Iterator[None]:
    """Runs of one agent that are being admitted, say for a pull; None for one by hand."""
    with ExitStack() as admissions:
        for overlap in overlaps:
            admissions.enter_context(places.admitting(a_run("admitted", overlap=overlap)))
        yield


@pytest.mark.contract("SCH-16")
@RESTRAINED
async def test_an_agent_without_a_session_overlaps_nothing(one: Runs, overlap: str) -> None:
    await one.ask("1", "other")
    with one.places.admitting(a_run("2", overlap=overlap)):
        pass


@pytest.mark.contract("SCH-16")
@pytest.mark.parametrize("overlap", [None, "allow"])
async def test_nothing_holds_back_a_run_by_hand_or_of_an_agent_that_may_overlap(
    one: Runs, overlap: str | None
) -> None:
    await one.ask("1")
    await one.ask("2")
    with admitted(one.places, overlap, overlap, overlap):
        pass


async def test_a_run_that_must_not_wait_is_left_out(one: Runs) -> None:
    await one.ask("1")
    with (
        pytest.raises(OverlapSkipped, match="a session of agent 'a' lives"),
        admitted(one.places, "skip"),
    ):
        pass


@pytest.mark.parametrize("before", [None, "skip", "queue"])
async def test_a_run_that_must_not_wait_is_left_out_while_another_is_admitted(
    one: Runs, before: str | None
) -> None:
    with (
        admitted(one.places, before),
        pytest.raises(OverlapSkipped, match="a run of agent 'a' is being admitted"),
        admitted(one.places, "skip"),
    ):
        pass


@RESTRAINED
async def test_one_run_of_an_agent_waits_and_no_second(one: Runs, overlap: str) -> None:
    await one.ask("1", "other")
    await one.ask("2")
    with pytest.raises(OverlapSkipped, match="waits already"), admitted(one.places, overlap):
        pass


@pytest.mark.parametrize("before", [None, "queue"])
async def test_one_run_may_wait_for_another_that_is_admitted(one: Runs, before: str | None) -> None:
    with admitted(one.places, before, "queue"):
        pass


@pytest.mark.parametrize(
    "before", [("queue", "queue"), (None, "queue")], ids=["scheduled", "by hand"]
)
async def test_no_second_run_waits_for_another_that_is_admitted(
    one: Runs, before: tuple[str | None, ...]
) -> None:
    with (
        admitted(one.places, *before),
        pytest.raises(OverlapSkipped, match="waits already"),
        admitted(one.places, "queue"),
    ):
        pass


async def test_no_second_run_waits_for_a_session_while_the_first_is_admitted(one: Runs) -> None:
    await one.ask("1")
    with (
        admitted(one.places, "queue"),
        pytest.raises(OverlapSkipped, match="waits already"),
        admitted(one.places, "queue"),
    ):
        pass


async def test_one_run_waits_for_a_session_while_one_by_hand_is_admitted(one: Runs) -> None:
    await one.ask("1")
    with admitted(one.places, None, "queue"):
        pass


@RESTRAINED
async def test_a_run_that_is_refused_holds_back_no_other(one: Runs, overlap: str) -> None:
    with pytest.raises(PodmanError), admitted(one.places, overlap):
        raise PodmanError("no image")
    with admitted(one.places, overlap):
        pass


# --- another bound -------------------------------------------------------------------------------


@pytest.mark.contract("F-57")
@pytest.mark.parametrize(
    ("bound", "begun"), [(1, "1"), (2, "12"), (3, "123"), (0, "1234")], ids=str
)
async def test_a_wider_bound_lets_those_begin_who_wait(bound: int, begun: str) -> None:
    async with trio.open_nursery() as nursery:
        runs = Runs(nursery, 1)
        nursery.start_soon(runs.places.follow_bound)
        for name in "1234":
            await runs.ask(name)
        runs.current.replace(bounded(bound).config)
        await wait_all_tasks_blocked()
        assert sorted(runs.begun) == [*begun]
        nursery.cancel_scope.cancel()


@pytest.mark.contract("F-57")
async def test_a_narrower_bound_ends_nobody_and_counts_for_the_next() -> None:
    async with trio.open_nursery() as nursery:
        runs = Runs(nursery, 2)
        nursery.start_soon(runs.places.follow_bound)
        for name in "12":
            await runs.ask(name)
        runs.current.replace(bounded(1).config)
        await runs.ask("3")
        runs.places.release("a")
        await wait_all_tasks_blocked()
        assert runs.begun == ["1", "2"]
        runs.places.release("a")
        await wait_all_tasks_blocked()
        assert runs.begun == ["1", "2", "3"]
        nursery.cancel_scope.cancel()
