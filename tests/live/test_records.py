"""The sealed record of a session that left all kinds of things behind."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from testbed.agentd_client import HOLD, Ended, Record
from testbed.agentd_process import Agentd, Table

pytestmark = pytest.mark.live

LITTER = r"""
mkdir -p .runa/deep/er/and/deeper && echo text >.runa/deep/er/and/deeper/file
echo plain >.runa/plain && chmod 4777 .runa/plain
ln .runa/plain .runa/deep/second-name
ln -s /etc/passwd .runa/link
ln -s nowhere .runa/dangling
mkfifo .runa/fifo
touch "$(printf '.runa/not-utf8-\377')" '.runa/new
line'
truncate -s 1G .runa/sparse
for mode in 000 111 444 700; do
    mkdir .runa/mode-$mode && echo $mode >.runa/mode-$mode/file && chmod $mode .runa/mode-$mode
done
echo done
echo problem >&2
"""
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z")
CRI_LINE = re.compile(rb"\d{4}-\d\d-\d\dT\S+ (stdout|stderr) [FP] ")


@pytest.fixture(scope="module")
def agentd(start_agentd: Callable[..., Agentd], declare: Callable[..., Table]) -> Agentd:
    # Digests of a gigabyte of nothing take seconds: the limit is passed before them.
    return start_agentd(declare(limits={"record": "64MiB"}))


@pytest.fixture(scope="module")
def ended(agentd: Agentd) -> Ended:
    return agentd.script(LITTER).wait()


@pytest.fixture(scope="module")
def record(ended: Ended) -> Record:
    assert ended.code == 0, ended
    return ended.record


@pytest.fixture(scope="module")
def manifest(record: Record) -> dict[bytes, dict[str, Any]]:
    """The manifest's rows by the paths that they name."""
    document = json.loads((record.directory / "agentd/manifest.json").read_bytes())
    return {path_of(row): row for row in document["entries"]}


def path_of(row: dict[str, Any]) -> bytes:
    if row.get("utf8", True):
        return str(row["path"]).encode()
    return re.sub(rb"%(..)", lambda m: bytes.fromhex(m[1].decode()), row["path"].encode())


def below(directory: Path) -> list[Path]:
    """A directory and all in it; follows no link."""
    found = [directory]
    for place, directories, files in os.walk(directory):
        found += [Path(place, name) for name in (*directories, *files)]
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.contract("AUD-01", "AUD-02")
def test_a_record_lies_below_its_agent_and_session(agentd: Agentd, ended: Ended) -> None:
    assert ended.record.directory == agentd.audit_root / "worker" / ended.session_id


@pytest.mark.contract("AUD-02", "AUD-09")
def test_agentds_part_holds_these_files_and_no_leftovers(record: Record) -> None:
    names = sorted(path.name for path in (record.directory / "agentd").iterdir())
    assert names == ["manifest.json", "output.log", "session.json"]


@pytest.mark.contract("AUD-14", "AUD-17", "AUD-18")
def test_all_that_the_session_left_is_sealed(record: Record) -> None:
    entries = [path for path in below(record.runa) if not path.is_symlink()]
    wrong = [path for path in entries if mode(path) != (0o555 if path.is_dir() else 0o444)]
    assert (len(entries) > 15, wrong) == (True, [])


@pytest.mark.contract("AUD-14")
@pytest.mark.parametrize("name", ["session.json", "output.log", "manifest.json"])
def test_agentds_own_files_are_read_only(record: Record, name: str) -> None:
    assert mode(record.directory / "agentd" / name) == 0o444


@pytest.mark.contract("AUD-15")
@pytest.mark.parametrize("name", ["", "agentd"])
def test_the_directories_around_stay_the_owners(record: Record, name: str) -> None:
    assert mode(record.directory / name) == 0o755


@pytest.mark.contract("F-26")
def test_nobody_else_gets_into_the_audit_root(agentd: Agentd, record: Record) -> None:
    assert (mode(agentd.audit_root), mode(record.directory.parent)) == (0o700, 0o700)


@pytest.mark.contract("AUD-25", "F-42")
def test_what_the_session_wrote_belongs_to_one_user(record: Record) -> None:
    """The daemon's own when Podman is rootless, and the session user as root."""
    owners = {path.lstat().st_uid for path in below(record.runa)}
    assert owners == {os.geteuid() or 10001}


@pytest.mark.contract("F-27")
def test_the_manifest_lists_every_entry(
    record: Record, manifest: dict[bytes, dict[str, Any]]
) -> None:
    entries = [*below(record.runa), record.directory / "agentd/output.log"]
    expected = {os.fsencode(path.relative_to(record.directory)) for path in entries}
    assert set(manifest) == expected


@pytest.mark.contract("F-27")
def test_the_manifests_digests_are_those_of_the_files(
    record: Record, manifest: dict[bytes, dict[str, Any]]
) -> None:
    claimed = {path: row["sha256"] for path, row in manifest.items() if "sha256" in row}
    actual = {
        path: hashlib.sha256(Path(os.fsdecode(bytes(record.directory) + b"/" + path)).read_bytes())
        for path in claimed
    }
    assert claimed == {path: digest.hexdigest() for path, digest in actual.items()}
    assert len(claimed) > 10


