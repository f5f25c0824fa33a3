"""The image of a session, pulled from a real registry as the agent's policy says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import trio

from agentd import connect, wire
from agentd.errors import OverlapSkipped
from testbed.agentd_client import Client, Ended
from testbed.agentd_process import Agentd, Table
from testbed.podman_service import PodmanService
from testbed.registry import PASSWORD, USER, Registry, registry

pytestmark = pytest.mark.live

INFRASTRUCTURE = 6
LONG = os.environ.get("AGENTD_TESTS_LONG") == "1"
POLICIES = ("always", "missing", "newer")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry") / "open") as server:
        yield server


@pytest.fixture(scope="module")
def private_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry") / "private", private=True) as server:
        yield server


@pytest.fixture(scope="module")
def absent_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that is never started."""
    server = Registry(tmp_path_factory.mktemp("registry") / "absent")
    yield server
    server.close()


@contextmanager
def stopped(server: Registry) -> Iterator[None]:
    """The registry is down inside, unless the test starts it."""
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextmanager
def silent(server: Registry) -> Iterator[None]:
    """Inside, the registry takes connections and answers none."""
    server.fall_silent()
    try:
        yield
    finally:
        server.go_on()


@pytest.fixture(scope="module")
def agentd(
    start_agentd: Callable[..., Agentd],
    declare: Callable[..., Table],
    server: Registry,
    private_server: Registry,
    absent_server: Registry,
) -> Agentd:
    def pulls(name: str, policy: str, image: str) -> Table:
        return declare(name, pull=policy, base_image=image)

    here, private = server.host, private_server.host
    return start_agentd(
        declare(),
        pulls("missing", "missing", f"{here}/missing:1"),
        pulls("shown", "missing", f"{here}/shown:1"),
        pulls("late", "always", f"{here}/late:1"),
        pulls("hanging", "always", f"{here}/hanging:1"),
        *(pulls(f"two-and-{each}", each, f"{here}/two-and-{each}:1") for each in POLICIES),
        pulls("known", "newer", f"{here}/known:1"),
        pulls("private", "missing", f"{private}/private:1"),
        pulls("no-login", "missing", f"{private}/no-login:1"),
        pulls("unreachable", "missing", f"{absent_server.host}/none:1"),
        pulls("unknown-tag", "missing", f"{here}/missing:2"),
        pulls("unresolved", "missing", "agentd-no-such-short-name"),
        pulls("plain-http", "missing", f"{here.replace('127.0.0.1', 'localhost')}/missing:1"),
        pulls("upper", "always", f"{here}/Upper:1"),
        pulls("transport", "missing", f"docker://{here}/missing:1"),
    )


@pytest.fixture(scope="module", autouse=True)
def unreachable(agentd: Agentd) -> Client:
    """A run whose registry is down. Started first, because it tries for 16 s."""
    return agentd.client("unreachable")


@pytest.fixture(scope="module")
def two_images(
    podman: PodmanService, server: Registry, session_image: str
) -> Callable[[str], tuple[str, str]]:
    """Gives a name to an image here and to another one in the registry; their ids."""
    changed, container = "localhost/agentd-session:changed", "agentd-testbed-changed"
    podman.podman("create", "--name", container, session_image, "true")
    podman.podman("commit", "--quiet", "--change", "LABEL changed=yes", container, changed)
    podman.podman("rm", container)

    def name_both(name: str) -> tuple[str, str]:
        podman.podman("tag", session_image, server.push(podman, changed, name))
        return image_id(podman, session_image), image_id(podman, changed)

    return name_both


def image_id(podman: PodmanService, name: str) -> str:
    return podman.podman("image", "inspect", "--format", "{{.Id}}", name).strip()


def sentence(ended: Ended) -> str:
    """What a client was told that was refused."""
    assert (ended.code, ended.stdout) == (INFRASTRUCTURE, ""), ended
    return ended.stderr.splitlines()[-1].removeprefix("agentd: ")


def attempts(agentd: Agentd, agent: str) -> int:
    return len(agentd.events(event="agentd.image_pull_started", agent=agent))


@pytest.mark.contract("SES-43", "F-58")
def test_an_image_that_is_missing_is_pulled(
    agentd: Agentd, podman: PodmanService, server: Registry, session_image: str
) -> None:
    name = server.push(podman, session_image, "missing:1")
    ended = agentd.run("missing", "--work-unit", "exit 23")
    pulled = image_id(podman, name)
    assert (ended.code, ended.record.facts["image_id"]) == (23, pulled), ended


