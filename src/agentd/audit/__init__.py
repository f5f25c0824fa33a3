"""The audit record: a directory for each session that outlives it, and proves what it holds."""

from .closing import close
from .lookup import by_id, find, last_ended, records, unfinished
from .metadata import (
    End,
    Input,
    Limits,
    Output,
    SessionJson,
    Start,
    session_json,
)
from .pruning import (
    Begun,
    Closed,
    Survey,
    alone,
    chosen,
    finish,
    prune,
    size,
    survey,
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
from .removal import remove_tree
from .root import Place, check, is_full, look, place, prepare
from .seal import RecordLimits
from .verifying import Finding, Verdict, verify

__all__ = [
    "Begun",
    "Cause",
    "Closed",
    "End",
    "Finding",
    "Input",
    "Intent",
    "Limits",
    "Output",
    "Place",
    "Record",
    "RecordLimits",
    "SessionJson",
    "Start",
    "Survey",
    "Verdict",
    "alone",
    "by_id",
    "check",
    "chosen",
    "close",
    "create",
    "discard_halves",
    "find",
    "finish",
    "is_full",
    "last_ended",
    "look",
    "place",
    "prepare",
    "prune",
    "read_intent",
    "read_next",
    "read_session_json",
    "records",
    "remove_tree",
    "session_json",
    "size",
    "survey",
    "unfinished",
    "verify",
    "write_intent",
    "write_next",
]
