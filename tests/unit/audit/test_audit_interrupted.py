"""A closing that fails, is cancelled or is killed: the record stays open and can be closed."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import stat
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from agentd import audit
from agentd.audit import RecordLimits
from agentd.audit.tree import Entry, walk
from agentd.errors import AuditError
from tests.unit.builders import end_facts, record, start_facts

MIB = 1024 * 1024
LIMITS = RecordLimits(64 * MIB)
KILLED = 9


class Stop(BaseException):
    """What a cancelled check raises."""


def never() -> None:
    """A check of work that goes on."""


def at(number: int, act: Callable[[], object]) -> Callable[[], None]:
    """A check that does something when it is asked for the `number`th time."""
    asked = itertools.count(1)

    def check() -> None:
        if next(asked) == number:
            act()

    return check


def stop() -> NoReturn:
    raise Stop


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def close(made: audit.Record, check: Callable[[], object] = never) -> None:
    audit.close(made, start_facts(), end_facts(), LIMITS, check)


def facts(made: audit.Record) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(made.session_json.read_bytes())
    return document


def entry(made: audit.Record, path: str) -> dict[str, Any]:
    entries: list[dict[str, Any]] = json.loads(made.manifest.read_bytes())["entries"]
    return next(entry for entry in entries if entry.get("path") == path)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[audit.Record]:
    root = tmp_path / "audit"
    audit.prepare(root)
    made = record(root)
    audit.create(made, start_facts(), owner=None, document=b"{}")
    made.output_raw.rename(made.output_log)
    (made.runa / "d").mkdir()
    (made.runa / "d/a").write_bytes(b"x")
    (made.runa / "f").write_bytes(b"y" * MIB)
    yield made

    def open_up(entry: Entry) -> None:
        if entry.is_directory:
            entry.chmod(0o700)

    walk(root, open_up, never)


# Each walk asks at runa, d, f, once more at d to enter it, and d/a; the second, for each file that
# it reads, once more.
FIRST_WALK = range(1, 6)
SECOND_WALK = range(6, 13)
READING_F = 9


@pytest.mark.contract("AUD-20", "AUD-22", "AUD-24")
@pytest.mark.parametrize("number", [*FIRST_WALK, *SECOND_WALK])
def test_a_cancelled_closing_leaves_the_record_open(made: audit.Record, number: int) -> None:
    with pytest.raises(Stop):
        close(made, at(number, stop))
    assert mode(made.runa) == 0o700
    assert "outcome" not in facts(made)
    close(made)
    assert mode(made.runa) == 0o555


@pytest.mark.contract("AUD-22", "AUD-24")
@pytest.mark.parametrize("failing", ["fsync", "write"])
def test_a_full_disk_leaves_the_record_open_and_says_what_to_do(
    made: audit.Record, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def full(*_args: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr("agentd.audit.manifest.ManifestWriter.finish", full)
    with pytest.raises(AuditError, match="No space left on device; free space, or move"):
        close(made)
    monkeypatch.undo()
    assert mode(made.runa) == 0o700
    assert "outcome" not in facts(made)
    assert not list(made.agentd.glob("*.tmp"))


def _dies_in(made: audit.Record, number: int) -> bool:
    """Close in a process that ends, as by kill -9, before its `number`th write; whether it did."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED
    acts = itertools.count()

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **more: Any) -> Any:
            if next(acts) == number:
                os._exit(KILLED)
            return real(*args, **more)

        return act

    for name in ("fsync", "fchmod", "rename", "unlink", "chmod"):
        setattr(os, name, dying(getattr(os, name)))
    try:
        close(made)
    finally:
        os._exit(0)


