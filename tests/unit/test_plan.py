"""What is told of a session that nobody has started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentd import config
from agentd.cli import plan as command
from agentd.methodology import Document
from agentd.plan import Findings, Plan, assumed, described
from agentd.podman import Image
from agentd.session.admission import Examined
from agentd.session.invocation import Invocation
from agentd.session.spec import HostAbilities
from tests.unit.builders import DOCUMENT, IMAGE, ROOTFUL, ROOTLESS, TOKEN, agent, credentials
from tests.unit.builders import invocation as invoked

DAEMON = config.Daemon(socket_path=Path("/run/a.sock"), pid_file=Path("/run/a.pid"))


def plan(
    invocation: Invocation | None = None,
    *,
    image: Image | None = IMAGE,
    abilities: HostAbilities = ROOTFUL,
    document: Document | None = None,
    sources: tuple[str, ...] = (),
) -> Plan:
    found = Findings(
        invocation or invoked(), Examined(document, sources), image, abilities, Path("/p.sock")
    )
    return described(DAEMON, Path("/audit"), found)


def shown(what: Plan) -> dict[str, list[str]]:
    """The facts by their headings."""
    facts: dict[str, list[str]] = {}
    heading = ""
    for word, fact in command.lines(what):
        heading = word or heading
        facts.setdefault(heading, []).append(fact)
    return facts


def of(**keys: Any) -> Invocation:
    return invoked(agent=agent(**keys))


# --- what is found -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "image", "action"),
    [
        ("never", IMAGE, "use"),
        ("missing", IMAGE, "use"),
        ("missing", None, "pull"),
        ("always", IMAGE, "pull"),
        ("newer", IMAGE, "pull_if_newer"),
        ("newer", None, "pull"),
    ],
)
def test_the_policy_says_what_becomes_of_the_image(
    policy: str, image: Image | None, action: str
) -> None:
    assert plan(of(pull=policy), image=image).image.action == action


def test_a_clone_without_a_token_has_no_authentication() -> None:
    assert plan().clone.authentication == "none"


@pytest.mark.parametrize(("scheme", "username"), [("basic", "x-access-token"), ("bearer", None)])
def test_a_token_is_told_by_its_scheme_and_origin(scheme: str, username: str | None) -> None:
    token = msgspec.structs.replace(TOKEN, scheme=scheme)
    clone = plan(invoked(repo_token=token)).clone
    assert (clone.authentication, clone.username, clone.origin) == (scheme, username, TOKEN.origin)


def test_no_value_of_a_credential_or_token_is_in_it() -> None:
    secrets = credentials(KEY=b"s3cret-value")
    found = msgspec.json.encode(plan(invoked(credentials=secrets, repo_token=TOKEN)))
    assert b"KEY" in found
    assert [value for value in (b"s3cret-value", TOKEN.value) if value in found] == []


def test_a_default_that_the_host_cannot_enforce_is_a_remark() -> None:
    found = plan(abilities=ROOTLESS)
    assert found.limits.pids is None
    assert "the default of 2048 is not in force" in found.remarks[0]


def test_a_default_that_the_host_enforces_is_a_limit() -> None:
    found = plan()
    assert (found.limits.pids, found.remarks) == (2048, ())


def test_an_input_is_placed_below_the_clone() -> None:
    placed = plan(document=DOCUMENT).input
    assert placed is not None
    assert placed.path == "/home/builder/repo/.runa/workspace/request/operator-input.json"


# --- what is assumed -----------------------------------------------------------------------------

KEYED = agent(credentials=(config.Credential("KEY", "BUILD_KEY"),), repo_token_source="GIT_TOKEN")


def test_what_is_set_is_not_assumed() -> None:
    variables, remarks = assumed(KEYED, {"BUILD_KEY": "", "GIT_TOKEN": "t"})
    assert (variables, remarks) == ({b"BUILD_KEY": b"", b"GIT_TOKEN": b"t"}, ())


def test_what_is_not_set_is_assumed_and_told() -> None:
    variables, remarks = assumed(KEYED, {})
    assert set(variables) == {b"BUILD_KEY", b"GIT_TOKEN"}
    assert [remark.split()[0] for remark in remarks] == ["BUILD_KEY", "GIT_TOKEN"]


# --- what is shown -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heading", "invocation", "facts"),
    [
        ("clone", invoked(), ["https://git.example.org/a/b, without authentication"]),
        (
            "clone",
            invoked(repo_token=TOKEN),
            [
                "https://git.example.org/a/b, basic as x-access-token,"
                " for https://git.example.org alone"
            ],
        ),
        ("credentials", invoked(), ["none"]),
        ("credentials", invoked(credentials=credentials(A=b"1", B=b"2")), ["A, B"]),
        ("environment", of(environment={"CI": "1"}), ["CI, AGENT_NAME"]),
        ("work unit", invoked(work_unit="42"), ["42"]),
        ("command", invoked(), ["runa run --agent-command -- work -v"]),
        (
            "command",
            invoked(work_unit="4 2"),
            ["runa run --work-unit '4 2' --agent-command -- work -v"],
        ),
        ("timeout", invoked(), ["none"]),
        (
            "timeout",
            of(timeout=7200.0),
            ["2h0m from the start; without a daemon Podman ends it after 2h1m"],
        ),
        (
            "limits",
            of(limits=config.Limits(memory=2**30, cpus=1.5)),
            ["memory 1.0 GiB, cpus 1.5, pids 2048, output 256.0 MiB, record 2.0 GiB"],
        ),
        ("record", invoked(), ["/audit/builder/<session>"]),
    ],
)
def test_a_fact_is_a_line(heading: str, invocation: Invocation, facts: list[str]) -> None:
    assert shown(plan(invocation))[heading] == facts


def test_each_mount_is_a_line() -> None:
    mount = config.Mount("/srv/link", "/data", read_only=False)
    found = plan(of(mounts=(mount,)), sources=("/srv/data",))
    assert shown(found)["mounts"] == [
        "/srv/methodology at /agentd/methodology, read-only",
        "/audit/builder/<session>/runa at /home/builder/.agentd/audit/runa, writable",
        "/srv/data at /data, writable",
    ]


def test_a_rootless_user_is_shown_with_the_map_of_ids() -> None:
    (fact,) = shown(plan(abilities=ROOTLESS))["user"]
    assert "0+10001 from 1; 10001+1 from 0" in fact
