"""What cannot be settled at the start, and what shows late; sessions are adopted on real Podman."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from trio.testing import MockClock

from agentd import adoption
from agentd.errors import PodmanError, ReconciliationFailed
from agentd.podman import ListedContainer, Podman
from agentd.session.left_behind import LeftBehind
from agentd.session.session import Session
from tests.unit import builders
from tests.unit.conftest import LogLines
from tests.unit.session.fake_podman import FakePodman

NOTHING = LeftBehind((), (), (), (), (), ())


@pytest.mark.contract("DMN-12", "DMN-22", "LOG-09")
async def test_what_cannot_be_listed_ends_the_start(
    monkeypatch: pytest.MonkeyPatch, logged: LogLines
) -> None:
    async def refuse(_engine: Any) -> LeftBehind:
        raise PodmanError("no secrets today")

    monkeypatch.setattr(adoption, "look_behind", refuse)
    with pytest.raises(ReconciliationFailed, match="startup reconciliation failed: no secrets"):
        await adoption.clear_remainders(FakePodman().engine())
    (line,) = logged
    assert (line["event"], line["level"], line["error"]) == (
        "agentd.startup_reconciliation_failed",
        "error",
        "no secrets today",
    )


@pytest.mark.contract("DMN-15", "DMN-17", "DMN-19", "DMN-20", "LOG-08")
async def test_remainders_are_removed_and_counted(
    monkeypatch: pytest.MonkeyPatch, logged: LogLines
) -> None:
    async def find(_engine: Any) -> LeftBehind:
        return NOTHING._replace(containers=("agentd-1", "agentd-2"), secrets=("agentd-s",))

    monkeypatch.setattr(adoption, "look_behind", find)
    podman = FakePodman()
    await adoption.clear_remainders(podman.engine())
    assert podman.calls == ["remove", "remove", "remove_secret"]
    (line,) = logged
    counts = (line["removed_container_count"], line["removed_secret_count"])
    assert (line["event"], counts) == ("agentd.startup_reconciliation_completed", (2, 1))


@pytest.mark.contract("DMN-11", "DMN-12", "LOG-09")
async def test_a_podman_that_does_not_tell_of_a_session_ends_the_start(
    logged: LogLines, autojump_clock: MockClock
) -> None:
    known, unknown = builders.session(), builders.session(container_name="agentd-unknown")
    known.phase.value = "running"
    with pytest.raises(ReconciliationFailed, match="agentd-unknown"):
        await adoption.taken_up([known, unknown])
    (line,) = logged
    assert (line["event"], "agentd-unknown" in line["error"]) == (
        "agentd.startup_reconciliation_failed",
        True,
    )


async def test_a_container_that_somebody_knows_is_no_stranger() -> None:
    removed = []

    class Listing:
        async def containers(self, *_label: str) -> list[ListedContainer]:
            return [ListedContainer([name], "exited") for name in ("agentd-kept", "agentd-late")]

        async def remove(self, name: str) -> None:
            removed.append(name)

    engine = msgspec.structs.replace(FakePodman().engine(), podman=cast(Podman, Listing()))
    await adoption.remove_strangers(engine, lambda name: name == "agentd-kept")
    assert removed == ["agentd-late"]


async def test_a_stranger_that_cannot_be_removed_is_logged_and_costs_nothing(
    logged: LogLines,
) -> None:
    podman = FakePodman()
    podman.failures["remove"] = [PodmanError("stuck")]
    await adoption.remove_stranger(podman.engine(), "agentd-1")
    assert [line["event"] for line in logged] == [
        "agentd.unknown_container_removed",
        "agentd.unknown_container_left",
    ]


@pytest.mark.parametrize(
    ("outcome", "level"), [("success", "info"), ("work_failed", "warning"), ("error", "warning")]
)
async def test_an_end_that_an_earlier_daemon_saw_is_told_like_any_other(
    tmp_path: Path, logged: LogLines, outcome: str, level: str
) -> None:
    session = Session.of(builders.admitted(), builders.WHOSE, tmp_path)
    end = builders.end_facts(outcome=outcome)
    engine = FakePodman().engine()
    await adoption.close_left_record(session, engine, end, lambda _session: None)
    (line,) = [each for each in logged if each["event"] == "runner.record_adopted"]
    assert (line["outcome"], line["level"]) == (outcome, level)
