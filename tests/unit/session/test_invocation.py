"""What a run was asked for, checked against its agent."""

from __future__ import annotations

from typing import Any

import pytest
from rich.pretty import pretty_repr

from agentd import config, errors
from agentd.session.invocation import (
    MAX_CREDENTIALS_BYTES,
    MAX_ENTRY_BYTES,
    MAX_EXEC_BYTES,
    Invocation,
    RepoToken,
    Variable,
    resolve_invocation,
)
from agentd.wire import ArtifactInput, Run, TextInput
from tests.unit.builders import URL, agent

TEXT = TextInput(description="do it")
ARTIFACT = ArtifactInput(artifact_type="t", artifact_id="i", document=b"{}")


def resolve(
    declared: config.Agent | None = None,
    environ: dict[bytes, bytes] | None = None,
    **request: Any,
) -> Invocation:
    settings = config.Config(config.Daemon(), (declared or agent(),))
    return resolve_invocation(settings, Run(**{"agent": "builder", **request}), environ or {})


def refused(kind: type[errors.AgentdError], *args: Any, **request: Any) -> str:
    with pytest.raises(errors.AgentdError) as caught:
        resolve(*args, **request)
    assert type(caught.value) is kind, caught.value
    return caught.value.message


def with_credentials(**sources: str) -> config.Agent:
    declared = tuple(config.Credential(name, source) for name, source in sources.items())
    return agent(credentials=declared)


def with_token(**changes: Any) -> config.Agent:
    return agent(**{"repo_token_source": "TOKEN", **changes})


def test_a_run_may_have_a_timeout_of_its_own() -> None:
    assert resolve(agent(timeout=60.0), timeout=5.0).agent.timeout == 5.0
    assert resolve(agent(timeout=60.0)).agent.timeout == 60.0


@pytest.mark.contract("F-57")
def test_a_run_keeps_the_daemons_grace_that_it_was_taken_in_with() -> None:
    settings = config.Config(config.Daemon(shutdown_grace=9.0), (agent(),))
    assert resolve_invocation(settings, Run(agent="builder"), {}).shutdown_grace == 9.0


# --- agent and repository ------------------------------------------------------------------------


@pytest.mark.contract("DSP-01")
@pytest.mark.parametrize("name", ["nobody", "Builder", "builder ", "", "build"])
def test_an_unknown_agent_is_refused_by_name(name: str) -> None:
    assert refused(errors.UnknownAgent, agent=name).startswith(f"unknown agent '{name}'")


@pytest.mark.contract("DSP-01")
def test_an_unknown_agent_comes_before_a_missing_repository() -> None:
    refused(errors.UnknownAgent, agent(repo=None), agent="nobody")


@pytest.mark.contract("DSP-02")
def test_without_a_repository_there_is_no_run() -> None:
    assert refused(errors.RepositoryRequired, agent(repo=None)) == (
        "agent 'builder' requires a repo argument or configured agent repo"
    )


@pytest.mark.contract("DSP-02")
def test_the_agents_repository_is_used_unless_another_is_given() -> None:
    assert resolve().repo_url == URL
    assert resolve(repo_url="https://other/x").repo_url == "https://other/x"


@pytest.mark.contract("DSP-02", "DSP-12")
def test_an_empty_repository_is_no_absent_one() -> None:
    assert "must not be empty" in refused(errors.RepositoryRefused, repo_url="")


@pytest.mark.contract("DSP-12", "DSP-13", "DSP-14", "DSP-17")
@pytest.mark.parametrize("url", ["/srv/x", "file:///x", "https://u:p@h/x", "https://h/x?q", "x"])
def test_a_repository_that_breaks_a_rule_is_refused(url: str) -> None:
    assert "repo_url" in refused(errors.RepositoryRefused, repo_url=url)


# --- the clone token -----------------------------------------------------------------------------


@pytest.mark.contract("DSP-07")
def test_the_token_is_bound_to_the_origin_of_the_agents_repository() -> None:
    token = resolve(with_token(), {b"TOKEN": b"t0ken"}).repo_token
    assert token == RepoToken(b"t0ken", "basic", "x-access-token", "https://git.example.org")


@pytest.mark.contract("DSP-08")
@pytest.mark.parametrize("environ", [{}, {b"TOKEN": b""}])
def test_without_a_token_the_clone_goes_without(environ: dict[bytes, bytes]) -> None:
    assert resolve(with_token(), environ).repo_token is None


@pytest.mark.contract("DSP-15")
@pytest.mark.parametrize("url", ["http://git.example.org/x", "git://git.example.org/x"])
def test_a_token_crosses_no_plain_connection(url: str) -> None:
    message = refused(errors.RepositoryRefused, with_token(), {b"TOKEN": b"t"}, repo_url=url)
    assert message == "repo_url must use https:// when repo_token is set"


@pytest.mark.contract("DSP-15")
def test_a_token_goes_to_no_other_origin() -> None:
    message = refused(
        errors.RepositoryRefused, with_token(), {b"TOKEN": b"t"}, repo_url="https://evil/x"
    )
    assert "clone token is for https://git.example.org" in message


