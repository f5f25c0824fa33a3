"""Closing a record that a hostile session filled: it neither hangs, nor escapes, nor crashes."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentd import audit
from agentd.audit import RecordLimits
from agentd.audit.tree import Entry, walk
from agentd.errors import AuditError
from tests.conftest import LONG
from tests.unit.builders import end_facts, record, start_facts

IS_ROOT = os.geteuid() == 0
# More than a batch of names.
MANY = 100_000 if LONG else 5000
DEEP = 5000
LIMITS = RecordLimits(2 * 2**30)


def never() -> None:
    """A check of work that goes on."""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


class Closing:
    """One record, and its closing."""

    def __init__(self, root: Path) -> None:
        self.record = record(root)
        audit.create(self.record, start_facts(), owner=None, document=None)
        self.runa = self.record.runa
        self.record.output_raw.rename(self.record.output_log)
        self.outside = root.parent / "outside"
        self.outside.write_bytes(b"outside")
        self.outside.chmod(0o640)

    def close(self, limits: RecordLimits = LIMITS, check: Callable[[], object] = never) -> None:
        audit.close(self.record, start_facts(), end_facts(), limits, check)

    @property
    def metadata(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self.record.session_json.read_bytes())
        return facts

    @property
    def entries(self) -> list[dict[str, Any]]:
        document = json.loads(self.record.manifest.read_bytes())
        entries: list[dict[str, Any]] = document["entries"]
        return entries

    def entry(self, path: str) -> dict[str, Any]:
        return next(entry for entry in self.entries if entry.get("path") == path)

    def is_sealed(self) -> bool:
        """Whether every directory is 0555 and all else but links 0444, wherever it lies."""
        found = []

        def look(entry: Entry) -> None:
            if not entry.is_symlink:
                wanted = 0o555 if entry.is_directory else 0o444
                found.append(stat.S_IMODE(entry.status.st_mode) == wanted)

        walk(self.runa, look, never)
        return all(found)


def writable_again(top: Path) -> None:
    """Let pytest, which is no root everywhere, remove what was sealed."""

    def open_up(entry: Entry) -> None:
        if entry.is_directory:
            entry.chmod(0o700)

    walk(top, open_up, never)


@pytest.fixture
def closing(tmp_path: Path) -> Iterator[Closing]:
    root = tmp_path / "audit"
    audit.prepare(root)
    yield Closing(root)
    writable_again(root)


# --- an ordinary record --------------------------------------------------------------------------


@pytest.mark.contract("AUD-14", "AUD-15", "AUD-16")
def test_a_closed_record_has_these_modes(closing: Closing) -> None:
    (closing.runa / "store").mkdir()
    (closing.runa / "store/a.json").write_text("{}")
    closing.close()
    assert closing.is_sealed()
    agentd = closing.record.agentd
    assert [mode(path) for path in (closing.record.directory, agentd)] == [0o755, 0o755]
    assert {path.name: mode(path) for path in agentd.iterdir()} == {
        "session.json": 0o444,
        "manifest.json": 0o444,
        "output.log": 0o444,
    }


@pytest.mark.contract("AUD-12", "AUD-21")
def test_a_closed_record_has_its_end(closing: Closing) -> None:
    closing.close()
    assert closing.metadata["outcome"] == "success"
    assert "end_timestamp" in closing.metadata


@pytest.mark.contract("F-27")
def test_the_metadata_proves_the_manifest_and_the_manifest_the_files(closing: Closing) -> None:
    (closing.runa / "a").write_bytes(b"content")
    closing.close()
    manifest = closing.record.manifest.read_bytes()
    assert closing.metadata["manifest_sha256"] == hashlib.sha256(manifest).hexdigest()
    assert closing.entry("runa/a") == {
        "path": "runa/a",
        "type": "file",
        "mode": "0444",
        "size": 7,
        "sha256": hashlib.sha256(b"content").hexdigest(),
    }


@pytest.mark.contract("F-27")
def test_the_manifest_lists_agentds_own_files_too(tmp_path: Path) -> None:
    audit.prepare(tmp_path / "audit")
    made = record(tmp_path / "audit")
    audit.create(made, start_facts(), owner=None, document=b"{}")
    made.output_raw.rename(made.output_log)
    audit.close(made, start_facts(), end_facts(), LIMITS, never)
    paths = [entry["path"] for entry in json.loads(made.manifest.read_bytes())["entries"]]
    own = ["agentd/output.log", "agentd/invocation-input", "agentd/invocation-input/document.json"]
    assert paths == ["runa", *own]
    assert (mode(made.invocation_input), mode(made.document)) == (0o555, 0o444)
    writable_again(tmp_path / "audit")


@pytest.mark.contract("AUD-16")
def test_the_intent_and_the_draft_are_gone(closing: Closing) -> None:
    audit.write_intent(closing.record, "timeout", start_facts().start_timestamp)
    audit.write_next(closing.record, start_facts(), end_facts())
    closing.close()
    assert not closing.record.intent.exists()
    assert not closing.record.next_json.exists()


# --- what a session may plant --------------------------------------------------------------------


@pytest.mark.contract("AUD-19", "AUD-20", "AUD-24", "F-17")
def test_a_name_outside_the_record_is_refused_before_anything_is_sealed(closing: Closing) -> None:
    (closing.runa / "first").write_text("")
    (closing.runa / "first").chmod(0o600)
    os.link(closing.outside, closing.runa / "zlink")
    with pytest.raises(AuditError, match="refusing to seal multi-linked audit entry 'runa/zlink'"):
        closing.close()
    assert mode(closing.outside) == 0o640
    assert mode(closing.runa) == 0o700
    assert mode(closing.runa / "first") == 0o600
    assert "outcome" not in closing.metadata
    assert not closing.record.manifest.exists()


@pytest.mark.contract("AUD-19", "F-17")
def test_a_file_whose_names_all_lie_inside_is_sealed(closing: Closing) -> None:
    (closing.runa / "d").mkdir()
    (closing.runa / "a").write_bytes(b"x")
    os.link(closing.runa / "a", closing.runa / "d/b")
    os.link(closing.runa / "a", closing.runa / "c")
    closing.close()
    assert closing.is_sealed()
    assert closing.entry("runa/a")["sha256"] == closing.entry("runa/d/b")["sha256"]


@pytest.mark.contract("AUD-18")
@pytest.mark.parametrize("target", ["../../../outside", "/etc/passwd", ".", "loop", "nowhere"])
def test_links_are_listed_and_neither_followed_nor_changed(closing: Closing, target: str) -> None:
    (closing.runa / "loop").symlink_to(target)
    before = mode(closing.outside)
    closing.close()
    assert mode(closing.outside) == before
    assert closing.entry("runa/loop")["type"] == "symlink"
    assert closing.entry("runa/loop")["target"] == target


@pytest.mark.contract("AUD-18")
def test_a_link_to_a_directory_is_not_entered(closing: Closing, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (closing.runa / "link").symlink_to(tmp_path / "elsewhere")
    closing.close()
    assert mode(tmp_path / "elsewhere") == 0o700


@pytest.mark.contract("AUD-14")
def test_a_fifo_is_sealed_and_not_opened(closing: Closing) -> None:
    os.mkfifo(closing.runa / "fifo")
    closing.close()
    assert closing.is_sealed()
    assert closing.entry("runa/fifo") == {"path": "runa/fifo", "type": "fifo", "mode": "0444"}


@pytest.mark.contract("AUD-14")
def test_a_socket_is_sealed(closing: Closing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(closing.runa)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    closing.close()
    assert closing.is_sealed()
    assert closing.entry("runa/socket")["type"] == "socket"


@pytest.mark.contract("AUD-14")
@pytest.mark.skipif(not IS_ROOT, reason="only root can make a device node")
def test_a_device_is_sealed_and_not_opened(closing: Closing) -> None:
    try:
        os.mknod(closing.runa / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this machine lets not even root make a device node")
    closing.close()
    assert closing.is_sealed()
    assert closing.entry("runa/null")["type"] == "character device"


@pytest.mark.contract("AUD-17")
@pytest.mark.parametrize("left", [0o000, 0o111, 0o444, 0o700, 0o300, 0o1777, 0o2755])
def test_directories_of_any_mode_are_entered_and_sealed(closing: Closing, left: int) -> None:
    inner = closing.runa / "d/inner"
    inner.mkdir(parents=True)
    (inner / "file").write_text("x")
    (inner / "file").chmod(0o000)
    inner.chmod(left)
    inner.parent.chmod(left)
    closing.runa.chmod(left)
    closing.close()
    assert closing.is_sealed()
    assert closing.entry("runa/d/inner/file")["size"] == 1


@pytest.mark.contract("AUD-14")
def test_bits_that_grant_rights_are_gone(closing: Closing) -> None:
    (closing.runa / "tool").write_text("")
    (closing.runa / "tool").chmod(0o6777)
    closing.close()
    assert mode(closing.runa / "tool") == 0o444


@pytest.mark.contract("AUD-14", "AUD-17")
def test_thousands_of_levels_are_no_depth_too_many(closing: Closing) -> None:
    here = os.open(closing.runa, os.O_RDONLY)
    for _ in range(DEEP):
        os.mkdir("d" * 10, dir_fd=here)
        inner = os.open("d" * 10, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(os.open("leaf", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=here))
    os.close(here)
    before = len(list(Path("/proc/self/fd").iterdir()))
    closing.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert closing.is_sealed()
    leaf = closing.entries[-2]
    assert leaf["name"] == "leaf"
    assert closing.entries[leaf["in"]]["name"] == "d" * 10
    assert closing.record.manifest.stat().st_size < DEEP * 1200
    writable_again(closing.runa)
    # rmtree of Python 3.11 to 3.13 recurses by the call stack.
    shutil.rmtree(_flattened(closing.runa), ignore_errors=True)


def _flattened(top: Path) -> Path:
    """Take a deep tree apart from the top, so that anything can remove it."""
    name = "d" * 10
    for number in itertools.count():
        first = top / name
        if not (first / name).exists():
            return top
        (first / name).rename(top / "next")
        first.rename(top / f"level{number}")
        (top / "next").rename(first)
    raise AssertionError


@pytest.mark.contract("AUD-14")
def test_many_files_are_all_sealed_and_listed(closing: Closing) -> None:
    for number in range(MANY):
        (closing.runa / f"{number:06}").touch()
    closing.close()
    assert closing.is_sealed()
    assert len(closing.entries) == MANY + 2


@pytest.mark.contract("AUD-14")
def test_beyond_the_limit_of_entries_there_are_no_digests(closing: Closing) -> None:
    for number in range(5):
        (closing.runa / str(number)).touch()
    closing.close(RecordLimits(2**30, entries=3))
    digests = ["sha256" in entry for entry in closing.entries if entry["type"] == "file"]
    assert digests == [True, True, False, False, False, False]
    assert closing.is_sealed()


@pytest.mark.contract("AUD-14")
def test_a_huge_sparse_file_costs_nothing(closing: Closing) -> None:
    with (closing.runa / "sparse").open("wb") as file:
        file.truncate(8 * 2**40)
    (closing.runa / "tiny").write_text("x")
    closing.close()
    assert closing.entry("runa/sparse")["size"] == 8 * 2**40
    assert "sha256" not in closing.entry("runa/sparse")
    assert "sha256" in closing.entry("runa/tiny")


NAMES = (b"new\nline", b"\xff\xfe", b"quote\"'", b" ", b"-rf", b"\x1b[2J", "ü".encode(), b"x" * 255)


@pytest.mark.contract("AUD-14")
def test_names_need_not_be_text(closing: Closing) -> None:
    for name in NAMES:
        Path(os.fsdecode(bytes(closing.runa) + b"/" + name)).write_text("")
    closing.close()
    assert closing.is_sealed()
    assert closing.entry("runa/%FF%FE")["utf8"] is False
    assert "utf8" not in closing.entry("runa/new\nline")
    assert len(closing.record.manifest.read_bytes().splitlines()) == len(NAMES) + 4


@pytest.mark.contract("AUD-14")
def test_a_directory_in_the_place_of_runa_is_needed(closing: Closing, tmp_path: Path) -> None:
    closing.runa.rmdir()
    closing.runa.symlink_to(tmp_path)
    with pytest.raises(AuditError, match="no directory any more"):
        closing.close()
    closing.runa.unlink()
    closing.runa.mkdir()


@pytest.mark.contract("F-16")
def test_a_file_that_is_replaced_while_it_is_sealed_is_refused(closing: Closing) -> None:
    victim = closing.runa / "victim"
    victim.write_text("mine")
    first_seen = []

    def swap() -> bool:
        # The first walk looks at two entries; this is between the walks.
        first_seen.append(1)
        if len(first_seen) == 3:
            victim.rename(closing.outside.with_name("kept"))
            os.link(closing.outside, victim)
        return False

    with pytest.raises(AuditError, match="was replaced while the record was sealed"):
        closing.close(check=swap)
    assert mode(closing.outside) == 0o640
    assert "outcome" not in closing.metadata


@pytest.mark.contract("F-16")
def test_a_directory_that_moves_while_it_is_walked_is_noticed(
    closing: Closing, tmp_path: Path
) -> None:
    inner = closing.runa / "a/inner"
    inner.mkdir(parents=True)
    (closing.runa / "z").write_text("")
    (tmp_path / "elsewhere").mkdir()

    def move(entry: Entry) -> None:
        if entry.name == b"inner":
            inner.rename(tmp_path / "elsewhere/inner")

    with pytest.raises(AuditError, match="a directory has moved"):
        walk(closing.runa, move, never)


# --- closing again -------------------------------------------------------------------------------


class Killed(BaseException):
    """Ends the closing as the death of its process would, but for what `finally` does."""


def _dying(number: int, acts: Iterator[int], real: Callable[..., Any]) -> Callable[..., Any]:
    def act(*args: Any, **more: Any) -> Any:
        if next(acts) == number:
            raise Killed
        return real(*args, **more)

    return act


@pytest.mark.contract("AUD-09", "AUD-16", "AUD-22")
@pytest.mark.parametrize("number", range(12))
def test_a_closing_that_was_killed_anywhere_can_be_done_again(
    closing: Closing, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (closing.runa / "d").mkdir()
    (closing.runa / "d/a").write_bytes(b"x")
    audit.write_intent(closing.record, "timeout", start_facts().start_timestamp)
    acts = itertools.count()
    monkeypatch.setattr(os, "fsync", _dying(number, acts, os.fsync))
    monkeypatch.setattr(os, "rename", _dying(number, acts, os.rename))
    monkeypatch.setattr(Path, "rename", _dying(number, acts, Path.rename))
    monkeypatch.setattr(Path, "unlink", _dying(number, acts, Path.unlink))
    monkeypatch.setattr(Path, "chmod", _dying(number, acts, Path.chmod))
    with pytest.raises(Killed):
        closing.close()
    monkeypatch.undo()
    closing.close()
    assert closing.is_sealed()
    assert closing.metadata["outcome"] == "success"
    manifest = closing.record.manifest.read_bytes()
    assert closing.metadata["manifest_sha256"] == hashlib.sha256(manifest).hexdigest()
    names = sorted(path.name for path in closing.record.agentd.iterdir())
    assert names == ["manifest.json", "output.log", "session.json"]


@pytest.mark.contract("AUD-16", "AUD-22")
def test_until_the_last_step_the_record_is_incomplete(closing: Closing) -> None:
    def complete() -> bool:
        assert "outcome" not in closing.metadata
        return False

    (closing.runa / "a").write_bytes(b"x" * 3_000_000)
    closing.close(check=complete)


@pytest.mark.contract("AUD-16")
def test_a_closed_record_may_be_closed_again(closing: Closing) -> None:
    (closing.runa / "a").write_bytes(b"x")
    closing.close()
    first = closing.record.manifest.read_bytes()
    closing.close()
    assert closing.record.manifest.read_bytes() == first


@pytest.mark.contract("AUD-22")
def test_a_check_that_raises_ends_the_closing(closing: Closing) -> None:
    def cancelled() -> bool:
        raise Killed

    with pytest.raises(Killed):
        closing.close(check=cancelled)
    assert "outcome" not in closing.metadata
    assert not list(closing.record.agentd.glob("*.tmp"))


@pytest.mark.contract("AUD-22")
def test_a_record_that_is_gone_is_an_audit_error(closing: Closing) -> None:
    closing.runa.rmdir()
    with pytest.raises(AuditError, match=r"cannot close the audit record .* No such file"):
        closing.close()
    closing.runa.mkdir()
