"""The audit record: a directory for each session that outlives it, and proves what it holds."""

from .closing import close
from .lookup import find
from .metadata import (
    End,
    Input,
    Limits,
    Output,
    SessionJson,
    Start,
    session_json,
)
from .record import Record, create, read_session_json, write_intent, write_next
from .root import prepare
from .seal import RecordLimits

__all__ = [
    "End",
    "Input",
    "Limits",
    "Output",
    "Record",
    "RecordLimits",
    "SessionJson",
    "Start",
    "close",
    "create",
    "find",
    "prepare",
    "read_session_json",
    "session_json",
    "write_intent",
    "write_next",
]