@pytest.mark.contract("SES-43")
def test_the_client_is_shown_the_pull_before_the_session(
    agentd: Agentd, podman: PodmanService, server: Registry, session_image: str
) -> None:
    name = server.push(podman, session_image, "shown:1")
    lines = agentd.run("shown", "--work-unit", "exit 0").stderr.splitlines()
    session = next(line for line in lines if line.startswith("agentd: session "))
    before = lines[: lines.index(session)]
    assert (before[0], len(before) > 1) == (f"agentd: Trying to pull {name}...", True), lines


@pytest.mark.contract("SES-43", "F-58")
@pytest.mark.parametrize("policy", POLICIES)
def test_the_policy_decides_which_image_is_used_when_the_registry_has_another(
    agentd: Agentd, two_images: Callable[[str], tuple[str, str]], policy: str
) -> None:
    local, remote = two_images(f"two-and-{policy}:1")
    used = agentd.run(f"two-and-{policy}", "--work-unit", "exit 0").record.facts["image_id"]
    assert used == (remote if policy in {"always", "newer"} else local)


@pytest.mark.contract("SES-43", "F-58")
def test_a_newer_image_is_not_needed_when_the_registry_is_down(
    agentd: Agentd, podman: PodmanService, server: Registry, session_image: str
) -> None:
    podman.podman("tag", session_image, f"{server.host}/known:1")
    with stopped(server):
        assert agentd.run("known", "--work-unit", "exit 23").code == 23


@pytest.mark.contract("SES-43")
def test_a_pull_succeeds_when_the_registry_comes_up_after_the_first_attempt(
    agentd: Agentd, podman: PodmanService, server: Registry, session_image: str
) -> None:
    server.push(podman, session_image, "late:1")
    with stopped(server):
        client = agentd.client("late", "--work-unit", "exit 23")
        agentd.wait_for("agentd.image_pull_failed", agent="late", attempt=1)
        server.start()
        assert (client.wait().code, attempts(agentd, "late")) == (23, 2)


@pytest.mark.contract("SES-43")
def test_a_pull_that_hangs_holds_up_nobody(
    agentd: Agentd, podman: PodmanService, server: Registry, session_image: str
) -> None:
    server.push(podman, session_image, "hanging:1")
    with silent(server):
        hanging = agentd.client("hanging", "--work-unit", "exit 23")
        agentd.wait_for("agentd.image_pull_started", agent="hanging")
        assert agentd.run("worker", "--work-unit", "exit 0").code == 0
        assert hanging.process.poll() is None
    assert hanging.wait().code == 23


@pytest.mark.contract("SES-43", "DMN-24")
def test_a_drain_ends_a_pull_and_tells_the_client(
    own_agentd: Agentd, declare: Callable[..., Table], server: Registry
) -> None:
    own_agentd.configure(declare(pull="always", base_image=f"{server.host}/hanging:1"))
    own_agentd.start()
    with silent(server):
        client = own_agentd.client("worker")
        own_agentd.wait_for("agentd.image_pull_started")
        assert own_agentd.drained() == 0
        assert sentence(client.wait()) == "agentd is shutting down"
    assert own_agentd.records() == set()
    own_agentd.assert_nothing_left_in_podman()


def fire(agentd: Agentd, agent: str) -> wire.Accepted | wire.Queued:
    """What the scheduler does when an agent is due."""

    async def dispatch() -> wire.Accepted | wire.Queued:
        async with connect(agentd.socket) as client:
            return await client.dispatch(agent, trigger="schedule")

    return trio.run(dispatch)


@pytest.mark.contract("SCH-16")
def test_a_run_whose_image_is_pulled_is_one_that_another_may_overlap_with(
    own_agentd: Agentd, declare: Callable[..., Table], server: Registry
) -> None:
    image = f"{server.host}/hanging:1"
    own_agentd.configure(declare(pull="always", base_image=image, overlap="skip"))
    own_agentd.start()
    with silent(server):
        own_agentd.client("worker")
        own_agentd.wait_for("agentd.image_pull_started")
        with pytest.raises(OverlapSkipped, match="is being admitted"):
            fire(own_agentd, "worker")
        assert own_agentd.drained() == 0


