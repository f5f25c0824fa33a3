"""What the kernel says of a container's control group, cgroups(7)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup")


def ran_out_of_memory(group: str, root: Path = _ROOT) -> bool:
    """Whether the kernel killed a process of the group for lack of memory.

    False also says that nobody can tell: the group is gone, which it is some 30 ms after its last
    process, or it cannot be seen from here, because the daemon lives in a container itself.
    """
    below = group.lstrip("/")
    version_2, version_1 = root / below / "memory.events", root / "memory" / below
    for counters in (version_2, version_1 / "memory.oom_control"):
        try:
            lines = counters.read_text().splitlines()
        except OSError:
            continue
        return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in lines)
    return False
