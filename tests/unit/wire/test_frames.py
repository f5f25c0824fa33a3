"""Frames: any cut of any frames gives the same bodies, and a bad length ends the stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd import wire
from agentd.errors import WireError

BODIES = st.lists(st.binary(min_size=1, max_size=50), max_size=8)


def bodies(buffer: wire.FrameBuffer) -> list[bytes]:
    found = []
    while (body := buffer.next_body()) is not None:
        found.append(body)
    return found


@pytest.mark.contract("SOC-03")
@given(BODIES, st.data())
def test_any_cut_of_any_frames_gives_the_same_bodies(
    sent: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(wire.frame(body) for body in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    buffer = wire.FrameBuffer()
    received = []
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        buffer.feed(whole[begin:end])
        received += bodies(buffer)
    assert received == sent
    buffer.end()


@pytest.mark.contract("SOC-03")
@given(BODIES)
def test_frames_that_come_byte_by_byte_are_the_same(sent: list[bytes]) -> None:
    buffer = wire.FrameBuffer()
    received = []
    for byte in b"".join(wire.frame(body) for body in sent):
        buffer.feed(bytes([byte]))
        received += bodies(buffer)
    assert received == sent


@pytest.mark.contract("SOC-03")
@given(BODIES.filter(bool), st.data())
def test_an_end_within_a_frame_is_an_error(sent: list[bytes], data: st.DataObject) -> None:
    last = wire.frame(sent[-1])
    buffer = wire.FrameBuffer()
    buffer.feed(b"".join(wire.frame(body) for body in sent[:-1]))
    buffer.feed(last[: data.draw(st.integers(1, len(last) - 1))])
    bodies(buffer)
    with pytest.raises(WireError, match="in the middle of a frame"):
        buffer.end()


def test_an_end_between_frames_is_none() -> None:
    buffer = wire.FrameBuffer()
    buffer.end()
    assert buffer.next_body() is None


@pytest.mark.contract("F-20")
@pytest.mark.parametrize("length", [0, wire.MAX_FRAME_BYTES + 1, 0x7FFFFFFF, 0x80000000, 2**32 - 1])
def test_a_bad_length_is_refused_before_any_body(length: int) -> None:
    buffer = wire.FrameBuffer()
    with pytest.raises(WireError, match="a frame"):
        buffer.feed(length.to_bytes(4, "big"))


@pytest.mark.contract("F-20")
def test_a_bad_length_behind_a_good_frame_leaves_the_good_one() -> None:
    buffer = wire.FrameBuffer()
    buffer.feed(wire.frame(b"good") + b"\0\0\0\0")
    assert buffer.next_body() == b"good"
    with pytest.raises(WireError, match="must not be empty"):
        buffer.next_body()


@pytest.mark.contract("F-20")
def test_a_body_at_the_limit_passes() -> None:
    body = bytes(wire.MAX_FRAME_BYTES)
    buffer = wire.FrameBuffer()
    buffer.feed(wire.frame(body))
    assert buffer.next_body() == body


@pytest.mark.parametrize("body", [b"", bytes(wire.MAX_FRAME_BYTES + 1)], ids=["empty", "large"])
def test_a_body_that_no_peer_would_take_is_not_sent(body: bytes) -> None:
    with pytest.raises(WireError, match="a frame"):
        wire.frame(body)


def test_pending_counts_what_is_no_whole_frame_yet() -> None:
    buffer = wire.FrameBuffer()
    buffer.feed(wire.frame(b"one") + b"\0\0")
    buffer.next_body()
    assert buffer.pending == 2
