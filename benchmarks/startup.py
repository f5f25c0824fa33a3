"""How long `agentd --version` takes beside a Python that does nothing.

Run it with the Python that agentd is installed in:  python benchmarks/startup.py [RUNS]
Both are measured in turn, in one run; the median counts, and its ratio.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "agentd --version": [str(Path(sys.executable).with_name("agentd")), "--version"],
    "agentd run --help": [str(Path(sys.executable).with_name("agentd")), "run", "--help"],
}


def seconds(command: list[str]) -> float:
    """The wall time of one run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main(runs: int) -> None:
    """Measure and print."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    base = statistics.median(times["python -c pass"])
    for name, measured in times.items():
        median = statistics.median(measured)
        print(f"{name:20} {median * 1000:7.1f} ms  {median / base:5.2f} x")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
