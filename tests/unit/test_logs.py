"""The log: flat JSON, or words for people."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import pytest
import trio

from agentd import logs
from agentd.logs import log


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    monkeypatch.setattr(log, "_logger", log._logger)
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.contract("LOG-01", "LOG-02")
def test_a_line_is_one_flat_object(stream: io.StringIO) -> None:
    logs.configure({}, stream)
    log.info("agentd.thing_done", agent="a", count=2)
    (line,) = lines(stream)
    timestamp = line.pop("timestamp")
    assert line == {"event": "agentd.thing_done", "level": "info", "agent": "a", "count": 2}
    assert timestamp.endswith("Z")


@pytest.mark.contract("LOG-01")
def test_no_value_breaks_a_line(stream: io.StringIO) -> None:
    logs.configure({}, stream)
    log.error("x", text='a\nb"\u2028\udcff', raw=b"\xff", path=object())
    assert len(stream.getvalue().splitlines()) == 1
    assert lines(stream)[0]["text"] == 'a\nb"\u2028\udcff'


@pytest.mark.contract("LOG-07")
def test_an_absent_value_is_left_out(stream: io.StringIO) -> None:
    logs.configure({}, stream)
    log.info("x", signal=None, exit_code=0, text="")
    assert set(lines(stream)[0]) == {"event", "level", "timestamp", "exit_code", "text"}


@pytest.mark.contract("LOG-05")
@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("", ["info", "warning", "error"]),
        (None, ["info", "warning", "error"]),
        ("WARNING", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_is_a_floor(stream: io.StringIO, level: str | None, expected: list[str]) -> None:
    logs.configure({} if level is None else {"AGENTD_LOG": level}, stream)
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("x")
    assert [line["level"] for line in lines(stream)] == expected


@pytest.mark.contract("LOG-03")
@pytest.mark.parametrize("value", ["pretty", "PRETTY"])
def test_pretty_is_words_without_time_or_colour(stream: io.StringIO, value: str) -> None:
    logs.configure({"AGENTD_LOG_FORMAT": value}, stream)
    log.warning("runner.session_outcome", outcome="blocked", exit_code=3, signal=None)
    assert stream.getvalue() == "warning: runner.session_outcome outcome=blocked exit_code=3\n"


@pytest.mark.contract("LOG-03")
def test_pretty_keeps_a_line_a_line(stream: io.StringIO) -> None:
    logs.configure({"AGENTD_LOG_FORMAT": "pretty"}, stream)
    log.info("x", error="one\ntwo")
    assert stream.getvalue() == "info: x error=one\\ntwo\n"


@pytest.mark.contract("LOG-03")
@pytest.mark.parametrize("text", ["\x1b[2J", "\r", "\x9b1m", "\u2028", "\udcff"])
def test_pretty_lets_nobody_steer_a_terminal(stream: io.StringIO, text: str) -> None:
    logs.configure({"AGENTD_LOG_FORMAT": "pretty"}, stream)
    log.info("x", error=text)
    assert text not in stream.getvalue()
    assert stream.getvalue().rstrip("\n").isprintable()


@pytest.mark.contract("LOG-03")
@pytest.mark.parametrize("value", ["", "json", "JSON"])
def test_json_is_the_default(stream: io.StringIO, value: str) -> None:
    logs.configure({"AGENTD_LOG_FORMAT": value}, stream)
    log.info("x")
    assert [line["event"] for line in lines(stream)] == ["x"]


@pytest.mark.contract("LOG-04", "CLI-27")
def test_an_unknown_format_is_json_with_a_warning(stream: io.StringIO) -> None:
    logs.configure({"AGENTD_LOG_FORMAT": "xml"}, stream)
    (line,) = lines(stream)
    assert (line["event"], line["level"]) == ("agentd.logging_format_invalid", "warning")
    assert (line["value"], line["fallback"]) == ("xml", "json")


@pytest.mark.contract("LOG-06", "CLI-27")
@pytest.mark.parametrize("value", ["loud", "warn", "agentd=debug", "10"])
def test_an_unknown_level_is_info_with_a_warning(stream: io.StringIO, value: str) -> None:
    logs.configure({"AGENTD_LOG": value}, stream)
    log.debug("hidden")
    log.info("seen")
    warning, seen = lines(stream)
    assert (warning["event"], warning["spec"]) == ("agentd.logging_filter_invalid", value)
    assert seen["event"] == "seen"


@pytest.mark.contract("LOG-16", "LOG-17")
async def test_lines_of_a_session_carry_it_also_from_its_tasks(stream: io.StringIO) -> None:
    logs.configure({}, stream)

    async def work() -> None:
        await trio.lowlevel.checkpoint()
        log.info("inside")

    with logs.session_bound("s1", "a", "c"):
        async with trio.open_nursery() as nursery:  # noqa: ASYNC112 - a task is the point
            nursery.start_soon(work)
    log.info("outside")
    inside, outside = lines(stream)
    assert (inside["session_id"], inside["agent"]) == ("s1", "a")
    assert "session_id" not in outside


@pytest.mark.contract("F-43")
async def test_sessions_do_not_mix(stream: io.StringIO) -> None:
    logs.configure({}, stream)

    async def session(name: str) -> None:
        with logs.session_bound(name, name, name):
            for _ in range(3):
                await trio.lowlevel.checkpoint()
                log.info("x", of=name)

    async with trio.open_nursery() as nursery:
        for name in ("a", "b", "c"):
            nursery.start_soon(session, name)
    assert len(lines(stream)) == 9
    assert all(line["session_id"] == line["of"] for line in lines(stream))


@pytest.mark.contract("LOG-23")
def test_a_program_that_sets_nothing_up_gets_warnings_as_plain_lines() -> None:
    program = (
        "from agentd.logs import log; log.info('quiet');"
        " log.warning('runner.lifecycle_failure', stage='removal', error='stuck: 100%s')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout == ""
    assert done.stderr == "runner.lifecycle_failure stage=removal error=stuck: 100%s\n"


@pytest.mark.contract("LOG-23")
def test_a_program_has_the_lines_in_the_standard_librarys_logger(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "agentd")
    with logs.session_bound("s", "builder", "c"):
        logs.log.debug("agentd.request_refused")
        logs.log.info("runner.session_started", trigger="manual", deadline=None)
    expected = "runner.session_started trigger=manual session_id=s agent=builder container_name=c"
    assert [(each.name, each.levelname) for each in caplog.records] == [("agentd", "INFO")]
    assert sorted(caplog.messages[0].split()) == sorted(expected.split())
