"""Output in large amounts and odd forms: complete, masked, and no burden to daemon or agent.

With AGENTD_TESTS_LONG=1 the same tests write ten times as much.
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from agentd.cri import STREAMS, Parser, Stream
from testbed.agentd_client import AGENTD, HOLD, Client, Record
from testbed.agentd_process import Agentd, Table
from testbed.processes import SECONDS, ProcessFigures, wait_until
from tests.conftest import LONG

pytestmark = pytest.mark.live

SCALE: Final = 10 if LONG else 1
BOTH: Final = 20_000_000 * SCALE
"""Bytes that the largest session writes, about."""

NUMBERS: Final = BOTH // 200
LINE: Final = 50_000_000 if LONG else 20_000_000

# Nothing that a shell would change, and an odd period with the comma behind it: over and over, it
# lies across the ends of conmon's buffers in every way.
TOKEN: Final = "tok-3f9a8b7c6d5e4f3a2b1c"
KEY: Final = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nfinal line\n"
VALUES: Final = {
    "TOKEN": TOKEN,
    "PREFIX": TOKEN[:9],
    "TAIL": f"{TOKEN[-7:]},{TOKEN[:5]}",
    "KEY": KEY,
}
TOLD: Final = 30_000 * SCALE

INTERLEAVED: Final = f"seq -f %099.0f {NUMBERS} & seq -f %099.0f {NUMBERS} | tr 0-9 a-j >&2 & wait"
ONE_LINE: Final = f"head -c {LINE} /dev/zero | tr '\\0' x"
EVERY_BYTE: Final = "".join(f"\\{byte:03o}" for byte in range(256))
BINARY: Final = f"for i in $(seq 3000); do printf '{EVERY_BYTE}'; done"
HALF_CHARACTER: Final = "printf 'caf\\303'"
CHATTY: Final = f"head -c {BOTH} /dev/zero | tr '\\0' x | fold -w 999"


def written_here(script: str) -> dict[Stream, bytes]:
    """What a script writes."""
    done = subprocess.run(["/bin/sh", "-c", script], check=True, capture_output=True)
    return {"stdout": done.stdout, "stderr": done.stderr}


def in_log(record: Record) -> dict[Stream, bytes]:
    """What the sealed log says that the container wrote."""
    found: dict[Stream, list[bytes]] = {stream: [] for stream in STREAMS}
    parser = Parser()
    with (record.directory / "agentd/output.log").open("rb") as log:
        while chunk := log.read(256 * 1024):
            for entry in parser.feed(chunk):
                found[entry.stream].append(entry.data)
    return {stream: b"".join(parts) for stream, parts in found.items()}


def of_agent(output: bytes) -> bytes:
    """The agent's own part: what follows the line with which each script begins."""
    _, begin, rest = output.partition(b"begin\n")
    assert begin
    return rest


@dataclass(frozen=True)
class Followed:
    """A session whose output a client read to the end."""

    client: dict[Stream, bytes]
    log: dict[Stream, bytes]
    record: Record
    grown: int
    """By how many bytes the daemon's memory grew at its largest."""

    def parts(self) -> list[dict[Stream, bytes]]:
        """What the agent wrote, once as the client got it and once as the log has it."""
        stdout = of_agent(self.client["stdout"]).removesuffix(b"session success\n")
        client: dict[Stream, bytes] = {"stdout": stdout, "stderr": of_agent(self.client["stderr"])}
        return [client, {stream: of_agent(data) for stream, data in self.log.items()}]


class Process(ProcessFigures):
    """What the kernel says of the daemon."""

    def __init__(self, agentd: Agentd) -> None:
        assert agentd.process is not None
        super().__init__(agentd.process.pid)

    def bytes_read(self) -> int:
        """What it has read so far, from whatever."""
        found = re.search(r"rchar: (\d+)", (self._proc / "io").read_text())
        assert found is not None
        return int(found[1])