@pytest.mark.contract("AUD-09", "AUD-16", "AUD-22", "AUD-24")
def test_no_instant_of_kill_9_loses_a_record(made: audit.Record) -> None:
    audit.write_intent(made, "timeout", start_facts().start_timestamp)
    audit.write_next(made, start_facts(), end_facts())
    deaths = 0
    # Each try starts from what the one before left, further on by one step.
    while _dies_in(made, deaths):
        deaths += 1
        published = "outcome" in facts(made)
        assert published or made.next_json.exists()
        assert not published or mode(made.runa) == 0o555
        if published:
            break
    assert deaths > 10
    close(made)
    assert mode(made.session_json) == 0o444
    assert sorted(path.name for path in made.agentd.iterdir()) == [
        "invocation-input",
        "manifest.json",
        "output.log",
        "session.json",
    ]
    manifest = made.manifest.read_bytes()
    assert facts(made)["manifest_sha256"] == hashlib.sha256(manifest).hexdigest()


@pytest.mark.contract("AUD-14")
def test_a_published_record_is_left_as_it_is(made: audit.Record) -> None:
    close(made)
    before = made.session_json.read_bytes()
    later = end_facts(outcome="error", exit_code=None)
    audit.close(made, start_facts(), later, LIMITS, stop)
    assert made.session_json.read_bytes() == before
    assert mode(made.runa) == 0o555


