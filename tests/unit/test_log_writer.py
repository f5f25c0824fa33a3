"""The daemon's log when its reader is slow, stuck or gone: real pipes, a real full disk."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import pytest

from agentd import log_writer, logs
from agentd.logs import daemon_log, log

PADDING = "x" * 400
MANY = 5000
"""Lines with padding that come to twice what may wait."""


class Pipe:
    """A pipe whose reader reads when it is told to."""

    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        self.stream: TextIO = os.fdopen(writing, "w")
        self._lines: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read)

    def _read(self) -> None:
        with os.fdopen(self.reading, closefd=False) as stream:
            self._lines += [json.loads(line) for line in stream if line.strip()]

    def fill(self) -> None:
        """As a reader that has stopped leaves it: one more byte would block."""
        os.set_blocking(self.stream.fileno(), False)
        with suppress(BlockingIOError):
            while True:
                os.write(self.stream.fileno(), b" " * 4096)
        os.set_blocking(self.stream.fileno(), True)

    def start_reading(self) -> None:
        self._reader.start()

    def lines(self) -> list[dict[str, Any]]:
        """All that was written, when all writers are done."""
        self.stream.close()
        if not self._reader.ident:
            self.start_reading()
        self._reader.join()
        return self._lines

    def close(self) -> None:
        os.close(self.reading)
        with suppress(OSError):
            self.stream.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


@pytest.fixture
def read_pipe(pipe: Pipe) -> Pipe:
    pipe.start_reading()
    return pipe


def of(lines: list[dict[str, Any]], event: str) -> list[Any]:
    return [line.get("number") for line in lines if line["event"] == event]


def test_what_is_logged_arrives_in_order(read_pipe: Pipe) -> None:
    with daemon_log({}, read_pipe.stream):
        for number in range(MANY):
            log.warning("x", number=number)
    assert of(read_pipe.lines(), "x") == list(range(MANY))


def test_nobody_waits_for_a_reader_that_is_stuck_and_no_warning_is_lost(pipe: Pipe) -> None:
    pipe.fill()
    with daemon_log({}, pipe.stream):
        for number in range(MANY):
            log.info("good", number=number, text=PADDING)
            log.warning("bad", number=number, text=PADDING)
        pipe.start_reading()
    assert of(pipe.lines(), "bad") == list(range(MANY))


def test_what_was_dropped_is_counted_and_told_when_the_lines_flow_again(pipe: Pipe) -> None:
    pipe.fill()
    with daemon_log({}, pipe.stream):
        for number in range(MANY):
            log.info("good", number=number, text=PADDING)
        pipe.start_reading()
    *lines, told = pipe.lines()
    seen = of(lines, "good")
    assert len(seen) < MANY
    assert (told["event"], told["level"]) == ("agentd.log_lines_dropped", "warning")
    assert (told["count"], told["warning_count"]) == (MANY - len(seen), 0)


def test_there_is_a_bound_to_the_warnings_too(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "MAX_KEPT_BYTES", 64 * 1024)
    pipe.fill()
    with daemon_log({}, pipe.stream):
        for number in range(1000):
            log.error("bad", number=number, text=PADDING)
        pipe.start_reading()
    *lines, told = pipe.lines()
    missing = 1000 - len(of(lines, "bad"))
    assert (told["event"], told["level"]) == ("agentd.log_lines_dropped", "error")
    assert (told["count"], told["warning_count"]) == (missing, missing)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of an end that waits in vain."""
    monkeypatch.setattr(logs, "CLOSE_SECONDS", 0.1)


@pytest.mark.usefixtures("impatient")
def test_the_end_does_not_wait_for_ever_and_frees_the_stream(pipe: Pipe) -> None:
    """The writing of something else afterwards, such as why the daemon ended, must not hang."""
    pipe.fill()
    with daemon_log({}, pipe.stream):
        log.warning("x")
    pipe.stream.write("agentd: why it ended\n" * 10000)
    pipe.stream.flush()


