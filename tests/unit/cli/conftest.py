"""What the tests of the command line share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentd import wire
from tests.unit.cli.commands import FakeDaemon


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("agentd.sock")


@pytest.fixture
def answering(runtime: Path) -> Iterator[Any]:
    daemons = []

    def answer(*events: wire.Event, connections: int = 1) -> FakeDaemon:
        daemons.append(FakeDaemon(runtime, list(events), connections))
        return daemons[-1]

    yield answer
    for daemon in daemons:
        daemon.close()
