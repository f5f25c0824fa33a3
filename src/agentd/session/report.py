"""What is told of a session: the facts of its record, and its three lines in the log."""

from __future__ import annotations

import datetime

from .. import audit
from ..logs import log
from ..outcome import FINE
from .output_log import Summary
from .session import Session
from .teardown import Teardown
from .verdict import Ended


def start_facts(session: Session) -> audit.Start:
    """What is known when the record is made."""
    admitted, agent = session.admitted, session.agent
    document = admitted.document
    return audit.Start(
        session_id=session.id,
        agent=agent.name,
        repo_url=session.invocation.repo_url,
        work_unit=session.invocation.work_unit,
        start_timestamp=session.started_at,
        trigger=session.invocation.trigger,
        input=audit.Input(document.artifact_type, document.artifact_id) if document else None,
        base_image=agent.base_image,
        image_id=admitted.image.id,
        image_digest=admitted.image.digest or None,
        container_name=session.container_name,
        deadline=session.deadline,
        limits=audit.Limits(
            memory=agent.limits.memory,
            cpus=agent.limits.cpus,
            pids=agent.limits.pids,
            output=agent.limits.output,
            record=agent.limits.record,
        ),
    )


def end_facts(session: Session, ended: Ended, output: Summary | None = None) -> audit.End:
    """What is known at the end; `output` once the log is finished."""
    state = ended.state if ended.state is not None and ended.state.finished else None
    ended_at = (state.finished_at if state else None) or datetime.datetime.now(datetime.UTC)
    outcome, error = ended.outcome, ended.error
    return audit.End(
        end_timestamp=ended_at,
        outcome=outcome.label.value if outcome else "error",
        exit_code=outcome.exit_code if outcome else None,
        signal=outcome.signal if outcome else None,
        error_code=error.code if error else None,
        error=error.message if error else None,
        oom_killed=True if state and state.oom_killed else None,
        ended_by=ended.interruption.cause if ended.interruption else None,
        duration_seconds=round((ended_at - session.started_at).total_seconds(), 3),
        commit=output.commit if output else None,
        output=_output_facts(output) if output else None,
    )


def _output_facts(output: Summary) -> audit.Output:
    return audit.Output(
        bytes=output.bytes,
        dropped_bytes=output.dropped_bytes,
        complete=output.complete,
        masked=output.masked,
    )


def log_started(session: Session) -> None:
    """The session exists from here on."""
    timeout = session.agent.timeout
    log.info(
        "runner.session_started",
        container_name=session.container_name,
        trigger=session.invocation.trigger,
        work_unit_present=session.invocation.work_unit is not None,
        timeout_ms=None if timeout is None else round(timeout * 1000),
        record=str(session.record.directory),
    )


def log_end(session: Session, ended: Ended) -> None:
    """How it ended; what agentd would have an operator look at is a warning or an error."""
    outcome, error = ended.outcome, ended.error
    if error is not None:
        log.error(
            "runner.session_error",
            container_name=session.container_name,
            outcome="error",
            error_code=error.code,
            error=error.message,
        )
    elif outcome is not None:
        tell = log.info if outcome.label in FINE else log.warning
        tell(
            "runner.session_outcome",
            container_name=session.container_name,
            outcome=outcome.label.value,
            exit_code=outcome.exit_code,
            signal=outcome.signal,
        )


def log_teardown(session: Session, teardown: Teardown) -> None:
    """Whether everything of it is gone."""
    tell = log.warning if teardown.failures else log.info
    tell(
        "runner.session_teardown",
        container_name=session.container_name,
        result="error" if teardown.failures else "ok",
        error=teardown.error,
    )
