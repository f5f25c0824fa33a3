"""The audit record: a directory for each session that outlives it, and proves what it holds."""

from .closing import close
from .lookup import find, last_ended, records, unfinished
from .metadata import (
    End,
    Input,
    Limits,
    Output,
    SessionJson,
    Start,
    session_json,
)
from .record import (
    Cause,
    Intent,
    Record,
    create,
    discard_halves,
    read_intent,
    read_next,
    read_session_json,
    write_intent,
    write_next,
)
from .root import Place, check, is_full, place, prepare
from .seal import RecordLimits

__all__ = [
    "Cause",
    "End",
    "Input",
    "Intent",
    "Limits",
    "Output",
    "Place",
    "Record",
    "RecordLimits",
    "SessionJson",
    "Start",
    "check",
    "close",
    "create",
    "discard_halves",
    "find",
    "is_full",
    "last_ended",
    "place",
    "prepare",
    "read_intent",
    "read_next",
    "read_session_json",
    "records",
    "session_json",
    "unfinished",
    "write_intent",
    "write_next",
]
