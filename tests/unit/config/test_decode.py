"""What a document may say, key by key, and how its faults are told."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentd import config
from agentd.errors import ConfigError, UnknownAgent

AGENT = """
[[agents]]
name = "builder"
base_image = "localhost/builder:latest"
methodology_dir = "methodology"
{keys}
[agents.command]
argv = ["work"]
{tables}
"""

WITH_REPO = 'repo = "https://git.example.org/a/b"'


def document(keys: str = "", tables: str = "") -> str:
    return AGENT.format(keys=keys, tables=tables)


def agent(keys: str = "", tables: str = "") -> config.Agent:
    return config.parse(document(keys, tables)).agents[0]


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.parse(text)
    return caught.value.problems


def only_problem(keys: str = "", tables: str = "") -> str:
    found = problems(document(keys, tables))
    assert len(found) == 1, found
    return found[0]


# --- the shape of a document ---------------------------------------------------------------------


@pytest.mark.contract("CFG-01")
def test_a_document_has_a_daemon_table_and_agents() -> None:
    parsed = config.parse("[daemon]\nmax_sessions = 3\n" + document())
    assert (parsed.daemon.max_sessions, [a.name for a in parsed.agents]) == (3, ["builder"])


@pytest.mark.contract("CFG-01")
def test_nothing_else_stands_at_the_top() -> None:
    assert "unknown field 'metrics'" in problems("[metrics]\n" + document())[0]


@pytest.mark.contract("CFG-02")
@pytest.mark.parametrize("text", ["", "[daemon]\n", "agents = []"])
def test_a_document_without_agents_is_refused(text: str) -> None:
    (problem,) = problems(text)
    assert "at least one agent" in problem


@pytest.mark.contract("CFG-01")
@pytest.mark.parametrize("text", ["agents = 3", "agents = 'a'"])
def test_agents_of_another_type_are_refused_once(text: str) -> None:
    (problem,) = problems(text)
    assert "`[[agents]]` tables" in problem


@pytest.mark.contract("CFG-01")
def test_a_single_agents_table_is_answered_with_the_right_spelling() -> None:
    assert "write `[[agents]]`" in problems(document().replace("[[agents]]", "[agents]"))[0]


@pytest.mark.contract("CFG-03")
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("colour = 1\n" + document(), "colour"),
        ("[daemon]\ncolour = 1\n" + document(), "daemon.colour"),
        (document("colour = 1"), "agents[0].colour"),
        (document(tables="colour = 1"), "agents[0].command.colour"),
        (
            document(
                tables='[[agents.mounts]]\nsource="/a"\ntarget="/b"\nread_only=true\ncolour=1'
            ),
            "agents[0].mounts[0].colour",
        ),
        (
            document(tables='[[agents.credentials]]\nname="A"\nsource="B"\ncolour=1'),
            "agents[0].credentials[0].colour",
        ),
        (document(tables="[agents.limits]\ncolour=1"), "agents[0].limits.colour"),
    ],
)
def test_an_unknown_key_is_refused_at_every_level(text: str, place: str) -> None:
    (problem,) = problems(text)
    assert re.search(rf" {re.escape(place)}: .*unknown field 'colour'", problem)


@pytest.mark.contract("CFG-03")
def test_an_unknown_key_names_the_closest_known_one() -> None:
    assert "did you mean 'schedule'?" in only_problem('shedule = "@daily"')


@pytest.mark.contract("CFG-03")
def test_an_unknown_key_like_no_other_lists_the_known_ones() -> None:
    assert "known here: argv" in only_problem(tables="colour = 1")


@pytest.mark.contract("CFG-04")
def test_the_retired_runa_table_is_refused_by_name() -> None:
    assert "`[agents.runa]` table is retired" in only_problem(tables="[agents.runa]\nx = 1")


@pytest.mark.contract("CFG-05")
def test_the_retired_profiles_are_answered_with_their_new_name() -> None:
    assert "now `[[agents]]`" in problems('[[profiles]]\nname = "a"')[0]


@pytest.mark.contract("CFG-06")
def test_four_keys_are_enough() -> None:
    assert agent() == config.Agent(
        name="builder",
        base_image="localhost/builder:latest",
        methodology_dir=agent().methodology_dir,
        command=config.Command(("work",)),
    )


@pytest.mark.contract("CFG-06", "CFG-07")
@pytest.mark.parametrize("key", ["name", "base_image", "methodology_dir", "command"])
def test_a_missing_required_key_is_named_with_an_example(key: str) -> None:
    text = re.sub(rf"^{key} =.*$", "", document(), flags=re.MULTILINE)
    text = text.replace('[agents.command]\nargv = ["work"]', "") if key == "command" else text
    (problem,) = problems(text)
    assert re.search(rf" agents\[0\]\.{key}: .*missing field '{key}'; add ", problem)


@pytest.mark.contract("CFG-07")
def test_a_command_without_argv_is_refused_for_that_alone() -> None:
    (problem,) = problems(document().replace('argv = ["work"]', ""))
    assert "missing field 'argv'" in problem


@pytest.mark.contract("CFG-43")
@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("repo = 5", "must be a string, not the number 5"),
        ("repo = true", "must be a string, not a boolean"),
        ("repo = 2026-01-01", "must be a string, not a date or time"),
        ("mounts = 5", "must be `[[…]]` tables, not the number 5"),
        ("mounts = ['a']", "must be a table, not a string"),
        ("limits = []", "must be a table, not an array"),
        ("environment = 'A=1'", "must be a table of strings, not a string"),
        ("environment = { CI = 1 }", "must be a string, not the number 1"),
        ("timeout = 30", 'must be a string, such as "30m", not the number 30'),
        ("limits.memory = 4096", 'must be a string, such as "4GiB", not the number 4096'),
        ("limits.pids = 2.5", "must be a whole number, not the number 2.5"),
        ("limits.pids = 0x" + "f" * 9000, "must be from 16 to"),
        ("limits.cpus = '2'", "must be a number, not a string"),
        ("limits.cpus = 0x" + "f" * 9000, "must be a number, not a number out of range"),
        ("isolation.init = 1", "must be true or false, not the number 1"),
        ("overlap = 'wait'", 'must be one of "allow", "skip", "queue", not \'wait\''),
    ],
)
def test_a_value_of_another_type_is_told_with_both_types(keys: str, said: str) -> None:
    assert said in only_problem(keys)


# --- reading values ------------------------------------------------------------------------------


@pytest.mark.contract("CFG-10")
def test_argv_is_kept_word_by_word() -> None:
    text = document().replace('["work"]', '["a b", "$HOME", "*", "\'", "-x"]')
    assert config.parse(text).agents[0].command.argv == ("a b", "$HOME", "*", "'", "-x")


@pytest.mark.contract("CFG-24")
def test_an_empty_token_source_is_no_token_source() -> None:
    assert agent('repo_token_source = ""').repo_token_source is None


@pytest.mark.contract("CFG-25")
def test_credentials_keep_their_order() -> None:
    tables = "".join(f'[[agents.credentials]]\nname="{n}"\nsource="S"\n' for n in ("Z", "A", "M"))
    assert [c.name for c in agent(tables=tables).credentials] == ["Z", "A", "M"]


@pytest.mark.contract("CFG-25")
@pytest.mark.parametrize(("given", "missing"), [("name", "source"), ("source", "name")])
def test_a_credential_needs_both_its_keys(given: str, missing: str) -> None:
    problem = only_problem(tables=f'[[agents.credentials]]\n{given} = "A"')
    assert f"missing field '{missing}'" in problem


@pytest.mark.contract("CFG-31")
@pytest.mark.parametrize("missing", ["source", "target", "read_only"])
def test_a_mount_needs_all_its_keys(missing: str) -> None:
    keys = {"source": '"/a"', "target": '"/b"', "read_only": "true"}
    lines = "\n".join(f"{key} = {value}" for key, value in keys.items() if key != missing)
    assert f"missing field '{missing}'" in only_problem(tables=f"[[agents.mounts]]\n{lines}")


def test_the_keys_of_our_own_are_read() -> None:
    read = agent(
        f"""{WITH_REPO}
        schedule = "@daily"
        scheduled_request = "go"
        repo_token_source = "TOKEN"
        timeout = "1h30m"
        overlap = "queue"
        pull = "never"
        network = "none"
        environment = {{ CI = "1" }}
        limits = {{ memory = "4GiB", cpus = 2, pids = 99, output = "1MB", record = "1B" }}
        isolation = {{ no_new_privileges = false, init = false }}
        repo_token = {{ scheme = "bearer", username = "u", origin = "https://git.example.org" }}
        """
    )
    assert (read.timeout, read.overlap, read.pull, read.network) == (5400, "queue", "never", "none")
    assert read.scheduled_request == "go"
    assert read.environment == {"CI": "1"}
    assert read.limits == config.Limits(4 * 2**30, 2.0, 99, 10**6, 1)
    assert read.isolation == config.Isolation(False, False)
    assert read.repo_token == config.RepoToken("bearer", "u", "https://git.example.org")


def test_the_daemons_own_keys_are_read() -> None:
    read = config.parse('[daemon]\nmax_sessions = 4\nshutdown_grace = "500ms"' + document()).daemon
    assert (read.max_sessions, read.shutdown_grace) == (4, 0.5)


@pytest.mark.contract("CFG-16")
def test_an_agent_is_found_by_its_name() -> None:
    parsed = config.parse(document())
    assert parsed.agent("builder") is parsed.agents[0]
    with pytest.raises(UnknownAgent, match="declared are: builder"):
        parsed.agent("nobody-else")


# --- all faults at once --------------------------------------------------------------------------


@pytest.mark.contract("CFG-43")
def test_all_problems_come_at_once_in_the_order_of_the_document() -> None:
    text = """
    [[agents]]
    base_image = " "
    name = "UPPER"
    colour = 1
    [agents.command]
    argv = []
    [[agents.mounts]]
    target = "relative"
    source = "relative"
    [daemon]
    pid_file = ""
    """
    places = [line.removeprefix("invalid config: ").split(":")[0] for line in problems(text)]
    assert places == [
        "agents[0].base_image",
        "agents[0].name",
        "agents[0].colour",
        "agents[0].command.argv",
        "agents[0].mounts[0].target",
        "agents[0].mounts[0].source",
        "agents[0].mounts[0].read_only",
        "agents[0].methodology_dir",
        "daemon.pid_file",
    ]


@pytest.mark.contract("CFG-43")
def test_an_error_is_one_line_for_each_problem() -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(document('schedule = "a\\nb"\ntimeout = "x\\ny"\n"k\\nl" = 1'))
    assert str(caught.value).splitlines() == caught.value.problems
    assert len(caught.value.problems) == 4


@pytest.mark.contract("CFG-43")
def test_a_rule_that_rests_on_an_unreadable_value_stays_silent() -> None:
    assert "must be a string" in only_problem('repo = 5\nschedule = "@daily"')


@pytest.mark.contract("CFG-43")
def test_an_unreadable_mount_does_not_move_the_others() -> None:
    tables = """[[agents.mounts]]
    source = 1
    target = "/a"
    read_only = true
    [[agents.mounts]]
    source = "x"
    target = "/b"
    read_only = true
    """
    first, second = problems(document(tables=tables))
    assert "agents[0].mounts[0].source: " in first
    assert "agents[0].mounts[1].source: " in second


@pytest.mark.contract("CFG-44")
@pytest.mark.parametrize(
    "text", ["[", "a = 1\na = 2", "x = " + "9" * 5000, "x = " + "[" * 5000], ids=lambda t: t[:6]
)
def test_broken_toml_is_an_invalid_config(text: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith("invalid config: not valid TOML: ")


# --- anything at all -----------------------------------------------------------------------------

_TEXT = st.text(max_size=12) | st.sampled_from(
    ["", " ", "https://h/p", "http://h/p", "/a", "/a/b", "@daily", "* * * * *", "A", "1h", "1GiB"]
)
_VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats() | _TEXT | st.dates() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=5,
)
_SCALAR_KEYS = (
    *("name", "base_image", "methodology_dir", "repo", "schedule", "repo_token_source"),
    *("timeout", "overlap", "scheduled_request", "pull", "network"),
)


def _tables(**shapes: str) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries(
        {},
        optional={
            name: st.fixed_dictionaries({}, optional=dict.fromkeys(keys.split(), _VALUES | _TEXT))
            for name, keys in shapes.items()
        },
    )


_AGENTS = st.builds(
    lambda scalars, tables, lists, other: {**scalars, **tables, **lists, **other},
    st.fixed_dictionaries({}, optional=dict.fromkeys(_SCALAR_KEYS, _TEXT | _VALUES)),
    _tables(
        command="argv",
        environment="A B",
        limits="memory cpus pids output record",
        isolation="init",
        repo_token="scheme username origin",
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "mounts": st.lists(
                st.fixed_dictionaries(
                    {}, optional={"source": _TEXT, "target": _TEXT, "read_only": _VALUES}
                ),
                max_size=3,
            ),
            "credentials": st.lists(
                st.fixed_dictionaries({}, optional={"name": _TEXT, "source": _TEXT}), max_size=3
            ),
        },
    ),
    st.dictionaries(_TEXT, _VALUES, max_size=1),
)


def _toml(value: object) -> str:
    """A value as inline TOML; enough of the language to write down what the strategies make."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            escaped = "".join(
                c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value
            )
            return f'"{escaped}"'
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + "}"
        case int() | float():
            return str(value)
        case _:
            return str(value.isoformat())  # type: ignore[attr-defined]


def parse_or_refuse(text: str) -> None:
    try:
        config.parse(text)
    except ConfigError as refused:
        assert refused.problems
        assert all(problem.startswith("invalid config: ") for problem in refused.problems)
        assert str(refused).split("\n") == refused.problems


@pytest.mark.contract("CFG-44")
@given(st.text())
def test_any_text_is_a_configuration_or_refused(text: str) -> None:
    parse_or_refuse(text)


@pytest.mark.contract("CFG-44")
@settings(deadline=None)
@given(st.dictionaries(_TEXT, _VALUES, max_size=3), _VALUES, st.lists(_AGENTS, max_size=3))
def test_any_document_is_a_configuration_or_refused(
    other: dict[str, object], daemon: object, agents: list[dict[str, object]]
) -> None:
    top = {**other, "daemon": daemon, "agents": agents}
    parse_or_refuse("\n".join(f"{_toml(key)} = {_toml(value)}" for key, value in top.items()))
