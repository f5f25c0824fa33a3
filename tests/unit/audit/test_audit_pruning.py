"""Pruning: which records go, that they go whatever is in them, and that no other does."""

from __future__ import annotations

import datetime
import errno
import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd import audit
from agentd.audit import Closed, RecordLimits
from agentd.audit.tree import Entry, walk
from agentd.errors import AuditError, UnknownSession
from tests.unit.builders import NOON, end_facts, start_facts

LIMITS = RecordLimits(2**20)
DAY = datetime.timedelta(days=1)
DEEP = 5000
BEGUN = ".agentd-pruned-"


def never() -> None:
    """A check of work that goes on."""


def nothing(_runa: Path) -> None:
    """What a session leaves that leaves nothing."""


def session_id(number: int) -> str:
    return f"{number:016x}"


def open_record(root: Path, number: int, agent: str = "builder") -> audit.Record:
    made = audit.Record.of(root, agent, session_id(number))
    start = start_facts(session_id=session_id(number), agent=agent)
    audit.create(made, start, owner=None, document=None)
    return made


def closed_record(
    root: Path,
    number: int = 1,
    agent: str = "builder",
    ended: datetime.datetime = NOON,
    plant: Callable[[Path], None] = nothing,
) -> audit.Record:
    made = open_record(root, number, agent)
    made.output_raw.rename(made.output_log)
    plant(made.runa)
    start = start_facts(session_id=session_id(number), agent=agent)
    audit.close(made, start, end_facts(end_timestamp=ended), LIMITS, never)
    return made


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "audit"
    audit.prepare(path)
    yield path

    def open_up(entry: Entry) -> None:
        if entry.is_directory:
            entry.chmod(0o700)

    walk(path, open_up, never)


def the_closed(root: Path) -> Closed:
    (closed,) = audit.survey(root).closed
    return closed


def left(root: Path) -> list[str]:
    """What is below the audit root now."""
    return sorted(str(path.relative_to(root)) for path in root.glob("*/*"))


# --- which go ------------------------------------------------------------------------------------


def closed(number: int, age_days: float = 0, agent: str = "a") -> Closed:
    record = audit.Record.of(Path("/r"), agent, session_id(number))
    return Closed(record, NOON - age_days * DAY)


def numbers(found: list[Closed]) -> list[int]:
    return [int(each.session_id, 16) for each in found]


FIVE = [closed(number, age_days=number) for number in (3, 1, 5, 2, 4)]


@pytest.mark.contract("F-59")
@pytest.mark.parametrize(
    ("days", "keep", "gone"),
    [
        (None, None, []),
        (0, None, [5, 4, 3, 2, 1]),
        (2.5, None, [5, 4, 3]),
        (3, None, [5, 4]),
        (9, None, []),
        (None, 2, [5, 4, 3]),
        (None, 5, []),
        (None, 9, []),
        (2.5, 1, [5, 4, 3]),
        (2.5, 4, [5]),
        (2.5, 9, []),
    ],
)
def test_the_old_go_but_for_the_newest(
    days: float | None, keep: int | None, gone: list[int]
) -> None:
    before = None if days is None else NOON - days * DAY
    assert numbers(audit.chosen(FIVE, before, keep)) == gone


@pytest.mark.contract("F-59")
def test_each_agent_keeps_its_own_newest() -> None:
    records = [closed(1, 1, "a"), closed(2, 2, "a"), closed(3, 3, "b"), closed(4, 4, "b")]
    assert numbers(audit.chosen(records, None, 1)) == [4, 2]


@pytest.mark.contract("F-59")
def test_of_those_that_ended_at_one_instant_always_the_same_is_kept() -> None:
    records = [closed(number) for number in (2, 1, 3)]
    for order in itertools.permutations(records):
        assert numbers(audit.chosen(order, None, 1)) == [1, 2]


RECORDS = st.lists(
    st.builds(closed, st.integers(0, 999), st.integers(0, 50), st.sampled_from("abc")),
    unique_by=lambda each: each.session_id,
    max_size=30,
)


