"""The sealed record of a session that left all kinds of things, and records that stay open."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from testbed.agentd_client import HOLD, Client, Ended, Record
from testbed.agentd_process import Agentd, Table
from testbed.podman_service import PodmanService
from tests.conftest import LONG

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


ASKED = ["/bin/sh", "-c", HOLD]
GUIDE = Path(__file__).parents[2] / "docs/operations.md"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the daemon's environment would have its state and its temporary files."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def agentd(
    start_agentd: Callable[..., Agentd], declare: Callable[..., Table], elsewhere: Path
) -> Agentd:
    names = ("TMPDIR", "XDG_STATE_HOME", "XDG_DATA_HOME", "STATE_DIRECTORY", "AGENTD_AUDIT_ROOT")
    return start_agentd(
        # Digests of a gigabyte of nothing take seconds: the limit is passed before them.
        declare(limits={"record": "64MiB"}),
        declare("asked", command={"argv": ASKED}),
        environ=dict.fromkeys(names, str(elsewhere)),
    )


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


@pytest.fixture(scope="module")
def asked(agentd: Agentd, elsewhere: Path) -> dict[str, Any]:
    """What is on the host of an operator's request, while its session runs and after it."""
    client = agentd.client("asked", "--request", "Add a page")
    client.wait_for_line("ready")
    agentd_files = client.record.directory / "agentd"
    seen = {
        "document": (agentd_files / "invocation-input/document.json").read_bytes(),
        "elsewhere": below(elsewhere)[1:],
    }
    client.record.release()
    client.wait()
    inputs = [agentd_files / "invocation-input", agentd_files / "invocation-input/document.json"]
    return seen | {"modes after": [mode(path) for path in inputs]}


@pytest.mark.contract("F-18", "AUD-03")
def test_a_request_is_kept_in_the_record_alone(asked: dict[str, Any]) -> None:
    assert (b"Add a page" in asked["document"], asked["elsewhere"]) == (True, [])


@pytest.mark.contract("F-18", "F-26")
def test_nobody_else_gets_at_a_request(agentd: Agentd, asked: dict[str, Any]) -> None:
    assert asked["document"]
    assert (mode(agentd.audit_root), mode(agentd.audit_root / "asked")) == (0o700, 0o700)


@pytest.mark.contract("AUD-14", "F-27")
def test_a_request_is_sealed_with_its_directory(asked: dict[str, Any]) -> None:
    assert asked["modes after"] == [0o555, 0o444]


@pytest.mark.contract("AUD-32")
def test_records_lie_where_the_configuration_says_whatever_the_environment(
    record: Record, asked: dict[str, Any], elsewhere: Path
) -> None:
    assert asked["document"]
    assert (record.directory.is_dir(), below(elsewhere)[1:]) == (True, [])


@pytest.mark.contract("SES-01", "SES-05", "AUD-23")
def test_the_log_tells_a_sessions_phases(agentd: Agentd, ended: Ended) -> None:
    agentd.wait_for("agentd.run_completed", session_id=ended.session_id)
    told = [event["event"] for event in agentd.events(session_id=ended.session_id)]
    assert [event for event in told if event.startswith("runner.")] == [
        "runner.session_started",
        "runner.session_outcome",
        "runner.session_teardown",
    ]


@pytest.mark.contract("F-59")
def test_a_sealed_record_can_be_deleted_as_the_guide_says(agentd: Agentd) -> None:
    command = "chmod -R u+w"
    assert f"`{command}`" in GUIDE.read_text()
    directory = agentd.script("mkdir -p .runa/a/b; echo x >.runa/a/b/c").wait().record.directory
    subprocess.run([*command.split(), directory], check=True)
    shutil.rmtree(directory)
    assert not directory.exists()


# --- records that stay incomplete ----------------------------------------------------------------


def assert_incomplete(record: Record) -> None:
    """It has its start and no end, and `runa/` the mode of a live session."""
    ends = {"outcome", "end_timestamp", "exit_code"} & set(record.facts)
    shown = ("start_timestamp" in record.facts, ends, mode(record.runa))
    assert shown == (True, set(), 0o700)


SELDOM = pytest.mark.skipif(not LONG, reason="Podman is asked for 10 s; AGENTD_TESTS_LONG=1")


@pytest.fixture(scope="module")
def irremovable(agentd: Agentd, podman: PodmanService, session_image: str) -> Client:
    """The client of a session whose container Podman does not remove: another one needs it."""
    client = agentd.script(HOLD)
    client.wait_for_line("ready")
    (container,) = agentd.containers()
    dependent = podman.podman("create", "--pid", f"container:{container}", session_image, "true")
    client.record.release()
    client.wait()
    podman.podman("rm", "--force", dependent.strip())
    podman.podman("rm", "--force", "--time", "0", container)
    return client


@SELDOM
@pytest.mark.contract("AUD-11", "AUD-21", "AUD-22", "AUD-24")
def test_a_teardown_that_failed_leaves_the_record_incomplete(irremovable: Client) -> None:
    assert_incomplete(irremovable.record)


@SELDOM
@pytest.mark.contract("AUD-22")
def test_a_teardown_that_failed_keeps_the_outcome_for_who_closes_the_record(
    irremovable: Client,
) -> None:
    known = json.loads((irremovable.record.directory / "agentd/session.json.next").read_bytes())
    assert (known["outcome"], known["exit_code"]) == ("success", 0)


@SELDOM
@pytest.mark.contract("F-41", "SES-29")
def test_a_teardown_that_failed_is_told_beside_the_outcome(irremovable: Client) -> None:
    ended = irremovable.wait()
    said = "agentd: session success, but it could not be cleaned up: container removal: "
    assert (ended.code, said in ended.stderr) == (6, True), ended


@SELDOM
@pytest.mark.contract("AUD-23")
def test_the_log_says_that_the_teardown_failed(agentd: Agentd, irremovable: Client) -> None:
    session = irremovable.session_id
    failure = agentd.wait_for("runner.lifecycle_failure", session_id=session)
    teardown = agentd.wait_for("runner.session_teardown", session_id=session)
    assert (failure["step"], teardown["result"]) == ("container removal", "error")


@pytest.fixture
def killed(own_agentd: Agentd, declare: Callable[..., Table], podman: PodmanService) -> Client:
    """The client of a session whose daemon was killed, as by kill -9."""
    own_agentd.configure(declare())
    own_agentd.start()
    client = own_agentd.script(HOLD)
    client.wait_for_line("ready")
    own_agentd.signal(signal.SIGKILL)
    own_agentd.ended()
    podman.podman("rm", "--force", "--time", "0", *own_agentd.containers())
    return client


@pytest.mark.contract("AUD-21", "AUD-22", "AUD-24")
def test_a_daemon_that_is_killed_leaves_the_record_incomplete(killed: Client) -> None:
    assert_incomplete(killed.record)


@pytest.mark.contract("AUD-33")
def test_a_daemon_that_starts_deletes_no_record(own_agentd: Agentd, killed: Client) -> None:
    own_agentd.start()
    sealed = own_agentd.script("exit 0").wait()
    own_agentd.drained()
    own_agentd.start()
    expected = {killed.record.directory, sealed.record.directory}
    assert own_agentd.records() == expected
