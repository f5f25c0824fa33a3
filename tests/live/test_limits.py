"""Limits on what a session may use: they reach the container and hold, or the run is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from testbed.agentd_client import HOLD, Ended, Record
from testbed.agentd_process import Agentd, Table
from testbed.podman_service import PodmanService

pytestmark = pytest.mark.live

MIB = 2**20
MEMORY, PIDS = 128 * MIB, 60

# Both versions of control groups, and what they show to a container about itself.
LOOK = f"""\
cd /sys/fs/cgroup
cat pids/pids.max pids.max >~/repo/.runa/pids 2>/dev/null
cat memory/memory.limit_in_bytes memory.max >~/repo/.runa/memory 2>/dev/null
cat memory/memory.memsw.limit_in_bytes >~/repo/.runa/swap 2>/dev/null
cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu.max >~/repo/.runa/cpu 2>/dev/null
cd ~/repo
{HOLD}
"""

# The shell that cannot start one more ends, so a second one counts.
SWARM = """\
sh -c 'while :; do sleep 1000 & echo >>.runa/forks; done' 2>.runa/refusal
echo "alive: $(wc -l <.runa/forks)"
"""
GREED = 'python3 -c "b = bytearray(400_000_000)"'


def limits_are_enforced(podman: PodmanService) -> bool:
    """Whether this Podman can limit memory; rootless on cgroup v1 it claims so and does not."""
    info = podman.podman("info", "--format", "{{.Host.CgroupsVersion}} {{.Host.CgroupControllers}}")
    return "memory" in info and not (podman.rootless and info.startswith("v1"))


@pytest.fixture(scope="module")
def enforcing(podman: PodmanService) -> None:
    """Tests with it need a host that can limit sessions."""
    if not limits_are_enforced(podman):
        pytest.skip("this host enforces no limits: rootless on cgroup v1, or nothing is delegated")


@pytest.fixture(scope="module")
def agentd(start_agentd: Callable[..., Agentd], declare: Callable[..., Table]) -> Agentd:
    limits = {"memory": f"{MEMORY}B", "cpus": 0.5, "pids": PIDS}
    return start_agentd(
        declare(),
        declare("limited", limits=limits),
        declare("crowded", limits={"pids": PIDS}),
        declare("greedy", limits={"memory": f"{MEMORY}B"}),
    )


def looked(agentd: Agentd, podman: PodmanService, agent: str) -> tuple[Record, list[str]]:
    """What a session of the agent saw of its limits, and what inspect says of them."""
    client = agentd.script(LOOK, agent)
    client.wait_for_line("ready")
    keys = ("Memory", "MemorySwap", "PidsLimit", "CpuQuota", "CpuPeriod")
    template = " ".join(f"{{{{.HostConfig.{key}}}}}" for key in keys)
    shown = podman.podman("inspect", "--format", template, *agentd.containers()).split()
    client.record.release()
    return client.wait().record, shown


@pytest.fixture(scope="module")
def limited(enforcing: None, agentd: Agentd, podman: PodmanService) -> tuple[Record, list[str]]:
    return looked(agentd, podman, "limited")


@pytest.mark.contract("F-24")
def test_limits_stand_on_the_container(limited: tuple[Record, list[str]]) -> None:
    _, shown = limited
    assert shown == [str(MEMORY), str(MEMORY), str(PIDS), "50000", "100000"]


@pytest.mark.contract("F-24")
@pytest.mark.parametrize(
    ("name", "expected"),
    [("memory", [str(MEMORY)]), ("pids", [str(PIDS)]), ("cpu", ["50000", "100000"])],
)
def test_limits_are_there_inside(
    limited: tuple[Record, list[str]], name: str, expected: list[str]
) -> None:
    record, _ = limited
    assert record.read(name).split() == expected


@pytest.mark.contract("F-24")
def test_a_limit_of_memory_leaves_no_swap_beyond_it(limited: tuple[Record, list[str]]) -> None:
    record, _ = limited
    swap = record.read("swap").split()
    if not swap:
        pytest.skip("this kernel does not count swap, or does not show it here")
    assert swap == [str(MEMORY)]


@pytest.mark.contract("F-24")
def test_processes_are_limited_where_the_operator_says_nothing(
    enforcing: None, agentd: Agentd, podman: PodmanService
) -> None:
    record, shown = looked(agentd, podman, "worker")
    assert (record.read("pids").split(), shown) == (["2048"], ["0", "0", "2048", "0", "0"])


@pytest.mark.contract("F-24")
def test_the_record_says_what_was_limited(limited: tuple[Record, list[str]]) -> None:
    record, _ = limited
    limits = record.facts["limits"]
    assert (limits["memory"], limits["cpus"], limits["pids"]) == (MEMORY, 0.5, PIDS)


@pytest.mark.contract("F-24")
def test_a_swarm_of_processes_stops_at_the_limit(enforcing: None, agentd: Agentd) -> None:
    record = agentd.script(SWARM, "crowded").wait().record
    assert (0 < len(record.read("forks")) < PIDS, "fork" in record.read("refusal")) == (True, True)


@pytest.fixture(scope="module")
def starved(enforcing: None, agentd: Agentd) -> Ended:
    """The end of an agent that wanted more memory than its session may have."""
    return agentd.script(f"exec {GREED}", "greedy").wait()


@pytest.mark.contract("SES-33", "F-24")
def test_an_agent_that_takes_too_much_memory_is_killed(starved: Ended) -> None:
    assert starved.stderr.splitlines()[-1] == (
        "session terminated_by_signal (exit code 137, signal 9)"
    )


@pytest.mark.contract("F-60")
def test_the_record_says_that_memory_ran_out(starved: Ended) -> None:
    assert starved.record.facts["oom_killed"] is True


@pytest.fixture(scope="module")
def bereaved(enforcing: None, agentd: Agentd) -> Ended:
    """The end of an agent that outlived a child that wanted too much."""
    return agentd.script(f"{GREED}; exit $(($? + 1))", "greedy").wait()


@pytest.mark.contract("SES-34")
def test_an_agent_may_outlive_a_child_that_took_too_much(bereaved: Ended) -> None:
    last = bereaved.stderr.splitlines()[-1]
    assert last == "session terminated_by_signal (exit code 138, signal 10)"


@pytest.mark.contract("F-60")
def test_the_record_says_that_memory_ran_out_for_a_child(bereaved: Ended) -> None:
    assert bereaved.record.facts["oom_killed"] is True


@pytest.mark.contract("F-60")
def test_a_record_says_nothing_of_memory_that_did_not_run_out(
    limited: tuple[Record, list[str]],
) -> None:
    assert "oom_killed" not in limited[0].facts


@pytest.mark.contract("F-24", "SES-04")
def test_a_limit_that_the_host_cannot_enforce_refuses_the_run(
    agentd: Agentd, podman: PodmanService
) -> None:
    if limits_are_enforced(podman):
        pytest.skip("this host enforces every limit")
    before = agentd.records()
    ended = agentd.run("limited")
    expected = (
        "agentd: agent 'limited' sets limits.memory, limits.cpus, limits.pids, which this host"
        " cannot enforce"
    )
    assert (ended.code, ended.stderr.startswith(expected)) == (6, True), ended
    assert agentd.records() == before
    agentd.assert_nothing_left()


@pytest.mark.contract("F-24")
def test_default_limits_that_the_host_cannot_enforce_are_a_warning(
    agentd: Agentd, podman: PodmanService
) -> None:
    if limits_are_enforced(podman):
        pytest.skip("this host enforces every limit")
    warning = agentd.wait_for("agentd.default_limits_unavailable")
    assert warning["level"] == "warning"
    assert agentd.script("exit 0").wait().code == 0
