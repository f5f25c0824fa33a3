"""Claiming the PID file and the socket: one holder each, and nobody's socket is taken away."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trio

from agentd import config
from agentd.daemon.main import run_daemon
from agentd.errors import AgentdError, AlreadyRunning, ConfigError, RuntimePathError
from agentd.runtime import claimed_pid_file, claimed_socket, clear_stale_socket
from tests.unit.conftest import LogLines

SECONDS = 10.0
"""The bound of anything that another thread or process does; reached only by a failing test."""

HOLDER = """
import sys
from pathlib import Path
from agentd.runtime import claimed_pid_file
with claimed_pid_file(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def pid_file(tmp_path: Path) -> Path:
    return tmp_path / "run/agentd/agentd.pid"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path for a socket that is short enough wherever pytest keeps its directories."""
    monkeypatch.chdir(tmp_path)
    return Path("run/agentd.sock")


@pytest.fixture
def holder(pid_file: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the PID file."""
    command = [sys.executable, "-c", HOLDER, str(pid_file)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def exists(path: Path) -> bool:
    return path.exists()


def is_socket(path: Path) -> bool:
    return path.is_socket()


def inode(path: Path) -> int:
    return path.lstat().st_ino


def touch(path: Path) -> None:
    path.touch()


def remove(path: Path) -> None:
    path.unlink()


def obstruct(path: Path, kind: str) -> None:
    """Put something at the path that is no socket."""
    path.parent.mkdir()
    if kind == "file":
        path.write_text("keep")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("nowhere")


def stale_socket(path: Path) -> None:
    """A socket that nobody serves any more."""
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))


# --- the PID file --------------------------------------------------------------------------------


@pytest.mark.contract("DMN-06")
def test_the_file_holds_the_bare_pid(pid_file: Path) -> None:
    with claimed_pid_file(pid_file):
        assert pid_file.read_bytes() == str(os.getpid()).encode()


@pytest.mark.contract("DMN-30", "DMN-27")
def test_the_file_is_gone_after_the_claim(pid_file: Path) -> None:
    with claimed_pid_file(pid_file):
        pass
    assert list(pid_file.parent.iterdir()) == []


@pytest.mark.contract("DMN-34", "F-40")
def test_the_file_is_gone_when_the_start_fails(pid_file: Path) -> None:
    with pytest.raises(RuntimePathError), claimed_pid_file(pid_file):
        raise RuntimePathError("socket_path exists but is not a Unix socket")
    assert not pid_file.exists()


@pytest.mark.contract("DMN-07")
def test_a_missing_directory_is_made_for_the_user_alone(pid_file: Path) -> None:
    with claimed_pid_file(pid_file):
        assert mode(pid_file.parent) == 0o700


@pytest.mark.contract("DMN-07")
def test_a_directory_that_is_there_keeps_its_mode(pid_file: Path) -> None:
    pid_file.parent.mkdir(parents=True)
    pid_file.parent.chmod(0o755)
    with claimed_pid_file(pid_file):
        assert mode(pid_file.parent) == 0o755


@pytest.mark.contract("DMN-04", "DMN-05")
def test_a_second_daemon_is_told_the_pid_of_the_first(
    pid_file: Path, holder: subprocess.Popen[str]
) -> None:
    text = rf"^agentd is already running \(pid {holder.pid}\)$"
    with pytest.raises(AlreadyRunning, match=text), claimed_pid_file(pid_file):
        pass
    assert pid_file.read_text() == str(holder.pid)


@pytest.mark.contract("DMN-05")
def test_a_pid_that_cannot_be_read_is_left_out(
    pid_file: Path, holder: subprocess.Popen[str]
) -> None:
    pid_file.write_text("")
    text = r"^agentd is already running$"
    with pytest.raises(AlreadyRunning, match=text), claimed_pid_file(pid_file):
        pass


@pytest.mark.contract("DMN-05")
def test_the_pid_of_a_holder_that_was_killed_is_not_told(
    pid_file: Path, holder: subprocess.Popen[str]
) -> None:
    """It stands in the file until the next holder, which has the lock already, has written."""
    with subprocess.Popen(["true"]) as killed:
        pass
    pid_file.write_text(str(killed.pid))
    text = r"^agentd is already running$"
    with pytest.raises(AlreadyRunning, match=text), claimed_pid_file(pid_file):
        pass


