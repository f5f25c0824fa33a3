"""Credentials: byte for byte in the agent's environment, and nowhere else."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentd.masking import MASK
from testbed.agentd_client import HOLD, Ended, Record
from testbed.agentd_process import Agentd, Table
from testbed.podman_service import PodmanService
from testbed.processes import command_lines, wait_until

pytestmark = pytest.mark.live

# Of this run alone: the machine is searched for them, and others may work with this file.
TOKEN = f"tok-{secrets.token_hex(10)}"
KEY_LINE = f"MII{secrets.token_hex(10)}"
VALUES = {
    "TOKEN": TOKEN,
    "EMPTY": "",
    "KEY": f"-----BEGIN KEY-----\n{KEY_LINE}\n-----END KEY-----\n\n\n",
    "NEWLINES": "\n\n",
    "UNICODE": "pässwörd-日本-🔑",
    "QUOTES": 'it\'s "$HOME" `id` \\n %s $(id)',
    "LARGE": "0123456789abcdef" * 6 * 1024,
    "GIT_DIR": "/credential/git-dir",
    # Variables of the setup script, and of the shell that runs it.
    "step": "named-step",
    "user": "named-user",
    "gosu": "/named/gosu",
    "secret": "named-secret",
    "variables": "named-variables",
    "IFS": "named-ifs",
    # Of the dynamic linker and of other shells.
    "LD_LIBRARY_PATH": "/credential/lib",
    "ENV": "/credential/env",
    "BASH_ENV": "/credential/bash-env",
    "PS4": "$(echo ps4)",
    "LC_ALL": "credential",
    "x": "one letter",
}
PATH = "/credential/bin:/usr/bin:/bin"
SHOWN = [pytest.param(TOKEN, id="token"), pytest.param(KEY_LINE, id="key")]


@pytest.fixture(scope="module")
def agentd(start_agentd: Callable[..., Agentd], declare: Callable[..., Table]) -> Agentd:
    sources = {name: f"AGENTD_TEST_{number}" for number, name in enumerate(VALUES)}
    declared = [{"name": name, "source": source} for name, source in sources.items()]
    path = [{"name": "PATH", "source": "AGENTD_TEST_PATH"}]
    # No shell between: one has ideas of its own about some names.
    dump = {"argv": ["/bin/cp", "/proc/self/environ", ".runa/environment"]}
    environ = {sources[name]: value for name, value in VALUES.items()}
    return start_agentd(
        declare(credentials=declared),
        declare("dumper", credentials=declared, command=dump),
        declare("pathfinder", credentials=path, command=dump),
        environ={**environ, "AGENTD_TEST_PATH": PATH},
    )


def environment(record: Record) -> dict[str, str]:
    entries = (record.runa / "environment").read_bytes().split(b"\0")
    return dict(entry.decode().split("=", 1) for entry in entries if entry)


@pytest.fixture(scope="module")
def injected(agentd: Agentd) -> dict[str, str]:
    ended = agentd.run("dumper")
    assert ended.code == 0, ended
    return environment(ended.record)


@pytest.mark.contract("ENV-05", "DSP-03", "DSP-05", "SES-06", "SES-08", "F-22")
@pytest.mark.parametrize("name", VALUES)
def test_a_credential_arrives_byte_for_byte(injected: dict[str, str], name: str) -> None:
    assert injected[name] == VALUES[name]


@pytest.mark.contract("DSP-06")
def test_the_name_of_a_source_does_not_reach_the_agent(injected: dict[str, str]) -> None:
    assert [name for name in injected if name.startswith("AGENTD_TEST_")] == []


@pytest.mark.contract("F-22")
def test_a_credential_named_path_steers_the_agent_alone(agentd: Agentd) -> None:
    ended = agentd.run("pathfinder")
    assert (ended.code, environment(ended.record)["PATH"]) == (0, PATH)


@dataclass(frozen=True)
class Live:
    """A session that has its credentials and waits."""

    container: str
    podman: PodmanService

    def inspect(self, format_string: str) -> str:
        return self.podman.podman("inspect", "--format", format_string, self.container).strip()

    def sh(self, script: str) -> str:
        """What a script prints that root runs in the container."""
        return self.podman.podman("exec", "--user", "0", self.container, "sh", "-c", script)

    def files_with(self, text: str, *directories: str) -> list[str]:
        """The files of Podman's own that hold a text."""
        search = ("sh", "-c", 'text=$1; shift; grep -rlsF -e "$text" "$@" || true', "sh")
        podman = self.podman
        if podman.rootless:
            return podman.podman("unshare", *search, text, *directories).split()
        shell = type(podman)(socket=podman.socket, command=search[:1], environ=podman.environ)
        return shell.podman(*search[1:], text, *directories).split()


