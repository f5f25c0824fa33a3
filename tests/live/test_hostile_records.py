"""What a hostile session, or somebody on the host, plants in a record: listed, sealed or refused.

Few sessions plant much each; the tests look at what became of it.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from agentd.client import connect
from testbed.agentd_client import HOLD, Client, Record
from testbed.agentd_process import Agentd, Table
from tests.conftest import LONG

pytestmark = pytest.mark.live

IS_ROOT = os.geteuid() == 0
MANY = 100_000 if LONG else 10_000
DEEP = 5000
SPARSE = 8 * 2**40
MIB = 2**20

PLANT = """
import os, socket, stat

os.chdir(".runa")
outside = {outside!r}

def file(name, text="x"):
    with open(name, "w") as new:
        new.write(text)

for name, target in (("file", outside + "/file"), ("dir", outside), ("up", "../../.."),
                     ("loop-a", "loop-b"), ("loop-b", "loop-a"), ("self", "."), ("none", "none/x")):
    os.symlink(target, "link-" + name)
file("plain")
os.mkdir("other")
os.link("plain", "other/plain")
os.mkfifo("fifo")
socket.socket(socket.AF_UNIX).bind("socket")
for name, number in (("whiteout", os.makedev(0, 0)), ("null", os.makedev(1, 3))):
    try:
        os.mknod(name, stat.S_IFCHR | 0o666, number)
    except OSError as error:
        print(name + ":", error.strerror)
for name in (b"new\\nline", b"\\xff\\xfe", b"\\x1b[2J", b"-rf", b"x" * 255):
    file(name)
with open("sparse", "wb") as sparse:
    sparse.truncate({sparse})
os.makedirs("shut/inner")
file("shut/inner/file")
for name in ("shut/inner/file", "shut/inner", "shut"):
    os.chmod(name, 0)
file("grants")
os.chmod("grants", 0o6777)
os.mkdir("deep")
os.chdir("deep")
for _ in range({deep}):
    os.mkdir("d")
    os.chdir("d")
file("leaf")
"""


def python(code: str) -> str:
    """A script for sh that runs this code."""
    return f"python3 - <<'PYTHON'\n{code}\nPYTHON\n"


class Outside:
    """Files on the host that are none of any session's business."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "file"
        self.file.write_text("not the session's\n")
        self.file.chmod(0o640)
        directory.chmod(0o710)

    @property
    def is_untouched(self) -> bool:
        """Whether modes and content are as they were made."""
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (self.directory, self.file)]
        return modes == [0o710, 0o640] and self.file.read_text() == "not the session's\n"


@pytest.fixture(scope="module")
def agentd(start_agentd: Callable[..., Agentd], declare: Callable[..., Table]) -> Iterator[Agentd]:
    agentd = start_agentd(declare())
    yield agentd
    # Python's rmtree recurses by the call stack, and pytest would use it.
    subprocess.run(["chmod", "-R", "u+rwx", agentd.audit_root / "worker"], check=True)
    subprocess.run(["rm", "-rf", agentd.audit_root / "worker"], check=True)


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    return Outside(tmp_path)


def not_sealed(record: Record) -> str:
    """The entries below `runa/`, and itself, whose mode is not that of a sealed one."""
    wrong = "( -type d ! -perm 0555 ) -o ( ! -type d ! -type l ! -perm 0444 )"
    return subprocess.run(
        ["find", record.runa, *wrong.split()], check=True, capture_output=True, text=True
    ).stdout


def assert_sealed(record: Record) -> None:
    """It is published, and all in it is sealed."""
    assert (record.facts["outcome"], not_sealed(record)) == ("success", "")


def assert_open(record: Record) -> None:
    """It is incomplete, and `runa/` in the mode of a live session."""
    ends = {"outcome", "end_timestamp", "exit_code"} & set(record.facts)
    assert (ends, stat.S_IMODE(record.runa.stat().st_mode)) == (set(), 0o700)


def assert_sealed_or_open(record: Record) -> None:
    """It is published and its `runa/` shut, or neither."""
    if "outcome" not in record.facts:
        assert_open(record)
    else:
        assert stat.S_IMODE(record.runa.stat().st_mode) == 0o555