@pytest.mark.contract("DMN-04")
def test_a_file_whose_holder_was_killed_means_nothing(
    pid_file: Path, holder: subprocess.Popen[str]
) -> None:
    holder.kill()
    holder.wait(SECONDS)
    assert pid_file.exists()
    with claimed_pid_file(pid_file):
        assert pid_file.read_text() == str(os.getpid())


@pytest.mark.contract("DMN-06")
def test_a_longer_pid_of_before_leaves_no_digit(pid_file: Path) -> None:
    pid_file.parent.mkdir(parents=True)
    pid_file.write_text("99999999999999999999")
    with claimed_pid_file(pid_file):
        assert pid_file.read_text() == str(os.getpid())


@pytest.mark.contract("DMN-34", "F-19")
def test_a_link_in_its_place_is_not_followed(pid_file: Path, tmp_path: Path) -> None:
    pid_file.parent.mkdir(parents=True)
    (tmp_path / "precious").write_text("keep")
    pid_file.symlink_to(tmp_path / "precious")
    with pytest.raises(RuntimePathError, match="is a symlink"), claimed_pid_file(pid_file):
        pass
    assert (tmp_path / "precious").read_text() == "keep"


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_what_is_no_file_is_refused_and_left(pid_file: Path, kind: str) -> None:
    pid_file.parent.mkdir(parents=True)
    pid_file.mkdir() if kind == "directory" else os.mkfifo(pid_file)
    with pytest.raises(RuntimePathError), claimed_pid_file(pid_file):
        pass
    assert pid_file.exists()


