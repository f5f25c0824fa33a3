"""`agentd check`: a healthy machine, machines with planted faults, and that nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agentd.check import Finding, examine, throwaway
from testbed.agentd_client import HOLD, Client
from testbed.agentd_process import Agentd, Table, agentd_process
from testbed.podman_service import PodmanService, get
from testbed.processes import wait_until
from testbed.session_image import derive_image
from tests.conftest import LONG

pytestmark = pytest.mark.live

SECRET = "k9-s3cret-value"
TESTBED = Path(__file__).parents[2] / "testbed"
OLD_AND_WITHOUT_GIT = """\
rm "$(command -v git)" "$(command -v runa-mcp)"
cd /usr/lib/python3/dist-packages/testbed
sed -i 's/^VERSION = .*/VERSION = "0.1.1"/' runa_stand_in/__init__.py
mkdir -m 700 /opt/private
cp /bin/true /opt/private/agent
"""

OF_THE_HOST = {"cgroup", "linger", "podman-idle"}
"""What the machine that runs the tests may rightly be warned of."""


class Told(NamedTuple):
    """What `agentd check --json` said."""

    code: int
    checks: list[dict[str, Any]]
    text: str

    def find(self, name: str, agent: str | None = None) -> list[dict[str, Any]]:
        """The checks of that name."""
        return [each for each in self.checks if (each["name"], each["agent"]) == (name, agent)]

    def failed(self) -> set[tuple[str, str | None]]:
        """Name and agent of those that failed."""
        return {(each["name"], each["agent"]) for each in self.checks if each["status"] == "fail"}


def check(agentd: Agentd, *words: str) -> Client:
    return agentd.command("check", "--config", str(agentd.config), *words)


def told(agentd: Agentd, *words: str) -> Told:
    ended = check(agentd, "--json", *words).wait()
    assert ended.stderr == "", ended
    return Told(ended.code, json.loads(ended.stdout)["checks"], ended.stdout)


def trial_containers(podman: PodmanService) -> list[str]:
    listed = json.loads(get(podman.socket, "/v4.0.0/libpod/containers/json?all=true") or b"[]")
    names = [name for each in listed or [] for name in each["Names"]]
    return [name for name in names if name.startswith("agentd-check-")]


def assert_nothing_left(agentd: Agentd) -> None:
    assert trial_containers(agentd.podman) == []
    assert list(agentd.base.glob("**/.agentd-*")) == []
    assert list(agentd.temporary.iterdir()) == []


@pytest.fixture(scope="module")
def new_agentd(
    podman: PodmanService, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Agentd]]:
    """Makes configurations of daemons that are not started."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(
            agentd_process(podman, tmp_path_factory.mktemp("check") / "agentd")
        )


# --- a healthy machine ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def healthy(new_agentd: Callable[[], Agentd], declare: Callable[..., Table]) -> Agentd:
    agentd = new_agentd()
    agentd.audit_root.mkdir(mode=0o700)
    source = agentd.base / "source, with a comma"
    source.mkdir()
    agentd.configure(
        declare(
            "site-builder",
            methodology_dir=str(TESTBED / "methodology"),
            command={"argv": ["stand-in-agent"]},
            schedule="@daily",
            scheduled_request="Bring the site up to date.",
            credentials=[{"name": "KEY", "source": "OPERATOR_KEY"}],
            mounts=[{"source": str(source), "target": "/srv/cache", "read_only": False}],
        )
    )
    agentd.environ["OPERATOR_KEY"] = SECRET
    return agentd


@pytest.fixture(scope="module")
def healthy_told(healthy: Agentd) -> Told:
    return told(healthy)


def test_on_a_healthy_machine_no_check_fails(healthy_told: Told) -> None:
    not_ok = {each["name"] for each in healthy_told.checks if each["status"] != "ok"}
    assert (healthy_told.code, not_ok - OF_THE_HOST) == (0, set())


def test_every_part_of_a_session_is_looked_at(healthy_told: Told) -> None:
    of_the_agent = {each["name"] for each in healthy_told.checks if each["agent"] is not None}
    assert of_the_agent == {
        *("methodology", "scheduled-request", "mount", "credential", "schedule", "limits"),
        *("network", "image", "image-tools", "command", "runa", "runa-mcp", "runa-init", "record"),
    }


@pytest.mark.contract("AUD-26")
def test_a_record_that_a_real_session_user_wrote_is_sealed_and_verified(
    healthy_told: Told,
) -> None:
    (record,) = healthy_told.find("record", "site-builder")
    assert "sealed and verified" in record["text"]


def test_no_secret_is_shown(healthy_told: Told) -> None:
    (credential,) = healthy_told.find("credential", "site-builder")
    assert ("OPERATOR_KEY" in credential["text"], SECRET in healthy_told.text) == (True, False)


