"""`agentd check`: a healthy machine, and planted faults; on real Podman, without a daemon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.agentd_process import Agentd, Table

pytestmark = pytest.mark.live


def test_show(own_agentd: Agentd, declare: Callable[..., Table], tmp_path: Path) -> None:
    own_agentd.configure(declare(schedule="@daily"))
    e = own_agentd.command("check", "--config", str(own_agentd.config)).wait()
    print(e.code)
    print(e.stdout)
    print(e.stderr)
    assert 0
