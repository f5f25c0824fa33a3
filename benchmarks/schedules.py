"""What many agents with schedules cost the scheduler, and nobody else.

Needs nothing but agentd:  python benchmarks/schedules.py [AGENTS]
The scheduler runs on a clock that jumps, so that an hour takes no time; what is shown is processor
time. Nothing answers its runs but a function. Shown are: making the table, as at the start and for
agents that a reload adds; an idle hour, by the minute, which has two looks at the clock; and the
first look after the host has slept for three days. The longest step is how long everything else in
the process had to wait at a time; with ten thousand agents it may be Python's garbage collector's,
which takes some 50 ms for all of their objects.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Unpack
from zoneinfo import ZoneInfo

import trio
from trio.testing import MockClock

from agentd import config, cron, wire
from agentd.current import Current
from agentd.daemon.scheduler import LONGEST_SLEEP_SECONDS, Scheduler
from agentd.logs import log
from agentd.metrics import Metrics

ZONE = ZoneInfo("Europe/Berlin")
START = datetime(2026, 1, 5, 12, 0, 30, tzinfo=UTC)
ASLEEP = timedelta(days=3)
IDLE = "0 3 6 1 *"
SCHEDULES = (IDLE, "0 3 * * *", "*/15 * * * *", "* * * * *")


class Clock:
    """A wall clock that runs with Trio's and can be set."""

    def __init__(self) -> None:
        self.offset = START - timedelta(seconds=trio.current_time())

    def now(self) -> datetime:
        """What it shows."""
        return self.offset + timedelta(seconds=trio.current_time())


class Steps(trio.abc.Instrument):
    """Takes the time of the steps of all tasks."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._began = time.thread_time()

    def before_task_step(self, _task: trio.lowlevel.Task) -> None:
        """One begins."""
        self._began = time.thread_time()

    def after_task_step(self, _task: trio.lowlevel.Task) -> None:
        """It has ended."""
        self.longest = max(self.longest, time.thread_time() - self._began)


async def dispatch(
    _agent: str, /, **_options: Unpack[wire.RunOptions]
) -> wire.Accepted | wire.Queued:
    """Take a run in."""
    await trio.lowlevel.checkpoint()
    return wire.Accepted(session_id="s", record="/r")


def agent(number: int, schedule: str) -> config.Agent:
    """One of many."""
    return config.Agent(
        name=f"agent-{number}",
        base_image="localhost/none",
        methodology_dir="/nowhere",
        command=config.Command(argv=("none",)),
        repo="https://git.example.org/r",
        schedule=schedule,
    )


@asynccontextmanager
async def scheduling(clock: Clock, agents: tuple[config.Agent, ...]) -> AsyncIterator[None]:
    """A scheduler that runs inside."""
    current = Current(config.Config(config.Daemon(), agents))
    scheduler = Scheduler(current, lambda: ZONE, dispatch, clock.now)
    scheduler.prepare(current.config)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.run)
        yield
        nursery.cancel_scope.cancel()


@contextmanager
def shown(what: str, schedule: str, minutes: int = 0) -> Iterator[None]:
    """Print what the body took, or a minute of it."""
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    began = time.thread_time()
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(steps)
    took = time.thread_time() - began
    cpu = f"{took / minutes * 1000:8.2f} ms/min" if minutes else f"{took:8.2f} s    "
    print(f"{what:24}{schedule:14}{cpu:14}{steps.longest * 1000:10.1f} ms", flush=True)


def agents(count: int, schedule: str) -> tuple[config.Agent, ...]:
    """So many of one schedule."""
    return tuple(agent(number, schedule) for number in range(count))


async def make(many: tuple[config.Agent, ...]) -> None:
    """The table, by a scheduler that ends before one of them is due."""
    async with scheduling(Clock(), many):
        await trio.sleep(LONGEST_SLEEP_SECONDS / 3)


async def idle(many: tuple[config.Agent, ...], minutes: int) -> None:
    """Measure minutes in which none is due."""
    async with scheduling(Clock(), many):
        await trio.sleep(LONGEST_SLEEP_SECONDS / 3)
        with shown("an idle minute", IDLE, minutes):
            await trio.sleep(minutes * 60)


async def oversleep(many: tuple[config.Agent, ...], schedule: str) -> None:
    """Measure the first look after days in which the host slept."""
    clock = Clock()
    async with scheduling(clock, many):
        await trio.sleep(LONGEST_SLEEP_SECONDS / 3)
        with shown("after three days' sleep", schedule):
            clock.offset += ASLEEP
            await trio.sleep(LONGEST_SLEEP_SECONDS)


async def measure(count: int) -> None:
    """Measure and print."""
    print(f"{f'{count} agents':24}{'schedule':14}{'CPU':>12}{'longest step':>15}")
    for schedule in SCHEDULES:
        many = agents(count, schedule)
        with shown("made", schedule):
            await make(many)
    await idle(agents(count, IDLE), 60)
    for schedule in SCHEDULES[1:]:
        await oversleep(agents(count, schedule), schedule)


def main(count: int) -> None:
    """Measure with so many agents."""
    logging.getLogger("agentd").setLevel(logging.CRITICAL)
    # What is imported when it is used first, is no part of it.
    log.error("benchmark")
    Metrics().schedule_fired("agent", "started", 1)
    cron.next_fire(cron.parse(IDLE), START, ZONE)
    trio.run(measure, count, clock=MockClock(autojump_threshold=0))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
