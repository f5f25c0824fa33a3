"""What is counted, and the text that it becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from agentd import __version__
from agentd.config import Agent
from agentd.errors import PodmanTimeout, PodmanUnreachable, ShuttingDown, UnknownAgent
from agentd.metrics import CALL_SECONDS, DISPOSITIONS, ERROR, SESSION_SECONDS, Metrics
from agentd.outcome import Label
from testbed.metrics_text import counted, families, older_families
from tests.unit.builders import agent
from tests.unit.conftest import LogLines

HOSTILE = 'a"b\\c\nd'


@pytest.fixture
def metrics() -> Metrics:
    """Of a daemon with an agent that is scheduled and one that is not."""
    metrics = Metrics()
    metrics.declare(lambda: [agent(), agent(name="nightly", schedule="@daily")], lambda: 3)
    return metrics


def values(metrics: Metrics, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    return counted(metrics.render("openmetrics"), name, *labels)


# --- sessions ---


def test_an_ended_session_counts_by_its_agent_and_its_outcome(metrics: Metrics) -> None:
    for outcome in (Label.SUCCESS, Label.SUCCESS, ERROR):
        metrics.session_ended("builder", outcome, 1.0)
    assert values(metrics, "agentd_sessions_total", "agent", "outcome") == {
        ("builder", "success"): 2,
        ("builder", "error"): 1,
    }


def test_a_live_session_is_one_until_it_is_over(metrics: Metrics) -> None:
    for name in ("builder", "builder", "nightly"):
        metrics.session_began(name)
    metrics.session_left("nightly")
    assert values(metrics, "agentd_live_sessions", "agent") == {("builder",): 2}


def test_the_queue_is_as_long_as_it_is_when_somebody_asks() -> None:
    metrics, queue = Metrics(), ["a run"]
    metrics.declare(lambda: [], lambda: len(queue))
    assert values(metrics, "agentd_queued_runs") == {(): 1}
    queue.append("another")
    assert values(metrics, "agentd_queued_runs") == {(): 2}


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.2, "5.0"), (5.0, "5.0"), (5.1, "15.0"), (86_400, "86400.0")]
)
def test_a_duration_is_in_the_first_bucket_that_takes_it(
    metrics: Metrics, seconds: float, bucket: str
) -> None:
    metrics.session_ended("builder", "success", seconds)
    buckets = values(metrics, "agentd_session_duration_seconds_bucket", "le")
    assert min(buckets, key=lambda le: float(le[0])) == (bucket,)
    assert values(metrics, "agentd_session_duration_seconds_sum") == {(): seconds}


def test_a_session_that_ended_before_its_start_took_no_time(metrics: Metrics) -> None:
    """The wall clock was set back meanwhile."""
    metrics.session_ended("builder", "success", -30.0)
    assert values(metrics, "agentd_session_duration_seconds_count") == {(): 1}
    assert values(metrics, "agentd_session_duration_seconds_sum") == {}


def test_a_refused_run_counts_by_the_code_of_its_error(metrics: Metrics) -> None:
    metrics.run_refused("builder", ShuttingDown())
    assert values(metrics, "agentd_runs_refused_total", "agent", "error_code") == {
        ("builder", "shutting_down"): 1
    }


def test_names_that_clients_make_up_are_one_label(metrics: Metrics) -> None:
    for name in ("nobody", "x" * 1000, HOSTILE):
        metrics.run_refused(name, UnknownAgent("no such agent"))
    assert values(metrics, "agentd_runs_refused_total", "agent", "error_code") == {
        ("", "unknown_agent"): 3
    }


def test_output_is_counted_in_bytes(metrics: Metrics) -> None:
    metrics.output_kept("builder", 10)
    metrics.output_kept("builder", 7)
    assert values(metrics, "agentd_output_bytes_total", "agent") == {("builder",): 17}


def test_missed_instants_count_each(metrics: Metrics) -> None:
    metrics.schedule_fired("nightly", "missed", 4)
    metrics.schedule_fired("nightly", "started")
    assert values(metrics, "agentd_schedule_fires_total", "agent", "disposition") == {
        ("nightly", "missed"): 4,
        ("nightly", "started"): 1,
    }


# --- Podman ---


def test_a_call_counts_by_its_kind_and_a_failed_one_by_its_error(metrics: Metrics) -> None:
    metrics.podman_called("GET /info", 0.2, None)
    metrics.podman_called("GET /info", 5.0, PodmanTimeout("no answer"))
    metrics.podman_called("GET /version", 0.0, PodmanUnreachable("nobody"))
    assert values(metrics, "agentd_podman_call_duration_seconds_count", "call") == {
        ("GET /info",): 1
    }
    assert values(metrics, "agentd_podman_errors_total", "error_code") == {
        ("podman_timeout",): 1,
        ("podman_unreachable",): 1,
    }


# --- the text ---


def zeros(metrics: Metrics, name: str) -> set[tuple[str, ...]]:
    return {
        tuple(sample.labels.values())
        for family in families(metrics.render("openmetrics"))
        for sample in family.samples
        if sample.name == name
    }


def test_what_was_never_counted_stands_at_zero(metrics: Metrics) -> None:
    """Or the first of a kind would be no increase."""
    sessions = zeros(metrics, "agentd_sessions_total")
    assert sessions == {(a, o) for a in ("builder", "nightly") for o in (*Label, ERROR)}
    assert zeros(metrics, "agentd_schedule_fires_total") == {("nightly", d) for d in DISPOSITIONS}
    assert zeros(metrics, "agentd_live_sessions") == {("builder",), ("nightly",)}


def test_an_agent_that_is_declared_later_is_there() -> None:
    metrics, agents = Metrics(), [agent()]
    metrics.declare(lambda: agents, lambda: 0)
    agents.append(agent(name="late"))
    assert {("builder",), ("late",)} == zeros(metrics, "agentd_output_bytes_total")


def test_the_version_is_told(metrics: Metrics) -> None:
    assert values(metrics, "agentd_build_info", "version") == {(__version__,): 1}


def test_labels_are_escaped(metrics: Metrics) -> None:
    metrics.request_taken(HOSTILE)
    assert values(metrics, "agentd_requests_total", "request") == {(HOSTILE,): 1}


def test_the_older_format_has_the_same_samples(metrics: Metrics) -> None:
    metrics.session_ended("builder", "success", 3.0)
    older, newer = (
        {
            (sample.name, *sorted(sample.labels.items()))
            for family in told
            for sample in family.samples
        }
        for told in (
            older_families(metrics.render("prometheus")),
            families(metrics.render("openmetrics")),
        )
    )
    assert older == newer


def test_the_older_format_has_no_type_that_node_exporter_refuses(metrics: Metrics) -> None:
    lines = metrics.render("prometheus").splitlines()
    types = {line.split()[-1] for line in lines if line.startswith("# TYPE")}
    assert types == {"counter", "gauge", "histogram"}


@pytest.mark.parametrize("form", ["openmetrics", "prometheus"])
def test_no_series_says_when_another_was_created(metrics: Metrics, form: Any) -> None:
    metrics.session_ended("builder", "success", 3.0)
    assert "_created" not in metrics.render(form)


def test_two_daemons_in_one_process_share_nothing(metrics: Metrics) -> None:
    metrics.request_taken("run")
    assert values(Metrics(), "agentd_requests_total") == {}


def test_buckets_reach_from_seconds_to_a_day_and_over_the_longest_call() -> None:
    assert (SESSION_SECONDS[0], SESSION_SECONDS[-1], CALL_SECONDS[-1]) == (5, 86_400, 600)


async def test_the_text_can_be_made_in_a_thread_while_the_daemon_counts(metrics: Metrics) -> None:
    agents: list[Agent] = []
    metrics.declare(lambda: agents, lambda: 0)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(metrics.text, "openmetrics")
        for count in range(300):
            metrics.request_taken(f"kind {count}")
            agents.append(agent(name=f"agent{count}"))
            await trio.lowlevel.checkpoint()
    assert len(zeros(metrics, "agentd_requests_total")) == 300


# --- a bug ---


@pytest.mark.parametrize(
    "count",
    [
        lambda metrics: metrics.session_ended("builder", "success", "no number"),
        lambda metrics: metrics.run_refused("builder", ValueError("has no code")),
        lambda metrics: metrics.podman_called("GET /info", None, None),
    ],
)
def test_what_cannot_be_counted_is_logged_and_harms_nobody(
    metrics: Metrics, logged: LogLines, count: Callable[[Any], None]
) -> None:
    count(metrics)
    assert [line["event"] for line in logged] == ["agentd.metric_lost"]