@pytest.mark.contract("F-59")
@given(RECORDS, st.none() | st.integers(0, 50), st.none() | st.integers(1, 10))
def test_whatever_there_is_the_promises_hold(
    records: list[Closed], days: int | None, keep: int | None
) -> None:
    before = None if days is None else NOON - days * DAY
    gone = audit.chosen(records, before, keep)
    kept = [each for each in records if each not in gone]
    assert len(gone) + len(kept) == len(records)
    assert before is None or all(each.ended < before for each in gone)
    for agent in "abc":
        of_agent = [each for each in records if each.agent == agent]
        still = [each for each in kept if each.agent == agent]
        assert len(still) >= min(keep or 0, len(of_agent))
        newest_gone = max((each.ended for each in gone if each.agent == agent), default=None)
        # No record is kept for its newness while a newer one goes.
        if newest_gone is not None and keep is not None:
            assert sum(each.ended >= newest_gone for each in still) >= keep
    # And nobody stays without a reason.
    if before is not None and keep is None:
        assert all(each.ended >= before for each in kept)


# --- what is there -------------------------------------------------------------------------------


@pytest.mark.contract("AUD-33", "F-59")
def test_a_closed_record_is_found_with_its_end(root: Path) -> None:
    made = closed_record(root)
    assert audit.survey(root).closed == (Closed(made, NOON),)


@pytest.mark.contract("AUD-22", "AUD-33")
def test_open_records_are_none_to_prune(root: Path) -> None:
    live = open_record(root, 1)
    waiting = open_record(root, 2)
    audit.write_next(waiting, start_facts(session_id=session_id(2)), end_facts())
    found = audit.survey(root)
    assert (found.closed, found.incomplete) == ((), (live, waiting))


def damage(text: str) -> Callable[[audit.Record], None]:
    def tamper(made: audit.Record) -> None:
        made.session_json.chmod(0o644)
        made.session_json.write_text(text)

    return tamper


def replace(old: str, new: str) -> Callable[[audit.Record], None]:
    def tamper(made: audit.Record) -> None:
        damage(made.session_json.read_text().replace(old, new))(made)

    return tamper


def move_away(made: audit.Record) -> None:
    made.directory.rename(made.directory.with_name("moved"))
    made.directory.symlink_to("moved")


@pytest.mark.contract("AUD-33")
@pytest.mark.parametrize(
    ("tamper", "why"),
    [
        (damage("{"), "Input data was truncated"),
        (damage("{}"), "missing required field"),
        (replace('_version": 2', '_version": 3'), "schema_version is 3"),
        (replace(session_id(1), session_id(2)), f"it is of session '{session_id(2)}'"),
        (replace("00Z", "00"), "its end_timestamp has no zone"),
        (lambda made: made.session_json.unlink(), "No such file"),
        (move_away, "it is no directory"),
    ],
)
def test_what_cannot_be_judged_is_named_and_left(
    root: Path, tamper: Callable[[audit.Record], None], why: str
) -> None:
    made = closed_record(root)
    tamper(made)
    found = audit.survey(root)
    assert (found.closed, found.incomplete) == ((), ())
    (sentence,) = found.unusable
    assert why in sentence
    assert str(made.directory) in sentence


def test_what_is_no_record_is_none_of_anybodys_business(root: Path) -> None:
    (root / "builder").mkdir()
    (root / "builder/notes").write_text("")
    (root / ".hidden").mkdir()
    (root / "builder/.agentd-58e3c8db-builder-0123456789abcdef").mkdir()
    assert audit.survey(root) == audit.Survey((), (), (), ())


def test_an_audit_root_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"cannot list the records in .*: No such file"):
        audit.survey(tmp_path / "absent")


