"""What is told of a session: the facts of its record, and its three lines in the log."""

from __future__ import annotations

import datetime

from .. import audit
from ..errors import AgentdError
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
        input=document and audit.Input(document.artifact_type, document.artifact_id),
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
    result, state = ended.result, ended.state
    finished = state.finished_at if state is not None and state.finished else None
    ended_at = finished or datetime.datetime.now(datetime.UTC)
    exit_code = state.exit_code if finished and state else None
    common = audit.End(
        end_timestamp=ended_at,
        outcome="error" if isinstance(result, AgentdError) else result.label.value,
        exit_code=exit_code,
        oom_killed=state.oom_killed if state is not None else None,
        ended_by=ended.interruption and ended.interruption.cause,
        duration_seconds=round((ended_at - session.started_at).total_seconds(), 3),
    )
    return common
