"""Fixtures for tests that need neither Podman nor a network."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from agentd import logs


class LogLines(list[dict[str, Any]]):
    """The log's lines so far, parsed; look at it after the act."""

    def __init__(self, stream: io.StringIO) -> None:
        super().__init__()
        self._stream = stream

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter([json.loads(line) for line in self._stream.getvalue().splitlines()])


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> LogLines:
    """What is logged from here on, at every level; the logger of before is put back."""
    monkeypatch.setattr(logs.log, "_logger", logs.log._logger)
    stream = io.StringIO()
    logs.configure({"AGENTD_LOG": "debug"}, stream)
    return LogLines(stream)
