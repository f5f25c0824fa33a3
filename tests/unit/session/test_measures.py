"""What is counted of a session when it has ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentd.errors import StoppedBeforeStart
from agentd.metrics import Metrics
from agentd.outcome import from_exit_code
from agentd.session.report import measure_end
from agentd.session.session import Session
from agentd.session.verdict import Ended
from testbed.metrics_text import counted
from tests.unit import builders


@pytest.fixture
async def session(tmp_path: Path) -> Session:
    """A session that lives."""
    return builders.session(tmp_path)


def measured(session: Session) -> str:
    metrics = Metrics()
    metrics.session_began("builder")
    measure_end(session, metrics)
    return metrics.render("openmetrics")


async def test_a_session_counts_with_its_outcome_and_the_time_of_its_container(
    session: Session,
) -> None:
    session.ended = Ended(from_exit_code(5), builders.state("exited", 5, ended=7.5))
    text = measured(session)
    assert counted(text, "agentd_sessions_total", "agent", "outcome") == {
        ("builder", "work_failed"): 1
    }
    assert counted(text, "agentd_session_duration_seconds_sum", "agent") == {("builder",): 7.5}


async def test_one_without_an_outcome_is_an_error(session: Session) -> None:
    session.ended = Ended(StoppedBeforeStart("stopped"))
    assert counted(measured(session), "agentd_sessions_total", "outcome") == {("error",): 1}


@pytest.mark.contract("DMN-18")
async def test_one_that_is_handed_over_has_not_ended(session: Session) -> None:
    """The next daemon counts it."""
    session.finish(None)
    text = measured(session)
    assert counted(text, "agentd_sessions_total") == {}
    assert counted(text, "agentd_live_sessions") == {}
