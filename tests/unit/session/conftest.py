"""Fixtures for the parts of a session."""

from __future__ import annotations

import pytest

from agentd.session import teardown


@pytest.fixture(autouse=True)
def asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails at the teardown has failed: it is not tried again for ten real seconds."""
    monkeypatch.setattr(teardown, "INSIST_SECONDS", 0.0)