@pytest.mark.contract("DSP-15", "DSP-08")
def test_another_origin_is_fine_while_there_is_no_token() -> None:
    assert resolve(with_token(), {}, repo_url="http://other/x").repo_token is None


@pytest.mark.contract("DSP-15")
def test_a_token_that_is_bound_to_nothing_is_refused() -> None:
    message = refused(
        errors.RepositoryRefused,
        with_token(repo=None),
        {b"TOKEN": b"t"},
        repo_url="https://other/x",
    )
    assert "bound to no origin" in message


@pytest.mark.contract("DSP-07")
@pytest.mark.parametrize("value", [b"a\nb", b"a\r", b"x" * (MAX_ENTRY_BYTES + 1)])
def test_a_token_that_cannot_be_presented_is_refused_unseen(value: bytes) -> None:
    message = refused(errors.CredentialUnavailable, with_token(), {b"TOKEN": value})
    assert "must be one line" in message
    assert len(message) < 200


@pytest.mark.contract("DSP-07")
def test_the_token_is_no_credential_of_the_session() -> None:
    assert resolve(with_token(), {b"TOKEN": b"t"}).credentials == ()


# --- intent --------------------------------------------------------------------------------------


@pytest.mark.contract("SOC-15", "INP-01")
@pytest.mark.parametrize("given", [TEXT, ARTIFACT])
def test_work_unit_and_input_together_are_refused_by_both_names(
    given: TextInput | ArtifactInput,
) -> None:
    message = refused(errors.InvalidInvocation, work_unit="42", input=given)
    assert "work_unit" in message
    assert "input" in message


@pytest.mark.contract("SOC-16", "INP-02")
@pytest.mark.parametrize(
    "request_", [{}, {"work_unit": "42"}, {"input": TEXT}, {"input": ARTIFACT}]
)
def test_one_purpose_or_none_is_handed_on(request_: dict[str, Any]) -> None:
    found = resolve(**request_)
    assert (found.work_unit, found.input) == (request_.get("work_unit"), request_.get("input"))


@pytest.mark.contract("DSP-10")
@pytest.mark.parametrize("unit", ["", " ", "\t", "a\0b", "-x", "--work-unit"])
def test_a_work_unit_that_runa_would_misread_is_refused(unit: str) -> None:
    assert "work_unit" in refused(errors.InvalidInvocation, work_unit=unit)


@pytest.mark.contract("DSP-10")
def test_a_work_unit_that_fits_no_entry_is_refused() -> None:
    longest = "x" * (MAX_ENTRY_BYTES - len("AGENTD_WORK_UNIT="))
    assert resolve(work_unit=longest).work_unit == longest
    message = refused(errors.InvalidInvocation, work_unit=f"{longest}x")
    assert message == "work_unit must be below 128 KiB, as one entry of the environment"


def test_a_work_unit_that_is_no_text_is_refused() -> None:
    """A program can hand one in, though the wire cannot carry it."""
    assert "UTF-8: '\\udcff'" in refused(errors.InvalidInvocation, work_unit="\udcff")


@pytest.mark.contract("DSP-12")
def test_a_repository_that_fits_no_argument_is_refused() -> None:
    url = f"https://h/{'x' * 131072}"
    message = refused(errors.RepositoryRefused, repo_url=url)
    assert message == "repo_url must be below 128 KiB, as one argument of a program"


def test_the_trigger_is_handed_on() -> None:
    assert resolve(trigger="schedule").trigger == "schedule"


# --- credentials ---------------------------------------------------------------------------------


@pytest.mark.contract("DSP-03", "DSP-06", "CFG-25")
def test_credentials_come_in_order_under_their_own_names() -> None:
    environ = {b"S1": b"one", b"S2": b"two", b"OTHER": b"no"}
    found = resolve(with_credentials(B="S2", A="S1"), environ)
    assert found.credentials == (Variable("B", b"two"), Variable("A", b"one"))


@pytest.mark.contract("DSP-05")
def test_an_empty_credential_is_no_missing_one() -> None:
    assert resolve(with_credentials(A="S"), {b"S": b""}).credentials == (Variable("A", b""),)


@pytest.mark.contract("DSP-04")
@pytest.mark.parametrize("environ", [{}, {b"S": b"\xff"}])
def test_a_missing_credential_is_refused_by_all_its_names(environ: dict[bytes, bytes]) -> None:
    message = refused(errors.CredentialUnavailable, with_credentials(A="S"), environ)
    assert message.startswith(
        "agent 'builder' credential 'A' requires daemon environment variable 'S'"
    )


@pytest.mark.contract("DSP-03", "F-11")
def test_the_longest_value_that_fits_an_entry_passes() -> None:
    value = b"x" * (MAX_ENTRY_BYTES - len("A="))
    assert resolve(with_credentials(A="S"), {b"S": value}).credentials[0].value == value


