"""What `agentd reload` shows."""

from __future__ import annotations

import msgspec
import pytest

from agentd import wire
from agentd.cli.reload import lines

pytestmark = pytest.mark.contract("F-57")

NOTHING = wire.Reloaded(config="/etc/a.toml", added=(), removed=(), changed={}, daemon=())


def test_each_change_is_a_line() -> None:
    told = msgspec.structs.replace(
        NOTHING,
        added=("new", "newer"),
        removed=("old",),
        changed={"other": ("repo", "limits.pids")},
        daemon=("max_sessions",),
    )
    assert lines(told) == [
        "/etc/a.toml was read",
        "added    new",
        "added    newer",
        "removed  old",
        "changed  other: repo, limits.pids",
        "daemon   max_sessions",
    ]


def test_without_a_change_that_is_said() -> None:
    assert lines(NOTHING) == ["/etc/a.toml was read: nothing has changed"]
