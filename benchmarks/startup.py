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
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

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


def seconds(command: list[str], environ: Mapping[str, str]) -> float:
    """The wall time of one run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, env=environ, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


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
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(runs):
            for name, command in commands.items():
                environ = environs.get(name.split()[0], os.environ)
                times[name].append(seconds(command, environ))
        agentd.drained()
    medians = {name: statistics.median(measured) for name, measured in times.items()}
    print(f"{'median of ' + str(runs):18}{'':10}", *(f"{f'/ {name}':>18}" for name in PODMAN))
    for name, median in medians.items():
        ratios = (f"{median / medians[base]:18.2f}" for base in PODMAN)
        print(f"{name:18}{median * 1000:7.1f} ms", *ratios)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
