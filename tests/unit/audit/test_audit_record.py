"""The audit root, and a record from its making to the facts of its end."""

from __future__ import annotations

import datetime
import errno
import itertools
import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentd import audit
from agentd.errors import AuditError
from tests.unit.builders import NOON, end_facts, record, start_facts

IS_ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not IS_ROOT, reason="needs root: changes owners")
as_user = pytest.mark.skipif(IS_ROOT, reason="needs an unprivileged user: root may write anywhere")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat(follow_symlinks=False).st_mode)


def read(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(path.read_text())
    return facts


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "state/audit"
    audit.prepare(path)
    return path


@pytest.fixture
def made(root: Path) -> audit.Record:
    made = record(root)
    audit.create(made, start_facts(), owner=None, document=None)
    return made


# --- the root ------------------------------------------------------------------------------------


@pytest.mark.contract("AUD-26")
def test_the_root_is_made_for_the_daemons_user_alone(root: Path) -> None:
    assert mode(root) == 0o700


@pytest.mark.contract("AUD-26")
def test_the_probe_leaves_nothing(root: Path) -> None:
    audit.prepare(root)
    assert list(root.iterdir()) == []


@pytest.mark.contract("AUD-27")
def test_the_probe_has_a_name_of_its_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    mkdir = Path.mkdir

    def note(path: Path, *args: Any, **more: Any) -> None:
        seen.append(path.name)
        mkdir(path, *args, **more)

    monkeypatch.setattr(Path, "mkdir", note)
    audit.prepare(root)
    assert re.fullmatch(r"\.agentd-audit-root-probe-[0-9a-f]{16}", seen[-1])


@pytest.mark.contract("AUD-28")
@pytest.mark.parametrize("failing", ["chmod", "write_bytes"])
def test_a_failed_probe_is_told_with_root_and_reason(
    root: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*_args: object, **_more: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, failing, fail)
    with pytest.raises(AuditError, match=f"{root} failed the .* probe: Read-only file system"):
        audit.prepare(root)
    monkeypatch.undo()
    assert list(root.iterdir()) == []


@pytest.mark.contract("AUD-28")
def test_a_root_that_cannot_be_made_is_told_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditError, match=r"cannot make the audit root .* set daemon\.audit_root"):
        audit.prepare(tmp_path / "file/audit")


@pytest.mark.contract("F-16", "F-26")
@pytest.mark.parametrize("open_mode", [0o777, 0o770, 0o1777, 0o722])
def test_a_root_that_others_may_write_is_refused(root: Path, open_mode: int) -> None:
    root.chmod(open_mode)
    with pytest.raises(AuditError, match="is writable for others; chmod go-w it"):
        audit.prepare(root)


@pytest.mark.parametrize("own_mode", [0o700, 0o755, 0o750])
def test_the_mode_of_a_root_that_is_there_is_kept(root: Path, own_mode: int) -> None:
    root.chmod(own_mode)
    audit.prepare(root)
    assert mode(root) == own_mode


@as_root
@pytest.mark.contract("F-16")
def test_a_root_of_another_user_is_refused(root: Path) -> None:
    os.chown(root, 65534, -1)
    with pytest.raises(AuditError, match="belongs to uid 65534"):
        audit.prepare(root)


@as_user
@pytest.mark.contract("AUD-28")
def test_a_root_that_the_user_may_not_write_is_told(root: Path) -> None:
    root.chmod(0o500)
    with pytest.raises(AuditError, match="probe: Permission denied"):
        audit.prepare(root)


# --- making a record -----------------------------------------------------------------------------


@pytest.mark.contract("AUD-01", "AUD-02")
def test_a_record_is_named_for_agent_and_session(root: Path) -> None:
    assert record(root).directory == root / "builder/0123456789abcdef"


@pytest.mark.contract("AUD-04", "F-26")
def test_an_open_record_has_these_modes(made: audit.Record) -> None:
    found = {path.name: mode(path) for path in (made.directory, made.agentd, made.runa)}
    assert found == {made.directory.name: 0o755, "agentd": 0o755, "runa": 0o700}
    assert mode(made.directory.parent) == 0o700
    assert mode(made.output_raw) == 0o600


@pytest.mark.contract("AUD-04")
def test_the_modes_do_not_depend_on_the_umask(root: Path) -> None:
    before = os.umask(0o077)
    try:
        made = record(root)
        audit.create(made, start_facts(), owner=None, document=b"{}")
    finally:
        os.umask(before)
    assert [mode(path) for path in (made.directory, made.agentd, made.invocation_input)] == (
        [0o755] * 3
    )