def test_nothing_is_left_of_a_check(healthy: Agentd, healthy_told: Told) -> None:
    assert_nothing_left(healthy)
    assert list(healthy.audit_root.iterdir()) == []
    assert not healthy.socket.parent.exists()


# --- planted faults ------------------------------------------------------------------------------


def methodology(directory: Path) -> Path:
    """A copy of the sound one, to be damaged."""
    shutil.copytree(TESTBED / "methodology_pass_through", directory)
    return directory


@pytest.fixture(scope="module")
def faulty(
    new_agentd: Callable[[], Agentd],
    declare: Callable[..., Table],
    session_image: str,
    podman: PodmanService,
) -> Agentd:
    """Fifteen faults at once: in the machine, in declarations, and in an image.

    The limit of memory is one more where the host cannot enforce it.
    """
    agentd = new_agentd()
    base = agentd.base
    image = derive_image(podman, "worn", session_image, OLD_AND_WITHOUT_GIT)
    garbled, incomplete = methodology(base / "garbled"), methodology(base / "incomplete")
    (garbled / "manifest.toml").write_text('name = "garbled"\n[[protocols]\n')
    (incomplete / "schemas/report.schema.json").unlink()
    (incomplete / "protocols/answer/PROTOCOL.md").unlink()
    agentd.audit_root.mkdir()
    agentd.audit_root.chmod(0o777)
    agentd.configure(
        declare("worn", base_image=image, command={"argv": ["no-such-agent", "--print"]}),
        declare("private", base_image=image, command={"argv": ["/opt/private/agent"]}),
        declare("absent", base_image="localhost/no-such-image:1"),
        declare("misnamed", base_image="docker://localhost/image"),
        declare("garbled", base_image="localhost/no-such-image:1", methodology_dir=str(garbled)),
        declare(
            "incomplete",
            base_image="localhost/no-such-image:1",
            methodology_dir=str(incomplete),
            network="no-such-network",
        ),
        declare(
            "poor",
            base_image="localhost/no-such-image:1",
            credentials=[{"name": "KEY", "source": "NO_SUCH_VARIABLE"}],
            mounts=[{"source": str(base / "gone"), "target": "/srv/gone", "read_only": True}],
            limits={"memory": "64MiB"},
        ),
    )
    agentd.environ["XDG_RUNTIME_DIR"] = str(base / ("long" * 25))
    return agentd


@pytest.fixture(scope="module")
def faulty_told(faulty: Agentd) -> Told:
    return told(faulty)


@pytest.mark.contract("F-47", "B-04", "B-05", "B-14")
@pytest.mark.parametrize(
    ("name", "agent", "text", "remedy"),
    [
        ("socket", None, "bytes long and Linux allows 107", "choose a shorter daemon.socket_path"),
        ("audit-root", None, "writable for others", ""),
        ("image-tools", "worn", "has no git", "add git to the image"),
        ("runa", "worn", "runa is 0.1.1, and agentd needs 0.1.2", "put runa 0.1.2"),
        ("runa-mcp", "worn", "no runa-mcp beside runa or on the search path", "put runa-mcp"),
        ("command", "worn", "have no-such-agent, the first word", "install it in the image"),
        ("command", "private", "the session user may not start it", "executable for everybody"),
        ("image", "absent", "refuses every session", "podman pull localhost/no-such-image:1"),
        ("image", "misnamed", "is no image reference", "correct base_image"),
        ("methodology", "garbled", "manifest.toml is no TOML", "correct it"),
        ("methodology", "incomplete", "report.schema.json: No such file", "correct it below"),
        ("methodology", "incomplete", "protocols/answer/PROTOCOL.md", "correct it below"),
        ("network", "incomplete", "no network 'no-such-network'", "podman network create"),
        ("credential", "poor", "'NO_SUCH_VARIABLE'", "set NO_SUCH_VARIABLE"),
        ("mount", "poor", "does not exist", "make /"),
    ],
)
def test_a_planted_fault_is_found_with_a_remedy(
    faulty_told: Told, name: str, agent: str | None, text: str, remedy: str
) -> None:
    found = [each for each in faulty_told.find(name, agent) if text in each["text"]]
    assert [each["status"] for each in found] == ["fail"], faulty_told.find(name, agent)
    assert found[0]["remedy"]
    assert remedy in found[0]["remedy"]


def test_a_limit_fails_only_where_the_host_cannot_enforce_it(
    faulty_told: Told, podman: PodmanService
) -> None:
    info = podman.podman("info", "--format", "{{.Host.CgroupsVersion}} {{.Host.CgroupControllers}}")
    enforced = "memory" in info and not (podman.rootless and info.startswith("v1"))
    (limits,) = faulty_told.find("limits", "poor")
    assert limits["status"] == ("ok" if enforced else "fail")


