"""Names that agentd gives to things, and the rules for names it is given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd import names
from agentd.errors import UnknownSession

IDENTIFIER = ("/run/agentd/agentd.sock", "/run/agentd/agentd.pid", "/var/lib/tesserine/audit")
AGENT_NAMES = st.from_regex(names.AGENT_NAME, fullmatch=True)
SESSION = "0123456789abcdef"
WHOSE = names.Identity("58e3c8db", SESSION)
WHOSE = names.Identity("58e3c8db", SESSION)


@pytest.mark.contract("DMN-13", "F-38")
def test_the_instance_id_is_the_agreed_one() -> None:
    assert names.instance_id(*IDENTIFIER) == "58e3c8db"


@pytest.mark.contract("DMN-13")
def test_the_instance_id_does_not_depend_on_how_paths_are_spelt() -> None:
    spelt = (
        "/run//agentd/x/../agentd.sock",
        "//run/agentd/./agentd.pid",
        "/var/lib/tesserine/audit/",
    )
    assert names.instance_id(*spelt) == names.instance_id(*IDENTIFIER)


@pytest.mark.contract("DMN-14", "F-38")
@pytest.mark.parametrize("position", range(3))
def test_each_path_takes_part_in_the_instance_id(position: int) -> None:
    other = list(IDENTIFIER)
    other[position] += "-2"
    assert names.instance_id(*other) != names.instance_id(*IDENTIFIER)


@pytest.mark.contract("CFG-42")
@pytest.mark.parametrize(
    ("paths", "key"),
    [
        (("s", "p", "a"), "socket_path"),
        (("/s", "p", "a"), "pid_file"),
        (("/s", "/p", "a"), "audit_root"),
    ],
)
def test_a_relative_path_has_no_instance_id_and_is_named(
    paths: tuple[str, str, str], key: str
) -> None:
    with pytest.raises(ValueError, match=rf"field 'daemon\.{key}' must be absolute"):
        names.instance_id(*paths)


@pytest.mark.contract("SES-02")
def test_a_session_id_is_sixteen_hex_digits() -> None:
    assert names.is_session_id(names.new_session_id())


@pytest.mark.contract("SES-02")
@pytest.mark.parametrize("text", ["", SESSION[1:], SESSION + "0", SESSION.upper(), SESSION + "\n"])
def test_anything_else_is_no_session_id(text: str) -> None:
    assert not names.is_session_id(text)


@pytest.mark.contract("DSP-18")
@pytest.mark.parametrize("text", ["", "58e3c8d", "58E3C8DB", "58e3c8dbb", "58e3c8dg"])
def test_what_is_not_eight_hex_digits_is_no_instance_id(text: str) -> None:
    assert not names.is_instance_id(text)


@pytest.mark.contract("SES-03")
@given(AGENT_NAMES)
def test_a_containers_name_gives_its_parts_back(agent: str) -> None:
    parsed = names.parse_container_name(names.container_name(WHOSE, agent))
    assert parsed == (WHOSE.instance, agent, WHOSE.session)


@pytest.mark.contract("SES-03")
@pytest.mark.parametrize(
    "secret",
    [
        names.secret_name(WHOSE, 12),
        names.repo_token_secret_name(WHOSE),
    ],
)
def test_a_secrets_name_tells_whose_it_is(secret: str) -> None:
    assert names.parse_secret_name(secret) == WHOSE


@pytest.mark.contract("DMN-21")
@pytest.mark.parametrize(
    "name",
    [
        f"agentd-58e3c8db-{SESSION}-backup",
        f"agentd-58e3c8db-{SESSION}-",
        f"agentd-58E3C8DB-{SESSION}-0",
        f"agentd-58e3c8db-{SESSION}",
        f"x-agentd-58e3c8db-{SESSION}-0",
        "postgres",
    ],
)
def test_other_secrets_are_not_ours(name: str) -> None:
    assert names.parse_secret_name(name) is None


@pytest.mark.contract("SES-03", "DMN-16")
@given(st.text())
def test_any_other_text_is_no_container_of_ours(name: str) -> None:
    parsed = names.parse_container_name(name)
    if parsed is not None:
        whose = names.Identity(parsed.instance, parsed.session)
        assert names.container_name(whose, parsed.agent) == name


@pytest.mark.contract("CFG-13", "CFG-14")
@given(AGENT_NAMES.filter(lambda name: name not in names.RESERVED_AGENT_NAMES))
def test_a_unix_username_is_an_agents_name(name: str) -> None:
    assert names.agent_name_fault(name) is None


@pytest.mark.contract("CFG-27", "CFG-28")
@pytest.mark.parametrize("name", ["GITHUB_TOKEN", "_x", "PATH", "AGENTD", "a1"])
def test_an_ordinary_variable_may_be_set(name: str) -> None:
    assert names.variable_name_fault(name) is None


@pytest.mark.contract("DMN-13")
@given(st.text(alphabet="ab./", min_size=1).map(lambda tail: "/" + tail))
def test_a_normal_path_has_one_leading_slash_and_no_dots(path: str) -> None:
    parts = names.lexically_normal(path).split("/")
    assert parts[0] == ""
    assert not {".", ".."} & set(parts)
    assert "" not in parts[1:] or parts == ["", ""]


@pytest.mark.parametrize("wanted", [SESSION, SESSION[:15], SESSION[:5]])
def test_the_beginning_of_an_id_chooses_a_session(wanted: str) -> None:
    assert (
        names.chosen_session(wanted, ["fedcba9876543210", SESSION, "0123555555555555"]) == SESSION
    )


@pytest.mark.parametrize("wanted", ["", "7", SESSION + "0", "%", "../x"])
def test_a_session_that_is_not_there_is_named(wanted: str) -> None:
    with pytest.raises(UnknownSession, match=f"there is no session '{wanted}'"):
        names.chosen_session(wanted, [SESSION])


def test_an_ambiguous_beginning_names_what_it_could_mean() -> None:
    with pytest.raises(UnknownSession, match=f"'0' fits 2 sessions: {SESSION}, 0123555555555555"):
        names.chosen_session("0", ["0123555555555555", SESSION])