@pytest.mark.contract("AUD-03", "ENV-09", "F-50")
def test_the_document_is_kept_byte_for_byte(root: Path) -> None:
    made = record(root)
    audit.create(made, start_facts(), owner=None, document=b'{ "a" :1}\n')
    assert made.document.read_bytes() == b'{ "a" :1}\n'


@pytest.mark.contract("ENV-09")
def test_without_input_there_is_no_place_for_it(made: audit.Record) -> None:
    assert sorted(path.name for path in made.agentd.iterdir()) == ["output.raw", "session.json"]


@as_root
@pytest.mark.contract("AUD-04")
def test_what_the_session_writes_belongs_to_its_user(root: Path) -> None:
    made = record(root)
    audit.create(made, start_facts(), owner=(10001, 10002), document=None)
    assert (made.runa.stat().st_uid, made.runa.stat().st_gid) == (10001, 10002)
    assert made.agentd.stat().st_uid == 0


@pytest.mark.contract("AUD-34", "F-51")
def test_a_record_that_is_there_is_neither_used_nor_changed(made: audit.Record) -> None:
    before = made.session_json.read_bytes()
    with pytest.raises(AuditError, match="exists already; nothing was changed"):
        audit.create(made, start_facts(repo_url="https://other/x"), owner=None, document=None)
    assert made.session_json.read_bytes() == before


@pytest.mark.contract("AUD-34")
def test_a_link_in_the_place_of_the_record_is_not_followed(root: Path, tmp_path: Path) -> None:
    made = record(root)
    made.directory.parent.mkdir()
    made.directory.symlink_to(tmp_path)
    with pytest.raises(AuditError, match="exists already"):
        audit.create(made, start_facts(), owner=None, document=None)


class Stopped(BaseException):
    """Stands for whatever ends a thread or a process at an awkward moment."""


def failing_sync(number: int) -> Callable[[int], None]:
    """An fsync whose call of that number fails."""
    calls = itertools.count(1)
    real = os.fsync

    def sync(descriptor: int) -> None:
        if next(calls) == number:
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    return sync


@pytest.mark.contract("AUD-08")
@pytest.mark.parametrize("kind", [OSError(errno.ENOSPC, "No space left on device"), Stopped()])
@pytest.mark.parametrize("written", ["document.json", "output.raw", "session.json"])
def test_a_record_that_cannot_be_made_leaves_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, written: str, kind: BaseException
) -> None:
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if target.name == written:
            raise kind
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    made = record(root)
    with pytest.raises((AuditError, Stopped)):
        audit.create(made, start_facts(), owner=None, document=b"{}")
    assert not made.directory.exists()


# --- metadata ------------------------------------------------------------------------------------


@pytest.mark.contract("AUD-05", "AUD-06", "AUD-21", "AUD-31")
def test_an_open_record_says_what_was_asked_and_no_end(made: audit.Record) -> None:
    facts = read(made.session_json)
    assert facts["schema_version"] == 2
    assert facts["session_id"] == "0123456789abcdef"
    assert facts["agent"] == "builder"
    assert facts["repo_url"] == "https://git.example.org/a/b"
    assert facts["start_timestamp"] == "2026-08-20T12:00:00Z"
    assert not {"end_timestamp", "outcome", "exit_code", "work_unit"} & set(facts)


@pytest.mark.contract("AUD-05", "AUD-31")
def test_a_work_unit_is_there_when_one_was_given() -> None:
    assert json.loads(audit.session_json(start_facts(work_unit="42"), None))["work_unit"] == "42"


@pytest.mark.contract("AUD-06")
def test_times_of_other_zones_are_told_in_utc() -> None:
    zone = datetime.timezone(datetime.timedelta(hours=2))
    local = NOON.astimezone(zone)
    facts = json.loads(audit.session_json(start_facts(start_timestamp=local), None))
    assert facts["start_timestamp"] == "2026-08-20T12:00:00Z"


@pytest.mark.contract("AUD-07")
def test_metadata_is_for_people_too() -> None:
    text = audit.session_json(start_facts(), None).decode()
    assert text.startswith('{\n  "schema_version": 2,\n')
    assert text.endswith("}\n")


@pytest.mark.contract("AUD-12", "LOG-07")
def test_an_end_adds_its_facts_and_no_nulls() -> None:
    text = audit.session_json(start_facts(), end_facts())
    facts = json.loads(text)
    assert facts["end_timestamp"] == "2026-08-20T12:00:05Z"
    assert (facts["outcome"], facts["exit_code"]) == ("success", 0)
    assert b"null" not in text


@pytest.mark.contract("AUD-12", "AUD-13")
@pytest.mark.parametrize("outcome", ["timed_out", "error"])
def test_an_end_without_a_code_has_no_code(outcome: str) -> None:
    facts = json.loads(
        audit.session_json(start_facts(), end_facts(outcome=outcome, exit_code=None))
    )
    assert facts["outcome"] == outcome
    assert "exit_code" not in facts


