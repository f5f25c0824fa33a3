"""Run sessions in this program, without a daemon: one for each request, all at once.

    python embed.py agentd.toml site-builder 1800 "Add a status page" "Mend the footer"

When so many seconds have passed, those that still live are killed.
"""

from __future__ import annotations

import sys

import trio

import agentd


async def run_all(config: agentd.Config, agent: str, seconds: float, requests: list[str]) -> None:
    """Run the sessions, within a time-out for all of them."""
    with trio.move_on_after(seconds) as limit:
        async with agentd.open_supervisor(config) as supervisor, trio.open_nursery() as nursery:
            for request in requests:
                nursery.start_soon(run, supervisor, agent, request)
    if limit.cancelled_caught:
        # The cancellation has ended the sessions: their containers are gone.
        print("time is up", flush=True)


async def run(supervisor: agentd.EmbeddedSupervisor, agent: str, request: str) -> None:
    """Run one session to its end."""
    try:
        session = await supervisor.start(agent, request=request)
        print(f"{session.id}: {request!r}, record {session.record}", flush=True)
        finished = await session.wait()
    except agentd.AgentdError as error:
        # One that is refused must not end the others, as an error that leaves the nursery would.
        print(f"{request!r}: {error.code}: {error.message}", flush=True)
    else:
        print(f"{session.id}: {finished.outcome}", flush=True)


if __name__ == "__main__":
    path, name, seconds, *requests = sys.argv[1:]
    trio.run(run_all, agentd.load_config(path), name, float(seconds), requests)