@pytest.mark.usefixtures("impatient")
def test_the_stream_is_freed_when_the_daemon_fails_too(pipe: Pipe) -> None:
    pipe.fill()
    with pytest.raises(KeyError), daemon_log({}, pipe.stream):
        log.warning("x")
        raise KeyError
    os.write(pipe.stream.fileno(), b"x" * 100_000)


def test_the_last_lines_are_written_at_the_end(read_pipe: Pipe) -> None:
    with daemon_log({}, read_pipe.stream):
        log.info("last")
    assert of(read_pipe.lines(), "last") == [None]


def test_a_reader_that_has_gone_ends_nothing(pipe: Pipe) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream, daemon_log({}, stream):
        log.warning("x")
        log.flush(0.1)
        log.warning("y")


def test_a_reader_that_comes_back_gets_what_it_missed(tmp_path: Path) -> None:
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    first = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with fifo.open("w") as stream:
        os.close(first)
        with daemon_log({}, stream):
            log.warning("missed")
            log.flush(0.1)
            second = fifo.open()
            log.flush(60)
    with second:
        assert [json.loads(line)["event"] for line in second] == ["missed"]


def test_a_full_disk_ends_nothing() -> None:
    with Path("/dev/full").open("w") as stream, daemon_log({}, stream):
        log.warning("x")
        log.flush(0.1)


def test_a_descriptor_that_somebody_made_non_blocking_loses_nothing(read_pipe: Pipe) -> None:
    os.set_blocking(read_pipe.stream.fileno(), False)
    fcntl.fcntl(read_pipe.stream, fcntl.F_SETPIPE_SZ, 4096)
    with daemon_log({}, read_pipe.stream):
        for number in range(1000):
            log.warning("x", number=number, text=PADDING)
    assert of(read_pipe.lines(), "x") == list(range(1000))


def test_a_line_longer_than_a_pipe_stays_a_line(read_pipe: Pipe) -> None:
    with daemon_log({}, read_pipe.stream):
        log.warning("x", text="y" * 1_000_000)
    assert [len(line["text"]) for line in read_pipe.lines()] == [1_000_000]


def test_all_is_written_after_a_flush(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream, daemon_log({}, stream):
        for _ in range(100):
            log.info("x")
        log.flush(60)
        assert len((tmp_path / "log").read_text().splitlines()) == 100


def test_lines_from_threads_stay_whole(read_pipe: Pipe) -> None:
    def work(number: int) -> None:
        for _ in range(100):
            log.info("x", number=number, text=PADDING)

    with daemon_log({}, read_pipe.stream):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(of(read_pipe.lines(), "x")) == sorted(list(range(8)) * 100)


def test_the_thread_ends_with_the_daemon(pipe: Pipe) -> None:
    before = set(threading.enumerate())
    with daemon_log({}, pipe.stream):
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) == before


def test_the_log_of_before_is_back_afterwards(pipe: Pipe, caplog: pytest.LogCaptureFixture) -> None:
    with daemon_log({}, pipe.stream):
        pass
    log.warning("x")
    assert caplog.messages == ["x"]


def test_without_standard_error_nothing_is_written_anywhere() -> None:
    """Its number may belong to the next file that is opened, such as the PID file."""
    program = (
        "import os, sys; from agentd.logs import daemon_log, log\n"
        "assert sys.stderr is None\n"
        "log.warning('before')\n"
        "with daemon_log({}, sys.stderr):\n"
        "    log.warning('x')\n"
    )
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", program]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    assert done.stdout == b""


@pytest.mark.contract("LOG-23")
def test_a_program_whose_standard_error_is_gone_goes_on() -> None:
    program = "import sys; from agentd.logs import log; sys.stderr.close(); log.warning('x')"
    subprocess.run([sys.executable, "-c", program], check=True)
