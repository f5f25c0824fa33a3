"""`agentd run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter

from .. import wire
from ..client import connect
from ..errors import TeardownFailed, UsageError
from ..outcome import FINE
from ..quantities import parse_duration
from ..strict_json import parse_json
from .daemon_socket import USUAL, DaemonSocket
from .show import Show

Words = Annotated[str | None, Parameter(allow_leading_hyphen=True)]


def run(
    agent: str,
    repo: str | None = None,
    /,
    *,
    work_unit: str | None = None,
    request: Words = None,
    artifact_type: str | None = None,
    artifact_file: Path | None = None,
    timeout: str | None = None,
    detach: Annotated[bool, Parameter(alias="-d")] = False,
    quiet: bool = False,
    daemon: DaemonSocket = USUAL,
) -> int:
    """Run a session of an agent and show its output until it ends.

    The exit status is 0 when the session's outcome is success, blocked or nothing_ready, 124
    after a time-out, and else the session's own exit code. Errors of use exit 2, of the host 6.
    The session goes on when this command is interrupted.

    For example:

        agentd run site-builder
        agentd run site-builder --request "Add a status page"
        agentd run site-builder --detach --timeout 2h
        agentd run site-builder https://example.org/site.git --work-unit 42

    Args:
        agent: The agent's name, as the daemon's configuration declares it.
        repo: The repository to clone, instead of the agent's own.
        work_unit: Queued work that the session is to take up.
        request: What you want done, in words.
        artifact_type: The type of the artifact in --artifact-file.
        artifact_file: A JSON file that becomes an artifact, named as the file is.
        timeout: How long the session may take, such as 90s or 2h, in place of the agent's own.
        detach: Print the session's id and leave it to the daemon.
        quiet: Show only how the session ended.
    """
    _check_text(agent, repo, work_unit, request, artifact_type)
    _check_flags(work_unit, request, artifact_type, artifact_file)
    daemon_socket = daemon.path()
    options: wire.RunOptions = {
        "repo": repo,
        "work_unit": work_unit,
        "request": request,
        "artifact": _artifact(artifact_type, artifact_file),
        "timeout": _seconds(timeout),
    }
    return trio.run(_start if detach else _run, daemon_socket, agent, options, quiet)


async def _run(socket_path: Path, agent: str, options: wire.RunOptions, quiet: bool) -> int:
    async with connect(socket_path) as client, client.run(agent, **options) as session:
        show = Show(quiet=quiet)
        try:
            async for event in session:
                await show.event(event)
            return _conclude(await session.wait())
        except KeyboardInterrupt:
            _say_detached(session.id)
            raise


async def _start(socket_path: Path, agent: str, options: wire.RunOptions, quiet: bool) -> int:
    """Start a session and show which one it is; its id alone goes to standard output."""
    async with connect(socket_path) as client:
        taken = await client.dispatch(agent, **options)
    print(taken.session_id)
    await Show(quiet=quiet).event(taken)
    return 0


def _seconds(timeout: str | None) -> float | None:
    try:
        return None if timeout is None else parse_duration(timeout)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from None


def _say_detached(session_id: str | None) -> None:
    if session_id is not None:
        print(
            f"agentd: detached; session {session_id} goes on: 'agentd logs -f {session_id}'"
            f" shows it, 'agentd stop {session_id}' ends it",
            file=sys.stderr,
        )


def _conclude(finished: wire.Finished) -> int:
    outcome = finished.outcome
    if finished.teardown_error is not None:
        print(
            f"agentd: session {outcome}, but it could not be cleaned up: {finished.teardown_error}",
            file=sys.stderr,
        )
        return TeardownFailed.exit_code
    print(f"session {outcome}", file=sys.stdout if outcome.label in FINE else sys.stderr)
    return outcome.process_exit_code


def _check_text(*words: str | None) -> None:
    """Refuse words that are no text: they could reach neither the daemon nor the agent as typed."""
    for word in filter(None, words):
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{word!r} is not UTF-8; only paths may be anything else") from None


def _check_flags(
    work_unit: str | None,
    request: str | None,
    artifact_type: str | None,
    artifact_file: Path | None,
) -> None:
    given = {
        "--work-unit": work_unit,
        "--request": request,
        "--artifact-file": artifact_file,
    }
    chosen = [flag for flag, value in given.items() if value is not None]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} cannot be used together: a run has one purpose")
    if artifact_file is not None and artifact_type is None:
        raise UsageError("--artifact-file needs --artifact-type, which says what the file is")
    if artifact_type is not None and artifact_file is None:
        raise UsageError("--artifact-type needs --artifact-file, the artifact itself")


def _artifact(artifact_type: str | None, artifact_file: Path | None) -> wire.ArtifactInput | None:
    if artifact_type is None or artifact_file is None:
        return None
    return wire.ArtifactInput(
        artifact_type=artifact_type,
        artifact_id=_artifact_id(artifact_file),
        document=_document(artifact_file),
    )


def _artifact_id(file: Path) -> str:
    try:
        file.stem.encode()
    except UnicodeEncodeError:
        raise UsageError(f"artifact file must have a non-empty UTF-8 file stem: {file!r}") from None
    if not file.stem:
        raise UsageError(f"artifact file must have a non-empty UTF-8 file stem: {file}")
    return file.stem


def _document(file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"failed to read artifact file {file}: {error.strerror}") from error
    try:
        parse_json(content)
    except UnicodeDecodeError:
        raise UsageError(f"artifact file must be valid UTF-8 JSON: {file}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"artifact file must contain valid JSON {file}: {error}") from None
    return content
