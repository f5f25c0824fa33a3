"""Daemons that start at once: processes that claim at the same moment, again and again.

Each round starts on what the round before left: nothing, or the PID file and the socket of a
holder that was killed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, NamedTuple

import pytest

from tests.conftest import LONG

ROUNDS = 100 if LONG else 12
CONTENDERS = 4

# Forks the contenders of each round, since Python takes far longer to start than they to claim.
# They wait for a gate, claim, say what came of it, and hold what they have until they are let go.
LAUNCHER = """
import json, os, sys, trio
from pathlib import Path
from agentd.runtime import claimed_pid_file, claimed_socket, clear_stale_socket
from agentd.errors import AgentdError

def say(**words):
    os.write(1, json.dumps({"pid": os.getpid()} | words).encode() + b"\\n")

async def claim(pid_file, socket_path, hold):
    await trio.lowlevel.checkpoint()
    with claimed_pid_file(Path(pid_file)):
        clear_stale_socket(Path(socket_path))
        with claimed_socket(Path(socket_path)):
            say(error=None)
            os.read(hold, 1)

def contend(pid_file, socket_path, gate, hold):
    os.read(gate, 1)
    try:
        trio.run(claim, pid_file, socket_path, hold)
    except AgentdError as error:
        say(error=f"{error.code}: {error}")

for line in sys.stdin:
    gate, open_gate = os.pipe()
    hold, let_go = os.pipe()
    children = []
    for pid_file, socket_path in json.loads(line):
        child = os.fork()
        if child == 0:
            os.close(open_gate)
            os.close(let_go)
            contend(pid_file, socket_path, gate, hold)
            os._exit(0)
        children.append(child)
    os.close(gate)
    os.close(hold)
    os.close(open_gate)
    sys.stdin.readline()
    os.close(let_go)
    for child in children:
        os.waitpid(child, 0)
    say(done=True)
"""


class Told(NamedTuple):
    """What a contender said: its PID, and why it lost, or None."""

    pid: int
    error: str | None


class Race:
    """The launcher of contenders."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._input: IO[str] = process.stdin
        self._output: IO[str] = process.stdout

    def start(self, claims: list[tuple[Path, Path]]) -> tuple[Told, list[Told]]:
        """Let all claim at once; gives the one winner, and the losers, which have ended."""
        print(json.dumps([list(map(str, claim)) for claim in claims]), file=self._input, flush=True)
        told = [Told(**json.loads(self._output.readline())) for _ in claims]
        winners = [each for each in told if each.error is None]
        assert len(winners) == 1, told
        return winners[0], [each for each in told if each.error is not None]

    def end(self, winner: Told, *, kill: bool) -> None:
        """End the holder: as it should, or by SIGKILL."""
        if kill:
            os.kill(winner.pid, signal.SIGKILL)
        print(file=self._input, flush=True)
        assert json.loads(self._output.readline())["done"]


@pytest.fixture
def race(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Race]:
    # Relative paths are short enough for sockets, wherever pytest keeps its directories.
    monkeypatch.chdir(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Race(process)


def server(path: Path) -> int:
    """The PID of the process that listens at `path`, unix(7)."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        return int(struct.unpack("3i", client.getsockopt(1, socket.SO_PEERCRED, 12))[0])


def files() -> set[str]:
    return {path.name for path in Path().iterdir()}


@pytest.mark.contract("DMN-04", "DMN-05", "DMN-09", "DMN-30", "DMN-34", "F-40")
@pytest.mark.parametrize("kill", [False, True], ids=["ended", "killed"])
def test_of_daemons_on_the_same_paths_one_wins(race: Race, kill: bool) -> None:
    pid_file, path = Path("pid"), Path("s")
    for _ in range(ROUNDS):
        winner, losers = race.start([(pid_file, path)] * CONTENDERS)
        # The winner may not have written its PID yet when a loser looked.
        reasons = {loser.error for loser in losers}
        said = "already_running: agentd is already running"
        assert reasons <= {said, f"{said} (pid {winner.pid})"}
        assert (pid_file.read_text(), server(path)) == (str(winner.pid), winner.pid)
        race.end(winner, kill=kill)
        assert files() == ({"pid", "s"} if kill else set())


@pytest.mark.contract("F-39", "DMN-34")
@pytest.mark.parametrize("kill", [False, True], ids=["ended", "killed"])
def test_of_daemons_on_one_socket_one_wins(race: Race, kill: bool) -> None:
    path = Path("s")
    claims = [(Path(f"pid{number}"), path) for number in range(CONTENDERS)]
    for _ in range(ROUNDS):
        winner, losers = race.start(claims)
        why = f"already_running: another process serves {path}; stop it, or set daemon.socket_path"
        assert {loser.error for loser in losers} == {why}
        assert server(path) == winner.pid
        # Losers have taken their PID files back, those of killed holders included.
        assert [Path(name).read_text() for name in files() - {"s"}] == [str(winner.pid)]
        race.end(winner, kill=kill)


@pytest.mark.contract("DMN-04", "DMN-34")
def test_of_daemons_on_one_pid_file_one_wins(race: Race) -> None:
    pid_file = Path("pid")
    claims = [(pid_file, Path(f"s{number}")) for number in range(CONTENDERS)]
    for number in range(ROUNDS):
        winner, losers = race.start(claims)
        assert all("agentd is already running" in str(loser.error) for loser in losers)
        assert pid_file.read_text() == str(winner.pid)
        race.end(winner, kill=number % 2 == 0)


# Claims one socket and gives it back, over and over, with a PID file of its own.
TURNS = """
import os, socket, struct, sys, trio
from pathlib import Path
from agentd.runtime import claimed_pid_file, claimed_socket, clear_stale_socket
from agentd.errors import AlreadyRunning

def server():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("s")
        peer = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return struct.unpack("3i", peer)[0]

async def take_turns(pid_file, rounds):
    wins = 0
    for _ in range(rounds):
        await trio.lowlevel.checkpoint()
        try:
            with claimed_pid_file(pid_file):
                clear_stale_socket(Path("s"))
                os.sched_yield()
                with claimed_socket(Path("s")):
                    os.sched_yield()
                    assert server() == os.getpid()
                    wins += 1
        except AlreadyRunning:
            pass
    print(wins)

sys.stdin.readline()
trio.run(take_turns, Path(sys.argv[1]), int(sys.argv[2]))
"""


@pytest.mark.contract("F-39", "DMN-34")
def test_a_socket_that_changes_hands_is_never_taken_from_its_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", TURNS, f"pid{number}", str(ROUNDS * 25)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for number in range(CONTENDERS)
        ]
        for process in processes:
            print(file=process.stdin, flush=True)
        wins = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * CONTENDERS
    assert sum(map(int, wins)) >= 1
    assert files() == set()
