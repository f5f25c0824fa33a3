"""A session that says more than its limit allows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agentd.cri import Parser, Stream
from agentd.session.output_log import marker
from testbed.agentd_client import HOLD, Ended
from testbed.agentd_process import Agentd, Table
from testbed.processes import wait_until

pytestmark = pytest.mark.live

LIMIT = 64 * 1024
TALK = 'head -c 3000000 /dev/zero | tr "\\0" x; echo; echo over'


@pytest.fixture(scope="module")
def agentd(start_agentd: Callable[..., Agentd], declare: Callable[..., Table]) -> Agentd:
    return start_agentd(declare(limits={"output": "64KiB"}))


@pytest.fixture(scope="module")
def talker(agentd: Agentd) -> Ended:
    """The end of a session that wrote 3 MB where 64 KiB are kept."""
    return agentd.script(TALK).wait()


def test_the_raw_log_is_cut_while_the_session_lives(agentd: Agentd) -> None:
    client = agentd.script(f"{TALK}; {HOLD}")
    raw = client.record.directory / "agentd/output.raw"
    client.stderr.wait_for("marker", lambda line: "output limit" in line)
    wait_until("the raw log is cut", lambda: raw.stat().st_size <= 2 * LIMIT)
    client.record.release()
    assert client.wait().code == 0


@pytest.fixture(scope="module")
def kept(talker: Ended) -> dict[Stream, bytes]:
    """What its log holds of each stream."""
    entries = Parser().feed((talker.record.directory / "agentd/output.log").read_bytes())
    stdout, stderr = (
        b"".join(entry.data for entry in entries if entry.stream == stream)
        for stream in ("stdout", "stderr")
    )
    return {"stdout": stdout, "stderr": stderr}


def test_the_log_is_complete_up_to_its_limit(kept: dict[Stream, bytes]) -> None:
    line = kept["stdout"].rpartition(b"\n")[2]
    # The rest of the limit is headers, and the fragment that it cuts in two.
    assert (line, len(line) > LIMIT * 3 // 4) == (b"x" * len(line), True)


def test_the_log_ends_with_the_count_of_the_record(
    talker: Ended, kept: dict[Stream, bytes]
) -> None:
    dropped = talker.record.facts["output"]["dropped_bytes"]
    assert kept["stderr"].endswith(b"\n" + marker(LIMIT, dropped))


def test_the_record_counts_what_is_kept_to_the_byte(
    talker: Ended, kept: dict[Stream, bytes]
) -> None:
    output = talker.record.facts["output"]
    own = marker(LIMIT, output["dropped_bytes"])
    assert output["bytes"] == sum(map(len, kept.values())) - len(own)


def test_the_client_gets_what_is_kept(talker: Ended, kept: dict[Stream, bytes]) -> None:
    assert talker.stdout.removesuffix("session success\n") == kept["stdout"].decode()


@pytest.mark.contract("F-60")
def test_talking_too_much_costs_no_outcome(talker: Ended) -> None:
    assert talker.code == 0


def test_the_client_is_told_that_output_was_cut(talker: Ended) -> None:
    assert f"output limit of {LIMIT} bytes reached" in talker.stderr


def test_the_log_stays_near_its_limit(talker: Ended) -> None:
    log = talker.record.directory / "agentd/output.log"
    assert log.stat().st_size < LIMIT + 1024


def test_the_record_says_how_much_was_cut_at_least(talker: Ended) -> None:
    output = talker.record.facts["output"]
    # What comes between the look and the cut goes uncounted, so how much it is depends on luck.
    assert (output["complete"], 0 < output["dropped_bytes"] < 4_000_000) == (False, True)