@pytest.mark.contract("F-11")
def test_a_value_that_fits_no_entry_is_refused_by_its_size() -> None:
    value = b"x" * (MAX_ENTRY_BYTES - len("A=") + 1)
    message = refused(errors.CredentialUnavailable, with_credentials(A="S"), {b"S": value})
    assert f"{len(value)} bytes" in message


@pytest.mark.contract("F-11")
def test_too_much_together_is_refused() -> None:
    big = b"x" * 120_000
    many = with_credentials(**{f"C{index}": "S" for index in range(9)})
    message = refused(errors.CredentialUnavailable, many, {b"S": big})
    assert f"{MAX_CREDENTIALS_BYTES} is the limit" in message


@pytest.mark.contract("F-11")
def test_a_value_with_a_nul_is_refused() -> None:
    refused(errors.CredentialUnavailable, with_credentials(A="S"), {b"S": b"a\0b"})


def large(*, variables: int, words: int) -> config.Agent:
    """An agent with 8 credentials of 120 kB, and with as large variables and words."""
    return agent(
        credentials=tuple(config.Credential(f"C{index}", "S") for index in range(8)),
        environment={f"V{index}": "x" * 120_000 for index in range(variables)},
        command=config.Command(tuple("x" * 120_000 for _ in range(words))),
    )


@pytest.mark.contract("F-11", "F-28", "SES-04")
@pytest.mark.parametrize(
    ("declared", "unit"),
    [
        (large(variables=8, words=1), None),
        (large(variables=1, words=7), None),
        (large(variables=5, words=1), "x" * 120_000),
    ],
    ids=["variables", "words", "unit"],
)
def test_what_no_exec_takes_together_is_refused(declared: config.Agent, unit: str | None) -> None:
    message = refused(errors.InvalidInvocation, declared, {b"S": b"x" * 120_000}, work_unit=unit)
    assert f"one program can be started with {MAX_EXEC_BYTES}" in message


@pytest.mark.contract("F-11")
def test_what_one_exec_takes_together_passes() -> None:
    found = resolve(large(variables=5, words=1), {b"S": b"x" * 120_000}, work_unit="7")
    assert len(found.credentials) == 8


@pytest.mark.contract("SES-06")
def test_no_representation_shows_a_value() -> None:
    declared = with_token(credentials=(config.Credential("A", "S"),))
    found = resolve(declared, {b"S": b"s3cret", b"TOKEN": b"t0ken"})
    rich = pretty_repr(found)
    for text in (rich, repr(found), str(found), f"{found.credentials} {found.repo_token}"):
        assert "s3cret" not in text
        assert "t0ken" not in text


@pytest.mark.contract("SES-06")
def test_the_values_to_mask_are_all_credentials_and_the_token() -> None:
    declared = with_token(credentials=(config.Credential("A", "S"),))
    found = resolve(declared, {b"S": b"s3cret", b"TOKEN": b"t0ken"})
    assert found.sensitive_values == (b"s3cret", b"t0ken")


# --- rules, and the order of refusals ------------------------------------------------------------


@pytest.mark.contract("DSP-17", "DSP-19", "DSP-22")
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"base_image": " x"}, "base_image"),
        ({"command": config.Command(())}, "command"),
        ({"environment": {"a-b": "1"}}, "a-b"),
        ({"mounts": (config.Mount("/x", "/agentd", True),)}, "reserved"),
    ],
)
def test_an_agent_handed_in_is_held_to_the_rules_of_files(
    changes: dict[str, Any], named: str
) -> None:
    assert named in refused(errors.InvalidAgent, agent(**changes))


@pytest.mark.contract("DSP-17")
def test_an_agent_with_a_bad_repository_and_a_token_is_refused_as_any_other() -> None:
    bad = with_token(repo="not a url")
    refused(errors.InvalidAgent, bad, {b"TOKEN": b"t"}, repo_url="https://h/x")


ORDER = [
    errors.UnknownAgent,
    errors.InvalidAgent,
    errors.RepositoryRequired,
    errors.RepositoryRefused,
    errors.InvalidInvocation,
    errors.CredentialUnavailable,
]


@pytest.mark.contract("DSP-01", "DSP-16")
@pytest.mark.parametrize("mended", range(len(ORDER)))
def test_the_first_thing_that_is_wrong_is_told(mended: int) -> None:
    """Everything is wrong at once; then, from the front, one fault after the other is mended."""
    bad = agent(
        repo=None, base_image="" if mended < 2 else "x", credentials=(config.Credential("A", "S"),)
    )
    request: dict[str, Any] = {"agent": "nobody" if mended < 1 else "builder"}
    if mended >= 3:
        request["repo_url"] = "/bad" if mended < 4 else "https://h/x"
    request["work_unit"] = "-bad" if mended < 5 else "42"
    refused(ORDER[mended], bad, {}, **request)


@pytest.mark.contract("DSP-16")
def test_a_token_that_cannot_be_used_is_told_after_the_repository() -> None:
    refused(errors.RepositoryRefused, with_token(), {b"TOKEN": b"a\nb"}, repo_url="/bad")
