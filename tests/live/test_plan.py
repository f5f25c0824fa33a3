"""`agentd plan`: what it says is what a session then gets, and saying it leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from testbed.agentd_client import HOLD, Ended, Record
from testbed.agentd_process import Agentd, Table, agentd_process
from testbed.podman_service import PodmanService
from tests.live.test_limits import limits_are_enforced

pytestmark = [pytest.mark.live, pytest.mark.contract("F-53")]

SECRET = "pl4n-s3cret"
ABSENT_IMAGE = "localhost/agentd-no-such-image:1"
REQUEST = ("--request", "Add a page", "--timeout", "1h")
SCHEMA = Path(__file__).parents[2] / "testbed/methodology/schemas/request.schema.json"
ARTIFACT = ("--artifact-type", "nope", "--artifact-file", str(SCHEMA))
LOOK = "tr '\\0' '\\n' </proc/$PPID/cmdline >.runa/argv; env >.runa/env; pwd >.runa/pwd; " + HOLD


class Lived(NamedTuple):
    """A plan, and the session that then got it."""

    plan: dict[str, Any]
    session: str
    container: dict[str, Any]
    record: Record


@pytest.fixture(scope="module")
def lived(
    start_agentd: Callable[..., Agentd],
    faithful: Table,
    podman: PodmanService,
    tmp_path_factory: pytest.TempPathFactory,
) -> Lived:
    data = tmp_path_factory.mktemp("data")
    (data / "link").symlink_to(data)
    limits = {"memory": "256MiB", "pids": 300} if limits_are_enforced(podman) else {}
    keys: Table = {
        "name": "planned",
        "command": {"argv": ["/bin/sh", "-c", LOOK]},
        "credentials": [{"name": "KEY", "source": "PLAN_KEY"}],
        "environment": {"CI": "1"},
        "limits": limits,
        "mounts": [{"source": str(data / "link"), "target": "/data", "read_only": True}],
    }
    agentd = start_agentd(faithful | keys, environ={"PLAN_KEY": SECRET})
    agentd.environ["PLAN_KEY"] = SECRET
    plan = json.loads(planned(agentd, "planned", *REQUEST, "--json").stdout)
    client = agentd.client("planned", *REQUEST)
    client.wait_for_line("ready")
    (container,) = json.loads(podman.podman("inspect", *agentd.containers()))
    client.record.release()
    return Lived(plan, client.session_id, container, client.wait().record)


def planned(agentd: Agentd, *words: str) -> Ended:
    return agentd.command("plan", *words, "--config", str(agentd.config)).wait()


def test_the_image_is_the_containers(lived: Lived, session_image: str) -> None:
    image = lived.plan["image"]
    assert image["id"] == lived.container["Image"]
    assert (image["reference"], image["action"]) == (session_image, "use")


def test_the_names_are_those_that_the_session_gets(lived: Lived) -> None:
    found = [lived.plan[key].replace("<session>", lived.session) for key in ("container", "record")]
    assert found == [lived.container["Name"], str(lived.record.directory)]


def test_the_mounts_are_the_containers(lived: Lived) -> None:
    told = {
        (each["source"].replace("<session>", lived.session), each["target"], each["read_only"])
        for each in lived.plan["mounts"]
    }
    got = {
        (each["Source"], each["Destination"], not each["RW"]) for each in lived.container["Mounts"]
    }
    assert told == got


def test_the_limits_are_the_containers(lived: Lived) -> None:
    host = lived.container["HostConfig"]
    limits = lived.plan["limits"]
    told = (limits.get("memory", 0), limits.get("pids"))
    assert told == (host["Memory"], host["PidsLimit"] or None)


def test_network_and_isolation_are_the_containers(lived: Lived) -> None:
    host, isolation = lived.container["HostConfig"], lived.plan["isolation"]
    assert lived.plan["network"] == host["NetworkMode"]
    assert isolation["init"] == host["Init"]
    assert isolation["no_new_privileges"] == ("no-new-privileges" in host["SecurityOpt"])
    assert {f"CAP_{name}" for name in isolation["setup_capabilities"]} == set(
        lived.container["EffectiveCaps"]
    )


def test_the_command_is_what_runs_at_last(lived: Lived) -> None:
    runs = lived.record.read("argv").splitlines()
    runa = next(index for index, word in enumerate(runs) if Path(word).name == "runa")
    assert lived.plan["command"] == ["runa", *runs[runa + 1 :]]


def test_the_agent_has_the_variables_that_were_named(lived: Lived) -> None:
    names = {line.partition("=")[0] for line in lived.record.read("env").splitlines()}
    told = [*lived.plan["credentials"], *lived.plan["environment"]]
    assert told == ["KEY", "CI", "AGENT_NAME"]
    assert set(told) <= names


def test_no_value_of_a_credential_is_told(lived: Lived) -> None:
    assert SECRET not in json.dumps(lived.plan)


def test_the_input_is_where_it_was_to_be(lived: Lived) -> None:
    place = lived.plan["input"]["path"]
    home = lived.record.read("pwd").strip()
    assert place.startswith(f"{home}/.runa/")
    assert (lived.record.runa / place.removeprefix(f"{home}/.runa/")).is_file()


def test_the_session_user_has_the_uid_that_was_told(lived: Lived) -> None:
    user = lived.plan["user"]
    assert (lived.record.runa / "pwd").stat().st_uid == user["host_uid"]
    maps = (lived.container["HostConfig"].get("IDMappings") or {}).get("UidMap") or []
    told = [f"{part['container_id']}:{part['host_id']}:{part['size']}" for part in user["id_map"]]
    assert told == maps


def test_the_time_is_what_was_asked_for(lived: Lived) -> None:
    assert (lived.plan["timeout"], lived.plan["backstop"]) == (
        3600,
        lived.container["Config"]["Timeout"],
    )


# --- without a daemon ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unstarted(
    podman: PodmanService, declare: Callable[..., Table], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Agentd]:
    """A configuration whose daemon has never run."""
    key = {"name": "KEY", "source": "AGENTD_TEST_ABSENT"}
    with agentd_process(podman, tmp_path_factory.mktemp("unstarted")) as agentd:
        agentd.configure(
            declare(credentials=[key]),
            declare("pulling", base_image=ABSENT_IMAGE, pull="missing"),
            declare("imageless", base_image=ABSENT_IMAGE),
        )
        yield agentd


def test_nothing_exists_after_a_plan(unstarted: Agentd, podman: PodmanService) -> None:
    images = podman.podman("images", "--quiet")
    shown = planned(unstarted, "pulling")
    assert (shown.code, "is not on this host and is pulled" in shown.stdout) == (0, True)
    assert not unstarted.audit_root.exists()
    assert list(unstarted.runtime.iterdir()) == []
    assert podman.podman("images", "--quiet") == images
    unstarted.assert_nothing_left_in_podman()


def test_what_only_the_daemon_can_know_is_a_remark(unstarted: Agentd) -> None:
    shown = planned(unstarted, "worker")
    assert shown.code == 0
    assert "AGENTD_TEST_ABSENT is not set here" in shown.stdout
    assert f"the audit root {unstarted.audit_root} is not there yet" in shown.stdout


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (("nobody",), 2, "unknown agent 'nobody'"),
        (("worker", *ARTIFACT), 2, "artifact type 'nope' is not declared"),
        (("imageless",), 6, f"image '{ABSENT_IMAGE}' is not on this host"),
    ],
)
def test_a_run_that_would_be_refused_is_refused(
    unstarted: Agentd, words: tuple[str, ...], status: int, sentence: str
) -> None:
    shown = planned(unstarted, *words)
    assert (shown.code, shown.stdout) == (status, "")
    assert shown.stderr.startswith(f"agentd: {sentence}")