@pytest.fixture(scope="module")
def agentd(start_agentd: Callable[..., Agentd], declare: Callable[..., Table]) -> Agentd:
    credentials = [{"name": name, "source": f"AGENTD_TEST_{name}"} for name in VALUES]
    return start_agentd(
        declare(credentials=credentials, limits={"output": "1GiB"}),
        environ={f"AGENTD_TEST_{name}": value for name, value in VALUES.items()},
    )


@pytest.fixture(scope="module")
def process(agentd: Agentd) -> Process:
    """The daemon once it has had a session: its memory is then as large as an idle one's."""
    assert agentd.script("true").wait().code == 0
    return Process(agentd)


@pytest.fixture(scope="module")
def follow(
    agentd: Agentd, process: Process, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Followed]:
    """Runs a session with a client that puts both streams into files."""

    def follow(script: str) -> Followed:
        files = [tmp_path_factory.mktemp("followed") / stream for stream in STREAMS]
        process.forget_peak()
        before = process.memory("VmRSS")
        begun = f"echo begin; echo begin >&2; {script}"
        command = [str(AGENTD), "run", "worker", "--work-unit", begun]
        with files[0].open("wb") as stdout, files[1].open("wb") as stderr:
            client = subprocess.Popen(
                command, env=agentd.environ, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
            )
        try:
            code = client.wait(SECONDS * SCALE)
        finally:
            client.kill()
        got = {stream: path.read_bytes() for stream, path in zip(STREAMS, files, strict=True)}
        assert code == 0, got["stderr"][-2000:]
        grown = process.memory("VmHWM") - before
        found = re.search(rb", record (/.*)\n", got["stderr"])
        assert found is not None
        record = Record(Path(found[1].decode()))
        return Followed(got, in_log(record), record, grown)

    return follow


@pytest.fixture(scope="module")
def interleaved(follow: Callable[[str], Followed]) -> Followed:
    """Both streams at full speed."""
    return follow(INTERLEAVED)


@pytest.fixture(scope="module")
def odd(follow: Callable[[str], Followed]) -> Followed:
    """One line without a newline, every byte there is, and the half of a character."""
    return follow(f"{ONE_LINE}; {BINARY}; {HALF_CHARACTER}")


@pytest.mark.contract("F-60", "F-43")
def test_client_and_log_have_all_of_two_streams_at_full_speed(interleaved: Followed) -> None:
    expected = written_here(INTERLEAVED)
    # Not `==` on the whole: pytest would explain a difference of millions of lines.
    assert [part[s] == expected[s] for part in interleaved.parts() for s in STREAMS] == [True] * 4


@pytest.mark.contract("F-60")
def test_client_and_log_have_a_huge_line_and_bytes_that_are_no_text(odd: Followed) -> None:
    expected = written_here(f"{ONE_LINE}; {BINARY}; {HALF_CHARACTER}")["stdout"]
    assert [part["stdout"] == expected for part in odd.parts()] == [True, True]
    assert expected.endswith(b"caf\xc3")


@pytest.mark.contract("F-60")
@pytest.mark.parametrize("session", ["interleaved", "odd"])
def test_the_record_counts_every_byte_below_the_limit(
    session: str, request: pytest.FixtureRequest
) -> None:
    followed = request.getfixturevalue(session)
    size = sum(map(len, followed.log.values()))
    assert followed.record.facts["output"] == {
        "bytes": size,
        "dropped_bytes": 0,
        "complete": True,
        "masked": "none",
    }


