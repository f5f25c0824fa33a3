"""What all messages share: the protocol's number, bounds, and how a message is tagged."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

PROTOCOL: Final = 2
"""Grows with every change that an older peer would misread."""

STOP_GRACE_SECONDS: Final = 30.0
"""How long a session that is asked to stop has, unless the client says otherwise."""

MAX_STOP_GRACE_SECONDS: Final = 86_400.0

MAX_OUTPUT_BYTES: Final = 256 * 1024
"""The most that one `Output` carries."""

MAX_METRICS_CHARS: Final = 1024 * 1024
"""The most text that one `MetricsPart` or `Metrics` carries; a character takes up to 4 bytes."""

MAX_INSTANTS: Final = 1000
"""Of a schedule, in one answer."""

MAX_NAME: Final = 1024
"""Characters of a name or an id that a client gives. Each is shorter by its own rule, whose refusal
repeats it: into a reply, which is one frame, and into the log."""

MAX_ARGUMENT: Final = 256 * 1024
"""Characters of a word that becomes a program's argument; Linux takes 128 KiB, execve(2)."""

Name: TypeAlias = Annotated[str, Meta(max_length=MAX_NAME)]
Argument: TypeAlias = Annotated[str, Meta(max_length=MAX_ARGUMENT)]

MetricsFormat: TypeAlias = Literal["openmetrics", "prometheus"]
"""OpenMetrics 1.0 text, or Prometheus' older text format."""


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=_snake):
    """Base of all messages: strict, and tagged by a `type` field."""
