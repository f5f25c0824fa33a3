"""How long agentd's commands take beside those of Podman.

Needs Podman on the machine:  python benchmarks/startup.py [RUNS]
It starts a private Podman service and a daemon on it, so that `agentd ps` has somebody to ask. All
commands are measured in turn, in one run: a machine that gets busy is busy for all of them. Shown
are the medians of wall time and processor time, and the ratios of the first to those of
`podman --version` and `podman ps`.

What a command imports, and what that costs, says  python -X importtime -m agentd ps
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from testbed.agentd_client import AGENTD
from testbed.agentd_process import agentd_process
from testbed.podman_service import private_podman_service

PODMAN = ("podman --version", "podman ps")
AGENT = {
    "name": "idle",
    "base_image": "localhost/none",
    "methodology_dir": "/nowhere",
    "command": {"argv": ["none"]},
}


class Took(NamedTuple):
    """The seconds of one run."""

    wall: float
    cpu: float


def took(command: list[str], environ: Mapping[str, str]) -> Took:
    """Run it once."""
    wall, cpu = time.perf_counter(), cpu_of_children()
    subprocess.run(command, check=True, env=environ, stdout=subprocess.DEVNULL)
    return Took(time.perf_counter() - wall, cpu_of_children() - cpu)


def cpu_of_children() -> float:
    """Seconds of processor time of all that have ended, the kernel's for them included."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main(runs: int) -> None:
    """Measure and print."""
    with (
        tempfile.TemporaryDirectory(
            prefix="agentd-bench-", ignore_cleanup_errors=True
        ) as directory,
        private_podman_service(Path(directory, "podman")) as podman,
        agentd_process(podman, Path(directory, "agentd")) as agentd,
    ):
        agentd.configure(AGENT)
        agentd.start()
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "podman --version": [podman.command[0], "--version"],
            "podman ps": [*podman.command, "ps"],
            **{
                f"agentd {words}": [str(AGENTD), *words.split()]
                for words in ("--version", "--help", "ps", "run --help")
            },
        }
        environs = {"podman": podman.environ, "agentd": agentd.environ}
        times: dict[str, list[Took]] = {name: [] for name in commands}
        for _ in range(runs):
            for name, command in commands.items():
                environ = environs.get(name.split()[0], os.environ)
                times[name].append(took(command, environ))
        agentd.drained()
    wall = {name: statistics.median(each.wall for each in all_) for name, all_ in times.items()}
    cpu = {name: statistics.median(each.cpu for each in all_) for name, all_ in times.items()}
    print(
        f"{f'median of {runs}':18}{'wall':>10}{'CPU':>10}",
        *(f"{f'/ {name}':>18}" for name in PODMAN),
    )
    for name in times:
        ratios = (f"{wall[name] / wall[base]:17.2f}x" for base in PODMAN)
        print(f"{name:18}{wall[name] * 1000:7.1f} ms{cpu[name] * 1000:7.1f} ms", *ratios)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
