"""What the values of an agent and of the daemon may be."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentd import config
from agentd.config.agent_rules import MAX_PIDS, declaration_problems
from agentd.config.handed_in_rules import MAX_ENTRY
from agentd.config.rules import daemon_problems, duplicate_problems
from agentd.errors import ConfigError

URL = "https://git.example.org/a/b"
SOUND = config.Agent(
    name="a",
    base_image="localhost/a",
    methodology_dir=Path("/m"),
    command=config.Command(("work",)),
)


def agent(**changes: Any) -> config.Agent:
    return msgspec.structs.replace(SOUND, **changes)


def problems(**changes: Any) -> list[str]:
    return [str(problem) for problem in config.agent_problems(agent(**changes))]


def only_problem(**changes: Any) -> str:
    found = problems(**changes)
    assert len(found) == 1, found
    return found[0]


def with_credential(name: str, source: str = "SOURCE") -> dict[str, Any]:
    return {"credentials": (config.Credential(name, source),)}


def with_mounts(*targets: str) -> dict[str, Any]:
    return {"mounts": tuple(config.Mount("/src", target, True) for target in targets)}


@pytest.mark.contract("DSP-17")
def test_a_sound_agent_has_no_problems() -> None:
    assert problems() == []


# --- name, image, methodology, command -----------------------------------------------------------


@pytest.mark.contract("CFG-11")
@pytest.mark.parametrize("name", ["", " ", "\t"])
def test_a_blank_name_is_refused(name: str) -> None:
    assert only_problem(name=name) == "name: field 'name' must not be empty"


@pytest.mark.contract("CFG-12")
@pytest.mark.parametrize("name", [" a", "a ", "a\n"])
def test_a_padded_name_is_refused_without_naming_the_agent(name: str) -> None:
    text = "name: field 'name' must not have leading or trailing whitespace"
    assert only_problem(name=name) == text


@pytest.mark.contract("CFG-13")
@pytest.mark.parametrize("name", ["_a", "1a", "A", "a!", "a b", "é", "a" * 33])
def test_a_name_that_is_no_unix_username_is_refused(name: str) -> None:
    problem = only_problem(name=name)
    assert f"invalid agent name {name!r}; " in problem
    assert "must already be a unix username" in problem


@pytest.mark.contract("CFG-13")
@pytest.mark.parametrize("name", ["a", "a-b_c9", "a" * 32])
def test_a_unix_username_is_a_name(name: str) -> None:
    assert problems(name=name) == []


@pytest.mark.contract("CFG-14")
@pytest.mark.parametrize("name", ["root", "nobody", "daemon", "bin", "sys", "man", "mail"])
def test_a_reserved_name_is_refused_and_the_others_are_listed(name: str) -> None:
    problem = only_problem(name=name)
    assert f"invalid agent name '{name}'" in problem
    assert "root, nobody, daemon, bin, sys, man, mail" in problem


@pytest.mark.contract("CFG-15")
def test_a_name_declared_twice_is_a_problem_of_the_later_agent() -> None:
    found = duplicate_problems((agent(), agent(name="b"), agent(), agent()))
    assert [problem.place for problem in found] == [(2, "name"), (3, "name")]
    assert "duplicate agent name: 'a'" in found[0].text


@pytest.mark.contract("CFG-17", "DSP-19")
def test_a_blank_image_is_refused() -> None:
    text = "base_image: field 'base_image' must not be empty for agent 'a'"
    assert only_problem(base_image=" ") == text


@pytest.mark.contract("CFG-17")
def test_a_file_may_declare_a_padded_image() -> None:
    assert declaration_problems(agent(base_image=" localhost/a\n")) == []


@pytest.mark.contract("DSP-19", "F-49")
def test_no_session_uses_a_padded_image_and_the_reason_is_the_padding() -> None:
    assert "leading or trailing whitespace" in only_problem(base_image=" localhost/a")


def test_an_image_with_control_characters_is_refused() -> None:
    assert "control characters" in only_problem(base_image="localhost/a\nb")


def test_a_methodology_with_a_nul_byte_is_refused() -> None:
    assert "NUL byte" in only_problem(methodology_dir=Path("/m\0"))


def test_a_mount_source_that_is_not_utf8_is_refused() -> None:
    """No file can declare one, but a program can."""
    problem = only_problem(mounts=(config.Mount(os.fsdecode(b"/\xff"), "/data", True),))
    assert problem.startswith("mounts[0].source: field 'mounts.source' must be UTF-8")


@pytest.mark.contract("CFG-08", "DSP-22")
def test_an_empty_command_is_refused() -> None:
    problem = only_problem(command=config.Command(()))
    assert problem.startswith("command.argv: agent 'a' must define a non-empty command")


@pytest.mark.contract("CFG-09")
@pytest.mark.parametrize("word", ["", " ", "\n"])
def test_a_blank_word_of_the_command_is_refused(word: str) -> None:
    problem = only_problem(command=config.Command(("work", word)))
    text = "command.argv[1]: field 'command.argv' must not be empty for agent 'a'"
    assert problem.startswith(text)


@pytest.mark.parametrize("word", ["a\0b", "x" * MAX_ENTRY])
def test_a_word_that_no_program_can_be_given_is_refused(word: str) -> None:
    assert only_problem(command=config.Command((word,))).startswith("command.argv[0]: ")


def test_the_longest_word_is_allowed() -> None:
    assert problems(command=config.Command(("x" * (MAX_ENTRY - 1),))) == []


# --- repository, schedule, token -----------------------------------------------------------------


@pytest.mark.contract("CFG-20")
@pytest.mark.parametrize("repo", ["", " ", f" {URL}", f"{URL}\n", "git@host:a/b", "/a/b"])
def test_an_invalid_repo_is_refused_with_the_rule_it_breaks(repo: str) -> None:
    assert only_problem(repo=repo).startswith("repo: agent 'a' defines invalid repo: repo_url ")


@pytest.mark.contract("CFG-21")
def test_an_invalid_schedule_is_refused_with_the_reason() -> None:
    problem = only_problem(repo=URL, schedule="* * *")
    assert "agent 'a' defines invalid schedule '* * *': it has 3 fields" in problem


@pytest.mark.contract("F-31")
@pytest.mark.parametrize("schedule", ["0 0 30 2 *", ", * * * *"])
def test_a_schedule_that_cannot_fire_is_refused(schedule: str) -> None:
    assert "defines invalid schedule" in only_problem(repo=URL, schedule=schedule)


@pytest.mark.contract("CFG-22")
def test_a_schedule_needs_a_repo() -> None:
    assert only_problem(schedule="@daily") == (
        "schedule: agent 'a' defines schedule but no repo; scheduled agents must define a repo"
    )


def test_a_scheduled_request_needs_a_schedule() -> None:
    assert "but no schedule" in only_problem(scheduled_request="go")


def test_a_blank_scheduled_request_is_refused() -> None:
    problem = only_problem(repo=URL, schedule="@daily", scheduled_request=" ")
    assert "'scheduled_request' must not be empty" in problem


@pytest.mark.contract("CFG-23")
def test_a_token_source_needs_no_repo() -> None:
    assert problems(repo_token_source="TOKEN") == []


@pytest.mark.contract("CFG-24")
@pytest.mark.parametrize("source", [" ", " TOKEN", "TOKEN "])
def test_a_blank_or_padded_token_source_is_refused(source: str) -> None:
    assert "repo_token_source: field 'repo_token_source' " in only_problem(repo_token_source=source)


@pytest.mark.contract("F-46", "DSP-15")
@pytest.mark.parametrize("scheme", ["http", "git"])
def test_a_token_for_a_plain_repository_is_refused_at_load(scheme: str) -> None:
    problem = only_problem(repo=f"{scheme}://git.example.org/a", repo_token_source="TOKEN")
    assert "must use https:// when repo_token is set" in problem


@pytest.mark.contract("DSP-15")
def test_a_repo_outside_the_tokens_origin_is_refused() -> None:
    token = config.RepoToken(origin="https://other.example.org")
    problem = only_problem(repo=URL, repo_token_source="TOKEN", repo_token=token)
    assert "the agent's clone token is for https://other.example.org" in problem


@pytest.mark.contract("DSP-15")
def test_a_repo_inside_the_tokens_origin_is_accepted() -> None:
    token = config.RepoToken(origin="https://GIT.example.org:443/")
    assert problems(repo=URL, repo_token_source="TOKEN", repo_token=token) == []


def test_a_token_without_a_source_is_refused() -> None:
    assert "no repo_token_source" in only_problem(repo_token=config.RepoToken(username="u"))


@pytest.mark.parametrize("origin", ["", "http://h", "https://h/p", "https://u@h", "h", "https://"])
def test_an_origin_that_is_none_is_refused(origin: str) -> None:
    token = config.RepoToken(origin=origin)
    assert "repo_token.origin: " in only_problem(repo_token_source="TOKEN", repo_token=token)


@pytest.mark.parametrize("username", ["", " ", "a:b", "a\nhost=evil", "a\0"])
def test_a_username_that_git_would_misread_is_refused(username: str) -> None:
    token = config.RepoToken(username=username)
    assert "repo_token.username: " in only_problem(repo_token_source="TOKEN", repo_token=token)


# --- mounts --------------------------------------------------------------------------------------


@pytest.mark.contract("CFG-32", "DSP-22")
@pytest.mark.parametrize("source", ["relative", "./a", "~/a", "$HOME/a"])
def test_a_relative_mount_source_is_refused(source: str) -> None:
    problem = only_problem(mounts=(config.Mount(source, "/data", True),))
    assert f"agent 'a' defines mount source that must be absolute: '{source}'" in problem


@pytest.mark.contract("CFG-32")
@pytest.mark.parametrize("source", ["", " ", " /a", "/a ", "/a\0b"])
def test_a_blank_padded_or_broken_mount_source_is_refused(source: str) -> None:
    problem = only_problem(mounts=(config.Mount(source, "/data", True),))
    assert problem.startswith("mounts[0].source: field 'mounts.source' must not ")


@pytest.mark.contract("CFG-33")
def test_an_invalid_mount_target_is_refused_with_the_rule_it_breaks() -> None:
    assert only_problem(**with_mounts("/agentd/methodology/x")) == (
        "mounts[0].target: agent 'a' defines invalid mount target:"
        " mount target is reserved by the runner: '/agentd/methodology/x'"
    )


@pytest.mark.contract("CFG-34", "MNT-10")
def test_equal_mount_targets_are_refused() -> None:
    problem = only_problem(**with_mounts("/x", "/data", "/data"))
    assert problem.startswith("mounts[2].target: agent 'a' defines duplicate mount target: '/data'")


@pytest.mark.contract("CFG-34", "MNT-11")
@pytest.mark.parametrize("targets", [("/data", "/data/x"), ("/data/x", "/data")])
def test_nested_mount_targets_are_refused_in_declaration_order(targets: tuple[str, str]) -> None:
    problem = only_problem(**with_mounts(*targets))
    assert f"overlapping mount targets: '{targets[0]}' and '{targets[1]}'" in problem


@pytest.mark.contract("CFG-34")
def test_an_invalid_target_is_not_blamed_for_overlaps_as_well() -> None:
    assert "reserved" in only_problem(**with_mounts("/", "/data"))


# --- credentials and variables -------------------------------------------------------------------


@pytest.mark.contract("CFG-26")
@pytest.mark.parametrize("name", ["", " ", " A", "A "])
def test_a_blank_or_padded_credential_name_is_refused(name: str) -> None:
    problem = only_problem(**with_credential(name))
    assert problem.startswith("credentials[0].name: field 'credentials.name' must not ")
    assert problem.endswith("for agent 'a'")


@pytest.mark.contract("CFG-27", "F-22", "DSP-22")
@pytest.mark.parametrize("name", ["A,B", "A=B", "A B", "1A", "A-B", "É", "A\0"])
def test_a_credential_name_that_is_no_variable_is_refused(name: str) -> None:
    text = f"agent 'a' defines invalid credential name {name!r}; "
    assert text in only_problem(**with_credential(name))


@pytest.mark.contract("CFG-28", "F-22", "DSP-22")
@pytest.mark.parametrize(
    "name", ["AGENT_NAME", "AGENTD_WORK_UNIT", "AGENTD_REPO_TOKEN", "AGENTD_X", "HOME", "UID"]
)
def test_a_reserved_credential_name_is_refused_and_all_are_listed(name: str) -> None:
    problem = only_problem(**with_credential(name))
    assert "AGENT_NAME" in problem
    assert "AGENTD_* are reserved" in problem


@pytest.mark.contract("CFG-29")
def test_two_credentials_of_one_name_are_refused() -> None:
    twice = (config.Credential("A", "X"), config.Credential("A", "Y"))
    problem = only_problem(credentials=twice)
    assert "agent 'a' defines duplicate credential name 'A'" in problem


@pytest.mark.contract("CFG-29")
def test_two_agents_may_use_one_credential_name() -> None:
    agents = (agent(**with_credential("A")), agent(name="b", **with_credential("A")))
    assert duplicate_problems(agents) == []


@pytest.mark.contract("CFG-30")
def test_a_blank_credential_source_names_agent_and_credential() -> None:
    problem = only_problem(**with_credential("A", " "))
    assert "'credentials.source' must not be empty for agent 'a' credential 'A'" in problem


@pytest.mark.contract("CFG-30")
@pytest.mark.parametrize("source", [" PADDED", "with-dash"])
def test_any_other_credential_source_is_accepted(source: str) -> None:
    assert problems(**with_credential("A", source)) == []


@pytest.mark.contract("DSP-22")
@pytest.mark.parametrize("name", ["", "A=B", "A B", "AGENTD_X", "HOME", "PPID"])
def test_an_unusable_variable_name_is_refused(name: str) -> None:
    problem = only_problem(environment={name: "x"})
    assert f"invalid environment variable {name!r}; " in problem


def test_a_variable_that_is_a_credential_too_is_refused() -> None:
    problem = only_problem(environment={"A": "x"}, **with_credential("A"))
    assert "in environment and as a credential" in problem


@pytest.mark.parametrize("value", ["\0", "x" * (MAX_ENTRY - 2), "é" * (MAX_ENTRY // 2)])
def test_a_value_that_no_program_can_be_given_is_refused(value: str) -> None:
    assert only_problem(environment={"A": value}).startswith("environment.A: ")


def test_the_longest_value_is_allowed() -> None:
    assert problems(environment={"A": "x" * (MAX_ENTRY - len("A=") - 1)}) == []


def test_variables_above_a_mebibyte_in_all_are_refused() -> None:
    environment = {f"A{i}": "x" * 120_000 for i in range(9)}
    assert only_problem(environment=environment).startswith("environment: ")


# --- the rest ------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["default", "host", "none", "my-net", "net_1.x"])
def test_a_network_is_a_known_word_or_a_name(network: str) -> None:
    assert problems(network=network) == []


@pytest.mark.parametrize(
    "network", ["", " ", "bridge", "container:x", "ns:/x", "pasta", "-x", "a/b", "a\n"]
)
def test_other_networks_are_refused_with_what_is_possible(network: str) -> None:
    assert '"default", "host", "none"' in only_problem(network=network)


@pytest.mark.contract("F-52")
@pytest.mark.parametrize("timeout", [0.0, -1.0, float("inf"), float("nan")])
def test_a_timeout_is_above_zero(timeout: float) -> None:
    assert "timeout: " in only_problem(timeout=timeout)


@pytest.mark.contract("F-24")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("memory", 0),
        ("cpus", 0.0),
        ("cpus", 0.001),
        ("cpus", float("nan")),
        ("cpus", float("inf")),
        ("pids", 0),
        ("pids", -1),
        ("pids", MAX_PIDS + 1),
        ("output", 0),
        ("record", 0),
    ],
)
def test_a_limit_outside_its_range_is_refused(key: str, value: float) -> None:
    problem = only_problem(limits=config.Limits(**{key: value}))  # type: ignore[arg-type]
    assert problem.startswith(f"limits.{key}: field 'limits.{key}' must be from ")


@pytest.mark.contract("DSP-17")
@pytest.mark.parametrize(
    "changes",
    [
        {"name": 5},
        {"methodology_dir": None},
        {"overlap": "sometimes"},
        {"pull": "often"},
        {"mounts": (("/a", "/b", True),)},
        {"environment": {"A": 1}},
        {"timeout": "1h"},
        {"command": object()},
    ],
)
def test_an_agent_built_with_wrong_types_is_refused(changes: dict[str, Any]) -> None:
    assert "is not a valid Agent" in only_problem(**changes)


@pytest.mark.contract("DSP-17")
def test_every_rule_of_a_file_is_applied_to_an_agent_built_in_python() -> None:
    broken = agent(name="A", base_image="", command=config.Command(()), network="")
    assert [str(p) for p in declaration_problems(broken)] == [
        str(p) for p in config.agent_problems(broken)
    ]


# --- the daemon ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"max_sessions": -1}, "max_sessions"),
        ({"shutdown_grace": 0.0}, "shutdown_grace"),
        ({"shutdown_grace": float("nan")}, "shutdown_grace"),
        ({"socket_path": Path("/s"), "pid_file": Path("/s")}, "pid_file"),
        ({"socket_path": Path("/" + "s" * 107)}, "socket_path"),
        ({"podman_socket": Path("/" + "s" * 107)}, "podman_socket"),
        ({"audit_root": Path("/a\0")}, "audit_root"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(changes: dict[str, Any], place: str) -> None:
    found = daemon_problems(config.Daemon(**changes))
    assert [problem.place for problem in found] == [(place,)]


def test_the_daemons_defaults_are_sound() -> None:
    assert daemon_problems(config.Daemon()) == []


@pytest.mark.contract("CFG-35", "F-45")
@pytest.mark.parametrize("key", ["socket_path", "pid_file", "audit_root", "podman_socket"])
@pytest.mark.parametrize("value", ["", " "])
def test_a_blank_daemon_path_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(f'[daemon]\n{key} = "{value}"\n')
    assert f"field 'daemon.{key}' must not be empty" in caught.value.problems[0]


def test_a_daemon_path_written_as_a_url_is_refused() -> None:
    with pytest.raises(ConfigError, match="a plain path, not a URL"):
        config.parse('[daemon]\npodman_socket = "unix:///run/podman/podman.sock"\n')


@pytest.mark.contract("CFG-18")
def test_a_blank_methodology_is_refused() -> None:
    with pytest.raises(ConfigError, match="field 'methodology_dir' must not be empty"):
        config.parse('[[agents]]\nmethodology_dir = " "\n')
