"""The life of a session when Podman or the host fails it, with a Podman in memory."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentd.errors import HostUnsupported, PodmanError
from agentd.outcome import TIMED_OUT
from agentd.session.lifecycle import run_session
from agentd.session.session import Session
from agentd.watch import Hint, Watcher, open_watcher
from tests.unit import builders
from tests.unit.session.fake_podman import FakePodman


@pytest.fixture
def podman() -> FakePodman:
    return FakePodman()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("audit", "masks"):
        (tmp_path / name).mkdir(mode=0o700)
    return tmp_path


async def lived(
    podman: FakePodman, root: Path, watcher: Watcher | None = None, **agent: Any
) -> Session:
    """A session that has come to its end."""
    invocation = builders.invocation(
        agent=builders.agent(**agent), credentials=builders.credentials(A=b"value")
    )
    async with open_watcher() as usual:
        engine = msgspec.structs.replace(
            podman.engine(),
            watcher=watcher or usual,
            # Whoever runs the tests can give files to nobody else.
            abilities=builders.ROOTLESS,
            audit_root=root / "audit",
            masks_dir=root / "masks",
        )
        admitted = builders.admitted(invocation)
        session = Session.of(admitted, builders.WHOSE, engine.audit_root)
        await run_session(session, admitted, engine)
    return session


def facts(session: Session) -> dict[str, Any]:
    text = (session.record.directory / "agentd/session.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.contract("SES-13", "SES-15", "SES-30")
async def test_a_session_that_cannot_be_made_leaves_its_record_and_nothing_else(
    podman: FakePodman, root: Path
) -> None:
    podman.failures["create"] = [PodmanError("no space left")]
    session = await lived(podman, root)
    found = facts(session)
    assert (found["outcome"], found["error_code"]) == ("error", "podman_error")
    assert "no space left" in found["error"]
    assert (podman.containers, podman.secrets, list((root / "masks").iterdir())) == ({}, {}, [])


@pytest.mark.contract("SES-14", "SES-30", "AUD-22")
async def test_what_cannot_be_rolled_back_keeps_the_record_incomplete(
    podman: FakePodman, root: Path, logged: list[dict[str, Any]]
) -> None:
    podman.failures = {
        "create": [PodmanError("no space left")],
        "remove": [PodmanError("device busy")],
    }
    session = await lived(podman, root)
    assert session.ended is not None
    assert str(session.ended.error) == "no space left"
    assert session.teardown_error == "container removal: device busy"
    assert "outcome" not in facts(session)
    told = {line["event"]: line for line in logged}
    failure = told["runner.lifecycle_failure"]
    assert (failure["stage"], failure["step"]) == ("container creation", "container removal")
    assert told["runner.session_teardown"]["result"] == "error"


@pytest.mark.contract("SES-22")
async def test_a_session_that_cannot_be_watched_is_an_error_and_leaves_nothing(
    podman: FakePodman, root: Path
) -> None:
    class Exhausted(Watcher):
        def __init__(self) -> None:
            pass

        @contextmanager
        def watch(self, path: Path, mask: int, hint: Hint) -> Iterator[None]:
            raise HostUnsupported(f"cannot watch {path}")
            yield

    session = await lived(podman, root, Exhausted())
    assert facts(session)["error_code"] == "host_unsupported"
    assert podman.calls == []


@pytest.mark.contract("SES-23", "SES-26", "SES-29")
async def test_a_removal_that_fails_after_a_timeout_costs_no_outcome(
    podman: FakePodman, root: Path
) -> None:
    def is_over_now(name: str) -> None:
        if podman.containers[name].status == "exited":
            now = datetime.datetime.now(datetime.UTC)
            podman.containers[name] = msgspec.structs.replace(
                podman.containers[name], finished_at=now
            )

    podman.on_inspect = is_over_now
    podman.failures["remove"] = [PodmanError("device busy")]
    session = await lived(podman, root, timeout=0.2)
    assert session.ended is not None
    assert session.ended.outcome == TIMED_OUT
    assert session.teardown_error == "container removal: device busy"


@pytest.mark.contract("SES-23", "SES-26")
async def test_a_kill_that_fails_at_the_deadline_costs_no_outcome(
    podman: FakePodman, root: Path
) -> None:
    """It is tried again before the removal, and by the removal."""
    podman.failures["kill"] = [PodmanError("did not die")]
    session = await lived(podman, root, timeout=0.2)
    assert session.ended is not None
    assert session.ended.outcome == TIMED_OUT
    assert (session.teardown_error, podman.containers) == (
        "container kill: did not die",
        {},
    )


@pytest.mark.contract("SES-23", "SES-28")
async def test_a_deadline_that_passes_before_the_start_is_a_timeout(
    podman: FakePodman, root: Path
) -> None:
    session = await lived(podman, root, timeout=1e-9)
    assert session.ended is not None
    assert session.ended.outcome == TIMED_OUT
    assert (podman.counts["start"], podman.containers, podman.secrets) == (0, {}, {})