def test_a_record_that_goes_while_they_are_listed_is_none_of_them(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`agentd ps -a` beside a pruning."""
    first, second = closed_record(root, 1), closed_record(root, 2)
    real, asked = Path.stat, itertools.count()

    def stat(path: Path, **more: Any) -> os.stat_result:
        if path == first.directory and next(asked) == 0:
            audit.prune(Closed(first, NOON), never)
        return real(path, **more)

    monkeypatch.setattr(Path, "stat", stat)
    assert audit.records(root) == [second]


# --- how they go ---------------------------------------------------------------------------------


def blocks(top: Path) -> int:
    """What du says of a tree, in bytes."""
    done = subprocess.run(["du", "-s", "-B1", top], check=True, capture_output=True)
    return int(done.stdout.split()[0])


def plant_all_kinds(runa: Path) -> None:
    for name in (b"new\nline", b"\xff\xfe", b"-rf", b"x" * 255):
        Path(os.fsdecode(bytes(runa) + b"/" + name)).write_bytes(b"x" * 10_000)
    (runa / "d/inner").mkdir(parents=True)
    (runa / "d/inner/file").write_bytes(b"x" * 100_000)
    (runa / "up").symlink_to("../../..")
    (runa / "loop").symlink_to("loop")
    os.link(runa / "d/inner/file", runa / "second-name")
    os.mkfifo(runa / "fifo")
    with (runa / "sparse").open("wb") as sparse:
        sparse.truncate(8 * 2**40)
    for number in range(100):
        (runa / f"d/{number}").mkdir()


@pytest.mark.contract("AUD-33", "F-59")
def test_a_sealed_record_goes_whole_and_nothing_else(root: Path) -> None:
    closed_record(root, 1, plant=plant_all_kinds)
    other = closed_record(root, 2, ended=NOON + DAY)
    before = other.session_json.read_bytes()
    (first, _) = audit.survey(root).closed
    audit.prune(first, never)
    assert left(root) == [f"builder/{session_id(2)}"]
    assert audit.verify(other, never).state == "verified"
    assert other.session_json.read_bytes() == before


@pytest.mark.contract("F-59")
def test_what_it_frees_is_what_du_says(root: Path) -> None:
    made = closed_record(root, plant=plant_all_kinds)
    # The record's own directory is counted by du alone.
    expected = blocks(made.directory) - made.directory.stat().st_blocks * 512
    # A file with two names counts once; directories may shrink while they are emptied.
    assert expected > 140_000
    assert audit.size(the_closed(root), never) == expected
    assert audit.prune(the_closed(root), never) == pytest.approx(expected, abs=50_000)


@pytest.mark.contract("F-59")
def test_nothing_outside_is_touched(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o710)
    (outside / "file").write_text("kept")
    (outside / "file").chmod(0o640)

    def plant(runa: Path) -> None:
        (runa / "directory").symlink_to(outside)
        (runa / "file").symlink_to(outside / "file")

    made = closed_record(root, plant=plant)
    # After the sealing, by somebody on the host.
    made.runa.chmod(0o755)
    os.link(outside / "file", made.runa / "link")
    audit.prune(the_closed(root), never)
    assert (outside / "file").read_text() == "kept"
    assert (outside.stat().st_mode & 0o777, (outside / "file").stat().st_mode & 0o777) == (
        0o710,
        0o640,
    )


@pytest.mark.contract("F-59")
@pytest.mark.parametrize("mode", [0o000, 0o111, 0o444, 0o555])
def test_directories_of_any_mode_are_emptied(root: Path, mode: int) -> None:
    def plant(runa: Path) -> None:
        (runa / "d/inner").mkdir(parents=True)
        (runa / "d/inner/file").write_text("")

    made = closed_record(root, plant=plant)
    for path in (made.runa / "d/inner", made.runa / "d", made.runa):
        path.chmod(mode)
    audit.prune(the_closed(root), never)
    assert left(root) == []


@pytest.mark.contract("F-59")
def test_thousands_of_levels_are_no_depth_too_many(root: Path) -> None:
    def plant(runa: Path) -> None:
        here = os.open(runa, os.O_RDONLY)
        for _ in range(DEEP):
            os.mkdir("d", dir_fd=here)
            inner = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
        os.close(here)

    made = closed_record(root, plant=plant)
    before = len(list(Path("/proc/self/fd").iterdir()))
    try:
        audit.prune(the_closed(root), never)
        assert left(root) == []
    finally:
        # What is left of it would be too deep for pytest.
        subprocess.run(["rm", "-rf", made.directory.parent], check=True)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.contract("F-59")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_what_is_mounted_in_a_record_is_not_emptied(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("kept")
    made = closed_record(root, plant=lambda runa: (runa / "d").mkdir())
    bound = subprocess.run(
        ["mount", "--bind", elsewhere, made.runa / "d"], check=False, capture_output=True
    )
    if bound.returncode:
        pytest.skip("this machine lets not even root mount")
    try:
        with pytest.raises(AuditError, match=r"something is mounted in the record, at .*/runa/d'"):
            audit.prune(the_closed(root), never)
        assert (elsewhere / "file").read_text() == "kept"
    finally:
        (place,) = root.glob("*/*/runa/d")
        subprocess.run(["umount", place], check=True)


@pytest.mark.contract("F-59")
def test_a_file_that_is_open_stays_readable(root: Path) -> None:
    """As `agentd logs` has it, whose daemon is not asked."""

    def plant(runa: Path) -> None:
        (runa / "f").write_text("all of it")

    made = closed_record(root, plant=plant)
    with (made.runa / "f").open() as reader:
        audit.prune(the_closed(root), never)
        assert reader.read() == "all of it"


@pytest.mark.contract("F-59")
def test_entries_that_a_file_system_hides_meanwhile_go_too(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removing while reading a directory makes some file systems skip names."""
    real, seen = os.scandir, []

    class Skipping:
        """A directory's entries but for one, when it is read first."""

        def __init__(self, place: Any) -> None:
            self._found = real(place)
            status = os.fstat(place)
            self._skip = 0 if status.st_ino in seen else 1
            seen.append(status.st_ino)

        def __enter__(self) -> Iterator[Any]:
            return itertools.islice(self._found, self._skip, None)

        def __exit__(self, *_: object) -> None:
            self._found.close()

    closed_record(root, plant=plant_all_kinds)
    chosen = the_closed(root)
    monkeypatch.setattr(os, "scandir", Skipping)
    audit.prune(chosen, never)
    monkeypatch.undo()
    assert left(root) == []


@pytest.mark.contract("F-59")
def test_what_cannot_be_removed_is_told_and_can_be_finished(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_more: object) -> NoReturn:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    closed_record(root)
    monkeypatch.setattr(os, "rmdir", refuse)
    with pytest.raises(AuditError, match="Operation not permitted; it must belong to"):
        audit.prune(the_closed(root), never)
    monkeypatch.undo()
    assert left(root) == [f"builder/{BEGUN}{session_id(1)}"]
    (begun,) = audit.survey(root).begun
    audit.finish(begun, never)
    assert left(root) == []


@pytest.mark.contract("F-59")
def test_a_record_whose_removal_has_begun_is_none_any_more(root: Path) -> None:
    made = closed_record(root)
    made.directory.rename(made.directory.with_name(BEGUN + made.directory.name))
    found = audit.survey(root)
    assert (found.closed, found.incomplete, found.unusable) == ((), (), ())
    assert [(each.agent, each.session_id) for each in found.begun] == [("builder", session_id(1))]
    assert audit.records(root) == []
    assert audit.unfinished(root, "agentd-") == []
    with pytest.raises(UnknownSession):
        audit.find(root, session_id(1))
    # Nor is it the half of a record that a daemon was making.
    audit.discard_halves(root, "agentd-58e3c8db-")
    assert len(left(root)) == 1


def _dies_in(chosen: Closed, number: int) -> bool:
    """Prune in a process that ends, as by kill -9, before its `number`th change."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    acts = itertools.count()

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **more: Any) -> Any:
            if next(acts) == number:
                os._exit(9)
            return real(*args, **more)

        return act

    for name in ("rename", "fsync", "chmod", "unlink", "rmdir"):
        setattr(os, name, dying(getattr(os, name)))
    try:
        audit.prune(chosen, never)
    finally:
        os._exit(0)


@pytest.mark.contract("AUD-33", "F-59")
def test_no_instant_of_kill_9_leaves_half_a_record(root: Path) -> None:
    def plant(runa: Path) -> None:
        (runa / "d").mkdir()
        (runa / "d/file").write_text("x")

    deaths = 0
    while True:
        closed_record(root, plant=plant)
        if not _dies_in(the_closed(root), deaths):
            break
        deaths += 1
        found = audit.survey(root)
        # It is whole, or known to be none.
        assert len(found.closed) + len(found.begun) == 1
        for whole in found.closed:
            assert audit.verify(whole.record, never).state == "verified"
            audit.prune(whole, never)
        for begun in found.begun:
            audit.finish(begun, never)
    assert deaths > 8
    assert left(root) == []


@pytest.mark.contract("F-59")
def test_prunings_of_one_root_keep_out_of_each_others_way(root: Path) -> None:
    with (
        audit.alone(root),
        pytest.raises(AuditError, match="another 'agentd audit prune' is at work"),
        audit.alone(root),
    ):
        pass
    with audit.alone(root):
        pass


def test_a_check_that_raises_ends_the_removal(root: Path) -> None:
    class Stop(BaseException):
        """What a cancelled check raises."""

    def stop() -> None:
        raise Stop

    closed_record(root)
    with pytest.raises(Stop):
        audit.prune(the_closed(root), stop)
    (begun,) = audit.survey(root).begun
    audit.finish(begun, never)