@pytest.mark.contract("AUD-19")
def test_a_refusal_names_the_whole_path(made: audit.Record, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("")
    os.link(tmp_path / "outside", made.runa / "d/link")
    with pytest.raises(AuditError, match="multi-linked audit entry 'runa/d/link' in "):
        close(made)


@pytest.mark.contract("AUD-19", "F-16")
def test_a_name_that_is_made_outside_between_the_walks_is_refused(
    made: audit.Record, tmp_path: Path
) -> None:
    def link() -> None:
        os.link(made.runa / "f", tmp_path / "outside")

    with pytest.raises(AuditError, match=r"'runa/f' in .* given another name"):
        close(made, at(SECOND_WALK[0], link))
    assert mode(made.runa) == 0o700


@pytest.mark.contract("AUD-19")
def test_a_second_name_that_goes_away_in_time_does_not_crash(
    made: audit.Record, tmp_path: Path
) -> None:
    # Only one of three names is left when the walk comes that is to say where they are.
    os.link(made.runa / "f", made.runa / "d/g")
    os.link(made.runa / "f", tmp_path / "outside")

    def unlink() -> None:
        (made.runa / "f").unlink()
        (made.runa / "d/g").unlink()

    with pytest.raises(AuditError, match="a multi-linked entry is gone"):
        close(made, at(FIRST_WALK[-1] + 2, unlink))
    close(made)
    assert mode(tmp_path / "outside") != 0o444


@pytest.mark.contract("AUD-21", "AUD-22")
def test_facts_that_a_failing_disk_tore_are_written_anew(made: audit.Record) -> None:
    made.session_json.write_bytes(made.session_json.read_bytes()[:50])
    close(made)
    assert facts(made)["outcome"] == "success"


@pytest.mark.contract("AUD-05", "AUD-22")
def test_facts_of_an_unknown_schema_are_left_alone(made: audit.Record) -> None:
    strange = made.session_json.read_bytes().replace(b'_version": 2', b'_version": 3')
    made.session_json.write_bytes(strange)
    with pytest.raises(AuditError, match=f"cannot close {made.session_json}: schema_version is 3"):
        close(made)
    assert made.session_json.read_bytes() == strange


def _memory_to_close(root: Path, files: int) -> int:
    """The most bytes that Python held while it closed a record of so many files."""
    audit.prepare(root)
    made = record(root)
    audit.create(made, start_facts(), owner=None, document=None)
    for number in range(files):
        (made.runa / f"{number:06}").touch()
    tracemalloc.start()
    try:
        close(made)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        made.runa.chmod(0o700)


def test_the_memory_for_closing_does_not_grow_with_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentd.audit.tree._BATCH", 100)
    few, many = (_memory_to_close(tmp_path / str(files), files) for files in (200, 2000))
    assert many < few + 50_000


@pytest.mark.contract("F-27")
@pytest.mark.parametrize("size", [0, 1, 40 * MIB])
def test_a_file_that_changes_while_it_is_read_has_no_digest(made: audit.Record, size: int) -> None:
    with (made.runa / "f").open("r+b") as writer:
        close(made, at(READING_F, lambda: os.truncate(writer.fileno(), size)))
    assert entry(made, "runa/f")["size"] == MIB
    assert "sha256" not in entry(made, "runa/f")


@pytest.mark.contract("AUD-18", "F-27")
def test_two_targets_are_never_listed_alike(made: audit.Record) -> None:
    (made.runa / "raw").symlink_to(os.fsdecode(b"\xff"))
    (made.runa / "text").symlink_to("%FF")
    close(made)
    assert entry(made, "runa/raw")["target_utf8"] is False
    assert "target_utf8" not in entry(made, "runa/text")


def _on_another_device(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    inode = path.lstat().st_ino

    def moved(real: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def look(*args: Any, **more: Any) -> os.stat_result:
            status = real(*args, **more)
            if status.st_ino != inode:
                return status
            fields = list(status[:10])
            fields[2] += 1
            return os.stat_result(fields)

        return look

    monkeypatch.setattr(os, "fstat", moved(os.fstat))
    monkeypatch.setattr(os, "stat", moved(os.stat))


@pytest.mark.contract("AUD-19", "F-16")
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_entry_that_is_replaced_while_its_names_are_counted_is_refused(
    made: audit.Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Between the look at the name and the count of names, a file from outside has one again."""
    outside = tmp_path / "outside"
    outside.write_text("")
    before = mode(outside)
    (made.runa / "f").unlink()
    os.link(outside, made.runa / "f")
    inode, real = outside.stat().st_ino, os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        early = real(descriptor)
        if early.st_ino == inode:
            (made.runa / "f").unlink(missing_ok=True)
            (made.runa / "f").write_text("")
        return real(descriptor) if when == "before" else early

    monkeypatch.setattr(os, "fstat", fstat)
    with pytest.raises(AuditError, match="'runa/f' was replaced while the record was walked"):
        close(made)
    assert mode(outside) == before


@pytest.mark.contract("F-17")
@pytest.mark.parametrize("name", ["d", "f"])
def test_another_device_number_is_no_mount(
    made: audit.Record, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # A btrfs subvolume, which any session can make; a file on overlayfs.
    _on_another_device(monkeypatch, made.runa / name)
    close(made)
    assert facts(made)["outcome"] == "success"


@pytest.mark.contract("F-16")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_mount_of_the_same_file_system_is_not_entered(made: audit.Record, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    bound = subprocess.run(
        ["mount", "--bind", elsewhere, made.runa / "d"], check=False, capture_output=True
    )
    if bound.returncode:
        pytest.skip("this machine lets not even root mount")
    try:
        with pytest.raises(AuditError, match="something is mounted in the record, at 'runa/d'"):
            close(made)
    finally:
        subprocess.run(["umount", made.runa / "d"], check=True)
    assert mode(elsewhere) == 0o700


@pytest.mark.contract("AUD-29")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may change every file")
def test_a_file_of_another_user_is_named(made: audit.Record, monkeypatch: Any) -> None:
    real = Path.chmod

    def chmod(path: Path, wanted: int) -> None:
        if wanted == 0o444:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))
        real(path, wanted)

    monkeypatch.setattr(Path, "chmod", chmod)
    with pytest.raises(AuditError, match=r"'runa/f' in .* not permitted; it must belong to"):
        close(made)


@pytest.mark.contract("AUD-26")
def test_a_file_system_that_keeps_no_modes_fails_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "chmod", lambda _path, _mode: None)
    with pytest.raises(AuditError, match=r"probe: mode 0444 of probe-file became"):
        audit.prepare(tmp_path / "audit")
    assert list((tmp_path / "audit").iterdir()) == []


@pytest.mark.contract("AUD-22")
def test_a_draft_that_a_killed_daemon_left_goes_with_the_closing(made: audit.Record) -> None:
    (made.agentd / "intent.json.tmp").write_bytes(b"{")
    close(made)
    assert not list(made.agentd.glob("*.tmp"))
