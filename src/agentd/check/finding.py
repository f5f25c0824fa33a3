"""What a check found. Plain data."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

from ..errors import AgentdError

Status = Literal["ok", "warn", "fail"]
"""`warn`: sessions can run, or it cannot be told from here. `fail`: something will not work."""


class Finding(msgspec.Struct, frozen=True):
    """One check: its name, what was looked at and found, and, unless it is ok, what to do."""

    name: str
    agent: str | None
    status: Status
    text: str
    remedy: str | None = None


Tell: TypeAlias = Callable[[Finding], None]


def ok(name: str, text: str, agent: str | None = None) -> Finding:
    """It is as it should be."""
    return Finding(name, agent, "ok", _shown(text))


def warn(name: str, text: str, remedy: str, agent: str | None = None) -> Finding:
    """It may do harm, or nobody can tell."""
    return Finding(name, agent, "warn", _shown(text), _shown(remedy))


def fail(name: str, text: str, remedy: str, agent: str | None = None) -> Finding:
    """It will do harm."""
    return Finding(name, agent, "fail", _shown(text), _shown(remedy))


def refused(name: str, error: AgentdError, remedy: str, agent: str | None = None) -> Finding:
    """A failure that one of our errors tells; `remedy` is for those that bring none."""
    return fail(name, error.fault, error.remedy or remedy, agent)


def _shown(text: str) -> str:
    """The text, also where a path in it is none."""
    return os.fsencode(text).decode(errors="replace")
