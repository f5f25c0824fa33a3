"""docs/metrics.md names each metric with its type, labels and unit: neither drifts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from agentd.errors import PodmanTimeout, ShuttingDown
from agentd.metrics import DISPOSITIONS, ERROR, Metrics
from agentd.outcome import FINE, Label
from agentd.podman.http import kind_of_call
from testbed.metrics_text import families
from tests.unit.builders import agent

PAGE = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
ROW = re.compile(r"^\| `(agentd_\w+)` \| (\w+) \|([^|]*)\| *(\w*) *\|", re.MULTILINE)
SUFFIX = {"counter": "_total", "info": "_info"}
UNITS = ("seconds", "bytes")


class Told(NamedTuple):
    """What is told of a metric, by the page or by the daemon."""

    type: str
    labels: frozenset[str]
    unit: str


def counted() -> dict[str, Told]:
    """Every metric of a daemon that has counted one of each."""
    metrics = Metrics()
    metrics.declare(lambda: [agent(schedule="@daily")], lambda: 1)
    metrics.session_ended("builder", "success", 1.0)
    metrics.run_refused("builder", ShuttingDown())
    metrics.podman_called("GET /info", 0.1, None)
    metrics.podman_called("GET /info", 0.1, PodmanTimeout(""))
    metrics.request_taken("run")
    return {
        f"{family.name}{SUFFIX.get(family.type, '')}": Told(
            family.type,
            frozenset(label for sample in family.samples for label in sample.labels) - {"le"},
            next((unit for unit in UNITS if family.name.endswith(f"_{unit}")), ""),
        )
        for family in families(metrics.render("openmetrics"))
    }


def documented() -> dict[str, Told]:
    return {
        name: Told(kind, frozenset(re.findall(r"`(\w+)`", labels)), unit)
        for name, kind, labels, unit in ROW.findall(PAGE)
    }


COUNTED, DOCUMENTED = counted(), documented()
RULES = PAGE[PAGE.index("## Alerts") :]


def test_the_page_has_every_metric_and_no_other() -> None:
    assert COUNTED.keys() == DOCUMENTED.keys()


@pytest.mark.parametrize("name", sorted(COUNTED.keys() & DOCUMENTED.keys()))
def test_a_metric_has_the_documented_type_labels_and_unit(name: str) -> None:
    assert COUNTED[name] == DOCUMENTED[name]


def test_the_page_tells_what_may_become_of_a_due_instant() -> None:
    (row,) = (line for line in PAGE.splitlines() if "agentd_schedule_fires_total` |" in line)
    assert set(re.findall(r"`(\w+)`", row.split("|")[5])) == set(DISPOSITIONS)


def test_the_page_shows_a_call_by_its_kind() -> None:
    assert f"`{kind_of_call('POST', '/containers/some-name/start')}`" in PAGE


def test_alerts_ask_for_metrics_with_labels_and_values_that_exist() -> None:
    asked = re.findall(r"(agentd_\w+)(?:\{(\w+)[=!~]+\"([^\"]*)\"\})?", RULES)
    assert len(asked) >= 3
    words = {*Label, ERROR, *DISPOSITIONS, "podman_unreachable", "podman_timeout"}
    for name, label, value in asked:
        assert label in {"", *COUNTED[name].labels}, name
        assert {word for word in value.split("|") if word} <= words, name


def test_an_alert_spares_sessions_that_ask_nothing_of_the_operator() -> None:
    (spared,) = re.findall(r'outcome!~"([^"]*)"', RULES)
    assert set(spared.split("|")) == FINE