@pytest.mark.contract("F-19")
def test_a_directory_that_is_a_link_is_refused(pid_file: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    pid_file.parent.parent.mkdir()
    pid_file.parent.symlink_to(tmp_path / "elsewhere")
    text = "is a symlink or no directory"
    with pytest.raises(RuntimePathError, match=text), claimed_pid_file(pid_file):
        pass


@pytest.mark.contract("F-19")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to somebody else")
def test_a_directory_of_another_user_is_refused(pid_file: Path) -> None:
    pid_file.parent.mkdir(parents=True)
    os.chown(pid_file.parent, 65534, -1)
    with pytest.raises(RuntimePathError, match="belongs to uid 65534"), claimed_pid_file(pid_file):
        pass


@pytest.mark.contract("F-19")
@pytest.mark.parametrize("open_to", [0o777, 0o775, 0o757])
def test_a_directory_that_others_can_write_is_refused(pid_file: Path, open_to: int) -> None:
    pid_file.parent.mkdir(parents=True)
    pid_file.parent.chmod(open_to)
    with pytest.raises(RuntimePathError, match="chmod go-w"), claimed_pid_file(pid_file):
        pass
    assert (list(pid_file.parent.iterdir()), mode(pid_file.parent)) == ([], open_to)


def test_a_sticky_directory_is_as_good_as_ones_own(pid_file: Path) -> None:
    pid_file.parent.mkdir(parents=True)
    pid_file.parent.chmod(0o1777)
    with claimed_pid_file(pid_file):
        assert pid_file.exists()


@pytest.mark.contract("F-19")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_file_of_another_user_is_refused_and_left(pid_file: Path) -> None:
    """As somebody can put it into a sticky directory, with a lock that would keep us out."""
    pid_file.parent.mkdir(parents=True)
    pid_file.write_text("1")
    os.chown(pid_file, 65534, -1)
    with pytest.raises(RuntimePathError, match="belongs to uid 65534"), claimed_pid_file(pid_file):
        pass
    assert pid_file.read_text() == "1"


@pytest.mark.contract("DMN-07", "F-19")
def test_no_umask_opens_what_is_made(pid_file: Path, any_umask: None) -> None:
    with claimed_pid_file(pid_file):
        found = [mode(path) for path in (pid_file, pid_file.parent, pid_file.parent.parent)]
    assert found == [0o600, 0o700, 0o755]


@pytest.fixture
def any_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_disk_without_room_is_a_sentence_and_leaves_nothing(pid_file: Path) -> None:
    """The kernel refuses the bytes, not the file: here by a limit on sizes, in a process apart."""
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "import sys; from pathlib import Path\n"
        "from agentd.runtime import claimed_pid_file\n"
        "from agentd.errors import RuntimePathError\n"
        "try:\n"
        "    with claimed_pid_file(Path(sys.argv[1])): pass\n"
        "except RuntimePathError as error: print(error)\n"
    )
    command = [sys.executable, "-B", "-c", program, str(pid_file)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == f"cannot write PID file {pid_file}: File too large\n"
    assert list(pid_file.parent.iterdir()) == []


@pytest.mark.contract("DMN-06")
def test_a_disk_that_is_found_full_only_when_it_is_flushed_is_told_too(
    pid_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No disk at hand does this; network file systems do."""

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("agentd.runtime.os.fsync", full)
    text = f"cannot write PID file {pid_file}: No space left on device"
    with pytest.raises(RuntimePathError, match=text), claimed_pid_file(pid_file):
        pass
    assert not pid_file.exists()


@pytest.mark.contract("DMN-34", "F-40")
def test_a_file_that_somebody_put_in_our_files_place_is_left(pid_file: Path) -> None:
    """Somebody cleared the directory, and another daemon has started since."""
    with claimed_pid_file(pid_file):
        pid_file.unlink()
        pid_file.write_text("1")
    assert pid_file.read_text() == "1"


@pytest.mark.contract("DMN-03")
async def test_relative_paths_abort_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a program can hand them in: in a file, they are relative to the file's directory."""
    monkeypatch.chdir(tmp_path)
    daemon = config.Daemon(socket_path=Path("r/s"), pid_file=Path("r/p"), audit_root=Path("/a"))
    with pytest.RaisesGroup(ConfigError, allow_unwrapped=True, flatten_subgroups=True):
        await run_daemon(config.Config(daemon=daemon, agents=()), tmp_path / "none", {})
    assert entries(tmp_path) == []


def entries(path: Path) -> list[Path]:
    return list(path.iterdir())


@pytest.mark.contract("F-40")
def test_of_many_that_come_and_go_there_is_never_more_than_one(pid_file: Path) -> None:
    """Each claim removes the file at its end, while others open and lock it."""
    inside, most, won = 0, 0, 0
    guard = threading.Lock()
    together = threading.Barrier(8)

    def compete(_number: int) -> None:
        nonlocal inside, most, won
        together.wait(SECONDS)
        for _ in range(50):
            try:
                with claimed_pid_file(pid_file):
                    with guard:
                        inside, won = inside + 1, won + 1
                        most = max(most, inside)
                    os.sched_yield()
                    with guard:
                        inside -= 1
            except AlreadyRunning:
                pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(compete, range(8), timeout=SECONDS * 3))
    assert most == 1
    assert won >= 1
    assert not pid_file.exists()


# --- what cannot be removed ----------------------------------------------------------------------


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets no file be removed any more. A stand-in for a disk that is mounted read-only."""

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    return lambda: monkeypatch.setattr(Path, "unlink", refuse)


@pytest.mark.contract("DMN-32", "LOG-14")
def test_a_pid_file_that_cannot_be_removed_is_told_at_the_end(
    pid_file: Path, read_only: Callable[[], None], logged: LogLines
) -> None:
    with claimed_pid_file(pid_file):
        read_only()
    (told,) = logged
    assert (told["event"], told["level"], told["path"], told["error"]) == (
        "agentd.daemon_shutdown_cleanup_failed",
        "warning",
        str(pid_file),
        "Read-only file system",
    )


@pytest.mark.contract("DMN-32", "LOG-14")
async def test_who_claims_a_socket_hears_what_keeps_it_from_being_removed(
    path: Path, read_only: Callable[[], None]
) -> None:
    await trio.lowlevel.checkpoint()
    unremoved: list[OSError] = []
    with claimed_socket(path, unremoved.append):
        read_only()
    assert [(error.filename, error.errno) for error in unremoved] == [(str(path), errno.EROFS)]


@pytest.mark.contract("DMN-32")
@pytest.mark.parametrize("gone", [remove, lambda path: path.parent.rename("elsewhere")])
async def test_a_socket_that_is_gone_already_is_no_failure(
    path: Path, gone: Callable[[Path], None]
) -> None:
    await trio.lowlevel.checkpoint()
    unremoved: list[OSError] = []
    with claimed_socket(path, unremoved.append):
        gone(path)
    assert unremoved == []


# --- the socket ----------------------------------------------------------------------------------


@pytest.mark.contract("DMN-02", "DMN-11")
def test_what_a_killed_daemon_has_left_is_gone_before_anybody_listens(path: Path) -> None:
    stale_socket(path)
    clear_stale_socket(path)
    assert not exists(path)


@pytest.mark.contract("DMN-10")
@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_is_found_before_anybody_listens(path: Path, kind: str) -> None:
    obstruct(path, kind)
    before = inode(path)
    with pytest.raises(RuntimePathError, match="is not a Unix socket"):
        clear_stale_socket(path)
    assert inode(path) == before


@pytest.mark.contract("F-39")
async def test_a_socket_that_somebody_serves_is_found_before_anybody_else_listens(
    path: Path,
) -> None:
    await trio.lowlevel.checkpoint()
    with claimed_socket(path):
        served = inode(path)
        with pytest.raises(AlreadyRunning, match="another process serves"):
            clear_stale_socket(path)
        assert inode(path) == served


@pytest.mark.contract("DMN-34")
async def test_a_socket_that_somebody_bound_after_the_first_look_is_left_to_them(
    path: Path,
) -> None:
    await trio.lowlevel.checkpoint()
    clear_stale_socket(path)
    with claimed_socket(path), pytest.raises(AlreadyRunning), claimed_socket(path):
        pass


@pytest.mark.contract("DMN-07", "DMN-08", "F-19")
async def test_only_the_user_may_connect(path: Path) -> None:
    await trio.lowlevel.checkpoint()
    with claimed_socket(path):
        assert (mode(path), mode(path.parent)) == (0o600, 0o700)


@pytest.mark.contract("DMN-08", "F-19")
async def test_the_mode_is_set_before_anybody_can_connect(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trio.lowlevel.checkpoint()
    modes = []

    class Watched(socket.socket):
        def listen(self, backlog: int = 0, /) -> None:
            modes.append(mode(path))
            super().listen(backlog)

    monkeypatch.setattr("agentd.runtime.socket.socket", Watched)
    before = os.umask(0)
    try:
        with claimed_socket(path):
            pass
    finally:
        os.umask(before)
    assert modes == [0o600]


@pytest.mark.contract("DMN-27", "DMN-30")
async def test_the_socket_is_gone_after_the_claim(path: Path) -> None:
    await trio.lowlevel.checkpoint()
    with claimed_socket(path):
        assert is_socket(path)
    assert not exists(path)


@pytest.mark.contract("DMN-09")
async def test_a_socket_that_nobody_serves_is_replaced(path: Path) -> None:
    stale_socket(path)
    with claimed_socket(path) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        await (await listener.accept()).aclose()


@pytest.mark.contract("DMN-10")
@pytest.mark.parametrize("kind", ["file", "directory", "link"])
async def test_what_is_no_socket_is_refused_and_left(path: Path, kind: str) -> None:
    await trio.lowlevel.checkpoint()
    obstruct(path, kind)
    before = inode(path)
    text = f"socket_path exists but is not a Unix socket: {path}"
    with pytest.raises(RuntimePathError, match=text), claimed_socket(path):
        pass
    assert inode(path) == before


@pytest.mark.contract("F-39")
async def test_a_socket_that_somebody_serves_is_left_to_them(path: Path) -> None:
    await trio.lowlevel.checkpoint()
    with claimed_socket(path):
        served = inode(path)
        with pytest.raises(AlreadyRunning, match="another process serves"), claimed_socket(path):
            pass
        assert inode(path) == served


@pytest.mark.contract("F-39", "F-34")
def test_a_daemon_that_hangs_with_a_full_queue_holds_nobody_up(path: Path) -> None:
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as hung, ThreadPoolExecutor(1) as pool:
        hung.bind(str(path))
        hung.listen(0)
        waiting = []
        while True:
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            waiting.append(client)
            if client.connect_ex(str(path)) == errno.EAGAIN:
                break

        async def claim() -> None:
            await trio.lowlevel.checkpoint()
            with claimed_socket(path):
                pass

        claimed = pool.submit(trio.run, claim)
        try:
            with pytest.raises(AlreadyRunning):
                claimed.result(2.0)
        finally:
            hung.close()
            for client in waiting:
                client.close()


@pytest.mark.contract("DMN-34")
async def test_a_socket_that_somebody_else_bound_meanwhile_is_left(path: Path) -> None:
    await trio.lowlevel.checkpoint()
    with claimed_socket(path):
        remove(path)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
    assert is_socket(path)


@pytest.mark.contract("DMN-34")
async def test_a_socket_that_somebody_removed_is_no_error(path: Path) -> None:
    await trio.lowlevel.checkpoint()
    with claimed_socket(path):
        remove(path)


@pytest.mark.parametrize("letter", ["x", "é"])
async def test_a_path_of_108_bytes_is_refused_before_anything_is_made(
    path: Path, letter: str
) -> None:
    await trio.lowlevel.checkpoint()
    too_long = sized(108, letter)
    with pytest.raises(RuntimePathError, match="108 bytes long"), claimed_socket(too_long):
        pass
    assert not exists(path.parent)


@pytest.mark.parametrize("letter", ["x", "é"])
async def test_a_path_of_107_bytes_is_not_too_long(path: Path, letter: str) -> None:
    await trio.lowlevel.checkpoint()
    longest = sized(107, letter)
    with claimed_socket(longest), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(longest))


def sized(size: int, letter: str) -> Path:
    """A path of so many bytes, many of which are those of the letter."""
    room = size - len("run/")
    width = len(letter.encode())
    name = letter * (room // width)
    found = Path("run") / (name + "x" * (room % width))
    assert len(bytes(found)) == size
    return found


@pytest.mark.contract("F-19")
async def test_the_sockets_directory_must_be_closed_to_others_too(path: Path) -> None:
    await trio.lowlevel.checkpoint()
    path.parent.mkdir()
    path.parent.chmod(0o777)
    with pytest.raises(RuntimePathError, match="chmod go-w"), claimed_socket(path):
        pass
    assert entries(path.parent) == []


async def test_a_lock_that_somebody_keeps_on_the_directory_ends_the_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may read the directory can hold one, for ever."""
    await trio.lowlevel.checkpoint()
    monkeypatch.setattr("agentd.runtime.CLAIM_SECONDS", 0.05)
    path.parent.mkdir()
    held = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RuntimePathError, match="locked for"), claimed_socket(path):
            pass
    finally:
        os.close(held)


