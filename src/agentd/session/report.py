"""What the log is told of a session: that it starts, how it ends, whether all of it is gone."""

from __future__ import annotations

from ..logs import log
from ..outcome import FINE
from .session import Session
from .teardown import Teardown
from .verdict import Ended


def log_started(session: Session) -> None:
    """The session exists from here on."""
    start, deadline = session.start, session.start.deadline
    timeout = None if deadline is None else (deadline - start.start_timestamp).total_seconds()
    log.info(
        "runner.session_started",
        container_name=session.start.container_name,
        trigger=start.trigger,
        work_unit_present=start.work_unit is not None,
        timeout_ms=None if timeout is None else round(timeout * 1000),
        record=str(session.record.directory),
    )


def log_adopted(session: Session) -> None:
    """A session of an earlier daemon is taken up."""
    intent = session.intent
    log.info(
        "runner.session_adopted",
        container_name=session.start.container_name,
        record=str(session.record.directory),
        ended_by=None if intent is None else intent.cause,
        output_known=session.needles is not None,
    )


def log_end(session: Session, ended: Ended) -> None:
    """How it ended; what agentd would have an operator look at is a warning or an error."""
    outcome, error = ended.outcome, ended.error
    if error is not None:
        log.error(
            "runner.session_error",
            container_name=session.start.container_name,
            outcome="error",
            error_code=error.code,
            error=error.message,
        )
    elif outcome is not None:
        tell = log.info if outcome.label in FINE else log.warning
        tell(
            "runner.session_outcome",
            container_name=session.start.container_name,
            outcome=outcome.label.value,
            exit_code=outcome.exit_code,
            signal=outcome.signal,
        )


def log_teardown(session: Session, teardown: Teardown) -> None:
    """Whether everything of it is gone."""
    tell = log.warning if teardown.failures else log.info
    tell(
        "runner.session_teardown",
        container_name=session.start.container_name,
        result="error" if teardown.failures else "ok",
        error=teardown.error,
    )


def log_completed(session: Session) -> None:
    """One line an operator can alert on, whoever asked for the run."""
    if session.ended is None:
        return
    outcome, error = session.ended.outcome, session.ended.error
    fine = outcome is not None and outcome.label in FINE and session.teardown_error is None
    tell = log.info if fine else log.warning
    tell(
        "agentd.run_completed",
        agent=session.start.agent,
        session_id=session.id,
        trigger=session.start.trigger,
        work_unit=session.start.work_unit,
        outcome=outcome.label.value if outcome else "error",
        exit_code=outcome.exit_code if outcome else None,
        signal=outcome.signal if outcome else None,
        error_code=error.code if error else None,
    )