def held(agentd: Agentd, script: str = "") -> Client:
    """The client of a session that has done this, and waits."""
    client = agentd.script(f"{script}\n{HOLD}")
    client.wait_for_line("ready")
    return client


# --- what a session plants -----------------------------------------------------------------------


class Planted:
    """The record of a session that planted all that a session can."""

    def __init__(self, agentd: Agentd, outside: Outside) -> None:
        self.outside = outside
        script = PLANT.format(outside=str(outside.directory), sparse=SPARSE, deep=DEEP)
        client = held(agentd, python(script))
        self.record = client.record
        if IS_ROOT:
            with suppress(PermissionError):
                os.mknod(self.record.runa / "device", stat.S_IFBLK | 0o666, os.makedev(7, 0))
        self.record.release()
        self.ended = client.wait()
        manifest = json.loads((self.record.directory / "agentd/manifest.json").read_bytes())
        self.rows: list[dict[str, Any]] = manifest["entries"]

    def row(self, path: str) -> dict[str, Any]:
        """What the manifest says of a path below `runa/`."""
        return next(row for row in self.rows if row.get("path") == f"runa/{path}")


@pytest.fixture(scope="module")
def planted(agentd: Agentd, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return Planted(agentd, Outside(tmp_path_factory.mktemp("outside")))


@pytest.mark.contract("AUD-14", "AUD-16", "AUD-25", "F-17", "F-42")
def test_all_that_a_session_planted_is_sealed(planted: Planted) -> None:
    assert planted.ended.code == 0, planted.ended
    assert_sealed(planted.record)


@pytest.mark.contract("AUD-18", "F-16")
def test_links_out_of_the_record_lead_nowhere(planted: Planted) -> None:
    assert planted.outside.is_untouched


@pytest.mark.contract("AUD-18")
@pytest.mark.parametrize(
    ("name", "target"),
    [("up", "../../.."), ("loop-a", "loop-b"), ("loop-b", "loop-a"), ("self", "."), ("none", None)],
)
def test_a_link_is_listed_with_its_target(planted: Planted, name: str, target: str | None) -> None:
    row = planted.row(f"link-{name}")
    assert (row["type"], row["target"]) == ("symlink", target or "none/x")


@pytest.mark.contract("AUD-18", "F-16")
def test_what_a_link_leads_to_is_not_listed(planted: Planted) -> None:
    assert not [row for row in planted.rows if str(row.get("path")).startswith("runa/link-dir/")]


@pytest.mark.contract("AUD-14")
@pytest.mark.parametrize(
    ("name", "kind"),
    [("fifo", "fifo"), ("socket", "socket"), ("whiteout", "character device")],
)
def test_what_is_no_file_is_sealed_and_not_opened(planted: Planted, name: str, kind: str) -> None:
    if f"{name}: Operation not permitted" in planted.ended.stdout:
        pytest.skip("this kernel lets no session make such a node")
    row = {"path": f"runa/{name}", "type": kind, "mode": "0444"}
    assert planted.row(name) == row


@pytest.mark.contract("AUD-14")
@pytest.mark.skipif(not IS_ROOT, reason="needs root: makes a device node on the host")
def test_a_device_from_the_host_is_sealed_and_not_opened(planted: Planted) -> None:
    row = {"path": "runa/device", "type": "block device", "mode": "0444"}
    assert planted.row("device") == row


@pytest.mark.contract("F-24")
def test_a_session_can_make_no_device_node(planted: Planted) -> None:
    assert "null: Operation not permitted\n" in planted.ended.stdout


@pytest.mark.contract("AUD-19", "F-17")
def test_a_file_with_two_names_inside_is_listed_twice_alike(planted: Planted) -> None:
    first, second = planted.row("plain"), planted.row("other/plain")
    assert (first.pop("path"), second.pop("path")) == ("runa/plain", "runa/other/plain")
    assert (first, first["size"]) == (second, 1)


@pytest.mark.contract("AUD-17")
def test_directories_of_mode_000_are_entered(planted: Planted) -> None:
    row = planted.row("shut/inner/file")
    assert (row["size"], "sha256" in row) == (1, True)


@pytest.mark.contract("AUD-14")
def test_a_file_loses_the_rights_that_it_granted(planted: Planted) -> None:
    assert planted.row("grants")["mode"] == "0444"


@pytest.mark.contract("AUD-14", "F-27")
def test_thousands_of_levels_are_listed_to_the_last(planted: Planted) -> None:
    (leaf,) = (row for row in planted.rows if row.get("name") == "leaf")
    levels, above = 0, planted.rows[leaf["in"]]
    while "in" in above:
        levels, above = levels + 1, planted.rows[above["in"]]
    # Those near the top have a path.
    assert levels + above["path"].count("/d") - 1 == DEEP


@pytest.mark.contract("AUD-14", "F-27")
@pytest.mark.parametrize("name", ["new\nline", "\x1b[2J", "-rf", "x" * 255])
def test_odd_names_are_listed(planted: Planted, name: str) -> None:
    assert planted.row(name)["size"] == 1


@pytest.mark.contract("AUD-14", "F-27")
def test_a_name_that_is_no_text_is_listed_encoded(planted: Planted) -> None:
    row = planted.row("%FF%FE")
    assert (row["utf8"], row["size"]) == (False, 1)


@pytest.mark.contract("AUD-14", "F-27")
def test_eight_terabytes_of_nothing_are_sealed_without_being_read(planted: Planted) -> None:
    row = planted.row("sparse")
    assert (row["size"], "sha256" in row, row["mode"]) == (SPARSE, False, "0444")


# --- what somebody on the host does --------------------------------------------------------------


class Linked:
    """A session in whose record somebody on the host put a name of a file of his own."""

    def __init__(self, agentd: Agentd, outside: Outside) -> None:
        self.outside = outside
        client = held(agentd, "echo x >.runa/first; chmod 600 .runa/first; mkdir -m 0 .runa/shut")
        self.session_id, self.record = client.session_id, client.record
        (self.record.runa / "other-name").hardlink_to(outside.file)
        self.record.release()
        self.ended = client.wait()


@pytest.fixture(scope="module")
def linked(agentd: Agentd, tmp_path_factory: pytest.TempPathFactory) -> Linked:
    return Linked(agentd, Outside(tmp_path_factory.mktemp("outside")))


@pytest.mark.contract("AUD-20", "AUD-21", "AUD-22", "AUD-24")
def test_a_record_with_a_file_from_outside_stays_open(linked: Linked) -> None:
    assert_open(linked.record)


@pytest.mark.contract("AUD-19", "F-16", "F-17")
def test_a_file_from_outside_keeps_its_mode(linked: Linked) -> None:
    assert linked.outside.is_untouched


@pytest.mark.contract("AUD-19", "AUD-20")
def test_with_a_file_from_outside_nothing_is_sealed(linked: Linked) -> None:
    mode = stat.S_IMODE((linked.record.runa / "first").stat().st_mode)
    assert (mode, (linked.record.directory / "agentd/manifest.json").exists()) == (0o600, False)


@pytest.mark.contract("AUD-19", "AUD-23")
def test_the_log_says_why_a_record_is_not_sealed(agentd: Agentd, linked: Linked) -> None:
    failure = agentd.wait_for("runner.lifecycle_failure", session_id=linked.session_id)
    names = "'runa/other-name' in .* it has 2 names, of which 1 lie in the record"
    assert (failure["stage"], bool(re.search(names, failure["error"]))) == (
        "session audit finalization",
        True,
    )


@pytest.mark.contract("SES-31")
def test_a_session_has_its_outcome_also_if_its_record_is_not_sealed(linked: Linked) -> None:
    assert (linked.ended.code, linked.ended.stdout.splitlines()[-1]) == (0, "session success")


# --- a great many files --------------------------------------------------------------------------


class Crowd:
    """A session that left many files, and the daemon while it sealed them."""

    def __init__(self, agentd: Agentd) -> None:
        code = f"for i in range({MANY}): open(f'.runa/crowd/{{i:06}}', 'w').close()"
        client = held(agentd, f"mkdir .runa/crowd\n{python(code)}")
        before = peak_memory(agentd)
        client.record.release()
        session = client.session_id
        agentd.wait_for("runner.session_outcome", session_id=session)
        self.pings = 0
        while not agentd.events(event="runner.session_teardown", session_id=session):
            ping(agentd)
            self.pings += 1
        self.growth = peak_memory(agentd) - before
        assert client.wait().code == 0
        self.record = client.record


def ping(agentd: Agentd) -> None:
    """Have the daemon answer."""

    async def exchange() -> None:
        async with connect(agentd.socket) as client:
            await client.ping()

    trio.run(exchange)


def peak_memory(agentd: Agentd) -> int:
    """The most memory that the daemon has had so far, in bytes."""
    assert agentd.process is not None
    status = Path(f"/proc/{agentd.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


@pytest.fixture(scope="module")
def crowd(agentd: Agentd, planted: Planted, linked: Linked) -> Crowd:
    # The daemon has sealed a record and refused one: its memory is warm, and it goes on.
    assert (planted.ended.code, linked.ended.code) == (0, 0)
    return Crowd(agentd)


@pytest.mark.contract("AUD-14")
def test_a_great_many_files_are_sealed(crowd: Crowd) -> None:
    assert_sealed(crowd.record)


@pytest.mark.contract("F-27")
def test_a_great_many_files_are_all_listed(crowd: Crowd) -> None:
    manifest = json.loads((crowd.record.directory / "agentd/manifest.json").read_bytes())
    listed = {row["path"] for row in manifest["entries"]}
    assert {f"runa/crowd/{number:06}" for number in range(MANY)} <= listed


def test_the_daemon_answers_while_it_seals(crowd: Crowd) -> None:
    # A daemon that sealed on its event loop would answer the first of them when all is sealed.
    assert crowd.pings > 2


@pytest.mark.skipif(not LONG, reason="needs AGENTD_TESTS_LONG=1: few files show nothing")
def test_the_daemons_memory_does_not_grow_with_the_record(crowd: Crowd) -> None:
    # 80 bytes a file; 1.5 MiB were seen.
    assert crowd.growth < 8 * MIB


# --- what somebody on the host does while the record is sealed ----------------------------------


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do something over and over in a thread; a permission that is gone ends it."""
    over = threading.Event()

    def repeat() -> None:
        with suppress(PermissionError):
            while not over.is_set():
                act()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


VICTIMS = 20
MAKE_VICTIMS = f"""
for i in $(seq {VICTIMS}); do
    mkdir .runa/directory$i && echo x >.runa/directory$i/file && echo x >.runa/file$i
done
"""
STAND_INS: dict[str, tuple[str, Callable[[Path, Outside], None]]] = {
    "a link to a file": ("file", lambda new, outside: new.symlink_to(outside.file)),
    "a link to a directory": ("directory", lambda new, outside: new.symlink_to(outside.directory)),
    "another name of a file": ("file", lambda new, outside: new.hardlink_to(outside.file)),
}


def exchange(one: Path, other: Path) -> None:
    """Let two names change places, at one instant."""
    libc = ctypes.CDLL(None, use_errno=True)
    rename_exchange, cwd = 2, -100
    if libc.renameat2(cwd, bytes(one), cwd, bytes(other), rename_exchange) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@pytest.mark.contract("AUD-18", "AUD-19", "AUD-24", "F-16")
@pytest.mark.parametrize("stand_in", STAND_INS)
def test_what_changes_places_with_something_outside_leads_the_sealing_nowhere(
    agentd: Agentd, outside: Outside, tmp_path: Path, stand_in: str
) -> None:
    kind, make = STAND_INS[stand_in]
    client = held(agentd, MAKE_VICTIMS)
    pairs = [
        (client.record.runa / f"{kind}{number}", tmp_path / str(number))
        for number in range(1, VICTIMS + 1)
    ]
    for _, other in pairs:
        make(other, outside)

    def swap() -> None:
        for one, other in pairs:
            exchange(one, other)

    with meanwhile(swap):
        client.record.release()
        assert client.wait().code == 0
    assert_sealed_or_open(client.record)
    assert outside.is_untouched
