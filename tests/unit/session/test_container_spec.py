"""The container that a session gets, as data and as the JSON that Podman reads."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from agentd import config
from agentd.audit import Record
from agentd.errors import HostUnsupported
from agentd.podman import ContainerSpec, Host, IdMap
from agentd.session.setup import setup_script
from agentd.session.spec import Admitted, HostAbilities, check_limits, container_spec
from tests.unit import builders
from tests.unit.builders import (
    DOCUMENT,
    INSTANCE,
    NOON,
    ROOTFUL,
    ROOTLESS,
    SESSION,
    TOKEN,
    URL,
    WHOSE,
    admitted,
    agent,
    credentials,
    invocation,
)

RECORD = Record(Path("/var/audit/builder") / SESSION)
MIB = 2**20


def spec(
    given: Admitted | None = None, abilities: HostAbilities = ROOTFUL, grace: float = 5.0
) -> ContainerSpec:
    return container_spec(
        given or admitted(), WHOSE, RECORD, abilities, started_at=NOON, grace_seconds=grace
    )


def spec_of(abilities: HostAbilities = ROOTFUL, **changes: Any) -> ContainerSpec:
    return spec(admitted(invocation(agent=agent(**changes))), abilities)


def as_json(made: ContainerSpec) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(made))
    return decoded


def host(
    *, rootless: bool, cgroup: str = "v2", controllers: list[str] | None = None, ids: int = 65537
) -> Host:
    maps = [{"container_id": 0, "host_id": 1000, "size": 1}]
    maps += [{"container_id": 1, "host_id": 100000, "size": ids - 1}]
    info = {
        "security": {"rootless": rootless},
        "cgroupVersion": cgroup,
        "cgroupControllers": controllers,
        "idMappings": {"uidmap": maps, "gidmap": maps} if rootless else {},
    }
    return msgspec.convert({"host": info, "version": {"Version": "4.3.1"}}, Host)


# --- identity ------------------------------------------------------------------------------------


@pytest.mark.contract("SES-03")
def test_the_container_is_named_for_instance_agent_and_session() -> None:
    assert spec().name == f"agentd-{INSTANCE}-builder-{SESSION}"


@pytest.mark.contract("SES-03")
def test_labels_are_all_that_is_needed_to_take_a_session_up_again() -> None:
    assert spec_of(timeout=90.0).labels == {
        "agentd.instance": INSTANCE,
        "agentd.session": SESSION,
        "agentd.agent": "builder",
        "agentd.record": str(RECORD.directory),
        "agentd.started": "2026-08-20T12:00:00+00:00",
        "agentd.deadline": "2026-08-20T12:01:30+00:00",
    }


def test_without_a_timeout_there_is_no_deadline() -> None:
    assert "agentd.deadline" not in spec().labels
    assert spec().timeout is UNSET


@pytest.mark.contract("SES-16")
def test_it_runs_the_setup_as_root_instead_of_the_images_own_entrypoint() -> None:
    made = spec()
    assert (made.user, made.entrypoint) == ("0:0", ("/bin/sh",))
    assert made.command[:3] == ("-c", setup_script(), "agentd")


@pytest.mark.contract("SES-43")
def test_the_image_is_the_one_that_was_admitted_by_its_id() -> None:
    assert spec().image == "ab" * 32


# --- privileges ----------------------------------------------------------------------------------


@pytest.mark.contract("F-24")
def test_only_what_the_setup_needs_is_left_of_roots_capabilities() -> None:
    made = spec()
    assert made.cap_drop == ("ALL",)
    assert made.cap_add == ("CHOWN", "DAC_OVERRIDE", "KILL", "SETGID", "SETUID")


@pytest.mark.contract("F-24")
def test_the_protections_are_on_unless_the_operator_gives_them_up() -> None:
    assert (spec().no_new_privileges, spec().init) == (True, True)
    loose = spec_of(isolation=config.Isolation(no_new_privileges=False, init=False))
    assert (loose.no_new_privileges, loose.init) == (False, False)


def test_an_interrupt_is_the_stop_signal() -> None:
    assert spec().stop_signal == 2


# --- user namespace ------------------------------------------------------------------------------


@pytest.mark.contract("ENV-13", "AUD-26")
def test_rootless_the_session_user_is_the_services_own_user() -> None:
    made = spec(abilities=ROOTLESS)
    maps = (IdMap(0, 1, 10001), IdMap(10001, 0, 1), IdMap(10002, 10002, 55535))
    assert made.idmappings is not UNSET
    assert (made.idmappings.uid_map, made.idmappings.gid_map) == (maps, maps)
    assert as_json(made)["userns"] == {"nsmode": "private"}


@pytest.mark.parametrize("ids", [10002, 10003, 65536, 65537])
def test_the_map_covers_each_id_of_the_service_once(ids: int) -> None:
    made = spec(abilities=HostAbilities(rootless=True, mapped_ids=ids))
    assert made.idmappings is not UNSET
    maps = made.idmappings.uid_map
    assert all(part.size > 0 for part in maps)
    for side in ("container_id", "host_id"):
        starts = sorted((getattr(part, side), part.size) for part in maps)
        covered = [number for start, size in starts for number in (start, start + size)]
        assert covered[0] == 0
        assert covered[-1] == ids
        assert covered[1:-1:2] == covered[2:-1:2]


def test_rootful_there_is_no_map() -> None:
    made = spec(abilities=ROOTFUL)
    assert (made.userns, made.idmappings) == (UNSET, UNSET)


@pytest.mark.contract("AUD-26")
def test_rootful_what_the_session_writes_is_its_own_on_the_host() -> None:
    assert ROOTFUL.session_owner == (10001, 10001)
    assert ROOTLESS.session_owner is None


@pytest.mark.contract("DMN-02")
def test_a_rootless_host_with_too_few_ids_is_refused_with_advice() -> None:
    with pytest.raises(HostUnsupported, match=r"maps 10001 ids and sessions need 10002.*subuid"):
        HostAbilities.of(host(rootless=True, ids=10001))


@pytest.mark.parametrize(
    ("rootless", "cgroup", "expected"),
    [(False, "v1", {"pids"}), (True, "v1", set()), (True, "v2", {"pids"}), (False, "v2", {"pids"})],
)
def test_rootless_on_the_first_cgroups_nothing_can_be_limited(
    rootless: bool, cgroup: str, expected: set[str]
) -> None:
    found = HostAbilities.of(host(rootless=rootless, cgroup=cgroup, controllers=["pids"]))
    assert found.controllers == expected


# --- mounts --------------------------------------------------------------------------------------

AGENT_WITH_MOUNTS = agent(
    mounts=(
        config.Mount("/a, b:c=\"d\"'e'\nü", "/home/builder/.claude", False),
        config.Mount("/data", "/data", True),
    )
)


def mounts(given: Admitted) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(bind.source, bind.destination, bind.options) for bind in spec(given).mounts]


@pytest.mark.contract("MNT-14", "MNT-15", "MNT-16", "AUD-03", "F-25")
def test_mounts_are_ours_first_and_relabelled_then_the_operators_untouched() -> None:
    given = admitted(
        invocation(agent=AGENT_WITH_MOUNTS),
        document=DOCUMENT,
        mount_sources=("/a, b:c=\"d\"'e'\nü", "/real/data"),
    )
    assert mounts(given) == [
        ("/srv/methodology", "/agentd/methodology", ("bind", "ro", "z")),
        (str(RECORD.runa), "/home/builder/.agentd/audit/runa", ("rbind", "rw", "z")),
        (str(RECORD.invocation_input), "/agentd/invocation-input", ("bind", "ro", "z")),
        ("/a, b:c=\"d\"'e'\nü", "/home/builder/.claude", ("rbind", "rw")),
        ("/real/data", "/data", ("bind", "ro")),
    ]


@pytest.mark.contract("ENV-09")
def test_without_input_its_mount_is_absent() -> None:
    assert [target for _, target, _ in mounts(admitted())] == [
        "/agentd/methodology",
        "/home/builder/.agentd/audit/runa",
    ]


# --- secrets -------------------------------------------------------------------------------------


@pytest.mark.contract("SES-06", "SES-07", "SES-08", "SES-09")
def test_secrets_are_files_for_root_numbered_by_their_position() -> None:
    invoked = invocation(credentials=credentials(A=b"1", EMPTY=b"", C=b"3"), repo_token=TOKEN)
    made = as_json(spec(admitted(invoked)))
    base = f"agentd-{INSTANCE}-{SESSION}"
    own = {"UID": 0, "GID": 0, "Mode": 0o400}
    assert made["secrets"] == [
        {"Source": f"{base}-0", "Target": "/agentd/credentials/0", **own},
        {"Source": f"{base}-2", "Target": "/agentd/credentials/2", **own},
        {"Source": f"{base}-repo-token", "Target": "/agentd/credentials/repo-token", **own},
    ]


@pytest.mark.contract("SES-06", "SES-09", "DSP-07")
def test_no_value_of_a_credential_is_in_what_podman_is_asked_for() -> None:
    invoked = invocation(credentials=credentials(A=b"s3cret-value"), repo_token=TOKEN)
    encoded = msgspec.json.encode(spec(admitted(invoked)))
    assert b"s3cret-value" not in encoded
    assert TOKEN.value not in encoded


@pytest.mark.contract("SES-06")
def test_credentials_are_no_environment_of_the_container() -> None:
    made = as_json(spec(admitted(invocation(credentials=credentials(A=b"1")))))
    assert (made["env"], "secret_env" in made) == ({}, False)


def test_proxies_are_there_for_the_clone_and_nothing_else_of_the_environment() -> None:
    proxies = {"https_proxy": "http://proxy.example.org:3128", "NO_PROXY": "localhost"}
    proxied = agent(environment={"CI": "1", **proxies})
    assert as_json(spec(admitted(invocation(agent=proxied))))["env"] == proxies


# --- network and limits --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("default", {}),
        ("host", {"netns": {"nsmode": "host"}}),
        ("none", {"netns": {"nsmode": "none"}}),
        ("lab", {"netns": {"nsmode": "bridge"}, "networks": {"lab": {}}}),
    ],
)
def test_the_network_is_the_agents(network: str, expected: dict[str, Any]) -> None:
    made = as_json(spec_of(network=network))
    assert {key: made[key] for key in ("netns", "networks") if key in made} == expected


@pytest.mark.contract("F-24")
def test_limits_are_what_podman_understands() -> None:
    made = as_json(spec_of(limits=config.Limits(memory=4 * MIB, cpus=1.5, pids=7)))
    assert made["resource_limits"] == {
        "memory": {"limit": 4 * MIB, "swap": 4 * MIB},
        "cpu": {"quota": 150_000, "period": 100_000},
        "pids": {"limit": 7},
    }


@pytest.mark.contract("F-24")
def test_processes_are_limited_where_the_host_can() -> None:
    assert as_json(spec())["resource_limits"] == {"pids": {"limit": 2048}}
    assert spec(abilities=ROOTLESS).resource_limits is UNSET


@pytest.mark.contract("F-24")
@pytest.mark.parametrize(
    ("limits", "named"),
    [
        (config.Limits(memory=1), "limits.memory"),
        (config.Limits(cpus=1.0), "limits.cpus"),
        (config.Limits(pids=1), "limits.pids"),
        (config.Limits(memory=1, cpus=1.0, pids=1), "limits.memory, limits.cpus, limits.pids"),
    ],
)
def test_a_limit_that_the_host_cannot_enforce_refuses_the_session(
    limits: config.Limits, named: str
) -> None:
    with pytest.raises(HostUnsupported, match=f"'builder' sets {named}, which this host cannot"):
        check_limits(agent(limits=limits), ROOTLESS)


def test_limits_on_output_and_record_need_no_controller() -> None:
    check_limits(agent(limits=config.Limits(output=1, record=1)), ROOTLESS)


@pytest.mark.contract("SES-23")
def test_conmons_own_timeout_lies_beyond_deadline_and_grace() -> None:
    assert spec(admitted(invocation(agent=agent(timeout=90.4))), grace=5.0).timeout == 155


# --- the JSON ------------------------------------------------------------------------------------


def test_the_json_has_exactly_podmans_names() -> None:
    everything = agent(
        timeout=60.0,
        network="lab",
        limits=config.Limits(memory=MIB, cpus=1.0, pids=1),
        mounts=AGENT_WITH_MOUNTS.mounts,
    )
    invoked = invocation(agent=everything, credentials=credentials(A=b"1"))
    able = HostAbilities(rootless=True, mapped_ids=65537, controllers=ROOTFUL.controllers)
    made = as_json(spec(admitted(invoked, document=DOCUMENT, mount_sources=("/a", "/b")), able))
    assert set(made) == {
        *("name", "image", "entrypoint", "command", "user", "labels", "mounts", "secrets"),
        *("netns", "networks", "userns", "idmappings", "cap_drop", "cap_add", "init"),
        *("no_new_privileges", "stop_signal", "timeout", "systemd", "image_volume_mode"),
        *("terminal", "stdin", "httpproxy", "resource_limits", "log_configuration"),
        *("healthconfig", "env"),
    }
    assert {key for mount in made["mounts"] for key in mount} == {
        *("type", "source", "destination", "options"),
    }
    assert {mount["type"] for mount in made["mounts"]} == {"bind"}
    assert made["idmappings"]["HostUIDMapping"] is False
    assert made["idmappings"]["HostGIDMapping"] is False
    assert made["idmappings"]["UIDMap"] == made["idmappings"]["GIDMap"]
    assert made["idmappings"]["UIDMap"][0] == {"container_id": 0, "host_id": 1, "size": 10001}


def test_what_podman_would_do_by_default_is_switched_off() -> None:
    made = as_json(spec())
    assert made["log_configuration"] == {"driver": "k8s-file", "path": str(RECORD.output_raw)}
    assert made["healthconfig"] == {"Test": ["NONE"]}
    assert made["image_volume_mode"] == "ignore"
    assert made["systemd"] == "false"
    assert (made["terminal"], made["stdin"], made["httpproxy"]) == (False, False, False)


def test_what_is_not_asked_for_is_absent() -> None:
    bare = as_json(spec(abilities=HostAbilities(rootless=False)))
    assert not {"netns", "networks", "userns", "idmappings", "resource_limits", "timeout"} & set(
        bare
    )


def test_the_deadline_on_the_container_is_the_sessions() -> None:
    deadline = datetime.datetime.fromisoformat(spec_of(timeout=1.5).labels["agentd.deadline"])
    assert deadline - NOON == datetime.timedelta(seconds=1.5)


def test_the_repository_is_an_argument_of_the_setup() -> None:
    assert spec().command[3:5] == (builders.SOUND_AGENT.name, URL)
