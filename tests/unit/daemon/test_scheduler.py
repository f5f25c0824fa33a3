"""The scheduler's loop on a clock of the test's: what it asks for, when, and what it logs."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Unpack
from zoneinfo import ZoneInfo

import pytest
import trio
from trio.testing import MockClock

from agentd import config, cron, wire
from agentd.current import Current
from agentd.daemon.scheduler import LONGEST_SLEEP_SECONDS, Scheduler
from agentd.daemon.timetable import Timetable
from agentd.errors import (
    AgentdError,
    ConnectionLost,
    DaemonUnreachable,
    HostUnsupported,
    OverlapSkipped,
    PodmanError,
    ShuttingDown,
    UnknownAgent,
)
from agentd.metrics import Metrics
from agentd.panics import PANIC_SECONDS
from testbed.metrics_text import counted
from tests.unit import builders
from tests.unit.conftest import LogLines

START = datetime(2026, 1, 5, 12, 0, 30, tzinfo=UTC)
MINUTE = 60.0
TAKEN = wire.Accepted(session_id="s", record="/r")


class World:
    """A wall clock that runs with Trio's and can be set, and a daemon that takes runs in."""

    def __init__(self) -> None:
        self._offset = START - timedelta(seconds=trio.current_time())
        self.asked: list[tuple[str, wire.Run]] = []
        self.answer: wire.Accepted | wire.Queued | Exception = TAKEN
        self.looks = 0
        self.taken_in = trio.Event()
        """Set unless a test holds up what is asked for."""
        self.taken_in.set()

    def now(self) -> datetime:
        self.looks += 1
        return self._offset + timedelta(seconds=trio.current_time())

    @property
    def clock(self) -> str:
        return (self._offset + timedelta(seconds=trio.current_time())).strftime("%H:%M:%S")

    def set_clock(self, seconds: float) -> None:
        self._offset += timedelta(seconds=seconds)

    async def dispatch(
        self, agent: str, /, **options: Unpack[wire.RunOptions]
    ) -> wire.Accepted | wire.Queued:
        request = wire.run_request(agent, **options, detach=True)
        self.asked.append((self.clock, request))
        await self.taken_in.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @property
    def times(self) -> list[str]:
        return [time for time, _ in self.asked]


@pytest.fixture
async def world() -> World:
    return World()


def scheduled(
    name: str = "builder", schedule: str = "*/5 * * * *", **changes: object
) -> config.Agent:
    return builders.agent(name=name, schedule=schedule, **changes)


def declared(*agents: config.Agent) -> config.Config:
    return config.Config(config.Daemon(), agents)


def utc() -> ZoneInfo:
    return ZoneInfo("UTC")


async def run_for(world: World, seconds: float, *agents: config.Agent) -> None:
    await run_current_for(world, seconds, Current(declared(*agents)))


async def run_current_for(world: World, seconds: float, current: Current) -> None:
    scheduler = Scheduler(current, utc, world.dispatch, world.now)
    with trio.move_on_after(seconds):
        await scheduler.run()


async def reload_after(
    world: World,
    seconds: float,
    before: config.Config,
    after: config.Config,
    *,
    run: float = 11 * MINUTE,
) -> None:
    """Run a scheduler, and let another configuration count after so many seconds."""
    current = Current(before)

    async def replace() -> None:
        await trio.sleep(seconds)
        current.replace(after)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(replace)
        await run_current_for(world, run, current)


@pytest.mark.contract("SCH-01", "SCH-03")
async def test_an_agent_is_asked_for_at_its_times(autojump_clock: MockClock, world: World) -> None:
    await run_for(world, 11 * MINUTE, scheduled())
    assert world.times == ["12:05:00", "12:10:00"]


@pytest.mark.contract("SCH-06", "SOC-01")
async def test_a_scheduled_run_is_a_detached_run_of_the_agents_repository(
    autojump_clock: MockClock, world: World
) -> None:
    await run_for(world, 5 * MINUTE, scheduled())
    expected = wire.Run(agent="builder", repo_url=builders.URL, trigger="schedule", detach=True)
    assert [request for _, request in world.asked] == [expected]


