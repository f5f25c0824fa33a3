"""Show what all live sessions write, also those that begin meanwhile, until Ctrl-C.

python watch_sessions.py
"""

from __future__ import annotations

import trio

import agentd

LOOK_SECONDS = 1.0
"""Between two looks for new sessions."""


async def watch() -> None:
    """Follow each live session in a task of its own."""
    followed: set[str] = set()
    async with agentd.connect() as client, trio.open_nursery() as nursery:
        while True:
            for session in await client.sessions():
                if session.state != "queued" and session.session_id not in followed:
                    followed.add(session.session_id)
                    # Calls of one client may overlap: each has a connection of its own.
                    nursery.start_soon(follow, client, session)
            await trio.sleep(LOOK_SECONDS)


async def follow(client: agentd.Client, session: agentd.SessionInfo) -> None:
    """Show the output of one session from its start to its end."""
    name = f"{session.agent} {session.session_id[:8]}"
    print(f"{name}: {session.state} since {session.started_at:%H:%M:%S}", flush=True)
    async with client.logs(session.session_id, follow=True) as output:
        async for event in output:
            for line in event.data.decode(errors="replace").splitlines():
                print(f"{name} | {line}", flush=True)
    print(f"{name}: has ended", flush=True)


if __name__ == "__main__":
    try:
        trio.run(watch)
    except* KeyboardInterrupt:
        # Out of a nursery, exceptions come in a group.
        pass
