"""Signals to a real process: the first drains, the second forces, a third ends it at once."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import IO

import pytest

from agentd.daemon.signals import Shutdown
from agentd.errors import IntakeFailed
from tests.unit.conftest import LogLines

SECONDS = 20.0
INT, TERM = signal.SIGINT, signal.SIGTERM

# Says each word that another process waits for; `argv` is the behaviour under the second signal.
PROGRAM = """
import sys, trio
from agentd.daemon.signals import obeying_signals
from agentd.errors import ShutdownForced

def say(word):
    print(word, flush=True)

async def body(how):
    grace = [float(sys.argv[2])]
    async with obeying_signals(lambda: grace[0]) as shutdown:
        if how == "reloads":
            grace[0], how = 0.1, "hangs"
        shutdown.serving = how != "starting"
        say("ready")
        if how == "ends":
            return
        if how == "asked":
            shutdown.begin("client", leave=False)
            say("draining")
        try:
            await shutdown.draining.wait()
            if how != "asked":
                say("draining")
            if how == "drains":
                await trio.to_thread.run_sync(sys.stdin.readline)
                return
            await trio.sleep_forever()
        finally:
            if how == "hangs":
                with trio.CancelScope(shield=True):
                    say("hanging")
                    await trio.sleep_forever()
            say("unwound")

try:
    trio.run(body, sys.argv[1])
except* ShutdownForced:
    sys.exit(41)
"""


class Process:
    """A process that speaks a word a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._input: IO[str] = process.stdin
        self._output: IO[str] = process.stdout

    def hears(self, word: str) -> None:
        assert self._output.readline() == f"{word}\n"

    def gets(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def may_end(self) -> None:
        self._input.write("\n")
        self._input.flush()

    def ends(self) -> int:
        return self._process.wait(SECONDS)

    def lines(self) -> list[str]:
        return self._output.read().splitlines()


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    processes = []

    def run(how: str, grace: float = SECONDS * 3) -> Process:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, how, str(grace)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        processes.append(process)
        started = Process(process)
        started.hears("ready")
        return started

    yield run
    for process in processes:
        with process:
            process.kill()


@pytest.mark.contract("DMN-24")
@pytest.mark.parametrize("first", [INT, TERM])
def test_the_first_signal_drains_and_the_end_is_clean(
    start: Callable[..., Process], first: signal.Signals
) -> None:
    process = start("drains")
    process.gets(first)
    process.hears("draining")
    process.may_end()
    assert process.ends() == 0


@pytest.mark.contract("DMN-25", "DMN-26")
@pytest.mark.parametrize(("first", "second"), [(INT, INT), (TERM, TERM), (INT, TERM), (TERM, INT)])
def test_the_second_signal_of_either_kind_cancels(
    start: Callable[..., Process], first: signal.Signals, second: signal.Signals
) -> None:
    process = start("waits")
    process.gets(first)
    process.hears("draining")
    process.gets(second)
    process.hears("unwound")
    assert process.ends() == 41


@pytest.mark.contract("DMN-26")
def test_a_third_signal_ends_the_process_at_once(start: Callable[..., Process]) -> None:
    process = start("hangs")
    process.gets(TERM)
    process.hears("draining")
    process.gets(TERM)
    process.hears("hanging")
    process.gets(TERM)
    assert process.ends() == 1
    assert process.lines() == []


@pytest.mark.contract("DMN-25")
def test_after_a_client_has_asked_the_first_signal_forces(start: Callable[..., Process]) -> None:
    process = start("asked")
    process.hears("draining")
    process.gets(TERM)
    process.hears("unwound")
    assert process.ends() == 41


@pytest.mark.contract("DMN-26", "F-57")
@pytest.mark.parametrize(("how", "grace"), [("hangs", 0.1), ("reloads", SECONDS * 3)])
def test_what_hangs_is_cut_short_after_the_grace_that_counts_then(
    start: Callable[..., Process], how: str, grace: float
) -> None:
    process = start(how, grace)
    process.gets(TERM)
    process.hears("draining")
    process.gets(INT)
    process.hears("hanging")
    assert process.ends() == 1


@pytest.mark.contract("DMN-24")
@pytest.mark.parametrize("first", [INT, TERM, signal.SIGUSR1])
def test_before_the_daemon_serves_the_first_signal_ends_it_and_kills_nothing(
    start: Callable[..., Process], first: signal.Signals
) -> None:
    process = start("starting")
    process.gets(first)
    assert (process.ends(), process.lines()[-1]) == (0, "unwound")


@pytest.mark.contract("DMN-24")
def test_a_body_that_ends_by_itself_ends_all(start: Callable[..., Process]) -> None:
    assert start("ends").ends() == 0


# One comes before anybody receives, one that nobody takes, and one after the end.
HANGUPS = """
import os, signal, trio
from agentd.daemon.signals import hold_hangups, receiving_hangups

async def main():
    with receiving_hangups() as hangups:
        print(signal.Signals(await anext(hangups)).name)
        os.kill(os.getpid(), signal.SIGHUP)

hold_hangups()
os.kill(os.getpid(), signal.SIGHUP)
trio.run(main)
os.kill(os.getpid(), signal.SIGHUP)
print("lives")
"""


@pytest.mark.contract("F-57")
def test_a_hangup_is_remembered_before_the_daemon_serves_and_ignored_at_its_end() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGUPS], check=True, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.stdout.splitlines() == ["SIGHUP", "lives"]


@pytest.mark.contract("DMN-31")
async def test_a_daemon_that_cannot_go_on_drains(logged: LogLines) -> None:
    shutdown = Shutdown()
    shutdown.fail(IntakeFailed("no connections"))
    assert (shutdown.draining.is_set(), shutdown.leaving.is_set()) == (True, False)
    told = [(line["event"], line["level"]) for line in logged]
    assert told == [("agentd.daemon_failed", "error"), ("agentd.shutdown_started", "info")]
