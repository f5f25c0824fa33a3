"""The arguments of the setup script, and the files it reads."""

from __future__ import annotations

import pytest

from agentd import config
from agentd.methodology import Document
from agentd.session.invocation import Invocation, RepoToken
from agentd.session.setup import session_secrets, setup_arguments, setup_script
from tests.unit.builders import TOKEN, URL, WHOSE, agent, credentials, invocation


class Read:
    """The arguments, read back as `setup.sh` reads them."""

    def __init__(self, words: list[str]) -> None:
        rest = iter(words)
        self.agent, self.repo, self.unit = next(rest), next(rest), next(rest)
        self.artifact = (next(rest), next(rest))
        self.token = (next(rest), next(rest), next(rest))
        self.targets = [next(rest) for _ in range(int(next(rest)))]
        count = int(next(rest))
        self.variables = [(next(rest), next(rest), next(rest)) for _ in range(count)]
        self.argv = list(rest)


def read(given: Invocation, document: Document | None = None) -> Read:
    return Read(setup_arguments(given, document))


@pytest.mark.contract("ENV-28", "CFG-10")
def test_every_word_arrives_as_it_is() -> None:
    hostile = ("$(touch /x)", "a b", "'", '"', "*", "-", "", "\n", "--", "ü", "`x`", "\\")
    given = read(invocation(agent=agent(command=config.Command(hostile)), work_unit="; rm -rf /"))
    assert given.argv == list(hostile)
    assert given.unit == "; rm -rf /"


@pytest.mark.contract("ENV-26")
def test_agent_and_repository_come_first() -> None:
    given = read(invocation())
    assert (given.agent, given.repo, given.argv) == ("builder", URL, ["work", "-v"])


@pytest.mark.contract("ENV-07", "ENV-20")
def test_what_was_not_asked_for_is_empty() -> None:
    given = read(invocation())
    assert (given.unit, given.artifact, given.token) == ("", ("", ""), ("", "", ""))
    assert (given.targets, given.variables) == ([], [])


@pytest.mark.contract("ENV-25")
def test_the_document_is_named_by_type_and_id() -> None:
    assert read(invocation(), Document("claim", "claim-42", b"{}")).artifact == (
        "claim",
        "claim-42",
    )


@pytest.mark.contract("ENV-19", "DSP-07")
def test_of_the_token_only_its_use_is_told() -> None:
    token = RepoToken(b"value", "bearer", "user", "https://h:8443")
    given = setup_arguments(invocation(repo_token=token), None)
    assert Read(given).token == ("bearer", "user", "https://h:8443")
    assert not any(word == "value" for word in given)


@pytest.mark.contract("ENV-15", "ENV-16")
def test_only_mounts_below_home_are_told() -> None:
    targets = ("/data", "/home/builder/.claude", "/home/builder2/x", "/home/builder/a/b")
    mounted = agent(mounts=tuple(config.Mount("/src", target, True) for target in targets))
    assert read(invocation(agent=mounted)).targets == [
        "/home/builder/.claude",
        "/home/builder/a/b",
    ]


@pytest.mark.contract("DSP-06", "SES-07", "SES-08", "ENV-05")
def test_variables_are_values_and_credentials_files_in_order() -> None:
    given = invocation(
        agent=agent(environment={"CI": "1", "EMPTY": "", "TEXT": "a\n'b'"}),
        credentials=credentials(PATH=b"one", NONE=b"", IFS=b"three"),
    )
    assert read(given).variables == [
        ("CI", "value", "1"),
        ("EMPTY", "value", ""),
        ("TEXT", "value", "a\n'b'"),
        ("PATH", "file", "/agentd/credentials/0"),
        ("NONE", "value", ""),
        ("IFS", "file", "/agentd/credentials/2"),
    ]


@pytest.mark.contract("SES-06", "SES-07", "SES-08", "SES-09")
def test_each_secret_has_name_file_and_value() -> None:
    given = invocation(credentials=credentials(A=b"1", B=b"", C=b"3"), repo_token=TOKEN)
    assert [tuple(secret) for secret in session_secrets(given, WHOSE)] == [
        ("agentd-58e3c8db-0123456789abcdef-0", "/agentd/credentials/0", b"1"),
        ("agentd-58e3c8db-0123456789abcdef-2", "/agentd/credentials/2", b"3"),
        (
            "agentd-58e3c8db-0123456789abcdef-repo-token",
            "/agentd/credentials/repo-token",
            TOKEN.value,
        ),
    ]


@pytest.mark.contract("SES-06")
def test_a_secrets_name_fits_podman() -> None:
    many = credentials(**{f"C{index}": b"x" for index in range(1000)})
    names = [s.name for s in session_secrets(invocation(credentials=many), WHOSE)]
    assert max(map(len, names)) <= 64


@pytest.mark.contract("ENV-28")
def test_the_script_is_the_same_bytes_for_every_session() -> None:
    assert setup_script() is setup_script()
    assert setup_script().startswith("#!/bin/sh\n")