@pytest.mark.contract("F-27")
def test_the_manifests_modes_and_kinds_are_those_of_the_entries(
    record: Record, manifest: dict[bytes, dict[str, Any]]
) -> None:
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
    for path, row in manifest.items():
        status = os.lstat(bytes(record.directory) + b"/" + path)
        kind = kinds.get(stat.S_IFMT(status.st_mode), "fifo")
        assert (row["type"], row["mode"]) == (kind, f"{stat.S_IMODE(status.st_mode):04o}")


@pytest.mark.contract("F-27")
def test_the_facts_hold_the_manifests_digest(record: Record) -> None:
    content = (record.directory / "agentd/manifest.json").read_bytes()
    assert record.facts["manifest_sha256"] == hashlib.sha256(content).hexdigest()


def test_a_file_beyond_the_limit_is_listed_without_a_digest(
    manifest: dict[bytes, dict[str, Any]],
) -> None:
    row = manifest[b"runa/sparse"]
    assert (row["size"], "sha256" in row) == (2**30, False)


@pytest.mark.contract("AUD-19", "F-17")
def test_two_names_of_one_file_are_sealed_and_listed_alike(
    manifest: dict[bytes, dict[str, Any]],
) -> None:
    first, second = manifest[b"runa/plain"], manifest[b"runa/deep/second-name"]
    assert (first["mode"], first["sha256"]) == (second["mode"], second["sha256"])


@pytest.mark.contract("AUD-18", "F-16")
def test_a_link_is_listed_with_its_target_and_not_followed(
    manifest: dict[bytes, dict[str, Any]],
) -> None:
    assert (manifest[b"runa/link"]["target"], mode(Path("/etc/passwd"))) == ("/etc/passwd", 0o644)


@pytest.mark.contract("AUD-05", "AUD-12", "AUD-31", "F-60")
def test_the_facts_say_what_ran(ended: Ended, record: Record, repository: str) -> None:
    expected = {
        "schema_version": 2,
        "session_id": ended.session_id,
        "agent": "worker",
        "repo_url": repository,
        "work_unit": LITTER,
        "trigger": "manual",
        "outcome": "success",
        "exit_code": 0,
        "oom_killed": False,
    }
    assert {key: record.facts.get(key) for key in expected} == expected


@pytest.mark.contract("AUD-06")
def test_times_are_utc_and_in_order(record: Record) -> None:
    facts = record.facts
    times = [facts["start_timestamp"], facts["end_timestamp"]]
    assert all(TIMESTAMP.fullmatch(time) for time in times)
    first, last = map(datetime.fromisoformat, times)
    assert (last - first).total_seconds() == pytest.approx(facts["duration_seconds"], abs=0.001)


@pytest.mark.contract("AUD-07")
def test_the_facts_are_pretty_json_and_a_newline(record: Record) -> None:
    written = (record.directory / "agentd/session.json").read_text()
    assert written == json.dumps(record.facts, indent=2, ensure_ascii=False) + "\n"


def test_the_facts_name_the_commit_that_was_cloned(ended: Ended, record: Record) -> None:
    assert f"agentd: cloned {record.facts['commit']}\n" in ended.stdout


def test_the_output_is_kept_with_times_and_streams(record: Record) -> None:
    lines = (record.directory / "agentd/output.log").read_bytes().splitlines(keepends=True)
    assert all(CRI_LINE.match(line) for line in lines)
    bodies = [line.split(b" ", 1)[1] for line in lines]
    assert {b"stdout F done\n", b"stderr F problem\n"} <= set(bodies)


def test_the_facts_count_the_output(ended: Ended, record: Record) -> None:
    lines = (record.directory / "agentd/output.log").read_bytes().splitlines(keepends=True)
    size = sum(len(line.split(b" ", 3)[3]) for line in lines)
    expected = {"bytes": size, "dropped_bytes": 0, "complete": True, "masked": "none"}
    assert record.facts["output"] == expected


@pytest.fixture(scope="module")
def active(agentd: Agentd) -> dict[str, Any]:
    """What a record looks like while its session runs."""
    client = agentd.script(HOLD)
    client.wait_for_line("ready")
    record = client.record
    seen = {
        "facts": record.facts,
        "runa": mode(record.runa),
        "raw": mode(record.directory / "agentd/output.raw"),
        "state": (record.runa / "state.toml").exists(),
    }
    record.release()
    assert client.wait().code == 0
    return seen


@pytest.mark.contract("AUD-05", "AUD-21")
def test_the_record_of_a_live_session_has_no_end(active: dict[str, Any]) -> None:
    assert {"end_timestamp", "outcome", "exit_code"} & set(active["facts"]) == set()


@pytest.mark.contract("F-26")
@pytest.mark.parametrize(("name", "expected"), [("runa", 0o700), ("raw", 0o600)])
def test_the_record_of_a_live_session_is_for_its_users_alone(
    active: dict[str, Any], name: str, expected: int
) -> None:
    assert active[name] == expected


@pytest.mark.contract("ENV-31")
def test_what_a_session_writes_is_on_the_host_at_once(active: dict[str, Any]) -> None:
    assert active["state"]
