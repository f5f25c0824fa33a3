"""The throw-away container: its specification, its script, and what is read out of its words."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentd import audit, config, names
from agentd.check import image_rules
from agentd.check.throwaway import probe_script, trial_admitted, trial_spec
from agentd.podman import ContainerSpec, Namespace
from agentd.session.setup import required_tools, setup_script
from agentd.session.spec import HostAbilities, container_spec
from tests.unit.builders import IMAGE, NOON, ROOTFUL, ROOTLESS, SESSION, agent, start_facts

TOOLS = "agentd-check tools git gosu runa\n"
RUNA = "agentd-check runa-status 0\nagentd-check runa runa 0.1.2\n"
MCP = "agentd-check runa-mcp-looked-for yes\nagentd-check runa-mcp /usr/bin/runa-mcp\n"
COMMAND = "agentd-check command-looked-for work\nagentd-check command /usr/bin/work\n"
INIT = "agentd-check runa-init 0\nagentd-check runa-init-says Initialized\n"


def found(output: str, *, methodology_sound: bool = True, **changes: Any) -> dict[str, str]:
    """The status of each check."""
    findings = image_rules.findings(
        agent(**changes), image_rules.facts(output), methodology_sound=methodology_sound
    )
    assert all(each.remedy for each in findings if each.status != "ok")
    return {each.name: each.status for each in findings}


def test_a_sound_image_is_all_ok() -> None:
    assert found(TOOLS + RUNA + MCP + COMMAND + INIT) == {
        "image-tools": "ok",
        "command": "ok",
        "runa": "ok",
        "runa-mcp": "ok",
        "runa-init": "ok",
    }


def test_words_of_other_programs_are_no_facts() -> None:
    noise = "runa-init 6\nxagentd-check missing git\n agentd-check missing git\n"
    assert "fail" not in found(noise + TOOLS + RUNA + COMMAND + INIT).values()


def test_a_missing_tool_fails() -> None:
    assert found(f"agentd-check missing git\n{TOOLS}") == {"image-tools": "fail"}


def test_a_look_that_ended_before_it_knew_says_nothing_of_it() -> None:
    assert found("") == {}


@pytest.mark.contract("DEP-18", "B-01")
@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ("agentd-check runa-status 0\nagentd-check runa runa 0.1.2", "ok"),
        ("agentd-check runa-status 0\nagentd-check runa runa 0.10.0-rc1", "ok"),
        ("agentd-check runa-status 0\nagentd-check runa runa 1.0.0", "ok"),
        ("agentd-check runa-status 0\nagentd-check runa runa 0.1.1", "fail"),
        ("agentd-check runa-status 0\nagentd-check runa who knows", "fail"),
        ("agentd-check runa-status 126\nagentd-check runa runa 0.1.2: denied", "fail"),
    ],
)
def test_runa_must_run_and_be_new_enough(lines: str, status: str) -> None:
    assert found(lines)["runa"] == status


@pytest.mark.contract("B-14")
def test_an_image_without_runas_server_fails() -> None:
    assert found("agentd-check runa-mcp-looked-for yes\n") == {"runa-mcp": "fail"}


@pytest.mark.parametrize(
    ("lines", "argv", "status"),
    [
        ("agentd-check command /usr/bin/work", "work", "ok"),
        ("agentd-check command-of-root /root/bin/work", "work", "fail"),
        ("", "work", "fail"),
        ("", "/opt/work", "fail"),
        ("", "./work", "ok"),
        ("", "tools/work", "ok"),
    ],
)
def test_the_command_must_be_one_that_the_session_user_can_start(
    lines: str, argv: str, status: str
) -> None:
    output = f"agentd-check command-looked-for {argv}\n{lines}\n"
    assert found(output, command=config.Command((argv,)))["command"] == status


def test_what_runa_says_of_a_methodology_counts_only_while_nothing_else_was_found() -> None:
    refused = "agentd-check runa-init 6\nagentd-check runa-init-says error: not so\n"
    assert found(refused) == {"runa-init": "fail"}
    assert found(refused, methodology_sound=False) == {}


# --- the container -------------------------------------------------------------------------------


def specs(
    tmp_path: Path, abilities: HostAbilities, **changes: Any
) -> tuple[ContainerSpec, ContainerSpec]:
    """What the check makes for an agent, and what a session of it would get."""
    declared = agent(methodology_dir=tmp_path, network="host", **changes)
    sources = tuple(mount.source for mount in declared.mounts)
    admitted = trial_admitted(declared, IMAGE, sources, abilities)
    record = audit.Record(tmp_path / "record")
    start = start_facts(container_name=f"agentd-check-{SESSION}")
    session = container_spec(
        admitted,
        names.Identity("58e3c8db", SESSION),
        record,
        abilities,
        started_at=NOON,
        grace_seconds=0,
    )
    return trial_spec(admitted, start, record, abilities), session


@pytest.mark.parametrize("abilities", [ROOTFUL, ROOTLESS])
def test_the_container_is_a_sessions_but_for_names_script_and_network(
    tmp_path: Path, abilities: HostAbilities
) -> None:
    mount = config.Mount("/srv/a", "/srv/a", read_only=True)
    trial, session = specs(tmp_path, abilities, mounts=(mount,))
    changed = {
        field
        for field in ContainerSpec.__struct_fields__
        if getattr(trial, field) != getattr(session, field)
    }
    assert changed == {"name", "labels", "command", "netns"}
    assert trial.netns == Namespace("none")
    assert trial.timeout is not msgspec.UNSET


def test_no_daemon_takes_the_container_for_its_own(tmp_path: Path) -> None:
    trial, _ = specs(tmp_path, ROOTFUL)
    assert names.parse_container_name(trial.name) is None
    assert names.Label.INSTANCE not in trial.labels


def test_limits_that_the_host_lacks_and_mounts_that_are_gone_do_not_keep_the_image_unseen() -> None:
    declared = agent(
        limits=config.Limits(memory=2**30),
        mounts=(config.Mount("/a", "/a", True), config.Mount("/b", "/b", True)),
    )
    admitted = trial_admitted(declared, IMAGE, (None, "/b"), ROOTLESS)
    assert admitted.invocation.agent.limits.memory is None
    assert (admitted.mount_sources, len(admitted.invocation.agent.mounts)) == (("/b",), 1)


def test_a_methodology_that_is_gone_is_not_mounted(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    declared = agent(methodology_dir=tmp_path / "file")
    admitted = trial_admitted(declared, IMAGE, (), ROOTFUL)
    record = audit.Record(tmp_path / "record")
    spec = trial_spec(admitted, start_facts(), record, ROOTFUL)
    assert [mount.destination for mount in spec.mounts] == ["/home/builder/.agentd/audit/runa"]


# --- the script ----------------------------------------------------------------------------------


def test_the_tools_are_those_that_the_setup_asks_for() -> None:
    assert f"tools='{' '.join(required_tools())}'" in setup_script()
    assert {"git", "gosu", "find", "runa", "useradd", "groupadd"} <= set(required_tools())


def test_without_gosu_the_script_tells_what_is_missing_and_ends(tmp_path: Path) -> None:
    (tmp_path / "git").symlink_to("/bin/true")
    words = ["10001", "/home/a", "/leaf", "", "", "work", "git", "gosu", "runa"]
    done = subprocess.run(
        ["/bin/sh", "-c", probe_script(), "agentd", *words],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert image_rules.facts(done.stdout) == {
        "missing": ["gosu", "runa"],
        "tools": ["git gosu runa"],
        "end": ["reached"],
    }
