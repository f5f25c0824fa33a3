"""What daemon and client say to each other: frames, messages, and nothing that touches a socket."""

from .frames import MAX_FRAME_BYTES, FrameBuffer, frame
from .messages import (
    PROTOCOL,
    Accepted,
    ArtifactInput,
    Event,
    Failed,
    Finished,
    Output,
    Ping,
    Pong,
    Request,
    Run,
    TextInput,
    decode_event,
    decode_request,
    encode,
)

__all__ = [
    "MAX_FRAME_BYTES",
    "PROTOCOL",
    "Accepted",
    "ArtifactInput",
    "Event",
    "Failed",
    "Finished",
    "FrameBuffer",
    "Output",
    "Ping",
    "Pong",
    "Request",
    "Run",
    "TextInput",
    "decode_event",
    "decode_request",
    "encode",
    "frame",
]
