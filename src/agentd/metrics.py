"""What is counted and measured, for Prometheus; docs/metrics.md has each metric.

Everything is counted from the start of the process. A label has few values: agents that are
declared, and words of closed lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Final, ParamSpec

import trio
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    Metric,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.openmetrics.exposition import ALLOWUTF8
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from . import __version__
from .config import Agent
from .errors import AgentdError, PodmanError, PodmanTimeout, PodmanUnreachable
from .logs import log
from .outcome import Label
from .wire import MetricsFormat

ERROR: Final = "error"
"""The outcome of a session that ended without one."""

DISPOSITIONS: Final = (
    "started",
    "queued",
    "skipped_overlap",
    "skipped_draining",
    "skipped_removed",
    "missed",
    "failed",
)

SESSION_SECONDS: Final = (5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, 43200, 86400)
CALL_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600)
"""Up to the longest bound of a call: to create a container may copy its image."""

_P = ParamSpec("_P")


def _harmless(record: Callable[_P, None]) -> Callable[_P, None]:
    """No session ends for the sake of a number: a bug in here is logged."""

    @wraps(record)
    def recorded(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            record(*args, **kwargs)
        except Exception as error:  # noqa: BLE001
            log.error("agentd.metric_lost", metric=record.__name__, error=repr(error))

    return recorded


class Metrics:
    """The metrics of one daemon. Nothing that counts raises."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._agents: Callable[[], Iterable[Agent]] = tuple
        self._rendering = trio.CapacityLimiter(1)
        Info("agentd_build", "The daemon.", registry=registry).info({"version": __version__})
        # Beside node exporter's own, so not by the names that every process has.
        ProcessCollector(namespace="agentd", registry=registry)
        self._sessions = Counter(
            "agentd_sessions", "Sessions that have ended.", ["agent", "outcome"], registry=registry
        )
        self._durations = Histogram(
            "agentd_session_duration",
            "From the start of a session to the end of its container.",
            ["agent"],
            unit="seconds",
            buckets=SESSION_SECONDS,
            registry=registry,
        )
        self._live = Gauge("agentd_live_sessions", "Live sessions.", ["agent"], registry=registry)
        self._queued = Gauge(
            "agentd_queued_runs", "Runs that wait for their place.", registry=registry
        )
        self._refused = Counter(
            "agentd_runs_refused",
            "Runs of which no session came.",
            ["agent", "error_code"],
            registry=registry,
        )
        self._output = Counter(
            "agentd_output",
            "Output in the records that were closed.",
            ["agent"],
            unit="bytes",
            registry=registry,
        )
        self._fires = Counter(
            "agentd_schedule_fires",
            "Due instants of schedules.",
            ["agent", "disposition"],
            registry=registry,
        )
        self._calls = Histogram(
            "agentd_podman_call_duration",
            "Calls of Podman's API that succeeded.",
            ["call"],
            unit="seconds",
            buckets=CALL_SECONDS,
            registry=registry,
        )
        self._podman_errors = Counter(
            "agentd_podman_errors", "Calls that failed.", ["error_code"], registry=registry
        )
        self._requests = Counter(
            "agentd_requests", "Requests of clients.", ["request"], registry=registry
        )
        for kind in (PodmanError, PodmanTimeout, PodmanUnreachable):
            self._podman_errors.labels(kind.code)

    @_harmless
    def declare(
        self, agents: Callable[[], Iterable[Agent]], queue_length: Callable[[], int]
    ) -> None:
        """Whose metrics there are, and how many runs wait, whenever somebody asks."""
        self._agents = agents
        self._queued.set_function(queue_length)

    @_harmless
    def session_began(self, agent: str) -> None:
        """A session is live."""
        self._live.labels(agent).inc()

    @_harmless
    def session_left(self, agent: str) -> None:
        """It is not any more."""
        self._live.labels(agent).dec()

    @_harmless
    def session_ended(self, agent: str, outcome: str, seconds: float) -> None:
        """A session has ended after `seconds` with this label, or with `ERROR`."""
        self._sessions.labels(agent, outcome).inc()
        # A wall clock that was set back is no reason to shrink the sum.
        self._durations.labels(agent).observe(max(seconds, 0.0))

    @_harmless
    def run_refused(self, agent: str, error: AgentdError) -> None:
        """No session came of a run. Any client can make names up: those have no label."""
        known = any(agent == each.name for each in self._agents())
        self._refused.labels(agent if known else "", error.code).inc()

    @_harmless
    def output_kept(self, agent: str, size: int) -> None:
        """A record was closed, with so many bytes of output."""
        self._output.labels(agent).inc(size)

    @_harmless
    def schedule_fired(self, agent: str, disposition: str, count: int = 1) -> None:
        """What became of `count` due instants."""
        self._fires.labels(agent, disposition).inc(count)

    @_harmless
    def podman_called(self, call: str, seconds: float, error: PodmanError | None) -> None:
        """A call took so long, or failed."""
        if error is None:
            self._calls.labels(call).observe(seconds)
        else:
            self._podman_errors.labels(error.code).inc()

    @_harmless
    def request_taken(self, request: str) -> None:
        """A client asks something."""
        self._requests.labels(request).inc()

    async def text(self, form: MetricsFormat) -> str:
        """All of it, made in a thread: with thousands of agents that takes seconds."""
        return await trio.to_thread.run_sync(
            self.render, form, abandon_on_cancel=True, limiter=self._rendering
        )

    def render(self, form: MetricsFormat) -> str:
        """All of it. Any thread may ask."""
        self._show_zeros()
        generate = generate_latest if form == "prometheus" else generate_openmetrics
        # The names are sound; to look at each letter of each would take most of the time.
        told: bytes = generate(_Plain(self._registry), escaping=ALLOWUTF8)
        return told.decode()

    def _show_zeros(self) -> None:
        """Let what was not counted yet stand at 0, so that the first of a kind is an increase."""
        for agent in self._agents():
            self._live.labels(agent.name)
            self._output.labels(agent.name)
            for outcome in (*Label, ERROR):
                self._sessions.labels(agent.name, outcome)
            if agent.schedule is not None:
                for disposition in DISPOSITIONS:
                    self._fires.labels(agent.name, disposition)


class _Plain(Collector):
    """What a registry has, without the `_created` series, which double the counters."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            family.samples = [
                sample for sample in family.samples if sample.name != f"{family.name}_created"
            ]
            yield family