def test_nothing_fails_that_was_not_planted(faulty_told: Told) -> None:
    assert faulty_told.code == 1
    assert faulty_told.failed() - {("limits", "poor")} == {
        *(("socket", None), ("audit-root", None)),
        *((name, "worn") for name in ("image-tools", "runa", "runa-mcp", "command")),
        *((name, "private") for name in ("image-tools", "runa", "runa-mcp", "command")),
        *(("methodology", "garbled"), ("methodology", "incomplete"), ("network", "incomplete")),
        *(("credential", "poor"), ("mount", "poor")),
        *(("image", agent) for agent in ("absent", "misnamed", "garbled", "incomplete", "poor")),
    }


def test_nothing_is_left_where_the_faults_are(faulty: Agentd, faulty_told: Told) -> None:
    assert_nothing_left(faulty)
    assert list(faulty.audit_root.iterdir()) == []


@pytest.mark.contract("AUD-26")
def test_that_no_record_could_be_tried_is_a_warning(
    new_agentd: Callable[[], Agentd], declare: Callable[..., Table]
) -> None:
    agentd = new_agentd()
    agentd.audit_root.mkdir(mode=0o700)
    agentd.configure(declare(base_image="localhost/no-such-image:1", pull="missing"))
    seen = told(agentd)
    (record,) = seen.find("record")
    assert (seen.code, record["status"]) == (0, "warn")
    assert str(agentd.audit_root) in record["text"]
    assert "image" in record["remedy"]


# --- beside a daemon -----------------------------------------------------------------------------


def test_a_check_beside_a_daemon_sees_its_environment_and_disturbs_no_session(
    start_agentd: Callable[..., Agentd], declare: Callable[..., Table]
) -> None:
    keyed = declare("keyed", credentials=[{"name": "KEY", "source": "OPERATOR_KEY"}])
    agentd = start_agentd(keyed, environ={"OPERATOR_KEY": SECRET})
    held = agentd.script(HOLD, "keyed")
    held.wait_for_line("ready")
    seen = told(agentd)
    (credential,) = seen.find("credential", "keyed")
    assert (seen.code, credential["status"], SECRET in seen.text) == (0, "ok", False)
    assert "the environment of the daemon" in credential["text"]
    held.record.release()
    assert held.wait().code == 0
    assert agentd.events(event="agentd.unknown_container_removed") == []
    assert agentd.events(level="warning", event="agentd.operator_connection_failed") == []


# --- what interrupts it --------------------------------------------------------------------------


def hold(agentd: Agentd, declare: Callable[..., Table]) -> None:
    """Declare an agent whose check waits in its container: runa reads a manifest that nobody
    writes."""
    directory = agentd.base / "waiting"
    directory.mkdir()
    os.mkfifo(directory / "manifest.toml")
    agentd.audit_root.mkdir(mode=0o700)
    agentd.configure(declare(methodology_dir=str(directory)))


@contextmanager
def held_check(agentd: Agentd, declare: Callable[..., Table]) -> Iterator[Client]:
    """A check that waits in its container."""
    hold(agentd, declare)
    client = check(agentd)
    wait_until("the container is there", lambda: bool(trial_containers(agentd.podman)))
    yield client
    client.wait()


def test_a_check_that_is_interrupted_leaves_nothing(
    new_agentd: Callable[[], Agentd], declare: Callable[..., Table]
) -> None:
    agentd = new_agentd()
    with held_check(agentd, declare) as client:
        client.process.send_signal(signal.SIGINT)
        ended = client.wait()
    assert (ended.code, ended.stderr) == (130, "")
    assert_nothing_left(agentd)


def test_what_a_killed_check_has_left_the_next_one_removes(
    new_agentd: Callable[[], Agentd], declare: Callable[..., Table]
) -> None:
    agentd = new_agentd()
    with held_check(agentd, declare) as client:
        client.process.kill()
    assert trial_containers(agentd.podman) != []
    (left,) = agentd.audit_root.iterdir()
    # A directory of the last minute could be one that another check is just making.
    os.utime(left, (0, 0))
    agentd.configure(declare(base_image="localhost/no-such-image:1"))
    check(agentd).wait()
    assert_nothing_left(agentd)
    assert list(agentd.audit_root.iterdir()) == []


@pytest.mark.skipif(not LONG, reason="a container's time is up; AGENTD_TESTS_LONG=1")
async def test_a_container_that_does_not_end_is_a_failed_check_and_goes(
    new_agentd: Callable[[], Agentd],
    declare: Callable[..., Table],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agentd = new_agentd()
    hold(agentd, declare)
    monkeypatch.setattr(throwaway, "TRIAL_SECONDS", 2.0)
    found: list[Finding] = []
    await examine(agentd.config, agentd.environ, None, found.append)
    (trial,) = (each for each in found if each.name == "image-trial")
    assert (trial.status, "was not done within 2 s" in trial.text) == ("fail", True)
    assert_nothing_left(agentd)