@pytest.mark.contract("AUD-21")
@pytest.mark.parametrize("end", [None, end_facts()])
def test_metadata_can_be_read_back(tmp_path: Path, end: audit.End | None) -> None:
    start = start_facts(work_unit="42", deadline=NOON, input=audit.Input("claim", "x"))
    path = tmp_path / "session.json"
    path.write_bytes(audit.session_json(start, end))
    found = audit.read_session_json(path)
    assert (found.start, found.end) == (start, end)


FACTS = audit.session_json(start_facts(), None)


@pytest.mark.contract("AUD-05", "AUD-21")
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "Input data was truncated"),
        (FACTS[:-20], "Input data was truncated"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field `schema_version`"),
        (b'{"schema_version": 2}', "missing required field"),
        (FACTS.replace(b"builder", b"\xff"), "can't decode byte 0xff"),
        (b'{"schema_version": ' + b"[" * 100_000, "Expected `int`|recursion"),
        (FACTS.replace(b'_version": 2', b'_version": 3'), "schema_version is 3, and .* knows 2"),
    ],
)
def test_metadata_that_cannot_be_used_is_named_and_told(
    tmp_path: Path, data: bytes, why: str
) -> None:
    path = tmp_path / "session.json"
    path.write_bytes(data)
    with pytest.raises(AuditError, match=f"{path}: .*({why})"):
        audit.read_session_json(path)


@pytest.mark.contract("AUD-21")
def test_metadata_that_is_not_there_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=rf"cannot read {tmp_path}/session\.json: No such file"):
        audit.read_session_json(tmp_path / "session.json")


# --- while it is open ----------------------------------------------------------------------------


@pytest.mark.contract("AUD-22")
def test_the_intent_is_written_before_the_deed(made: audit.Record) -> None:
    audit.write_intent(made, "timeout", NOON)
    assert read(made.intent) == {"cause": "timeout", "when": "2026-08-20T12:00:00Z"}


@pytest.mark.contract("AUD-21")
def test_a_known_end_stands_beside_the_open_metadata(made: audit.Record) -> None:
    audit.write_next(made, start_facts(), end_facts())
    assert "outcome" not in read(made.session_json)
    assert read(made.next_json)["outcome"] == "success"


@pytest.mark.contract("AUD-09")
def test_nothing_temporary_is_left(made: audit.Record) -> None:
    audit.write_intent(made, "timeout", NOON)
    audit.write_next(made, start_facts(), end_facts())
    assert not [path for path in made.agentd.iterdir() if path.suffix == ".tmp"]


@pytest.mark.contract("AUD-09")
def test_what_a_killed_daemon_left_does_not_disturb(made: audit.Record) -> None:
    (made.agentd / "intent.json.tmp").write_text("half")
    audit.write_intent(made, "stop", NOON)
    assert read(made.intent)["cause"] == "stop"


@pytest.mark.contract("AUD-09")
def test_a_failed_replacement_keeps_the_old_file(
    made: audit.Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit.write_intent(made, "stop", NOON)
    monkeypatch.setattr(os, "fsync", failing_sync(1))
    with pytest.raises(AuditError, match="Input/output error"):
        audit.write_intent(made, "timeout", NOON)
    assert read(made.intent)["cause"] == "stop"
    assert not made.intent.with_suffix(".json.tmp").exists()


@pytest.mark.contract("AUD-10", "LOG-21")
def test_a_directory_that_cannot_be_synced_is_only_a_warning(
    made: audit.Record, monkeypatch: pytest.MonkeyPatch, logged: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(os, "fsync", failing_sync(2))
    audit.write_intent(made, "stop", NOON)
    assert [(line["event"], line["warning_kind"]) for line in logged] == [
        ("runner.audit_warning", "post_rename_parent_sync")
    ]


@pytest.mark.contract("AUD-08", "AUD-34", "F-37")
def test_half_a_record_is_no_record_and_is_removed_for_its_own_daemon_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        """What ends a process runs no handler of its own."""

    def die(*_: object, **__: object) -> None:
        raise KilledError

    monkeypatch.setattr("agentd.audit.record._publish", die)
    monkeypatch.setattr("shutil.rmtree", lambda *_args, **_kwargs: None)
    with pytest.raises(KilledError):
        audit.create(record(root), start_facts(), owner=None, document=b"{}")
    monkeypatch.undo()
    assert (len(list(root.glob("*/.*"))), record(root).directory.exists()) == (1, False)
    audit.discard_halves(root, "agentd-00000000-")
    assert len(list(root.glob("*/.*"))) == 1
    audit.discard_halves(root, "agentd-58e3c8db-")
    assert list(root.glob("*/.*")) == []
