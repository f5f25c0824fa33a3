"""What the log is told of a session: that it starts, how it ends, whether all of it is gone."""

from __future__ import annotations

from .. import wire
from ..errors import AgentdError, HandedOver
from ..logs import log
from ..metrics import Metrics
from ..outcome import FINE
from ..panics import told
from .facts import end_facts
from .session import Session
from .teardown import Stage, Teardown
from .verdict import Ended


def tell_rejected(request: wire.Run, error: AgentdError, metrics: Metrics) -> None:
    """No session comes of a run."""
    log.warning(
        "agentd.run_rejected",
        agent=request.agent,
        trigger=request.trigger,
        error_code=error.code,
        error=error.message,
    )
    metrics.run_refused(request.agent, error)


def log_started(session: Session) -> None:
    """The session exists from here on."""
    start, deadline = session.start, session.start.deadline
    timeout = None if deadline is None else (deadline - start.start_timestamp).total_seconds()
    log.info(
        "runner.session_started",
        trigger=start.trigger,
        work_unit_present=start.work_unit is not None,
        timeout_ms=None if timeout is None else round(timeout * 1000),
        record=str(session.record.directory),
    )


def log_unmade(error: AgentdError) -> None:
    """There is no session, for want of a record, and so nothing to tear down."""
    _log_error("session_audit_allocation", error)
    log.info("runner.session_teardown", result="skipped")


def log_adopted(session: Session) -> None:
    """A session of an earlier daemon is taken up."""
    intent = session.intent
    log.info(
        "runner.session_adopted",
        record=str(session.record.directory),
        ended_by=None if intent is None else intent.cause,
        output_known=session.needles is not None,
    )


def log_end(ended: Ended, stage: Stage) -> None:
    """How it ended; what agentd would have an operator look at is a warning or an error."""
    if ended.error is not None:
        _log_error(stage.replace(" ", "_"), ended.error)
    elif ended.outcome is not None:
        outcome = ended.outcome
        tell = log.info if outcome.label in FINE else log.warning
        tell(
            "runner.session_outcome",
            outcome=outcome.label.value,
            exit_code=outcome.exit_code,
            signal=outcome.signal,
        )


def _log_error(stage: str, error: AgentdError) -> None:
    log.error(
        "runner.session_error",
        outcome="error",
        stage=stage,
        error_code=error.code,
        error=error.message,
    )


def log_panic(bug: Exception) -> AgentdError:
    """A fault that nobody foresaw; gives what its session has ended with, unless that is known."""
    log.error("runner.session_panicked", error=told(bug))
    return AgentdError("a bug in agentd ended the session: runner.session_panicked in its log")


def log_teardown(session: Session, teardown: Teardown) -> None:
    """Whether everything of it is gone."""
    error = teardown.error
    if error is None and session.container_kept:
        error = "the container stays until its end can be written down"
    tell = log.info if error is None else log.warning
    tell(
        "runner.session_teardown",
        result="ok" if error is None else "error",
        error=error,
    )


def measure_end(session: Session, metrics: Metrics) -> None:
    """The session lives no more. One that was handed over ends with the next daemon."""
    metrics.session_left(session.start.agent)
    ended = session.ended
    if ended is not None and not isinstance(ended.error, HandedOver):
        end = end_facts(session.start, ended)
        metrics.session_ended(session.start.agent, end.outcome, end.duration_seconds)


def log_completed(session: Session) -> None:
    """One line an operator can alert on, whoever asked for the run; none for what goes on."""
    if session.ended is None or isinstance(session.ended.error, HandedOver):
        return
    start, outcome, error = session.start, session.ended.outcome, session.ended.error
    fine = outcome is not None and outcome.label in FINE and session.teardown_error is None
    tell = log.info if fine else log.warning
    tell(
        "agentd.run_completed",
        agent=start.agent,
        session_id=session.id,
        trigger=start.trigger,
        work_unit=start.work_unit or "",
        work_unit_present=start.work_unit is not None,
        outcome=outcome.label.value if outcome else "error",
        exit_code=outcome.exit_code if outcome else None,
        signal=outcome.signal if outcome else None,
        error_code=error.code if error else None,
    )
