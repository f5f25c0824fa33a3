"""The facts of a session as its record has them. Pure."""

from __future__ import annotations

import datetime
from typing import Final

from .. import audit, names
from .output_log import Summary
from .spec import Admitted
from .verdict import Ended


def start_facts(
    admitted: Admitted, whose: names.Identity, started_at: datetime.datetime
) -> audit.Start:
    """What is known when the record is made: all that it takes to take the session up again."""
    invocation, document = admitted.invocation, admitted.document
    agent = invocation.agent
    timeout = None if agent.timeout is None else datetime.timedelta(seconds=agent.timeout)
    return audit.Start(
        session_id=whose.session,
        agent=agent.name,
        repo_url=invocation.repo_url,
        work_unit=invocation.work_unit,
        start_timestamp=started_at,
        trigger=invocation.trigger,
        input=audit.Input(document.artifact_type, document.artifact_id) if document else None,
        base_image=agent.base_image,
        image_id=admitted.image.id,
        image_digest=admitted.image.digest or None,
        container_name=names.container_name(whose, agent.name),
        deadline=None if timeout is None else started_at + timeout,
        limits=audit.Limits(
            memory=agent.limits.memory,
            cpus=agent.limits.cpus,
            pids=agent.limits.pids,
            output=agent.limits.output,
            record=agent.limits.record,
        ),
    )


def end_facts(start: audit.Start, ended: Ended) -> audit.End:
    """What is known once it is known how the session ended; its output is not closed yet."""
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
        ended_by=ended.intent.cause if ended.intent else None,
        duration_seconds=round((ended_at - start.start_timestamp).total_seconds(), 3),
    )


WITHHELD: Final = audit.Output(bytes=0, dropped_bytes=0, complete=False, masked="withheld")
"""What is known of output of which it is not known what to mask; it stays in `output.raw`."""


def output_facts(output: Summary, *, doubtful: bool) -> audit.Output:
    """What is known of the output once its log is finished; lines may be missing if `doubtful`."""
    return audit.Output(
        bytes=output.bytes,
        dropped_bytes=output.dropped_bytes,
        complete=output.complete and not doubtful,
        masked=output.masked,
    )
