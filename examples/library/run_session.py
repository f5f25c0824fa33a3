"""Start a session of an agent, show what it writes, and say how it ended.

    python run_session.py site-builder "Add a status page"

Ctrl-C leaves the session to the daemon.
"""

from __future__ import annotations

import sys

import trio

import agentd


async def run_session(agent: str, request: str | None) -> int:
    """Gives the exit status that `agentd run` would have."""
    async with agentd.connect() as client, client.run(agent, request=request) as session:
        try:
            async for event in session:
                show(event)
            finished = await session.wait()
        except KeyboardInterrupt:
            # Leaving the context closes the connection and nothing else: the session goes on.
            print(f"detached from session {session.id}", file=sys.stderr)
            return 130
    print(f"session {finished.session_id}: {finished.outcome}")
    return finished.outcome.process_exit_code


def show(event: agentd.SessionEvent) -> None:
    """Write the agent's output to where the agent did, and all else to standard error."""
    match event:
        case agentd.Output(stream=stream, data=data):
            # Bytes as they came: an agent's output need not be text.
            out = sys.stdout if stream == "stdout" else sys.stderr
            out.buffer.write(data)
            out.flush()
        case agentd.Accepted(session_id=id, record=record):
            print(f"session {id}, record {record}", file=sys.stderr, flush=True)
        case agentd.Queued(position=position):
            print(f"number {position} in the queue", file=sys.stderr, flush=True)
        case agentd.Progress(text=text):
            print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run the program."""
    agent, request = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    try:
        return trio.run(run_session, agent, request)
    except agentd.AgentdError as error:
        # Refused, or ended without an outcome: what the daemon raised is raised here.
        print(f"{error.code}: {error.message}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
