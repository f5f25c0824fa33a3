"""What becomes of a session's record when a part of the session fails.

The Podman is a fake: a real one cannot be made to fail at exactly one call of a session.
"""

from __future__ import annotations

import datetime
import json
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final, cast

import msgspec
import pytest
import trio

from agentd import audit, names
from agentd.audit import record as audit_record
from agentd.errors import AuditError, HandedOver, PodmanError
from agentd.session import lifecycle, masks
from agentd.session.engine import Engine
from agentd.session.lifecycle import run_session
from agentd.session.session import Session
from agentd.session.spec import Admitted
from agentd.watch import Hint, Watcher
from tests.unit.builders import (
    INSTANCE,
    NOON,
    ROOTLESS,
    TOKEN,
    WHOSE,
    admitted,
    credentials,
    invocation,
    state,
)
from tests.unit.session.fake_podman import FakePodman

SECONDS: Final = 10.0
"""The bound of a wait for a thread."""

_STEPS_TO_START = 8
"""Steps of the fake: two for each of two secrets, of the create and of the start."""


class Blind:
    """A watcher that sees nothing."""

    @contextmanager
    def watch(self, _path: Path, _mask: int, _hint: Hint) -> Iterator[None]:
        yield


class Observed(FakePodman):
    """A Podman whose containers end at once with 0; notes the record before each call."""

    def __init__(self) -> None:
        super().__init__()
        self.look: Callable[[], object] = str
        self.seen: list[object] = []
        self.on_inspect = self._end

    def _end(self, name: str) -> None:
        if name in self.containers:
            self.containers[name] = state("exited", 0, ended=1)

    async def kill(self, name: str) -> None:
        await super().kill(name)
        passed = datetime.datetime.now(datetime.UTC) - NOON
        self.containers[name] = state("exited", 137, ended=passed.total_seconds() + 1)

    async def _call(self, name: str) -> None:
        self.seen.append(self.look())
        await super()._call(name)


class Life:
    """One session with a credential and a clone token, and what is left of it."""

    def __init__(self, base: Path) -> None:
        self.podman = Observed()
        self.root = base / "audit"
        audit.prepare(self.root)
        self.masks = base / "masks"
        self.engine = msgspec.structs.replace(
            self.podman.engine(),
            watcher=cast(Watcher, Blind()),
            abilities=ROOTLESS,
            audit_root=self.root,
            masks_dir=self.masks,
        )
        invoked = invocation(credentials=credentials(KEY=b"value"), repo_token=TOKEN)
        self.admitted = admitted(invoked)
        self.session = Session.of(self.admitted, WHOSE, self.root)
        self.record = self.session.record

    async def run(self) -> None:
        await run_session(self.session, self.admitted, self.engine)

    @property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self.record.session_json.read_bytes())
        return facts

    @property
    def known(self) -> dict[str, Any]:
        """What is written down for whoever closes the record."""
        facts: dict[str, Any] = json.loads(self.record.next_json.read_bytes())
        return facts

    @property
    def is_open(self) -> bool:
        ends = {"outcome", "end_timestamp", "exit_code"} & set(self.facts)
        return (ends, stat.S_IMODE(self.record.runa.stat().st_mode)) == (set(), 0o700)


@pytest.fixture
async def life(tmp_path: Path) -> Life:
    return Life(tmp_path)


def refuse_removal(podman: FakePodman, what: str) -> None:
    """Let Podman refuse for ever to remove containers, or the first secret."""
    if what == "container":
        podman.failures["remove"] = [PodmanError("the storage is busy", status=409)] * 9
    else:
        podman.refused_names = {names.secret_name(names.Identity(INSTANCE, what), 0)}


# --- the order -----------------------------------------------------------------------------------


@pytest.mark.contract("SES-01", "SES-05", "AUD-11", "F-03")
async def test_a_session_allocates_executes_and_tears_down_in_this_order(life: Life) -> None:
    life.podman.look = life.record.session_json.exists
    await life.run()
    assert life.podman.calls == [
        *("create_secret", "create_secret", "create"),
        *("start", "remove_secret", "remove_secret", "inspect"),
        "remove",
    ]
    assert all(life.podman.seen)


@pytest.mark.contract("AUD-11", "AUD-16")
async def test_the_record_is_closed_when_nothing_else_is_left(life: Life) -> None:
    life.podman.look = lambda: life.is_open
    await life.run()
    assert (all(life.podman.seen), life.facts["outcome"]) == (True, "success")


@pytest.mark.contract("SES-01", "LOG-12")
async def test_the_log_tells_the_phases_in_their_order(
    life: Life, logged: list[dict[str, Any]]
) -> None:
    await life.run()
    told = [line["event"] for line in logged if line["level"] != "debug"]
    assert told == [
        "runner.session_started",
        "runner.session_outcome",
        "runner.session_teardown",
    ]


# --- what fails before the start -----------------------------------------------------------------


@pytest.mark.contract("AUD-08", "SES-05")
async def test_without_a_record_there_is_no_session(life: Life) -> None:
    (life.root / "builder").write_text("in the way")
    with pytest.raises(AuditError, match="cannot make the audit record"):
        await life.run()
    assert (life.podman.calls, list(life.masks.iterdir())) == ([], [])