@pytest.mark.contract("SCH-06", "F-56", "F-30")
async def test_a_scheduled_request_is_carried(autojump_clock: MockClock, world: World) -> None:
    await run_for(world, 5 * MINUTE, scheduled(scheduled_request="go on"))
    assert world.asked[0][1].input == wire.TextInput(description="go on")


@pytest.mark.contract("SCH-19")
async def test_without_a_schedule_nothing_is_looked_at(
    autojump_clock: MockClock, world: World
) -> None:
    await run_for(world, 24 * 60 * MINUTE, builders.agent())
    assert (world.asked, world.looks) == ([], 2)


@pytest.mark.contract("SCH-15", "SCH-21")
async def test_a_failed_dispatch_costs_one_fire(autojump_clock: MockClock, world: World) -> None:
    world.answer = PodmanError("down")
    await run_for(world, 11 * MINUTE, scheduled())
    assert world.times == ["12:05:00", "12:10:00"]


@pytest.mark.contract("SCH-21", "LOG-15")
async def test_a_bug_at_a_dispatch_costs_one_fire_and_is_told_at_once(
    autojump_clock: MockClock, world: World, logged: LogLines
) -> None:
    world.answer = KeyError("bug")
    await run_for(world, 11 * MINUTE, scheduled())
    assert world.times == ["12:05:00", "12:10:00"]
    told = [(line["event"], line["level"]) for line in logged]
    assert told == 2 * [
        ("agentd.scheduler_panicked", "error"),
        ("agentd.schedule_fired", "warning"),
    ]


