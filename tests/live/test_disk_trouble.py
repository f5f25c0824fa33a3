"""An audit root that is full, read-only or not mounted, at a session's start and in its life."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from testbed.agentd_client import HOLD, Client
from testbed.agentd_process import Agentd, Table
from testbed.disk import Disk, small_disk
from testbed.podman_service import PodmanService
from testbed.processes import wait_until
from tests.conftest import LONG

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk of its own"),
]

SELDOM = pytest.mark.skipif(not LONG, reason="one more of a kind; AGENTD_TESTS_LONG=1")

CLOSED = "runner.session_settled"
TALK = "i=0; while [ $i -lt 500 ]; do echo line $i of what is said; i=$((i+1)); done"


@pytest.fixture(scope="module")
def agentd(
    start_agentd: Callable[..., Agentd], declare: Callable[..., Table], disk: Disk
) -> Agentd:
    token = {"credentials": [{"name": "TOKEN", "source": "DISK_TOKEN"}]}
    return start_agentd(
        declare(),
        declare("secretive", **token),
        declare("hasty", timeout="10s"),
        environ={"DISK_TOKEN": "a value to mask"},
        audit_root=str(disk.place),
    )


@pytest.fixture(scope="module")
def disk(podman: PodmanService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    if podman.entering:
        pytest.skip("Podman of a tree does not see what is mounted after its start")
    with small_disk(tmp_path_factory.mktemp("disk"), "16m") as disk:
        yield disk


@pytest.fixture(params=["full", "read-only", "not mounted"])
def trouble(request: pytest.FixtureRequest, disk: Disk) -> Trouble:
    """What is wrong with the disk; not yet."""
    return {
        "full": Trouble(disk.fill, disk.empty),
        "read-only": Trouble(disk.cover_read_only, disk.uncover),
        "not mounted": Trouble(disk.unmount, disk.mount),
    }[request.param]


class Trouble(NamedTuple):
    """What spoils a disk, and what mends it."""

    begin: Callable[[], None]
    end: Callable[[], None]


def held(agentd: Agentd, rest: str, agent: str = "worker") -> Client:
    client = agentd.script(f"{HOLD}; {rest}", agent)
    client.wait_for_line("ready")
    return client


def entries(disk: Disk) -> set[Path]:
    return set(disk.place.glob("*/*")) | set(disk.place.glob("*/.*"))


# --- when a session would start ------------------------------------------------------------------


@pytest.mark.contract("DSP-09", "AUD-28")
def test_a_run_is_refused_with_the_path_and_what_to_do_and_costs_nothing(
    agentd: Agentd, disk: Disk, trouble: Trouble
) -> None:
    before = entries(disk)
    trouble.begin()
    below = entries(disk)
    refused = agentd.script("exit 0", "secretive").wait()
    made = entries(disk) - below
    trouble.end()
    remedy = any(word in refused.stderr for word in ("free space", "mount it again", "remount it"))
    assert (refused.code, str(disk.place) in refused.stderr, remedy) == (6, True, True), refused
    assert (made, entries(disk)) == (set(), before)
    agentd.assert_nothing_left()


@SELDOM
@pytest.mark.contract("AUD-22")
def test_what_a_full_disk_left_open_is_closed_by_the_next_daemon(
    own_agentd: Agentd, declare: Callable[..., Table], disk: Disk
) -> None:
    own_agentd.configure(declare(), audit_root=str(disk.place))
    own_agentd.start()
    client = held(own_agentd, "exit 7")
    disk.fill()
    client.record.release()
    assert client.wait().code == 7
    assert own_agentd.drained() == 0
    disk.empty()
    own_agentd.start()
    own_agentd.wait_for("runner.session_teardown", session_id=client.session_id)
    assert client.record.facts["exit_code"] == 7
    own_agentd.assert_nothing_left()


@SELDOM
@pytest.mark.contract("SES-23")
def test_a_timeout_takes_effect_though_it_cannot_be_written_down(
    agentd: Agentd, disk: Disk
) -> None:
    client = held(agentd, "exit 7", "hasty")
    disk.fill()
    code = client.wait().code
    disk.empty()
    assert code == 124


# --- while a session lives -----------------------------------------------------------------------


@pytest.mark.contract("AUD-22")
def test_a_session_keeps_its_outcome_and_its_record_is_closed_once_that_is_possible(
    agentd: Agentd, disk: Disk, trouble: Trouble
) -> None:
    client = held(agentd, "exit 7")
    hold = client.record.runa / "hold"
    descriptor = os.open(hold, os.O_RDWR)
    trouble.begin()
    os.write(descriptor, b"\n")
    code = client.wait().code
    os.close(descriptor)
    assert code == 7
    trouble.end()
    assert "outcome" not in client.record.facts
    assert agentd.script("exit 0").wait().code == 0
    agentd.wait_for(CLOSED, session_id=client.session_id)
    assert client.record.facts["exit_code"] == 7
    agentd.assert_nothing_left()


@pytest.mark.contract("F-60")
def test_output_lost_on_a_full_disk_costs_no_outcome_and_is_told_in_the_record(
    own_agentd: Agentd, declare: Callable[..., Table], disk: Disk
) -> None:
    own_agentd.configure(declare(), audit_root=str(disk.place))
    own_agentd.start()
    client = held(own_agentd, f"{TALK}; touch .runa/said; {HOLD}; exit 7")
    disk.fill()
    client.record.release()
    wait_until("the session has spoken", (client.record.runa / "said").exists)
    own_agentd.wait_for("agentd.audit_root_full")
    disk.empty()
    client.record.release()
    assert client.wait().code == 7
    facts = client.record.facts
    assert (facts["exit_code"], facts["output"]["complete"]) == (7, False)