@pytest.mark.contract("AUD-08", "SES-05")
@pytest.mark.parametrize(
    ("module", "step"),
    [(masks, "keep"), (audit_record, "write_atomically"), (audit_record, "sync_name")],
)
async def test_a_start_that_was_given_up_while_the_disk_hung_leaves_nothing_later(
    life: Life, monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str
) -> None:
    """The disk is a stand-in: a real one cannot be told when to hang."""
    hangs, answers, over = threading.Event(), threading.Event(), threading.Event()
    work, allocate = getattr(module, step), lifecycle._allocate

    def hanging(*args: object) -> None:
        hangs.set()
        answers.wait(SECONDS)
        work(*args)

    def allocating(session: Session, admitted: Admitted, engine: Engine) -> None:
        try:
            allocate(session, admitted, engine)
        finally:
            over.set()

    monkeypatch.setattr(module, step, hanging)
    monkeypatch.setattr(lifecycle, "_allocate", allocating)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(life.run)
        assert await trio.to_thread.run_sync(hangs.wait, SECONDS)
        nursery.cancel_scope.cancel()
    answers.set()
    assert await trio.to_thread.run_sync(over.wait, SECONDS)
    assert [*life.root.glob("*/*"), *life.masks.iterdir()] == []


@pytest.mark.contract("LOG-18", "LOG-19")
async def test_the_log_tells_of_a_session_that_never_was(
    life: Life, logged: list[dict[str, Any]]
) -> None:
    (life.root / "builder").write_text("in the way")
    with pytest.raises(AuditError):
        await life.run()
    error, teardown = logged
    whose = (life.session.id, life.session.start.container_name)
    assert (error["session_id"], error["container_name"]) == whose
    assert (error["event"], error["level"]) == ("runner.session_error", "error")
    assert (error["stage"], error["outcome"]) == ("session_audit_allocation", "error")
    assert (teardown["event"], teardown["level"]) == ("runner.session_teardown", "info")
    assert teardown["result"] == "skipped"


@pytest.mark.contract("LOG-18")
@pytest.mark.parametrize(
    ("call", "stage"),
    [
        ("create_secret", "session_resource_allocation"),
        ("create", "container_creation"),
        ("start", "session_execution"),
    ],
)
async def test_the_log_says_how_far_a_session_came_that_failed(
    life: Life, logged: list[dict[str, Any]], call: str, stage: str
) -> None:
    life.podman.failures[call] = [PodmanError("no", status=500)]
    await life.run()
    (error,) = [line for line in logged if line["event"] == "runner.session_error"]
    assert (error["stage"], error["outcome"]) == (stage, "error")


@pytest.mark.contract("AUD-13")
async def test_a_session_that_could_not_start_and_left_nothing_is_sealed_as_an_error(
    life: Life,
) -> None:
    life.podman.failures["create"] = [PodmanError("no such network", status=500)]
    await life.run()
    shown = (life.facts["outcome"], life.facts["error"], "exit_code" in life.facts)
    assert shown == ("error", "no such network", False)
    assert (life.podman.secrets, life.podman.containers) == ({}, {})


@pytest.mark.contract("SES-14", "AUD-22", "AUD-24")
@pytest.mark.parametrize("resists", ["container", "secret"])
async def test_a_rollback_that_fails_leaves_the_record_open(
    life: Life, logged: list[dict[str, Any]], resists: str
) -> None:
    life.podman.failures["create"] = [PodmanError("no such network", status=500)]
    refuse_removal(life.podman, "container" if resists == "container" else life.session.id)
    await life.run()
    assert life.is_open
    told = {line["event"]: line for line in logged}
    assert told["runner.lifecycle_failure"]["step"] == f"{resists} removal"
    assert told["runner.session_teardown"]["result"] == "error"


@pytest.mark.contract("SES-13", "SES-14", "SES-30")
async def test_a_rollback_that_fails_does_not_replace_the_error(life: Life) -> None:
    life.podman.failures["create"] = [PodmanError("no such network", status=500)]
    refuse_removal(life.podman, life.session.id)
    await life.run()
    ended = life.session.ended
    assert ended is not None
    assert str(ended.error) == "no such network"
    assert str(life.session.teardown_error).startswith("secret removal: cannot remove")


# --- what fails at the end -----------------------------------------------------------------------


@pytest.mark.contract("AUD-11", "AUD-22", "AUD-24", "SES-29")
@pytest.mark.parametrize("resists", ["container", "secret"])
async def test_a_teardown_that_fails_leaves_the_record_open(life: Life, resists: str) -> None:
    refuse_removal(life.podman, "container" if resists == "container" else life.session.id)
    await life.run()
    assert life.is_open


@pytest.mark.contract("AUD-21", "AUD-22")
async def test_the_end_of_a_session_whose_teardown_failed_is_written_down(life: Life) -> None:
    refuse_removal(life.podman, "container")
    await life.run()
    assert (life.known["outcome"], life.known["exit_code"]) == ("success", 0)