@pytest.fixture(scope="module")
def live(agentd: Agentd, podman: PodmanService) -> Iterator[Live]:
    client = agentd.script(HOLD)
    client.wait_for_line("ready")
    wait_until("the secrets have left the store", lambda: not agentd.secrets())
    (container,) = agentd.containers()
    yield Live(container, podman)
    client.record.release()
    client.wait()


@pytest.mark.contract("SES-06", "F-04")
@pytest.mark.parametrize("text", SHOWN)
def test_podman_does_not_show_a_credential(live: Live, text: str) -> None:
    assert text not in live.podman.podman("inspect", live.container)


@pytest.mark.contract("F-04", "SES-19")
@pytest.mark.parametrize("text", SHOWN)
def test_no_file_of_podman_holds_a_credential_while_the_agent_runs(live: Live, text: str) -> None:
    store = live.podman.podman("info", "--format", "{{.Store.GraphRoot}}").strip()
    run = live.podman.podman("info", "--format", "{{.Store.RunRoot}}").strip()
    bundle = str(Path(live.inspect("{{.OCIConfigPath}}")).parent)
    assert live.files_with(text, bundle, f"{store}/secrets", f"{run}/overlay-containers") == []


@pytest.mark.contract("SES-19")
def test_the_mounted_files_are_empty_once_the_agent_runs(live: Live) -> None:
    assert live.sh("cat /agentd/credentials/* | wc -c").strip() == "0"


def test_the_mounted_files_are_for_root_alone(live: Live) -> None:
    modes = live.sh("stat -c '%u %a' /agentd/credentials/*").splitlines()
    assert {mode.split()[0] for mode in modes} == {"0"}
    assert {int(mode.split()[1], 8) & 0o077 for mode in modes} == {0}


@pytest.mark.contract("SES-06")
@pytest.mark.parametrize("text", SHOWN)
def test_the_first_process_has_no_credential(live: Live, text: str) -> None:
    assert text not in live.sh("cat /proc/1/environ /proc/1/cmdline")


@pytest.mark.contract("SES-06", "SES-09")
@pytest.mark.parametrize("text", SHOWN)
def test_no_command_line_of_the_machine_shows_a_credential(live: Live, text: str) -> None:
    assert live.container in "".join(command_lines())
    assert text not in "".join(command_lines())


def test_values_to_mask_are_kept_for_the_daemons_user_alone(live: Live, agentd: Agentd) -> None:
    kept = [path for path in agentd.masks() if path.name in live.container]
    assert [oct(path.stat().st_mode & 0o777) for path in kept] == ["0o600"]


# The second value comes in two writes, with time between them for the first to be read.
TELL = """\
echo "token: $TOKEN."
first=${TOKEN%??????}
printf %s "split: $first"
sleep 0.3
echo "${TOKEN#"$first"}."
printf %s "$KEY"
echo "error: $TOKEN." >&2
"""


@pytest.fixture(scope="module")
def told(agentd: Agentd) -> Ended:
    """The end of an agent that tells its credentials."""
    return agentd.script(TELL).wait()


@pytest.mark.parametrize("prefix", ["token", "split"])
def test_a_credential_in_the_output_is_masked(told: Ended, prefix: str) -> None:
    assert f"{prefix}: {MASK.decode()}.\n" in told.stdout


def test_a_credential_on_standard_error_is_masked(told: Ended) -> None:
    assert f"error: {MASK.decode()}.\n" in told.stderr


@pytest.mark.parametrize("text", SHOWN)
def test_no_client_sees_a_credential(told: Ended, text: str) -> None:
    assert text not in told.stdout + told.stderr


@pytest.mark.parametrize("text", SHOWN)
def test_no_file_of_agentds_in_the_record_holds_a_credential(told: Ended, text: str) -> None:
    files = [path for path in (told.record.directory / "agentd").rglob("*") if path.is_file()]
    assert [path for path in files if text.encode() in path.read_bytes()] == []


def test_the_record_says_that_its_output_was_masked(told: Ended) -> None:
    assert told.record.facts["output"]["masked"] == "masked"


def test_the_daemons_log_holds_no_credential(agentd: Agentd, told: Ended) -> None:
    agentd.wait_for("agentd.run_completed", session_id=told.session_id)
    assert [event for event in agentd.events() if TOKEN in json.dumps(event)] == []
