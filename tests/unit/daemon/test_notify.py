"""What systemd is told: readiness, the end, the sessions, and signs of life."""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing
from trio.testing import MockClock
from trio_util import AsyncValue

from agentd.daemon.health import Health
from agentd.daemon.notify import notifying
from agentd.errors import ConfigError, PodmanError, PodmanTimeout, PodmanUnreachable
from agentd.supervisor import Supervisor
from testbed.notify_socket import Systemd, listening_systemd

pytestmark = pytest.mark.contract("F-61")


class FakeSupervisor:
    def __init__(self) -> None:
        self.busy = AsyncValue(0)

    def counts(self) -> AsyncIterator[int]:
        counts: AsyncIterator[int] = self.busy.eventual_values()
        return counts


class FakeHealth:
    def __init__(self, error: PodmanError | None = None) -> None:
        self.error = error

    async def podman_error(self) -> PodmanError | None:
        await trio.lowlevel.checkpoint()
        return self.error


@pytest.fixture(params=["path", "abstract"])
def environ(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    if request.param == "path":
        return {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    return {"NOTIFY_SOCKET": f"@agentd-test-{os.getpid()}"}


@pytest.fixture
def systemd(environ: dict[str, str]) -> Iterator[Systemd]:
    with listening_systemd(environ["NOTIFY_SOCKET"]) as systemd:
        yield systemd


def watched(environ: dict[str, str], seconds: float) -> dict[str, str]:
    return environ | {"WATCHDOG_USEC": str(round(seconds * 1_000_000))}


async def tell(environ: dict[str, str], systemd: Systemd, health: FakeHealth) -> list[str]:
    """What is heard within 30 s of a daemon that is ready."""
    async with notifying(environ) as notifier:
        notifier.ready(cast(Supervisor, FakeSupervisor()), cast(Health, health))
        await trio.sleep(30)
        return systemd.heard()


async def test_a_daemon_is_ready_shows_its_sessions_and_ends(
    environ: dict[str, str], systemd: Systemd
) -> None:
    supervisor = FakeSupervisor()
    async with notifying(environ) as notifier:
        await trio.testing.wait_all_tasks_blocked()
        assert systemd.heard() == []
        notifier.ready(cast(Supervisor, supervisor), cast(Health, FakeHealth()))
        await trio.testing.wait_all_tasks_blocked()
        supervisor.busy.value = 1
        await trio.testing.wait_all_tasks_blocked()
        notifier.stopping()
    assert systemd.heard() == ["READY=1", "STATUS=0 sessions", "STATUS=1 session", "STOPPING=1"]


async def test_a_daemon_that_drains_has_not_begun_to_stop(
    environ: dict[str, str], systemd: Systemd
) -> None:
    """systemd would give it `TimeoutStopSec=` for all of its sessions, and then kill it."""
    supervisor = FakeSupervisor()
    supervisor.busy.value = 2
    async with notifying(environ) as notifier:
        notifier.ready(cast(Supervisor, supervisor), cast(Health, FakeHealth()))
        await trio.testing.wait_all_tasks_blocked()
        systemd.heard()
        notifier.draining()
        supervisor.busy.value = 1
        await trio.testing.wait_all_tasks_blocked()
        assert systemd.heard() == ["STATUS=draining, 2 sessions", "STATUS=draining, 1 session"]


async def test_the_end_is_told_once(environ: dict[str, str], systemd: Systemd) -> None:
    async with notifying(environ) as notifier:
        notifier.stopping()
        notifier.stopping()
    assert systemd.heard() == ["STOPPING=1"]


RELOADING = re.compile(r"RELOADING=1\nMONOTONIC_USEC=\d+")


async def test_a_reload_begins_and_ends_with_a_word(
    environ: dict[str, str], systemd: Systemd
) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    async with notifying(environ) as notifier:
        with pytest.raises(ConfigError), notifier.reloading():
            (word,) = systemd.heard()
            raise ConfigError(["a bad file makes no difference"])
        assert systemd.heard() == ["READY=1"]
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert RELOADING.fullmatch(word)
    assert before <= int(word.rpartition("=")[2]) <= after


async def test_a_daemon_that_ends_meanwhile_is_not_ready_again(
    environ: dict[str, str], systemd: Systemd
) -> None:
    async with notifying(environ) as notifier:
        with notifier.reloading():
            notifier.stopping()
    assert systemd.heard()[1:] == ["STOPPING=1"]


async def test_the_watchdog_is_fed_three_times_as_often_as_it_must_be(
    environ: dict[str, str], systemd: Systemd, autojump_clock: MockClock
) -> None:
    heard = await tell(watched(environ, 30), systemd, FakeHealth())
    assert heard.count("WATCHDOG=1") == 3


async def test_a_podman_that_is_away_is_no_reason_to_be_killed(
    environ: dict[str, str], systemd: Systemd, autojump_clock: MockClock
) -> None:
    heard = await tell(watched(environ, 30), systemd, FakeHealth(PodmanUnreachable("away")))
    assert heard.count("WATCHDOG=1") == 3


async def test_a_podman_that_hangs_withholds_the_sign_of_life(
    environ: dict[str, str],
    systemd: Systemd,
    autojump_clock: MockClock,
    logged: list[dict[str, Any]],
) -> None:
    heard = await tell(watched(environ, 30), systemd, FakeHealth(PodmanTimeout("late")))
    assert "WATCHDOG=1" not in heard
    assert {line["event"] for line in logged} == {"agentd.watchdog_withheld"}


async def test_an_event_loop_that_is_stuck_gives_no_sign_of_life(
    environ: dict[str, str], systemd: Systemd
) -> None:
    """Here it is, for as long as ten signs would take."""
    async with notifying(watched(environ, 0.03)) as notifier:
        notifier.ready(cast(Supervisor, FakeSupervisor()), cast(Health, FakeHealth()))
        await trio.testing.wait_all_tasks_blocked()
        assert "WATCHDOG=1" in systemd.heard()
        time.sleep(0.1)  # noqa: ASYNC251
        assert systemd.heard() == []
        await trio.testing.wait_all_tasks_blocked()
        assert "WATCHDOG=1" in systemd.heard()


@pytest.mark.parametrize(
    "more", [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}]
)
async def test_without_a_watchdog_there_are_no_signs_of_life(
    environ: dict[str, str], systemd: Systemd, autojump_clock: MockClock, more: dict[str, str]
) -> None:
    assert "WATCHDOG=1" not in await tell(environ | more, systemd, FakeHealth())


async def test_who_is_not_listened_to_is_not_hurt(
    environ: dict[str, str], autojump_clock: MockClock
) -> None:
    async with notifying(environ) as notifier:
        notifier.ready(cast(Supervisor, FakeSupervisor()), cast(Health, FakeHealth()))
        await trio.sleep(1)


async def test_without_systemd_nothing_is_told(autojump_clock: MockClock) -> None:
    async with notifying({}) as notifier:
        notifier.ready(cast(Supervisor, FakeSupervisor()), cast(Health, FakeHealth()))
        await trio.sleep(1)