@pytest.mark.contract("SCH-21", "LOG-15")
async def test_a_bug_in_the_search_of_one_agent_costs_one_fire_of_it(
    autojump_clock: MockClock, world: World, logged: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = cron.parse("5-59/5 * * * *")
    fires = cron.fires

    def breaking_once(
        schedule: cron.Schedule, after: datetime, zone: ZoneInfo
    ) -> Iterator[datetime]:
        if schedule == broken and world.clock == "12:05:00":
            raise KeyError("bug")
        return fires(schedule, after, zone)

    monkeypatch.setattr(cron, "fires", breaking_once)
    await run_for(world, 11 * MINUTE, scheduled("broken", broken.text), scheduled("sound"))
    asked = sorted((time, request.agent) for time, request in world.asked)
    assert asked == [("12:05:00", "sound"), ("12:10:00", "broken"), ("12:10:00", "sound")]
    lost = [line for line in logged if line["level"] != "info"]
    assert [(line["event"], line["agent"]) for line in lost] == [
        ("agentd.scheduler_panicked", "broken"),
        ("agentd.schedule_fired", "broken"),
    ]


@pytest.mark.contract("SCH-21", "LOG-15")
async def test_an_agent_whose_search_never_works_costs_no_other_a_fire(
    autojump_clock: MockClock, world: World, logged: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = cron.parse("* * * * *")
    fires = cron.fires

    def breaking(schedule: cron.Schedule, after: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        if schedule == broken:
            raise KeyError("bug")
        return fires(schedule, after, zone)

    monkeypatch.setattr(cron, "fires", breaking)
    await run_for(world, 11 * MINUTE, scheduled("broken", broken.text), scheduled("sound"))
    assert world.times == ["12:05:00", "12:10:00"]
    panics = [line for line in logged if line["event"] == "agentd.scheduler_panicked"]
    assert len(panics) < 11 * MINUTE / PANIC_SECONDS + 10


@pytest.mark.contract("SCH-21", "LOG-15")
async def test_a_bug_in_the_timetable_costs_a_moment(
    autojump_clock: MockClock, world: World, logged: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = [True]
    entries = Timetable.entries

    def breaking_once(table: Timetable) -> object:
        if broken:
            raise KeyError(broken.pop())
        return entries(table)

    monkeypatch.setattr(Timetable, "entries", breaking_once)
    other = declared(scheduled(), builders.agent(name="other"))
    await reload_after(world, MINUTE, declared(scheduled()), other)
    assert world.times == ["12:05:00", "12:10:00"]
    assert next(iter(logged))["event"] == "agentd.scheduler_panicked"


@pytest.mark.contract("SCH-21")
async def test_a_bug_in_the_timetable_takes_back_nothing_that_was_asked_for(
    autojump_clock: MockClock, world: World, logged: LogLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(_table: Timetable) -> object:
        raise KeyError("bug")

    async def answer_late() -> None:
        await trio.sleep(8 * MINUTE)
        world.taken_in.set()

    monkeypatch.setattr(Timetable, "entries", breaking)
    world.taken_in = trio.Event()
    other = declared(scheduled(), builders.agent(name="other"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_late)
        await reload_after(world, 6 * MINUTE, declared(scheduled()), other, run=9 * MINUTE)
    fired = [line for line in logged if line["event"] == "agentd.schedule_fired"]
    assert [line["disposition"] for line in fired] == ["started"]


@pytest.mark.contract("SCH-20")
async def test_nothing_fires_once_the_scheduler_is_cancelled(
    autojump_clock: MockClock, world: World
) -> None:
    await run_for(world, 6 * MINUTE, scheduled())
    await trio.sleep(10 * MINUTE)
    assert world.times == ["12:05:00"]


@pytest.mark.contract("SCH-09", "LOG-15")
@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (TAKEN, ("started", "info")),
        (wire.Queued(session_id="s", position=2), ("queued", "info")),
        (OverlapSkipped("lives"), ("skipped_overlap", "info")),
        (ShuttingDown(), ("skipped_draining", "info")),
        (DaemonUnreachable("no socket"), ("failed", "warning")),
        (PodmanError("down"), ("failed", "warning")),
    ],
)
async def test_every_due_instant_has_one_disposition(
    autojump_clock: MockClock,
    world: World,
    logged: LogLines,
    answer: wire.Accepted | wire.Queued | AgentdError,
    shown: tuple[str, str],
) -> None:
    world.answer = answer
    await run_for(world, 5 * MINUTE, scheduled())
    (line,) = (each for each in logged if each["event"] == "agentd.schedule_fired")
    assert (line["agent"], line["due"]) == ("builder", "2026-01-05T12:05:00+00:00")
    assert (line["disposition"], line["level"]) == shown


# --- the drain -----------------------------------------------------------------------------------


async def drained(world: World, logged: LogLines) -> list[str]:
    """Drain while what was asked for at 12:05 is not answered yet, and then let the daemon answer
    as the world says; gives the dispositions."""
    scheduler = Scheduler(Current(declared(scheduled())), utc, world.dispatch, world.now)
    world.taken_in = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.run)
        await trio.sleep(5 * MINUTE)
        scheduler.drain()
        # Long enough for more fires, if there were any.
        await trio.sleep(30 * MINUTE)
        world.taken_in.set()
    return [line["disposition"] for line in logged if line["event"] == "agentd.schedule_fired"]


@pytest.mark.contract("SCH-20", "SCH-08")
async def test_a_session_that_began_before_the_drain_is_told_of(
    autojump_clock: MockClock, world: World, logged: LogLines
) -> None:
    assert await drained(world, logged) == ["started"]


@pytest.mark.contract("SCH-20")
@pytest.mark.parametrize(
    "answer",
    [ShuttingDown(), DaemonUnreachable("no socket"), ConnectionLost("reset")],
    ids=["refused", "no socket", "reset"],
)
async def test_what_the_drain_cuts_off_is_told_of_as_that(
    autojump_clock: MockClock, world: World, logged: LogLines, answer: AgentdError
) -> None:
    world.answer = answer
    assert await drained(world, logged) == ["skipped_draining"]


async def test_what_the_drain_has_nothing_to_do_with_is_a_failure(
    autojump_clock: MockClock, world: World, logged: LogLines
) -> None:
    world.answer = PodmanError("down")
    assert await drained(world, logged) == ["failed"]


async def test_a_run_that_is_never_answered_is_told_of_when_the_daemon_ends(
    autojump_clock: MockClock, world: World, logged: LogLines
) -> None:
    world.taken_in = trio.Event()
    await run_for(world, 6 * MINUTE, scheduled())
    told = [line for line in logged if line["event"] == "agentd.schedule_fired"]
    assert [(line["disposition"], line["error_code"]) for line in told] == [
        ("failed", "connection_lost")
    ]


# --- late looks ----------------------------------------------------------------------------------


@pytest.mark.contract("SCH-10", "SCH-11")
async def test_a_suspend_is_one_fire_and_a_count(
    autojump_clock: MockClock, world: World, logged: LogLines
) -> None:
    async def suspend() -> None:
        await trio.sleep(MINUTE)
        world.set_clock(3600)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(suspend)
        await run_for(world, 2 * MINUTE, scheduled())
    fired = [line for line in logged if line["event"] == "agentd.schedule_fired"]
    assert [(line["disposition"], line.get("count")) for line in fired] == [
        ("missed", 11),
        ("started", None),
    ]


async def test_what_becomes_of_due_instants_is_counted(
    autojump_clock: MockClock, world: World
) -> None:
    metrics = Metrics()
    current = Current(declared(scheduled()))
    scheduler = Scheduler(
        current, lambda: ZoneInfo("UTC"), world.dispatch, world.now, metrics=metrics
    )
    scheduler.prepare(current.config)

    async def go_wrong() -> None:
        await trio.sleep(6 * MINUTE)
        world.answer = PodmanError("down")
        await trio.sleep(5 * MINUTE)
        world.set_clock(3600)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_wrong)
        with trio.move_on_after(12 * MINUTE):
            await scheduler.run()
    text = metrics.render("openmetrics")
    assert counted(text, "agentd_schedule_fires_total", "agent", "disposition") == {
        ("builder", "started"): 1,
        ("builder", "failed"): 2,
        ("builder", "missed"): 11,
    }


async def test_a_step_of_the_clock_is_seen_within_half_a_minute(
    autojump_clock: MockClock, world: World
) -> None:
    async def step() -> None:
        await trio.sleep(MINUTE)
        world.set_clock(4 * MINUTE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(step)
        await run_for(world, MINUTE + LONGEST_SLEEP_SECONDS + 1, scheduled())
    assert len(world.times) == 1


async def test_a_clock_that_is_set_back_is_logged_and_followed(
    autojump_clock: MockClock, world: World, logged: LogLines
) -> None:
    async def step() -> None:
        await trio.sleep(6 * MINUTE)
        world.set_clock(-10 * MINUTE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(step)
        await run_for(world, 11 * MINUTE, scheduled())
    assert world.times == ["12:05:00", "12:00:00"]
    assert "agentd.clock_set_back" in [line["event"] for line in logged]


async def test_many_agents_cost_nothing_while_none_is_due(
    autojump_clock: MockClock, world: World
) -> None:
    agents = [scheduled(f"agent-{number}", "0 3 * * *") for number in range(50)]
    await run_for(world, 10 * MINUTE, *agents)
    # Two looks at the clock for each sleep, however many agents there are.
    assert world.looks < 2 * 10 * MINUTE / LONGEST_SLEEP_SECONDS + 10


async def test_ten_thousand_agents_are_not_looked_at_while_none_is_due(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    work: list[str] = []

    def counted(module: ModuleType, name: str) -> None:
        real = getattr(module, name)

        def counting(*args: object) -> object:
            work.append(name)
            return real(*args)

        monkeypatch.setattr(module, name, counting)

    agents = [scheduled(f"agent-{number}", "0 3 * * *") for number in range(10_000)]
    scheduler = Scheduler(Current(declared(*agents)), utc, world.dispatch, world.now)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.run)
        await trio.sleep(LONGEST_SLEEP_SECONDS / 2)
        assert len(scheduler.next_fires()) == len(agents)
        for module, name in ((heapq, "heappush"), (heapq, "heappop"), (cron, "fires")):
            counted(module, name)
        before = world.looks
        await trio.sleep(60 * MINUTE)
        assert (work, world.looks - before) == ([], 2 * 60 * MINUTE / LONGEST_SLEEP_SECONDS)
        nursery.cancel_scope.cancel()


# --- another configuration -----------------------------------------------------------------------


@pytest.mark.contract("F-57")
async def test_a_changed_schedule_counts_from_the_reload_on(
    autojump_clock: MockClock, world: World
) -> None:
    after = declared(scheduled(schedule="*/4 * * * *"))
    await reload_after(world, 5 * MINUTE, declared(scheduled()), after)
    assert world.times == ["12:05:00", "12:08:00"]


@pytest.mark.contract("F-57")
async def test_a_new_schedule_counts_from_the_reload_on(
    autojump_clock: MockClock, world: World
) -> None:
    await reload_after(world, 5 * MINUTE, declared(builders.agent()), declared(scheduled()))
    assert world.times == ["12:10:00"]


@pytest.mark.contract("F-57")
@pytest.mark.parametrize(
    "after", [declared(), declared(builders.agent())], ids=["agent", "schedule"]
)
async def test_what_is_removed_never_fires_again(
    autojump_clock: MockClock, world: World, after: config.Config
) -> None:
    await reload_after(world, 5 * MINUTE, declared(scheduled()), after)
    assert world.times == ["12:05:00"]


@pytest.mark.contract("F-57")
async def test_a_fire_after_the_reload_is_a_run_of_what_counts_then(
    autojump_clock: MockClock, world: World
) -> None:
    after = declared(scheduled(repo="https://git.example.org/other"))
    await reload_after(world, 5 * MINUTE, declared(scheduled()), after)
    assert [request.repo_url for _, request in world.asked] == [builders.URL, after.agents[0].repo]


@pytest.mark.contract("F-57")
async def test_a_time_of_day_that_the_clock_shows_again_stays_fired_over_a_reload(
    autojump_clock: MockClock, world: World
) -> None:
    """An unchanged schedule keeps its next fire, which is tomorrow's."""
    daily = scheduled(schedule="5 12 * * *")

    async def step() -> None:
        await trio.sleep(6 * MINUTE)
        world.set_clock(-5 * MINUTE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(step)
        after = declared(daily, builders.agent(name="another"))
        await reload_after(world, 7 * MINUTE, declared(daily), after)
    assert world.times == ["12:05:00"]


@pytest.mark.contract("F-57")
@pytest.mark.parametrize("seconds", [4.5 * MINUTE, 4.75 * MINUTE], ids=["at once", "late"])
@pytest.mark.parametrize(
    ("changes", "following"),
    [
        ({"scheduled_request": "go on"}, "2026-01-05T12:10:00+00:00"),
        ({"schedule": "*/1 * * * *"}, "2026-01-05T12:06:00+00:00"),
        ({"schedule": "5-59/5 * * * *"}, "2026-01-05T12:10:00+00:00"),
    ],
)
async def test_what_is_due_at_the_reload_fires_once(
    autojump_clock: MockClock,
    world: World,
    logged: LogLines,
    *,
    seconds: float,
    changes: dict[str, str],
    following: str,
) -> None:
    """Late: the host slept over the instant, and the scheduler has not looked again yet."""

    async def sleep_over() -> None:
        await trio.sleep(4.5 * MINUTE - 1)
        world.set_clock(seconds - 4.5 * MINUTE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleep_over)
        before, after = declared(scheduled()), declared(scheduled(**changes))
        await reload_after(world, 4.5 * MINUTE, before, after, run=10 * MINUTE)
    due = [line["due"] for line in logged if line["event"] == "agentd.schedule_fired"]
    assert due[:2] == ["2026-01-05T12:05:00+00:00", following]


@pytest.mark.contract("F-57")
async def test_an_agent_that_is_removed_when_it_is_due_is_left_out_in_a_line(
    autojump_clock: MockClock, world: World, logged: LogLines
) -> None:
    world.answer = UnknownAgent("gone")
    await run_for(world, 5 * MINUTE, scheduled())
    (line,) = (each for each in logged if each["event"] == "agentd.schedule_fired")
    assert (line["disposition"], line["level"]) == ("skipped_removed", "info")


@pytest.mark.contract("F-57")
async def test_the_last_of_two_reloads_at_once_counts(
    autojump_clock: MockClock, world: World
) -> None:
    current = Current(declared(scheduled()))

    async def replace() -> None:
        await trio.sleep(MINUTE)
        current.replace(declared(scheduled(schedule="* * * * *")))
        await trio.lowlevel.checkpoint()
        current.replace(declared(scheduled("other", "*/7 * * * *")))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(replace)
        await run_current_for(world, 8 * MINUTE, current)
    assert [(time, request.agent) for time, request in world.asked] == [("12:07:00", "other")]


async def test_the_time_zone_matters_once_something_is_scheduled(world: World) -> None:
    def unknown() -> ZoneInfo:
        raise HostUnsupported("no such zone")

    current = Current(declared(builders.agent()))
    scheduler = Scheduler(current, unknown, world.dispatch, world.now)
    scheduler.prepare(current.config)
    with pytest.raises(HostUnsupported):
        scheduler.prepare(declared(scheduled()))
