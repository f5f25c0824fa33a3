"""`agentd audit`: records are verified and pruned without a daemon, by what the operator names."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentd import audit
from agentd.audit import Finding, RecordLimits, Verdict
from agentd.audit.tree import Entry, walk
from agentd.cli import audit_prune, audit_verify, tables
from agentd.cli.app import run_command_line
from agentd.cli.audit_root import chosen_root
from agentd.errors import AuditError, ConfigError, UsageError
from tests.unit.builders import NOON, end_facts, start_facts

OLD, NEW, LIVE = "a" * 16, "b" * 16, "ab" * 8
NOW = datetime.datetime.now(datetime.UTC)


def never() -> None:
    """A check of work that goes on."""


def make(root: Path, session: str, ended: datetime.datetime | None) -> audit.Record:
    made = audit.Record.of(root, "builder", session)
    start = start_facts(session_id=session)
    audit.create(made, start, owner=None, document=None)
    if ended is not None:
        made.output_raw.rename(made.output_log)
        end = end_facts(end_timestamp=ended)
        audit.close(made, start, end, RecordLimits(2**20), never)
    return made


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """An old record, one of yesterday, and one that is open."""
    path = tmp_path / "audit"
    audit.prepare(path)
    make(path, OLD, NOON - datetime.timedelta(days=999))
    make(path, NEW, NOW - datetime.timedelta(days=1))
    make(path, LIVE, None)
    yield path

    def open_up(entry: Entry) -> None:
        if entry.is_directory:
            entry.chmod(0o700)

    walk(path, open_up, never)


class Ran:
    """What a command printed, and its status."""

    def __init__(self, capfd: pytest.CaptureFixture[str], *words: str) -> None:
        self.status = run_command_line(["audit", *words])
        self.out, self.err = capfd.readouterr()

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], root: Path) -> Any:
    return lambda *words: Ran(capfd, *words, "--audit-root", str(root))


def tamper(root: Path, session: str = NEW) -> None:
    (root / "builder" / session / "runa").chmod(0o755)


def there(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("*/*"))


# --- verify --------------------------------------------------------------------------------------


@pytest.mark.contract("F-27")
def test_verified_records_are_a_line_each_and_zero(run: Any) -> None:
    ran = run("verify", "aa", "b")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == "".join(f"{each}  builder  verified: 5 entries\n" for each in (OLD, NEW))


@pytest.mark.contract("F-27")
def test_a_damaged_record_is_told_with_its_differences_and_one(run: Any, root: Path) -> None:
    tamper(root)
    ran = run("verify", NEW)
    assert (ran.status, ran.out.splitlines()) == (
        1,
        [
            f"{NEW}  builder  damaged",
            "  'runa' has mode 0755, and was sealed with 0555",
        ],
    )


@pytest.mark.contract("F-27", "AUD-21")
def test_all_of_them_are_verified_but_for_the_open(run: Any) -> None:
    ran = run("verify", "--all")
    assert ran.status == 0
    assert sorted(line.split()[2].rstrip(":") for line in ran.out.splitlines()) == [
        "incomplete",
        "verified",
        "verified",
    ]


@pytest.mark.contract("F-27")
def test_one_damaged_record_of_all_is_one(run: Any, root: Path) -> None:
    tamper(root, OLD)
    ran = run("verify", "--all", "--json")
    assert ran.status == 1
    assert {row["session_id"]: row["state"] for row in ran.rows} == {
        OLD: "damaged",
        LIVE: "incomplete",
        NEW: "verified",
    }


@pytest.mark.contract("AUD-21")
def test_an_open_record_that_is_named_is_not_verified(run: Any) -> None:
    ran = run("verify", LIVE)
    assert (ran.status, "incomplete: its session lives, or" in ran.out) == (1, True)


@pytest.mark.contract("F-27")
def test_programs_get_all_that_people_get(run: Any, root: Path) -> None:
    tamper(root)
    (row,) = run("verify", NEW, "--json").rows
    problem = "has mode 0755, and was sealed with 0555"
    assert row == {
        "session_id": NEW,
        "agent": "builder",
        "record": str(root / "builder" / NEW),
        "state": "damaged",
        "entries": 5,
        "without_digest": 0,
        "findings": [{"entry": "'runa'", "problem": problem}],
        "findings_total": 1,
    }


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((), "--all"),
        (("--all", "b"), "--all"),
        (("c",), "there is no session 'c'"),
        (("a",), "fits 2 sessions"),
        (("b", "c"), "there is no session 'c'"),
        (("b", "--config", "f"), "--config and --audit-root cannot be used together"),
    ],
)
def test_errors_of_use_are_two_and_verify_nothing(
    run: Any, words: tuple[str, ...], named: str
) -> None:
    ran = run("verify", *words)
    assert (ran.status, ran.out) == (2, "")
    assert named in ran.err


def test_a_session_that_is_named_twice_is_verified_once(run: Any) -> None:
    assert len(run("verify", "b", NEW).out.splitlines()) == 1


def test_what_was_proved_by_size_alone_is_said() -> None:
    record = audit.Record.of(Path("/r"), "a", "s")
    verdict = Verdict("verified", entries=7, without_digest=2)
    (line,) = audit_verify.lines(record, verdict)
    assert line == "s  a  verified: 7 entries, 2 of them by their size alone"


def test_of_too_many_differences_the_rest_is_counted() -> None:
    record = audit.Record.of(Path("/r"), "a", "s")
    verdict = Verdict("damaged", findings=(Finding("'x'", "is missing"),), findings_total=9)
    assert audit_verify.lines(record, verdict)[1:] == [
        "  'x' is missing",
        "  and 8 more differences",
    ]


# --- prune ---------------------------------------------------------------------------------------


@pytest.mark.contract("AUD-33", "F-59")
def test_the_old_go_and_are_told(run: Any, root: Path) -> None:
    ran = run("prune", "--older-than", "30d")
    assert ran.status == 0
    assert there(root) == sorted([NEW, LIVE])
    line, total = ran.out.splitlines()
    assert line.startswith(f"removed  {OLD}  builder  ended 2023-11-25 12:00:00Z  ")
    assert total.startswith("1 record, ")
    assert total.endswith(" freed")


@pytest.mark.contract("AUD-22", "AUD-33")
def test_the_open_are_left_and_counted(run: Any, root: Path) -> None:
    ran = run("prune", "--older-than", "1ms")
    assert (there(root), ran.err) == (
        [LIVE],
        "agentd: left alone: 1 not closed, since their sessions live or could not be cleaned up\n",
    )


@pytest.mark.contract("AUD-33")
def test_what_cannot_be_judged_is_left_and_named(run: Any, root: Path) -> None:
    broken = audit.Record.of(root, "builder", OLD)
    broken.session_json.chmod(0o644)
    broken.session_json.write_text("{")
    ran = run("prune", "--older-than", "1ms")
    assert (ran.status, there(root)) == (0, sorted([OLD, LIVE]))
    assert "agentd: left alone: 1 that cannot be judged\n" in ran.err
    assert str(broken.session_json) in ran.err


@pytest.mark.contract("F-59")
def test_the_newest_are_kept(run: Any, root: Path) -> None:
    run("prune", "--older-than", "1ms", "--keep", "1")
    assert there(root) == sorted([NEW, LIVE])


@pytest.mark.contract("F-59")
def test_a_dry_run_says_the_same_and_changes_nothing(run: Any, root: Path) -> None:
    dry = run("prune", "--keep", "1", "--dry-run")
    assert len(there(root)) == 3
    real = run("prune", "--keep", "1")
    assert dry.out.replace("would remove", "removed").replace("would be ", "") == real.out
    assert dry.err == real.err


@pytest.mark.contract("F-59")
def test_programs_get_a_line_a_record(run: Any) -> None:
    (row,) = run("prune", "--older-than", "30d", "--dry-run", "--json").rows
    assert row.pop("bytes") >= 0
    assert row == {
        "action": "would_remove",
        "session_id": OLD,
        "agent": "builder",
        "end_timestamp": "2023-11-25T12:00:00Z",
    }


@pytest.mark.contract("F-59")
def test_what_an_interrupted_pruning_left_is_finished_whatever_was_asked(
    run: Any, root: Path
) -> None:
    record = root / "builder" / NEW
    record.rename(record.with_name(f".agentd-pruned-{NEW}"))
    assert run("prune", "--older-than", "3650d", "--dry-run").out.startswith("would remove")
    assert len(there(root)) == 3
    ran = run("prune", "--older-than", "3650d")
    assert there(root) == sorted([OLD, LIVE])
    assert ran.out.startswith(f"removed  {NEW}  builder  begun by an earlier pruning  ")


@pytest.mark.contract("F-59")
def test_one_record_that_cannot_be_removed_does_not_keep_the_others(
    run: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = audit.prune

    def prune(closed: audit.Closed, check: Any) -> int:
        if closed.session_id == OLD:
            raise AuditError("cannot remove it: it is stuck")
        return real(closed, check)

    monkeypatch.setattr(audit, "prune", prune)
    ran = run("prune", "--older-than", "1ms")
    assert (ran.status, there(root)) == (6, sorted([OLD, LIVE]))
    assert "agentd: cannot remove it: it is stuck\n" in ran.err
    assert "1 record, " in ran.out


@pytest.mark.contract("F-59")
def test_while_another_pruning_is_at_work_nothing_goes(run: Any, root: Path) -> None:
    with audit.alone(root):
        ran = run("prune", "--older-than", "1ms")
    assert (ran.status, len(there(root))) == (6, 3)
    assert "another 'agentd audit prune' is at work" in ran.err


@pytest.mark.contract("AUD-33")
@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((), "--older-than"),
        (("--dry-run",), "--older-than"),
        (("--older-than", "30"), "--older-than: '30' is not a duration"),
        (("--older-than", "0d"), "--older-than: '0d' is not a usable duration"),
        (("--older-than=-1d",), "--older-than"),
        (("--keep", "0"), "--keep"),
        (("--keep=-1",), "--keep"),
        (("--keep", "x"), "--keep"),
        (("--keep", "1", "b"), "b"),
    ],
)
def test_errors_of_use_are_two_and_remove_nothing(
    run: Any, root: Path, words: tuple[str, ...], named: str
) -> None:
    ran = run("prune", *words)
    assert (ran.status, ran.out, len(there(root))) == (2, "", 3)
    assert named in ran.err


@pytest.mark.contract("F-59")
@pytest.mark.parametrize(
    ("older_than", "keep", "expected"),
    [("30d", None, 30), ("12h", 3, 0.5), ("1d12h", None, 1.5), (None, 3, None)],
)
def test_the_age_counts_back_from_now(
    older_than: str | None, keep: int | None, expected: float | None
) -> None:
    before = None if expected is None else NOON - datetime.timedelta(days=expected)
    assert audit_prune.cutoff(older_than, keep, NOON) == before


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (4096, "4.0 KiB"),
        (5 * 2**20, "5.0 MiB"),
        (2**40, "1024.0 GiB"),
    ],
)
def test_amounts_are_in_their_largest_unit(size: int, text: str) -> None:
    assert tables.amount(size) == text


# --- the commands --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--version",), "agentd 0.1.1\n"),
        (("verify", "-V"), "agentd 0.1.1\n"),
        (("--help",), "prune"),
        (("verify", "--help"), "agentd audit verify --all"),
        (("prune", "--help"), "agentd audit prune --older-than 30d --dry-run"),
    ],
)
def test_version_and_help_are_there_at_every_level(
    capfd: pytest.CaptureFixture[str], words: tuple[str, ...], expected: str
) -> None:
    ran = Ran(capfd, *words)
    assert (ran.status, ran.err) == (0, "")
    assert expected in ran.out


# --- where ---------------------------------------------------------------------------------------


@pytest.mark.contract("AUD-32")
def test_the_configuration_names_the_root_and_nothing_else_of_it_matters(tmp_path: Path) -> None:
    config = tmp_path / "agentd.toml"
    config.write_text('[daemon]\naudit_root = "records"\n[[agents]]\nname = 1\n')
    # Under cron there is no XDG_RUNTIME_DIR for the daemon's socket.
    assert chosen_root(config, None, {}) == tmp_path / "records"


def test_a_configuration_without_a_root_means_that_of_the_environment(tmp_path: Path) -> None:
    config = tmp_path / "agentd.toml"
    config.write_text("")
    assert chosen_root(config, None, {"HOME": "/home/a"}) == Path(
        "/home/a/.local/state/tesserine/audit"
    )


def test_a_root_that_is_named_needs_no_configuration() -> None:
    assert chosen_root(None, Path("records"), {}) == Path("records")


def test_a_configuration_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"failed to read config: .*absent"):
        chosen_root(tmp_path / "absent", None, {})


def test_without_a_configuration_and_a_root_both_options_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("agentd.cli.audit_root.DEFAULT_CONFIG", tmp_path / "absent")
    with pytest.raises(UsageError, match=r"--config.*--audit-root"):
        chosen_root(None, None, {})


def test_a_root_that_is_named_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be used together"):
        chosen_root(Path("f"), Path("r"), {})


@pytest.mark.parametrize("words", [("verify", "--all"), ("verify", "a"), ("prune", "--keep", "1")])
def test_a_root_that_is_not_there_is_told(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...]
) -> None:
    ran = Ran(capfd, *words, "--audit-root", os.fspath(tmp_path / "absent"))
    assert (ran.status, ran.out) == (6, "")
    assert "absent: No such file or directory" in ran.err
