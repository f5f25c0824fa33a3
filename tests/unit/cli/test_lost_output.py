"""What becomes of a command whose reader has gone away, or whose disk is full."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from agentd import wire
from agentd.outcome import from_exit_code
from tests.unit.cli.commands import SECONDS

CONFIG: Final = """\
[[agents]]
name = "worker"
base_image = "localhost/worker"
methodology_dir = "methodology"
command = { argv = ["work"] }
"""
AT: Final = ("--socket-path", "agentd.sock")
STOPPED: Final = wire.Finished(session_id="s", outcome=from_exit_code(130))
COMMANDS: Final[dict[str, list[wire.Event]]] = {
    "--version": [],
    "--help": [],
    "run --help": [],
    "completion fish": [],
    "check --config agentd.toml": [],
    "check --config agentd.toml --json": [],
    "audit prune --keep 3 --audit-root .": [],
    "ps --socket-path agentd.sock": [wire.Sessions(sessions=())],
    "metrics --socket-path agentd.sock": [wire.Metrics(text="# EOF\n")],
    "run a --socket-path agentd.sock": [wire.Output(stream="stdout", data=b"x\n"), STOPPED],
    "stop s t --socket-path agentd.sock": [STOPPED],
}
"""Commands, and what a daemon says to those that ask one."""

LOST: Final = "agentd: cannot write the output: "


@pytest.fixture(params=COMMANDS)
def words(request: pytest.FixtureRequest, answering: Any) -> list[str]:
    """The words of a command that has all it needs to succeed, but for somebody to read it."""
    Path("agentd.toml").write_text(CONFIG)
    Path.cwd().chmod(0o700)
    events = COMMANDS[request.param]
    if events:
        answering(*events, connections=2)
    return str(request.param).split()


@contextmanager
def nobody_reads() -> Iterator[int]:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


def run(
    words: list[str], *, stdout: int, stderr: int = subprocess.PIPE, shell: str = 'exec "$@"'
) -> tuple[int, list[str]]:
    """The exit status, and the lines of standard error."""
    environ = {
        "PATH": os.environ["PATH"],
        "XDG_RUNTIME_DIR": "/nonexistent",
        "CONTAINER_HOST": "unix:///nonexistent/podman.sock",
        # Some container images set it; without it, Python keeps short output to the end.
        "PYTHONUNBUFFERED": os.environ.get("PYTHONUNBUFFERED", ""),
    }
    done = subprocess.run(
        ["/bin/sh", "-c", shell, "sh", sys.executable, "-m", "agentd", *words],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
        env=environ,
        timeout=SECONDS,
    )
    return done.returncode, (done.stderr or "").splitlines()


@pytest.fixture(params=["", "1"], ids=["buffered", "unbuffered"])
def buffering(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", request.param)


def ours(lines: list[str]) -> list[str]:
    """Standard error without what the command has to say of its work."""
    return [each for each in lines if not each.startswith("agentd: session")]


@pytest.mark.usefixtures("buffering")
def test_a_reader_that_has_had_enough_ends_any_command_quietly(words: list[str]) -> None:
    with nobody_reads() as stdout:
        status, lines = run(words, stdout=stdout)
    assert (status, ours(lines)) == (141, [])


@pytest.mark.usefixtures("buffering")
def test_a_full_disk_is_one_line_of_any_command(words: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        status, lines = run(words, stdout=full.fileno())
    assert (status, ours(lines)) == (1, [f"{LOST}No space left on device"])


def test_a_closed_standard_output_is_one_line_of_any_command(words: list[str]) -> None:
    status, lines = run(words, stdout=subprocess.DEVNULL, shell='exec "$@" >&-')
    assert (status, ours(lines)) == (1, [f"{LOST}Bad file descriptor"])


def test_an_error_that_cannot_be_told_keeps_its_status() -> None:
    with Path("/dev/full").open("wb") as full:
        status, _ = run(["run"], stdout=subprocess.DEVNULL, stderr=full.fileno())
    assert status == 2


def test_nothing_to_write_needs_no_standard_output(answering: Any, tmp_path: Path) -> None:
    answering(wire.Metrics(text="# EOF\n"))
    file = tmp_path / "metrics"
    words = ["metrics", "--output", str(file), *AT]
    assert run(words, stdout=subprocess.DEVNULL, shell='exec "$@" >&- 2>&-') == (0, [])
    assert file.read_text() == "# EOF\n"


def test_what_goes_to_a_closed_standard_error_goes_nowhere_else(answering: Any) -> None:
    answering(wire.Accepted(session_id="s", record="/r"), wire.Output(stream="stderr", data=b"e"))
    Path("agentd.out").touch()
    with Path("agentd.out").open("wb") as out:
        run(["run", "a", *AT], stdout=out.fileno(), shell='exec "$@" 2>&-')
    assert Path("agentd.out").read_text() == ""
