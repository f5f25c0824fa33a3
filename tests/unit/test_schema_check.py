"""The process in which documents are judged: that it answers, and that it can always be ended."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import trio

from agentd import schema_check
from agentd.errors import HostUnsupported
from agentd.schema_check import Question, Verdict, check

ENDLESS = Question(b'{"pattern": "^(a+)+$"}', b'"' + b"a" * 60 + b'!"')
MIB = 2**20


@pytest.mark.contract("INP-14")
@pytest.mark.parametrize(
    ("document", "fault"), [(b'{"id":1}', None), (b"{}", "mismatch"), (b"{", "document")]
)
def test_the_process_gives_the_verdict(document: bytes, fault: str | None) -> None:
    assert check(Question(b'{"required": ["id"]}', document)).fault == fault


@pytest.mark.contract("INP-14")
def test_a_document_as_large_as_a_frame_is_judged() -> None:
    assert check(Question(b'{"type": "string"}', b'"' + b"x" * (8 * MIB) + b'"')) == Verdict()


@pytest.mark.contract("INP-14")
def test_a_pattern_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_check, "CHECK_SECONDS", 1)
    found = check(ENDLESS)
    assert (found.fault, "cannot be applied to the document" in found.text) == ("schema", True)


@pytest.mark.contract("INP-14")
async def test_others_go_on_while_a_pattern_is_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread of the same process nothing at all would go on until the match is over."""
    monkeypatch.setattr(schema_check, "CHECK_SECONDS", 1)
    turns = 0
    async with trio.open_nursery() as nursery:

        async def take_turns() -> None:
            nonlocal turns
            while True:
                await trio.sleep(0.01)
                turns += 1

        nursery.start_soon(take_turns)
        await trio.to_thread.run_sync(check, ENDLESS)
        nursery.cancel_scope.cancel()
    assert turns > 10


@pytest.mark.contract("INP-14")
def test_the_process_ends_by_itself_when_nobody_waits_any_more() -> None:
    """As after a daemon that was killed: its own limit of CPU time ends it."""
    command = [sys.executable, "-P", "-m", "agentd.schema_judge", "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(msgspec.msgpack.encode(ENDLESS))
        process.stdin.close()
        assert process.wait(60) in {-signal.SIGXCPU, -signal.SIGKILL}


@pytest.mark.contract("INP-14")
def test_a_check_that_crashes_is_told_by_its_last_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\necho Traceback >&2\necho MemoryError >&2\nexit 1\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(crashing))
    text = "it cannot be applied to the document: MemoryError"
    assert check(Question(b"{}", b"{}")) == Verdict("schema", text)


def test_without_an_interpreter_the_host_is_at_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(HostUnsupported, match="/nowhere/python cannot be started"):
        check(Question(b"{}", b"{}"))


def test_nothing_is_imported_from_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "jsonschema.py").write_text("raise SystemExit(1)\n")
    monkeypatch.chdir(tmp_path)
    assert check(Question(b"{}", b"{}")) == Verdict()