@pytest.mark.parametrize(("session", "size"), [("interleaved", BOTH), ("odd", LINE)])
def test_the_daemons_memory_does_not_grow_with_the_output(
    session: str, size: int, request: pytest.FixtureRequest
) -> None:
    # What a follower and the closing need is about 4 MiB, however much is written.
    assert request.getfixturevalue(session).grown < max(12_000_000, size // 4)


TELL: Final = f'seq {TOLD} | sed "s/.*/$TOKEN,/" | tr -d "\\n"; printf "\\n%s" "$KEY"'


@pytest.fixture(scope="module")
def told(follow: Callable[[str], Followed]) -> Followed:
    """A session that writes its credentials without end, on both streams at once."""
    return follow(f"{{ {TELL}; }} & {{ {TELL}; }} >&2 & wait")


@pytest.mark.contract("F-60")
def test_a_credential_is_masked_wherever_buffers_cut_it(told: Followed) -> None:
    # TAIL reaches over the comma, so all the tokens of a line are one run.
    expected = b"***,\n***\n***\n***\n"
    assert [part[s] for part in told.parts() for s in STREAMS] == [expected] * 4


@pytest.mark.parametrize("value", [TOKEN, *KEY.split("\n")[:-1]])
def test_no_line_of_a_credential_is_in_the_files_of_a_sealed_record(
    told: Followed, value: str
) -> None:
    files = [path for path in told.record.directory.rglob("*") if path.is_file()]
    assert [path for path in files if value.encode() in path.read_bytes()] == []


def test_the_record_counts_masked_output_as_it_stands_in_the_log(told: Followed) -> None:
    output = told.record.facts["output"]
    size = sum(map(len, told.log.values()))
    assert (output["masked"], output["complete"], output["bytes"]) == ("masked", True, size)


def test_conmon_cuts_lines_where_its_buffer_ends(interleaved: Followed) -> None:
    """The premise of the tests above: else no value would ever have been cut."""
    log = (interleaved.record.directory / "agentd/output.log").read_bytes()
    assert b" stdout P 0" in log


@dataclass(frozen=True)
class Unread:
    """A session that wrote much while nobody read, and waits."""

    client: Client
    bytes_read: int
    """What the daemon read meanwhile."""


def write_unread(agentd: Agentd, process: Process, stop: signal.Signals) -> Unread:
    client = agentd.script(f"{HOLD}; {CHATTY}; touch .runa/written; {HOLD}")
    client.wait_for_line("ready")
    record = client.record
    client.process.send_signal(stop)
    before = process.bytes_read()
    record.release()
    wait_until("the agent has written", (record.runa / "written").exists, SECONDS * SCALE)
    return Unread(client, process.bytes_read() - before)


def end(agentd: Agentd, unread: Unread) -> Record:
    """Let the session end, while its client is still as it is."""
    session_id, record = unread.client.session_id, unread.client.record
    record.release()
    event = agentd.wait_for("agentd.run_completed", session_id=session_id)
    assert event["outcome"] == "success"
    return record


@pytest.mark.contract("F-60")
def test_without_a_follower_no_byte_passes_through_the_daemon(
    agentd: Agentd, process: Process
) -> None:
    unread = write_unread(agentd, process, signal.SIGKILL)
    record = end(agentd, unread)
    assert unread.bytes_read < BOTH // 20
    assert len(in_log(record)["stdout"]) > BOTH


@pytest.fixture(scope="module")
def stopped(agentd: Agentd, process: Process) -> Unread:
    """A session that wrote to its end while its client was stopped; then the client went on."""
    process.forget_peak()
    unread = write_unread(agentd, process, signal.SIGSTOP)
    end(agentd, unread)
    unread.client.process.send_signal(signal.SIGCONT)
    return unread


def test_for_a_client_that_does_not_read_the_daemon_reads_no_more_than_fits_the_socket(
    stopped: Unread,
) -> None:
    assert stopped.bytes_read < BOTH // 10


@pytest.mark.contract("SOC-14", "F-60")
def test_a_session_ends_while_its_client_is_stopped_and_the_client_then_gets_all(
    stopped: Unread,
) -> None:
    ended = stopped.client.wait()
    assert (ended.code, ended.stdout.count("x")) == (0, BOTH)