@pytest.mark.contract("F-41", "SES-29")
@pytest.mark.parametrize("resists", ["container", "secret"])
async def test_a_teardown_that_fails_does_not_replace_the_outcome(life: Life, resists: str) -> None:
    refuse_removal(life.podman, "container" if resists == "container" else life.session.id)
    await life.run()
    assert life.session.ended is not None
    assert life.session.ended.outcome is not None
    assert str(life.session.teardown_error).startswith(f"{resists} removal: ")


async def cancelled_at(life: Life, step: int) -> None:
    """Run a session that is cancelled at this step of Podman's, and would not end by itself."""
    life.podman.on_inspect = None
    with trio.CancelScope() as scope:
        life.podman.scope, life.podman.cancel_at = scope, step
        await life.run()
    assert scope.cancelled_caught


EVERY_STEP = range(1, _STEPS_TO_START + 3)


@pytest.mark.contract("AUD-22", "AUD-24", "DMN-25")
@pytest.mark.parametrize("step", EVERY_STEP)
async def test_a_session_that_is_forced_down_anywhere_is_written_down_as_that(
    life: Life, step: int
) -> None:
    life.engine.forced.set()
    await cancelled_at(life, step)
    assert (life.is_open, life.known["error_code"]) == (True, "forced_shutdown")
    assert (life.known["ended_by"], life.podman.containers) == ("forced", {})
    assert json.loads(life.record.intent.read_bytes())["cause"] == "forced"


@pytest.mark.contract("LOG-17", "LOG-18", "LOG-19")
async def test_the_log_tells_of_a_session_that_is_forced_down(
    life: Life, logged: list[dict[str, Any]]
) -> None:
    life.engine.forced.set()
    await cancelled_at(life, _STEPS_TO_START)
    told = [(line["event"], line.get("error_code")) for line in logged if line["level"] != "debug"]
    assert told == [
        ("runner.session_started", None),
        ("runner.session_error", "forced_shutdown"),
        ("runner.session_teardown", None),
    ]


@pytest.mark.contract("F-36", "DMN-18")
@pytest.mark.parametrize("step", EVERY_STEP)
async def test_a_session_that_is_cancelled_and_not_forced_is_left_to_the_next_daemon(
    life: Life, step: int
) -> None:
    await cancelled_at(life, step)
    assert {"kill", "remove"} & set(life.podman.calls) == set()
    assert (life.is_open, life.record.intent.exists()) == (True, False)
    assert isinstance(life.session.ended and life.session.ended.error, HandedOver)


@pytest.mark.contract("DMN-33")
@pytest.mark.parametrize("call", ["create_secret", "create", "start", "inspect"])
async def test_a_bug_ends_its_session_as_an_error_and_leaves_nothing_of_it(
    life: Life, logged: list[dict[str, Any]], call: str
) -> None:
    life.podman.bugs[call] = [ZeroDivisionError("by a mistake")]
    await life.run()
    assert (life.facts["outcome"], life.facts["error_code"]) == ("error", "internal_error")
    assert (life.podman.containers, life.podman.secrets) == ({}, {})
    (line,) = [line for line in logged if line["event"] == "runner.session_panicked"]
    assert (line["level"], "by a mistake" in line["error"]) == ("error", True)


@pytest.mark.contract("DMN-33", "SES-31")
async def test_a_bug_in_the_closing_costs_no_outcome_and_is_settled_later(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(audit, "close", stumble)
    await life.run()
    assert life.session.ended is not None
    assert life.session.ended.outcome is not None
    assert (life.is_open, life.session.unclosed is not None) == (True, True)


@pytest.mark.contract("AUD-22", "AUD-24", "SES-31")
async def test_a_record_that_cannot_be_closed_costs_no_outcome(life: Life) -> None:
    (life.root / "outside").write_text("")

    def plant() -> None:
        planted = life.record.runa / "planted"
        if not planted.exists():
            planted.hardlink_to(life.root / "outside")

    life.podman.look = plant
    await life.run()
    assert life.session.ended is not None
    assert life.session.ended.outcome is not None
    assert (life.is_open, life.session.teardown_error) == (True, None)


class Busy:
    """A lock whose holder writes an intent just before it gives it up."""

    def __init__(self, record: audit.Record) -> None:
        self.record = record
        self.wrote = False

    def __enter__(self) -> None:
        if self.record.next_json.exists():
            audit.write_intent(self.record, "stop", NOON)
            self.wrote = True

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.contract("AUD-16")
async def test_an_intent_that_is_written_at_the_end_still_comes_before_the_closing(
    life: Life,
) -> None:
    busy = Busy(life.record)
    life.session.writing = cast(threading.Lock, busy)
    await life.run()
    assert (busy.wrote, audit.verify(life.record, str).state) == (True, "verified")


# --- the root ------------------------------------------------------------------------------------


@pytest.mark.contract("AUD-32")
def test_an_engine_needs_to_be_told_its_audit_root() -> None:
    parts = msgspec.structs.asdict(FakePodman().engine())
    del parts["audit_root"]
    with pytest.raises(TypeError, match="audit_root"):
        type(FakePodman().engine())(**parts)
