"""The kill matrix as a table: what a restart found after each kill, in one or more test runs.

    AGENTD_TESTS_LONG=1 ./dev tests -- tests/live/test_adoption.py tests/live/test_second_kill.py \\
        --junitxml=root.xml
    python -m testbed.kill_matrix root.xml rootless.xml
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree


def cells(report: Path) -> Iterator[tuple[str, str]]:
    """Each test of a run by its name, with what it found, or how it went."""
    for case in ElementTree.parse(report).iter("testcase"):
        found = case.find("properties/property[@name='found']")
        told = "passed" if found is None else found.attrib["value"]
        for child in case:
            if child.tag in {"failure", "error", "skipped"}:
                told = child.tag
        yield case.attrib["name"].removeprefix("test_"), told


def table(reports: list[Path]) -> str:
    """A row a test, a column a run, as Markdown."""
    runs = {report.stem: dict(cells(report)) for report in reports}
    names = list(dict.fromkeys(name for run in runs.values() for name in run))
    rows = [["killed at", *runs], ["---"] * (len(runs) + 1)]
    rows += [[name, *(run.get(name, "not run") for run in runs.values())] for name in names]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    print(table([Path(name) for name in sys.argv[1:]]))
