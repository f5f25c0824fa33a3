"""What systemd is told: readiness, the end, the sessions, and signs of life."""

from __future__ import annotations

import os
import re
import socket
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


class Systemd:
    """The other end of the socket."""

    def __init__(self, receiver: socket.socket) -> None:
        self._receiver = receiver

    def heard(self) -> list[str]:
        """What has come so far."""
        messages = []
        while True:
            try:
                messages.append(self._receiver.recv(4096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture(params=["path", "abstract"])
def environ(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    if request.param == "path":
        return {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    return {"NOTIFY_SOCKET": f"@agentd-test-{os.getpid()}"}


@pytest.fixture
def systemd(environ: dict[str, str]) -> Iterator[Systemd]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as receiver:
        address = environ["NOTIFY_SOCKET"]
        receiver.bind("\0" + address[1:] if address.startswith("@") else address)
        yield Systemd(receiver)


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