@pytest.mark.skipif(not LONG, reason="takes up to a minute: the shortest schedule there is")
@pytest.mark.contract("SCH-20")
def test_a_scheduled_run_whose_pull_the_drain_ends_is_told_of_as_that(
    own_agentd: Agentd, declare: Callable[..., Table], server: Registry
) -> None:
    image = f"{server.host}/hanging:1"
    own_agentd.configure(declare(pull="always", base_image=image, schedule="* * * * *"))
    own_agentd.start()
    with silent(server):
        own_agentd.wait_for("agentd.image_pull_started")
        assert own_agentd.drained() == 0
    (fired,) = own_agentd.events(event="agentd.schedule_fired")
    assert fired["disposition"] == "skipped_draining"


@pytest.mark.contract("SES-43")
def test_a_private_registry_serves_whom_podman_has_a_login_for(
    agentd: Agentd, podman: PodmanService, private_server: Registry, session_image: str
) -> None:
    private_server.push(podman, session_image, "private:1")
    login = ("login", "--username", USER, "--password-stdin", private_server.host)
    podman.podman(*login, stdin=PASSWORD)
    try:
        assert agentd.run("private", "--work-unit", "exit 23").code == 23
    finally:
        podman.podman("logout", private_server.host)


@dataclass(frozen=True)
class Refusal:
    """An agent whose image cannot be had, and what a run of it must lead to."""

    agent: str
    texts: tuple[str, ...]
    attempts: int

    def __str__(self) -> str:
        return self.agent


REFUSALS = [
    Refusal("upper", ("no image reference", "name in lower case"), 0),
    Refusal("transport", ("no image reference", "without a transport"), 0),
    Refusal("unknown-tag", ("manifest unknown", "check the image's name and tag"), 1),
    Refusal("no-login", ("authentication required", "podman login"), 1),
    Refusal("plain-http", ("HTTP response to HTTPS", "registries.conf"), 1),
    Refusal("unresolved", ("short-name", "write the registry's host"), 1),
]


@pytest.fixture(scope="module", params=REFUSALS, ids=str)
def refused(request: pytest.FixtureRequest, agentd: Agentd) -> tuple[Refusal, Ended]:
    """What was expected, and how the client of the one run of that agent ended."""
    refusal: Refusal = request.param
    return refusal, agentd.run(refusal.agent)


@pytest.mark.contract("SES-43", "CLI-24")
def test_an_image_that_cannot_be_had_is_told_with_what_to_do(
    refused: tuple[Refusal, Ended],
) -> None:
    refusal, ended = refused
    said = sentence(ended)
    assert [text for text in refusal.texts if text not in said] == [], said


@pytest.mark.contract("SES-43")
def test_what_no_other_attempt_can_help_is_tried_once_or_never(
    agentd: Agentd, refused: tuple[Refusal, Ended]
) -> None:
    refusal, _ = refused
    assert attempts(agentd, refusal.agent) == refusal.attempts


@pytest.mark.contract("SES-43", "SES-04")
def test_an_image_that_cannot_be_had_leaves_nothing(
    agentd: Agentd, refused: tuple[Refusal, Ended]
) -> None:
    refusal, _ = refused
    assert not (agentd.audit_root / refusal.agent).exists()
    agentd.assert_nothing_left()


@pytest.mark.contract("SES-43", "CLI-24")
def test_a_registry_that_is_down_is_tried_three_times_and_told(
    agentd: Agentd, unreachable: Client
) -> None:
    said = sentence(unreachable.wait())
    expected = ("connection refused", "check that this host can reach the registry")
    assert [text for text in expected if text not in said] == [], said
    assert attempts(agentd, "unreachable") == 3


@pytest.mark.contract("SES-43")
def test_the_client_is_told_of_each_failed_attempt(unreachable: Client) -> None:
    said = [line for line in unreachable.wait().stderr.splitlines() if "trying again" in line]
    assert [line.rpartition(" in ")[2] for line in said] == ["2 s", "5 s"]


@pytest.mark.contract("SES-43", "SES-04")
def test_a_registry_that_is_down_leaves_nothing(agentd: Agentd, unreachable: Client) -> None:
    unreachable.wait()
    assert not (agentd.audit_root / "unreachable").exists()
    agentd.assert_nothing_left()
