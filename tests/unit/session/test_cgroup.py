"""What control groups say of memory, in both of their versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentd.session.cgroup import ran_out_of_memory

GROUP = "/libpod_parent/libpod-abc"
VERSION_1 = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
VERSION_2 = "low 0\nhigh 0\nmax 12\noom 3\noom_kill {}\noom_group_kill 0\n"


@pytest.mark.contract("F-60")
@pytest.mark.parametrize("kills", [0, 1, 10])
@pytest.mark.parametrize(
    ("place", "text"), [("memory{}/memory.oom_control", VERSION_1), ("{}/memory.events", VERSION_2)]
)
def test_a_group_tells_whether_memory_ran_out(
    tmp_path: Path, place: str, text: str, kills: int
) -> None:
    counters = tmp_path / place.format(GROUP).lstrip("/")
    counters.parent.mkdir(parents=True)
    counters.write_text(text.format(kills))
    assert ran_out_of_memory(GROUP, tmp_path) is (kills > 0)


@pytest.mark.parametrize("group", [GROUP, "", "/"])
def test_a_group_that_is_gone_tells_nothing(tmp_path: Path, group: str) -> None:
    assert not ran_out_of_memory(group, tmp_path)
