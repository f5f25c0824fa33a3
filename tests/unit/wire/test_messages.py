"""Messages: every one survives the way there and back, and whatever is none is refused."""

from __future__ import annotations

import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentd import errors, wire
from agentd.errors import ProtocolMismatch, WireError
from agentd.outcome import Label, Outcome
from tests.unit.builders import SESSION_INFO

TEXT = st.text()
MAYBE_TEXT = st.none() | TEXT
NAMES = st.lists(TEXT).map(tuple)
INPUTS = st.builds(wire.TextInput, description=TEXT) | st.builds(
    wire.ArtifactInput, artifact_type=TEXT, artifact_id=TEXT, document=st.binary()
)
REQUESTS: st.SearchStrategy[wire.Request] = st.one_of(
    st.just(wire.Ping()),
    st.just(wire.ListSessions()),
    st.builds(wire.GetMetrics, format=st.sampled_from(["openmetrics", "prometheus"])),
    st.just(wire.Reload()),
    st.builds(wire.Logs, session=TEXT, follow=st.booleans()),
    st.builds(wire.Stop, session=TEXT, grace_seconds=st.floats(0, 86_400)),
    st.builds(
        wire.Run,
        agent=TEXT,
        repo_url=MAYBE_TEXT,
        work_unit=MAYBE_TEXT,
        input=st.none() | INPUTS,
        trigger=st.sampled_from(["manual", "schedule"]),
        detach=st.booleans(),
    ),
)
OUTCOMES = st.builds(
    Outcome,
    label=st.sampled_from(Label),
    exit_code=st.none() | st.integers(0, 255),
    signal=st.none() | st.integers(1, 64),
)
INSTANTS = st.datetimes(timezones=st.just(datetime.UTC))
SESSIONS = st.builds(
    wire.SessionInfo,
    session_id=TEXT,
    agent=TEXT,
    state=st.sampled_from(["queued", "starting", "running", "stopping", "closing"]),
    started_at=INSTANTS,
    record=TEXT,
    trigger=st.sampled_from(["manual", "schedule"]),
    deadline=st.none() | INSTANTS,
    work_unit=MAYBE_TEXT,
)
EVENTS = st.one_of(
    st.just(wire.EndOfOutput()),
    st.builds(wire.Progress, text=TEXT),
    st.builds(wire.Queued, session_id=TEXT, position=st.integers(1, 2**31)),
    st.builds(wire.Sessions, sessions=st.lists(SESSIONS, max_size=3).map(tuple)),
    st.builds(wire.MetricsPart, text=TEXT),
    st.builds(wire.Metrics, text=TEXT),
    st.builds(wire.Pong, version=TEXT),
    st.builds(
        wire.Reloaded,
        config=TEXT,
        added=NAMES,
        removed=NAMES,
        changed=st.dictionaries(TEXT, NAMES),
        daemon=NAMES,
    ),
    st.builds(wire.Accepted, session_id=TEXT, record=TEXT),
    st.builds(wire.Output, stream=st.sampled_from(["stdout", "stderr"]), data=st.binary()),
    st.builds(wire.Finished, session_id=TEXT, outcome=OUTCOMES, teardown_error=MAYBE_TEXT),
    st.builds(wire.Failed, code=TEXT, message=TEXT, session_id=MAYBE_TEXT),
)