async def test_a_socket_that_cannot_listen_is_not_left(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await trio.lowlevel.checkpoint()

    class Deaf(socket.socket):
        def listen(self, _backlog: int = 0, /) -> None:
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    monkeypatch.setattr("agentd.runtime.socket.socket", Deaf)
    with pytest.raises(RuntimePathError, match=f"cannot listen at {path}"), claimed_socket(path):
        pass
    assert entries(path.parent) == []


@pytest.mark.contract("DMN-08", "F-19")
async def test_nobody_can_connect_before_the_mode_is_set(
    path: Path, monkeypatch: pytest.MonkeyPatch, any_umask: None
) -> None:
    await trio.lowlevel.checkpoint()
    tried = []

    class Eager(socket.socket):
        def bind(self, address: object, /) -> None:
            super().bind(address)  # type: ignore[arg-type]
            with socket.socket(socket.AF_UNIX) as client:
                tried.append(client.connect_ex(str(path)))

    monkeypatch.setattr("agentd.runtime.socket.socket", Eager)
    with claimed_socket(path):
        pass
    assert tried == [errno.ECONNREFUSED]


async def test_a_place_that_cannot_be_made_is_refused(path: Path) -> None:
    await trio.lowlevel.checkpoint()
    touch(path.parent)
    with pytest.raises(RuntimePathError), claimed_socket(path):
        pass


@pytest.mark.contract("F-39")
def test_of_two_that_find_a_stale_socket_one_gets_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second looks and claims just after the first has found that nobody serves the socket."""
    stale_socket(path)
    results: list[AgentdError | None] = []
    release = threading.Event()

    async def claim() -> None:
        try:
            with claimed_socket(path):
                results.append(None)
                await trio.to_thread.run_sync(release.wait, SECONDS)
        except AgentdError as error:
            results.append(error)
            release.set()

    second = threading.Thread(target=trio.run, args=(claim,))

    class Slow(socket.socket):
        def connect_ex(self, address: object, /) -> int:
            result = super().connect_ex(address)  # type: ignore[arg-type]
            if not second.ident:
                second.start()
                # Far longer than a claim takes, where nothing makes it wait for this one.
                second.join(0.5)
            return result

    monkeypatch.setattr("agentd.runtime.socket.socket", Slow)
    claim_first = threading.Thread(target=trio.run, args=(claim,))
    claim_first.start()
    release.wait(2.0)
    release.set()
    claim_first.join(SECONDS)
    second.join(SECONDS)
    refused = [error for error in results if error is not None]
    assert len(results) == 2
    assert [type(error) for error in refused] == [AlreadyRunning]
