"""Frames: a 4-byte big-endian unsigned length, then that many bytes. Pure; no socket here.

The length is checked before a single byte of the body is kept, so a hostile prefix costs nothing.
"""

from __future__ import annotations

from typing import Final

from ..errors import WireError

MAX_FRAME_BYTES: Final = 8 * 1024 * 1024
"""The largest body; an artifact document has to fit into one frame with its request."""

_PREFIX: Final = 4


def frame(body: bytes) -> bytes:
    """`body` with its length before it.

    Raises:
        WireError: the body is empty or too large to be sent.
    """
    _check_length(len(body))
    return len(body).to_bytes(_PREFIX, "big") + body


def _check_length(length: int) -> None:
    if length == 0:
        raise WireError("a frame must not be empty")
    if length > MAX_FRAME_BYTES:
        raise WireError(f"a frame of {length} bytes is too large: {MAX_FRAME_BYTES} is the limit")


class FrameBuffer:
    """Turns bytes as they arrive into whole bodies.

    After a `WireError` the stream has lost its step and the buffer must not be used again.
    """

    def __init__(self) -> None:
        self._received = bytearray()

    @property
    def pending(self) -> int:
        """Bytes received that do not yet make a whole frame."""
        return len(self._received)

    def feed(self, data: bytes) -> None:
        """Add what was received. Raises `WireError` once a prefix announces a bad length."""
        self._received += data
        self._next_length()

    def next_body(self) -> bytes | None:
        """The next whole body, or None until more has arrived.

        Raises:
            WireError: the next frame's prefix announces a bad length.
        """
        length = self._next_length()
        if length is None or len(self._received) < _PREFIX + length:
            return None
        # Through a view: a slice of the buffer would be one more copy of what may be 8 MiB.
        with memoryview(self._received) as received:
            body = bytes(received[_PREFIX : _PREFIX + length])
        del self._received[: _PREFIX + length]
        return body

    def end(self) -> None:
        """The peer will send no more. Raises `WireError` when that cuts a frame in two."""
        if self._received:
            raise WireError("the peer closed the connection in the middle of a frame")

    def _next_length(self) -> int | None:
        if len(self._received) < _PREFIX:
            return None
        length = int.from_bytes(self._received[:_PREFIX], "big")
        _check_length(length)
        return length