def packed(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


def refusal(value: Any) -> str:
    with pytest.raises(WireError) as caught:
        wire.decode_request(packed(value))
    return caught.value.message


@pytest.mark.contract("SOC-05", "SOC-06")
@given(REQUESTS)
def test_every_request_survives_the_round_trip(request_: wire.Request) -> None:
    assert wire.decode_request(wire.encode(request_)) == request_


@pytest.mark.contract("SOC-07", "SOC-09")
@given(EVENTS)
def test_every_event_survives_the_round_trip(event: wire.Event) -> None:
    assert wire.decode_event(wire.encode(event)) == event


@pytest.mark.contract("SOC-07", "SOC-08")
@pytest.mark.contract("SCH-02")
def test_a_local_time_keeps_its_offset() -> None:
    """What the clock says is what operators plan with, and the client knows no zone."""
    at = datetime.datetime(2026, 3, 28, 2, 30, tzinfo=ZoneInfo("Asia/Kathmandu"))
    agent = wire.AgentInfo(name="builder", base_image="image", next_fire=at)
    for message in (
        wire.Instants(schedule="* * * * *", zone="local", instants=(wire.Instant(at=at),)),
        wire.Agents(zone="local", agents=(agent,)),
    ):
        received = msgspec.to_builtins(wire.decode_event(wire.encode(message)))
        assert "2026-03-28T02:30:00+05:45" in str(received)


def test_an_outcome_carries_only_what_it_has() -> None:
    body = wire.encode(wire.Finished(session_id="s", outcome=Outcome(Label.TIMED_OUT)))
    assert msgspec.msgpack.decode(body)["outcome"] == {"label": "timed_out"}


@pytest.mark.contract("SOC-10")
@given(st.binary())
@example(b"\x83\xa8protocol%c\xa4type\xa3run\xa5agent\xa1\xff" % wire.PROTOCOL)
@example(b"\x82\xa8protocol%c\xa4type\xa1\xff" % wire.PROTOCOL)
def test_any_bytes_are_a_request_or_a_wire_error(body: bytes) -> None:
    try:
        wire.decode_request(body)
    except WireError as error:
        assert error.message


@pytest.mark.contract("SOC-19")
@given(st.binary())
@example(b"\x82\xa4type\xa4pong\xa7version\xa1\xff")
def test_any_bytes_are_an_event_or_a_wire_error(body: bytes) -> None:
    try:
        wire.decode_event(body)
    except WireError as error:
        assert error.message


@pytest.mark.contract("SOC-10")
@given(REQUESTS, st.data())
def test_a_truncated_request_is_refused(request_: wire.Request, data: st.DataObject) -> None:
    body = wire.encode(request_)
    with pytest.raises(WireError):
        wire.decode_request(body[: data.draw(st.integers(0, len(body) - 1))])


@pytest.mark.contract("F-20")
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a", b"\xdc\x00\x01"])
def test_deep_nesting_is_refused_like_any_other_bad_input(opening: bytes) -> None:
    body = b"\x82\xa4deep" + opening * 100_000 + b"\xc0\xa8protocol%c" % wire.PROTOCOL
    with pytest.raises(WireError, match="nested too deeply"):
        wire.decode_request(body)


@pytest.mark.contract("F-20", "SOC-19")
def test_a_deeply_nested_event_is_refused_too() -> None:
    with pytest.raises(WireError, match="nested too deeply"):
        wire.decode_event(b"\x82\xa4deep" + b"\x91" * 100_000 + b"\xc0\xa4type\xa4pong")


NAMED = {
    "run": {"agent": "a"},
    "logs": {"session": "s"},
    "stop": {"session": "s"},
}


@pytest.mark.contract("F-20")
@pytest.mark.parametrize(
    ("type_", "field", "most"),
    [
        ("run", "agent", wire.MAX_NAME),
        ("logs", "session", wire.MAX_NAME),
        ("stop", "session", wire.MAX_NAME),
        ("run", "repo_url", wire.MAX_ARGUMENT),
        ("run", "work_unit", wire.MAX_ARGUMENT),
    ],
)
def test_a_name_that_no_name_is_as_long_as_is_refused_without_repeating_it(
    type_: str, field: str, most: int
) -> None:
    request_ = {"type": type_, "protocol": wire.PROTOCOL, **NAMED[type_]}
    assert wire.decode_request(packed({**request_, field: "x" * most}))
    message = refusal({**request_, field: "x" * (most + 1)})
    assert (f"$.{field}" in message, len(message) < 200) == (True, True)


@pytest.mark.contract("F-20")
@pytest.mark.parametrize("field", ["artifact_type", "artifact_id"])
def test_the_name_of_an_artifact_is_bounded_too(field: str) -> None:
    given = {"type": "artifact_input", "artifact_type": "t", "artifact_id": "i", "document": b""}
    run = {"type": "run", "protocol": wire.PROTOCOL, "agent": "a"}
    assert wire.decode_request(packed({**run, "input": given}))
    long = {**given, field: "x" * (wire.MAX_NAME + 1)}
    assert f"$.input.{field}" in refusal({**run, "input": long})


@pytest.mark.contract("SOC-10")
def test_of_a_key_that_comes_twice_the_last_counts_for_version_and_request_alike() -> None:
    ours, other = b"\xa8protocol%c" % wire.PROTOCOL, b"\xa8protocol\x63"
    assert wire.decode_request(b"\x83" + other + ours + b"\xa4type\xa4ping") == wire.Ping()
    with pytest.raises(ProtocolMismatch):
        wire.decode_request(b"\x83" + ours + other + b"\xa4type\xa4ping")


@pytest.mark.contract("SOC-10")
def test_two_different_types_are_refused() -> None:
    body = b"\x83\xa8protocol%c\xa4type\xadlist_sessions\xa4type\xa4ping" % wire.PROTOCOL
    with pytest.raises(WireError, match=r"\$\.type"):
        wire.decode_request(body)


SURROGATE = "/srv/\udcff"


@pytest.mark.contract("SOC-07")
@pytest.mark.parametrize(
    ("event", "shown"),
    [
        (
            wire.Accepted(session_id="s", record=SURROGATE),
            wire.Accepted(session_id="s", record="/srv/\\udcff"),
        ),
        (wire.Failed(code="c", message="\ud800"), wire.Failed(code="c", message="\\ud800")),
        (
            wire.Sessions(sessions=(msgspec.structs.replace(SESSION_INFO, record=SURROGATE),)),
            wire.Sessions(sessions=(msgspec.structs.replace(SESSION_INFO, record="/srv/\\udcff"),)),
        ),
        (
            wire.Finished(
                session_id="s", outcome=Outcome(Label.SUCCESS, 0), teardown_error=SURROGATE
            ),
            wire.Finished(
                session_id="s", outcome=Outcome(Label.SUCCESS, 0), teardown_error="/srv/\\udcff"
            ),
        ),
    ],
)
def test_an_event_with_a_path_that_is_no_text_is_sent_all_the_same(
    event: wire.Event, shown: wire.Event
) -> None:
    assert wire.decode_event(wire.encode(event)) == shown


@pytest.mark.contract("SOC-10")
def test_a_request_that_is_no_text_is_not_sent_as_another() -> None:
    with pytest.raises(WireError, match="must be UTF-8"):
        wire.encode(wire.Run(agent="a", work_unit="\udcff"))


@pytest.mark.contract("F-62", "DMN-35")
@pytest.mark.parametrize("theirs", [0, 1, 1000, -1])
def test_another_protocol_number_is_answered_with_both(theirs: int) -> None:
    later = {"type": "from_the_future", "protocol": theirs, "unheard_of": [1]}
    with pytest.raises(ProtocolMismatch, match=f"protocol {theirs} .* speaks {wire.PROTOCOL}"):
        wire.decode_request(packed(later))


@pytest.mark.contract("SOC-10")
def test_a_request_without_a_protocol_number_is_refused_by_that_field() -> None:
    assert refusal({"type": "ping"}).startswith("invalid request: ")
    assert "protocol" in refusal({"type": "ping"})


@pytest.mark.contract("SOC-10")
def test_an_unknown_type_is_refused_by_name() -> None:
    assert "dance" in refusal({"type": "dance", "protocol": wire.PROTOCOL})


@pytest.mark.contract("SOC-10")
def test_an_unknown_field_is_refused_by_name() -> None:
    assert "colour" in refusal({"type": "ping", "protocol": wire.PROTOCOL, "colour": 1})


@pytest.mark.contract("SOC-10")
def test_a_value_of_the_wrong_kind_is_refused_by_its_field() -> None:
    assert "$.agent" in refusal({"type": "run", "protocol": wire.PROTOCOL, "agent": 1})


@pytest.mark.contract("SOC-10")
@pytest.mark.parametrize("value", [None, 1, "ping", [], {}, [{"type": "ping"}]])
def test_what_is_no_object_is_refused(value: Any) -> None:
    assert refusal(value).startswith("invalid request: ")


@pytest.mark.contract("SOC-05")
def test_what_a_request_leaves_out_is_null() -> None:
    body = packed({"type": "run", "protocol": wire.PROTOCOL, "agent": "a"})
    assert wire.decode_request(body) == wire.Run(agent="a")


@pytest.mark.contract("SOC-09")
def test_a_failure_is_the_error_that_the_daemon_raised() -> None:
    error = wire.Failed(code="unknown_agent", message="no such").error()
    assert type(error) is errors.UnknownAgent
    assert error.message == "no such"


@pytest.mark.contract("SOC-10")
@pytest.mark.parametrize("grace", [-1, -0.001, 86_401, float("nan"), float("inf"), None, "30"])
def test_a_grace_that_is_none_is_refused(grace: Any) -> None:
    stop = {"type": "stop", "protocol": wire.PROTOCOL, "session": "s", "grace_seconds": grace}
    assert "$.grace_seconds" in refusal(stop)
