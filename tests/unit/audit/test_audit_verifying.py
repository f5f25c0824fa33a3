"""Verifying a closed record: whatever was changed since is found, and whatever was not is not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentd import audit
from agentd.audit import RecordLimits, Verdict
from agentd.audit.tree import Entry, walk
from agentd.audit.verifying import MAX_FINDINGS
from agentd.errors import UnknownSession
from tests.unit.builders import SESSION, end_facts, record, start_facts

LIMITS = RecordLimits(2**20)
DEEP = 2000
NAMES = (b"new\nline", b"\xff\xfe", b'quote"\\', b"\x1b[2J", "ü".encode(), b"x" * 255, b"%41", b"A")


def never() -> None:
    """A check of work that goes on."""


def make(root: Path, plant: Callable[[Path], None], limits: RecordLimits = LIMITS) -> audit.Record:
    """A closed record of a session that left what `plant` puts into `runa/`."""
    audit.prepare(root)
    made = record(root)
    audit.create(made, start_facts(), owner=None, document=b"{}")
    made.output_raw.rename(made.output_log)
    plant(made.runa)
    audit.close(made, start_facts(), end_facts(), limits, never)
    return made


def writable_again(top: Path) -> None:
    """Let pytest, which is no root everywhere, remove what was sealed."""

    def open_up(entry: Entry) -> None:
        if entry.is_directory:
            entry.chmod(0o700)

    walk(top, open_up, never)


def plant_all_kinds(runa: Path) -> None:
    for name in NAMES:
        Path(os.fsdecode(bytes(runa) + b"/" + name)).write_bytes(name)
    (runa / "d/inner").mkdir(parents=True)
    (runa / "d/inner/file").write_text("text")
    (runa / "d/other").write_text("text")
    (runa / "d/link").symlink_to("../../../outside")
    (runa / "raw").symlink_to(os.fsdecode(b"\xff"))
    os.link(runa / "d/other", runa / "second-name")
    os.mkfifo(runa / "fifo")
    os.mkfifo(runa / "d/fifo")
    with (runa / "sparse").open("wb") as sparse:
        sparse.truncate(8 * 2**40)
    here = Path.cwd()
    os.chdir(runa)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")
    finally:
        os.chdir(here)


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[audit.Record]:
    root = tmp_path / "audit"
    yield make(root, plant_all_kinds)
    writable_again(root)


def verify(made: audit.Record) -> Verdict:
    return audit.verify(made, never)


def found(made: audit.Record) -> list[tuple[str, str]]:
    """The differences, as pairs of entry and problem."""
    verdict = verify(made)
    assert (verdict.state == "damaged") == bool(verdict.findings)
    return [(finding.entry, finding.problem) for finding in verdict.findings]


# --- nothing was changed -------------------------------------------------------------------------


@pytest.mark.contract("F-27")
def test_a_record_verifies_as_it_was_closed(closed: audit.Record) -> None:
    verdict = verify(closed)
    assert (verdict.state, verdict.findings) == ("verified", ())
    listed = json.loads(closed.manifest.read_bytes())["entries"]
    # And agentd/ itself, session.json and the manifest.
    assert verdict.entries == len(listed) + 3


@pytest.mark.contract("F-27")
def test_files_without_a_digest_are_counted(closed: audit.Record) -> None:
    assert verify(closed).without_digest == 1


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A directory on another file system, where there is one."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as directory:
        yield Path(directory)
        writable_again(Path(directory))


@pytest.mark.contract("F-27")
def test_a_copy_verifies_whatever_order_its_file_system_has(
    tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each name is a batch, so that the walk's order is that of the file system.
    monkeypatch.setattr("agentd.audit.tree._BATCH", 1)
    closed = make(tmp_path / "audit", plant_all_kinds)
    subprocess.run(["cp", "-a", closed.directory, elsewhere], check=True)
    assert verify(audit.Record(elsewhere / SESSION)).findings == ()
    writable_again(tmp_path / "audit")


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[audit.Record]:
    """A closed record of a great many levels."""

    def plant(runa: Path) -> None:
        here = os.open(runa, os.O_RDONLY)
        for _ in range(DEEP):
            os.mkdir("d" * 10, dir_fd=here)
            inner = os.open("d" * 10, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
        os.close(os.open("leaf", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=here))
        os.close(here)

    made = make(tmp_path / "audit", plant)
    yield made
    # Python's rmtree recurses by the call stack, and pytest would use it.
    audit.finish(audit.Begun(made.directory), never)


@pytest.mark.contract("F-27")
def test_thousands_of_levels_verify(deep: audit.Record) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert verify(deep).findings == ()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.contract("F-27")
def test_a_change_below_thousands_of_levels_is_found(deep: audit.Record) -> None:
    def rename(entry: Entry) -> None:
        if entry.name == b"leaf":
            directory = Path(f"/proc/self/fd/{entry.within}")
            directory.chmod(0o755)
            os.rename(b"leaf", b"tree", src_dir_fd=entry.within, dst_dir_fd=entry.within)
            directory.chmod(0o555)

    walk(deep.runa, rename, never)
    (come, gone) = found(deep)
    assert (come[0][-9:], come[1]) == ("ddd/tree'", "is not in the manifest")
    assert (gone[0][-9:], gone[1]) == ("ddd/leaf'", "is missing")


# --- something was changed -----------------------------------------------------------------------

Tamper = Callable[[audit.Record], None]


def rewritten(name: str, text: str) -> Tamper:
    def tamper(made: audit.Record) -> None:
        path = made.directory / name
        mode = stat.S_IMODE(path.parent.stat().st_mode)
        path.parent.chmod(0o755)
        path.chmod(0o644)
        path.write_text(text)
        path.chmod(0o444)
        path.parent.chmod(mode)

    return tamper


def at(name: str, act: Callable[[Path], object]) -> Tamper:
    """Do something to an entry whose directory is writable meanwhile."""

    def tamper(made: audit.Record) -> None:
        path = made.directory / name
        mode = stat.S_IMODE(path.parent.stat().st_mode)
        path.parent.chmod(0o755)
        act(path)
        path.parent.chmod(mode)

    return tamper


def relink(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")


def truncate(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, 5)


def lead_out(path: Path) -> None:
    """A link to the very same directory, which is somewhere else now."""
    path.chmod(0o755)
    path.rename(path.parent.parent / "moved")
    path.symlink_to("../moved")
    (path.parent.parent / "moved").chmod(0o555)


def replaced(old: str, new: str) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.chmod(0o644)
        path.write_text(path.read_text().replace(old, new))
        path.chmod(0o444)

    return replace


def become_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o444)
    path.chmod(0o444)


def become_link(path: Path) -> None:
    """A link to a file with the very same content."""
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def new_file(path: Path) -> None:
    path.write_text("")
    path.chmod(0o444)


def new_directory(path: Path) -> None:
    (path / "in/it").mkdir(parents=True)
    path.chmod(0o555)


CHANGES: dict[str, tuple[Tamper, list[tuple[str, str]]]] = {
    "content": (
        rewritten("runa/d/inner/file", "TEXT"),
        [("'runa/d/inner/file'", "has another content: its SHA-256 is ")],
    ),
    "size": (rewritten("runa/d/inner/file", "texts"), [("'runa/d/inner/file'", "has 5 bytes, ")]),
    "size of what has no digest": (
        at("runa/sparse", truncate),
        [("'runa/sparse'", "has mode 0644, "), ("'runa/sparse'", "has 5 bytes, and had 8796")],
    ),
    "output": (rewritten("agentd/output.log", "x"), [("'agentd/output.log'", "has 1 bytes, ")]),
    "input": (
        rewritten("agentd/invocation-input/document.json", "[]"),
        [("'agentd/invocation-input/document.json'", "has another content")],
    ),
    "mode of a file": (
        at("runa/d/other", lambda path: path.chmod(0o4755)),
        # It has two names.
        [
            (name, "has mode 4755, and was sealed with 0444")
            for name in ("'runa/second-name'", "'runa/d/other'")
        ],
    ),
    "mode of a directory": (
        at("runa/d/inner", lambda path: path.chmod(0o755)),
        [("'runa/d/inner'", "has mode 0755, and was sealed with 0555")],
    ),
    "mode of the top": (
        at("runa", lambda path: path.chmod(0o700)),
        [("'runa'", "has mode 0700, and was sealed with 0555")],
    ),
    "mode of the facts": (
        at("agentd/session.json", lambda path: path.chmod(0o644)),
        [("'agentd/session.json'", "has mode 0644, and was sealed with 0444")],
    ),
    "target of a link": (
        at("runa/d/link", relink),
        [("'runa/d/link'", "leads to 'elsewhere', and led to '../../../outside'")],
    ),
    "a fifo for a file": (
        at("runa/d/inner/file", become_fifo),
        [("'runa/d/inner/file'", "is a fifo, and was a file")],
    ),
    "a link for a file": (
        at("runa/d/inner/file", become_link),
        [
            ("'runa/d/inner/file'", "is a symlink, and was a file"),
            ("'runa/d/inner/moved'", "is not in the manifest"),
        ],
    ),
    "a link for a directory": (
        at("runa/d/inner", become_link),
        [
            ("'runa/d/inner'", "is a symlink, and was a directory"),
            ("'runa/d/moved'", "is not in the manifest"),
            ("'runa/d/inner/file'", "is missing"),
        ],
    ),
    "one that is gone": (at("runa/d/fifo", Path.unlink), [("'runa/d/fifo'", "is missing")]),
    "one whose name is no text is gone": (
        at("runa/\udcff\udcfe", Path.unlink),
        [("'runa/\\udcff\\udcfe'", "is missing")],
    ),
    "a new file": (at("runa/d/new", new_file), [("'runa/d/new'", "is not in the manifest")]),
    "a new directory is told once": (
        at("runa/d/new", new_directory),
        [("'runa/d/new'", "is not in the manifest")],
    ),
    "a new file beside the facts": (
        at("agentd/output.raw", new_file),
        [("'agentd/output.raw'", "is not in the manifest")],
    ),
    "a stray in the record": (
        at("new\nline", new_file),
        [("'new\\nline'", "does not belong to a record")],
    ),
    "the log is gone": (
        at("agentd/output.log", Path.unlink),
        [("'agentd/output.log'", "is missing")],
    ),
    "runa is a link": (at("runa", lead_out), [("'runa'", "could not be compared to the end: ")]),
    "the manifest": (
        rewritten("agentd/manifest.json", "{}"),
        [("'agentd/manifest.json'", "is not the one that session.json names: ")],
    ),
    "no manifest": (
        at("agentd/manifest.json", Path.unlink),
        [("'agentd/manifest.json'", "cannot be read: No such file")],
    ),
    "a fifo for the manifest": (
        at("agentd/manifest.json", become_fifo),
        [("'agentd/manifest.json'", "is no regular file")],
    ),
    "a fifo for the facts": (
        at("agentd/session.json", become_fifo),
        [("'agentd/session.json'", "session.json is no regular file")],
    ),
    "no facts": (
        at("agentd/session.json", Path.unlink),
        [("'agentd/session.json'", "No such file")],
    ),
    "facts that are none": (
        rewritten("agentd/session.json", "{"),
        [("'agentd/session.json'", "cannot use ")],
    ),
    "facts of a later agentd": (
        at("agentd/session.json", replaced('_version": 2', '_version": 3')),
        [("'agentd/session.json'", "schema_version is 3")],
    ),
    "facts of another session": (
        at("agentd/session.json", replaced(f'"{SESSION}"', f'"{SESSION[::-1]}"')),
        [("'agentd/session.json'", f"is of session '{SESSION[::-1]}'")],
    ),
}


@pytest.mark.contract("F-27")
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_found_and_nothing_else(closed: audit.Record, change: str) -> None:
    tamper, expected = CHANGES[change]
    tamper(closed)
    differences = found(closed)
    assert [entry for entry, _ in differences] == [entry for entry, _ in expected], differences
    for (_, problem), (_, words) in zip(differences, expected, strict=True):
        assert words in problem


@pytest.mark.contract("F-27")
def test_of_many_differences_the_first_are_told_and_all_are_counted(tmp_path: Path) -> None:
    def plant(runa: Path) -> None:
        for number in range(50):
            (runa / f"{number:02}").touch()

    made = make(tmp_path / "audit", plant)
    made.runa.chmod(0o755)
    for path in made.runa.iterdir():
        path.unlink()
    made.runa.chmod(0o555)
    verdict = verify(made)
    assert (len(verdict.findings), verdict.findings_total) == (MAX_FINDINGS, 50)
    writable_again(tmp_path / "audit")


@pytest.mark.contract("F-27")
def test_a_bad_block_costs_one_finding(
    closed: audit.Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = (closed.runa / "d/inner/file").stat().st_ino
    real = os.read

    def read(descriptor: int, size: int) -> bytes:
        if os.fstat(descriptor).st_ino == bad:
            raise OSError(5, "Input/output error")
        return real(descriptor, size)

    monkeypatch.setattr(os, "read", read)
    assert found(closed) == [("'runa/d/inner/file'", "cannot be read: Input/output error")]


# --- manifests that were forged with their digest ------------------------------------------------


def forge(made: audit.Record, manifest: bytes) -> None:
    """Put another manifest into a record, and its digest into the facts."""
    facts = json.loads(made.session_json.read_bytes())
    facts["manifest_sha256"] = hashlib.sha256(manifest).hexdigest()
    for path, data in ((made.manifest, manifest), (made.session_json, json.dumps(facts).encode())):
        path.chmod(0o644)
        path.write_bytes(data)
        path.chmod(0o444)


HEAD = b'{"version":1,"entries":[\n'
ROW = b'{"path":"runa","type":"directory","mode":"0555"}'


@pytest.mark.contract("F-27")
@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        (b"", "does not begin as a manifest does"),
        (b"{}\n", "does not begin as a manifest does"),
        (b'{"version":2,"entries":[\n\n]}\n', "it is of version 2, and this agentd knows 1"),
        (HEAD, "it is damaged: "),
        (HEAD + ROW, "it is damaged: "),
        (HEAD + ROW + b"\n", "it is damaged: "),
        (HEAD + ROW + b"\n]}\n ", "it goes on after its end"),
        (HEAD + ROW + b",\n" + ROW + b"\n]}\n", "lists an entry twice, at line 3"),
        (HEAD + b"[]\n]}\n", "it is damaged: Expected `object`"),
        (HEAD + b"\xff\n]}\n", "it is damaged: "),
        (HEAD + b'{"path":"a","type":"file"}\n]}\n', "missing required field `mode`"),
        (HEAD + b'{"path":"a","type":"file","mode":"","x":1}\n]}\n', "unknown field `x`"),
        (HEAD + b'{"type":"file","mode":""}\n]}\n', "line 2 does not say where"),
        (HEAD + b'{"in":0,"name":"a","type":"file","mode":""}\n]}\n', "line 2 does not say where"),
        (HEAD + b'{"in":99999999999999999999999,"name":"a","type":"f","mode":""}\n]}\n', "line 2"),
        (HEAD + b"[" * 100_000, "it is damaged: "),
    ],
)
def test_a_forged_manifest_is_told_and_no_more(
    closed: audit.Record, manifest: bytes, why: str
) -> None:
    forge(closed, manifest)
    ((entry, problem),) = found(closed)
    assert entry == "'agentd/manifest.json'"
    assert why in problem


@pytest.mark.contract("F-27")
def test_a_manifest_whose_digest_is_forged_too_verifies(closed: audit.Record) -> None:
    """docs/security.md says so: `session.json` is what is trusted."""
    rewritten("runa/d/inner/file", "TEXT")(closed)
    old, new = (hashlib.sha256(text).hexdigest().encode() for text in (b"text", b"TEXT"))
    lines = closed.manifest.read_bytes().splitlines(keepends=True)
    forge(
        closed,
        b"".join(line.replace(old, new) if b"inner/file" in line else line for line in lines),
    )
    assert verify(closed).state == "verified"


@pytest.mark.contract("F-27")
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_damage_to_a_manifest_ends_in_anything_but_a_verdict(
    closed: audit.Record, data: st.DataObject
) -> None:
    sound = closed.manifest.with_name("sound")
    keep = closed.directory.parent / sound.name
    if not keep.exists():
        shutil.copy(closed.manifest, keep)
    whole = bytearray(keep.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(whole) - 1))
        length = data.draw(st.integers(0, 40))
        whole[place : place + length] = data.draw(st.binary(max_size=20))
    forge(closed, bytes(whole))
    assert verify(closed).state in {"verified", "damaged"}


@pytest.mark.contract("F-27")
def test_output_that_was_withheld_belongs_to_its_record(tmp_path: Path) -> None:
    """Nobody can mask it any more: it stays as it is, and the manifest does not list it."""
    audit.prepare(tmp_path / "audit")
    made = record(tmp_path / "audit")
    audit.create(made, start_facts(), owner=None, document=None)
    withheld = audit.Output(bytes=0, dropped_bytes=0, complete=False, masked="withheld")
    audit.close(made, start_facts(), end_facts(output=withheld), LIMITS, never)
    assert verify(made).findings == ()
    made.output_raw.chmod(0o644)
    assert found(made) == [("'agentd/output.raw'", "has mode 0644, and was sealed with 0600")]
    writable_again(tmp_path / "audit")


# --- records that are not closed -----------------------------------------------------------------


@pytest.mark.contract("AUD-21")
def test_a_live_record_is_incomplete_and_not_damaged(tmp_path: Path) -> None:
    audit.prepare(tmp_path / "audit")
    made = record(tmp_path / "audit")
    audit.create(made, start_facts(), owner=None, document=None)
    assert verify(made) == Verdict("incomplete")


@pytest.mark.contract("AUD-21", "AUD-22")
def test_a_record_whose_closing_was_interrupted_is_incomplete(tmp_path: Path) -> None:
    audit.prepare(tmp_path / "audit")
    made = record(tmp_path / "audit")
    audit.create(made, start_facts(), owner=None, document=None)
    audit.write_next(made, start_facts(), end_facts())
    assert verify(made) == Verdict("incomplete")


def test_a_record_that_is_removed_meanwhile_is_gone(closed: audit.Record) -> None:
    asked = iter(range(100))

    def check() -> None:
        if next(asked) == 5:
            closed.directory.rename(closed.directory.with_name(".elsewhere"))
            Path(closed.directory.with_name(".elsewhere"), "runa").chmod(0o755)

    assert audit.verify(closed, check).state == "gone"


def test_a_check_that_raises_ends_the_comparison(closed: audit.Record) -> None:
    class Stop(BaseException):
        """What a cancelled check raises."""

    def stop() -> None:
        raise Stop

    with pytest.raises(Stop):
        audit.verify(closed, stop)


def test_a_name_that_fits_no_record_is_told(closed: audit.Record) -> None:
    with pytest.raises(UnknownSession):
        audit.find(closed.directory.parents[1], "ffff")
