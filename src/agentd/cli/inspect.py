"""`agentd inspect`."""

from __future__ import annotations

from pathlib import Path

import trio

from .. import wire
from ..client import connect
from .daemon_socket import USUAL, DaemonSocket
from .tables import print_json


def inspect(session: str, /, *, json: bool = False, daemon: DaemonSocket = USUAL) -> int:
    """Show all that is known of a session, live or past, as JSON.

    These are the facts of its record: what was asked, which image ran, how it ended and what was
    seen of it. Beside them stand the path of the record, and the state: that of a live session as
    'agentd ps' shows it, or closed or incomplete. Of a run that is queued little is known yet: what
    was asked, since when it waits, and its place.

    For example:

        agentd inspect 3f9c
        agentd inspect 3f9c | jq .outcome

    Args:
        session: The session's id, or the beginning of it.
        json: As without it: there is no other form.
    """
    told = trio.run(_inspect, daemon.path(), session)
    print_json({"record": told.record, "state": told.state, **told.facts})
    return 0


async def _inspect(socket_path: Path, session: str) -> wire.Inspected:
    async with connect(socket_path) as client:
        return await client.inspect(session)
