"""`agentd check`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio

from ..check import Finding, examine, interruptible
from ..errors import EXIT_FAILURE, UsageError
from .default_config import DEFAULT_CONFIG
from .printable import printable
from .tables import print_json


def check(*, config: Path | None = None, agent: str | None = None, json: bool = False) -> int:
    """Look whether a daemon with this configuration and its agents' sessions would work here.

    Everything is looked at that a session relies on, from the configuration to the image, in which
    a container without a network is started and thrown away. Nothing is pulled, nothing is left
    behind, and a daemon that runs meanwhile is not disturbed. Run it as the daemon's user, with
    the environment that the daemon gets.

    A line is a check: ok, warn (sessions can run, or it cannot be told from here) or fail, what
    was found, and what to do about it. The exit status is 0 when none failed, 1 when one did, 2
    for errors of use.

    For example:

        agentd check
        agentd check --config ./agentd.toml --agent site-builder
        agentd check --json

    Args:
        config: The daemon's configuration; /etc/agentd/agentd.toml unless given.
        agent: The one agent to look at; all unless given.
        json: One JSON object with the list of checks, for programs.
    """
    if config is not None:
        _refuse_unreadable(config)
    findings: list[Finding] = []

    def tell(finding: Finding) -> None:
        findings.append(finding)
        if not json:
            print(line(finding), flush=True)

    work = partial(examine, config or DEFAULT_CONFIG, os.environ, agent, tell)
    interrupted = trio.run(interruptible, work)
    if interrupted is not None:
        return 128 + interrupted
    if json:
        print_json({"checks": findings})
    else:
        print(summary(findings))
    return EXIT_FAILURE if any(each.status == "fail" for each in findings) else 0


def _refuse_unreadable(config: Path) -> None:
    try:
        config.open("rb").close()
    except OSError as error:
        raise UsageError(f"--config: cannot read {config}: {error.strerror}") from None


def line(finding: Finding) -> str:
    """What is shown of a check."""
    whose = f"{finding.agent}: " if finding.agent is not None else ""
    remedy = f"; remedy: {finding.remedy}" if finding.remedy is not None else ""
    words = f"{finding.status:<4}  {finding.name:<17}  {whose}{finding.text}{remedy}"
    return printable(" ".join(words.splitlines()))


def summary(findings: Sequence[Finding]) -> str:
    """The last line."""
    counts = Counter(finding.status for finding in findings)
    return f"{counts['ok']} ok, {counts['warn']} warn, {counts['fail']} fail"
