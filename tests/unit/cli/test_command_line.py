"""The `agentd` command as a process: what it prints, where, and with which status."""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import agentd as package
from agentd import wire
from agentd.cli import COMMANDS, default_config
from agentd.cli.app import build_app, normalized, run_command_line
from agentd.errors import ConfigError, UsageError
from agentd.outcome import TIMED_OUT, Outcome, from_exit_code
from tests.unit.builders import NOON, SESSION_INFO
from tests.unit.cli.commands import SECONDS, Result, agentd

VERSION = "agentd 0.1.1\n"


def python(program: str, *words: str) -> Result:
    done = subprocess.run(
        [sys.executable, "-c", program, *words], check=False, capture_output=True, timeout=SECONDS
    )
    return Result(done)


@pytest.fixture(scope="module")
def help_pages() -> dict[str, Result]:
    pages = {"": ("--help",), "run": ("run", "--help"), "daemon": ("daemon", "--help")}
    return {name: agentd(*words) for name, words in pages.items()}


def finished(outcome: Outcome, teardown_error: str | None = None) -> wire.Finished:
    return wire.Finished(session_id="s", outcome=outcome, teardown_error=teardown_error)


# --- version and help ----------------------------------------------------------------------------


@pytest.mark.contract("CLI-08", "CLI-09", "CLI-10", "CLI-29")
@pytest.mark.parametrize(
    "words", [("--version",), ("-V",), ("run", "--version"), ("run", "-V"), ("daemon", "--version")]
)
def test_the_version_is_one_line_and_nothing_else(words: tuple[str, ...]) -> None:
    result = agentd(*words)
    assert (result.status, result.out, result.err) == (0, VERSION, "")


@pytest.mark.contract("CLI-07")
def test_help_exits_zero_with_nothing_on_standard_error(help_pages: dict[str, Result]) -> None:
    assert {(page.status, page.err) for page in help_pages.values()} == {(0, "")}


@pytest.mark.contract("CLI-07", "CLI-12")
def test_the_help_of_run_lists_its_options_and_no_config(help_pages: dict[str, Result]) -> None:
    page = help_pages["run"].out
    options = ("--socket-path", "--work-unit", "--request", "--artifact-type", "--artifact-file")
    assert [option for option in options if option not in page.split("Without a command")[0]] == []
    assert "--config" not in page


@pytest.mark.contract("CLI-07", "CLI-03")
def test_the_help_of_daemon_lists_config_and_its_default(help_pages: dict[str, Result]) -> None:
    assert "--config" in help_pages["daemon"].out
    assert "/etc/agentd/agentd.toml" in help_pages["daemon"].out


def test_the_help_lists_the_commands(help_pages: dict[str, Result]) -> None:
    assert re.search(r"\bdaemon\b", help_pages[""].out)
    assert re.search(r"\brun\b", help_pages[""].out)


@pytest.mark.contract("CLI-29")
def test_help_is_a_word_too(help_pages: dict[str, Result]) -> None:
    assert agentd("help", "run").out == help_pages["run"].out


@pytest.mark.parametrize("name", ["daemon", "run", "ps", "logs", "stop", "plan"])
def test_every_command_leads_to_a_function(name: str) -> None:
    assert callable(build_app()[name].default_command)


# --- what is imported ----------------------------------------------------------------------------

IMPORTED = """
import sys
sys.argv = ["agentd", *sys.argv[1:]]
try:
    from agentd.cli import main
    main()
except SystemExit:
    pass
print("\\n".join(sorted({"modules:", *sys.modules})), file=sys.stderr)
"""


def imported(*words: str) -> set[str]:
    return set(python(IMPORTED, *words).err.splitlines())


AT_ABSENT = ("--socket-path", "absent")
OF_THE_DAEMON = frozenset(
    [
        "httpx",
        "jsonschema",
        "croniter",
        "prometheus_client",
        "structlog",
        "inotify_simple",
        "agentd.check",
        "agentd.daemon",
        "agentd.embedding",
        "agentd.session",
        "agentd.supervisor",
        "agentd.podman",
        "agentd.audit",
    ]
)
FOR_HELP = frozenset({"rich", "markdown_it", "docstring_parser"})
FORBIDDEN = {
    ("--version",): OF_THE_DAEMON | FOR_HELP | {"cyclopts", "trio", "msgspec", "typing"},
    ("run", "--version"): OF_THE_DAEMON | FOR_HELP | {"cyclopts", "trio", "msgspec"},
    ("--help",): OF_THE_DAEMON | {"trio", "msgspec", "agentd.client"},
    ("run", "--help"): OF_THE_DAEMON,
    ("run", "a", *AT_ABSENT): OF_THE_DAEMON | FOR_HELP,
    ("ps", *AT_ABSENT): OF_THE_DAEMON | FOR_HELP,
    ("logs", "a", *AT_ABSENT): OF_THE_DAEMON | FOR_HELP,
    ("stop", "a", *AT_ABSENT): OF_THE_DAEMON | FOR_HELP,
    ("inspect", "a", *AT_ABSENT): OF_THE_DAEMON | FOR_HELP,
    ("agents", *AT_ABSENT): OF_THE_DAEMON | FOR_HELP,
    ("schedule", "a", *AT_ABSENT): OF_THE_DAEMON | FOR_HELP,
    ("metrics", *AT_ABSENT): OF_THE_DAEMON | FOR_HELP,
    ("status", *AT_ABSENT): OF_THE_DAEMON | FOR_HELP,
    ("reload", *AT_ABSENT): OF_THE_DAEMON | FOR_HELP,
    ("shutdown", *AT_ABSENT): OF_THE_DAEMON | FOR_HELP,
    ("audit", "verify", "--all", "--audit-root", "."): (
        OF_THE_DAEMON - {"agentd.audit"} | FOR_HELP | {"trio", "asyncio", "agentd.client"}
    ),
}
"""What each command must not import, by its words."""

IN_NO_TABLE = {"daemon", "check", "plan", "completion"}
"""Three do what the daemon does, and the last asks every command what its words are."""


@pytest.mark.parametrize("words", FORBIDDEN, ids=" ".join)
def test_a_command_imports_nothing_that_it_does_not_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Design D18."""
    monkeypatch.chdir(tmp_path)
    found = imported(*words)
    assert "agentd.cli" in found
    assert FORBIDDEN[words] & found == set()


def test_every_command_is_in_the_table_of_what_is_imported() -> None:
    assert {words[0] for words in FORBIDDEN} | IN_NO_TABLE >= COMMANDS.keys()


def test_importing_the_package_imports_nothing_slow() -> None:
    found = python("import agentd, sys; print(*sys.modules, file=sys.stderr)").err.split()
    assert not {"trio", "msgspec", "httpx", "cyclopts"} & set(found)


def test_every_public_name_can_be_imported() -> None:
    program = "import agentd\nfor name in agentd.__all__: print(name, getattr(agentd, name))"
    assert len(python(program).out.splitlines()) == len(package.__all__)


@pytest.mark.contract("SES-42")
@pytest.mark.parametrize("platform", ["darwin", "win32", "freebsd14"])
def test_other_platforms_are_refused_by_name(platform: str) -> None:
    result = python(f"import sys; sys.platform = {platform!r}; import agentd")
    assert result.status != 0
    assert f"agentd runs on Linux only, and this is {platform}" in result.err


# --- how words are read --------------------------------------------------------------------------


@pytest.mark.contract("CLI-01", "CLI-02", "CLI-03")
@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ([], ["daemon"]),
        (["--config", "x"], ["daemon", "--config", "x"]),
        (["--config=x"], ["daemon", "--config=x"]),
        (["--config", "x", "daemon"], ["daemon", "--config", "x"]),
        (["daemon", "--config", "x"], ["daemon", "--config", "x"]),
        (["run", "a"], ["run", "a"]),
        (["run", "--config", "x"], ["run", "--config", "x"]),
        (["help"], ["--help"]),
        (["help", "run"], ["run", "--help"]),
    ],
)
def test_shorthands_are_written_out(words: list[str], meant: list[str]) -> None:
    assert normalized(words) == meant


@pytest.mark.contract("CLI-04")
@pytest.mark.parametrize(
    "words",
    [
        ["--config", "x", "daemon", "--config", "y"],
        ["--config=x", "daemon", "--config=y"],
        ["--config", "x", "--config", "y"],
    ],
)
def test_one_configuration_is_enough(words: list[str]) -> None:
    with pytest.raises(UsageError, match="--config may be provided only once"):
        normalized(words)


@pytest.mark.contract("CLI-04", "CLI-05", "CLI-06", "CLI-13", "CLI-14", "CLI-28", "F-48")
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--config", "x", "daemon", "--config", "y"), ["--config may be provided only once"]),
        (("daemon", "--config", "x", "--config", "y"), ["--config"]),
        (("--config", "x", "run", "a"), ["--config is only supported for daemon mode", "run"]),
        (("--config",), ["--config"]),
        (("run", "a", "--config", "x"), ["--config"]),
        (("run",), ["AGENT"]),
        (("run", "a", "b", "c", "d e"), ["too many words: 'c' 'd e'; quote"]),
        (("nope",), ["nope"]),
        (("--nope",), ["--nope"]),
        (("run", "a", "--nope"), ["--nope"]),
        (("run", "a", "--agent", "b"), ["--agent"]),
        (("run", "a", "--no-quiet"), ["--no-quiet"]),
        (("run", "a", "--request"), ["--request"]),
        (("run", "a", "--work-unit", "1", "--request", "x"), ["--work-unit", "--request"]),
        (
            ("run", "a", "--work-unit", "1", "--artifact-type", "t", "--artifact-file", "f"),
            ["--work-unit", "--artifact-file"],
        ),
        (
            ("run", "a", "--request", "x", "--artifact-type", "t", "--artifact-file", "f"),
            ["--request", "--artifact-file"],
        ),
        (("run", "a", "--artifact-file", "f"), ["--artifact-type"]),
        (("run", "a", "--artifact-type", "t"), ["--artifact-file"]),
        (("run", "a", "--request", "x", "--artifact-type", "t"), ["--artifact-type"]),
        (("run", "a", "--work-unit", "x", "--artifact-type", "t"), ["--artifact-type"]),
        (("run", "a", "--work-unit", "", "--request", ""), ["--work-unit", "--request"]),
    ],
)
def test_errors_of_use_exit_two_and_name_what_is_wrong(
    capfd: pytest.CaptureFixture[str], words: tuple[str, ...], named: list[str]
) -> None:
    status = run_command_line(list(words))
    printed = capfd.readouterr()
    assert (status, printed.out) == (2, "")
    assert [word for word in named if word not in printed.err] == []


@pytest.mark.contract("CLI-28")
def test_an_error_of_use_is_one_line_of_the_process() -> None:
    result = agentd("run", "a", "--no-such-flag")
    assert (result.status, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1


# --- where the daemon is -------------------------------------------------------------------------


@pytest.mark.contract("RTP-07")
@pytest.mark.parametrize("environ", [{}, {"XDG_RUNTIME_DIR": ""}, {"XDG_RUNTIME_DIR": "run"}])
def test_without_a_place_for_the_socket_both_ways_out_are_named(environ: dict[str, str]) -> None:
    result = agentd("run", "a", **environ)
    assert result.status != 0
    assert "XDG_RUNTIME_DIR" in result.err
    assert "--socket-path" in result.err


@pytest.mark.contract("CLI-25", "RTP-06")
def test_no_daemon_is_one_line_with_the_default_socket(tmp_path: Path) -> None:
    result = agentd("run", "a", XDG_RUNTIME_DIR=str(tmp_path))
    assert (result.status, result.out) == (6, "")
    place = tmp_path / "agentd/agentd.sock"
    assert result.err.startswith(f"agentd: agentd is not running (socket {place})")
    assert len(result.err.splitlines()) == 1


@pytest.mark.contract("RTP-05")
def test_a_socket_that_is_named_is_used_as_typed() -> None:
    assert "(socket absent.sock)" in agentd("run", "a", "--socket-path", "absent.sock").err


@pytest.mark.contract("CLI-26", "CFG-44")
def test_a_configuration_that_is_not_there_ends_the_daemon_with_one_line() -> None:
    result = agentd("--config", "/nonexistent/agentd.toml")
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith("agentd: failed to read config: /nonexistent/agentd.toml: ")
    assert len(result.err.splitlines()) == 1


@pytest.mark.contract("CLI-26", "CFG-44")
def test_a_usual_configuration_that_is_not_there_is_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = tmp_path / "agentd.toml"
    monkeypatch.setattr(default_config, "DEFAULT_CONFIG", absent)
    with pytest.raises(ConfigError, match=f"there is no {absent}; .* --config"):
        default_config.check_default(absent)
    default_config.check_default(tmp_path / "named.toml")
    absent.touch()
    default_config.check_default(absent)


@pytest.mark.skipif(
    not default_config.is_missing(default_config.DEFAULT_CONFIG),
    reason="this machine has a configuration",
)
@pytest.mark.contract("CLI-26")
@pytest.mark.parametrize("words", [(), ("daemon",), ("plan", "a")])
def test_a_command_without_a_configuration_names_the_option(words: tuple[str, ...]) -> None:
    result = agentd(*words)
    assert (result.status, result.out) == (1, "")
    assert "name the daemon's with --config" in result.err


@pytest.mark.contract("CLI-27")
def test_a_client_command_does_not_care_how_it_should_log(answering: Any) -> None:
    answering(wire.Sessions(sessions=()))
    result = agentd("ps", *AT, AGENTD_LOG="loudly", AGENTD_LOG_FORMAT="xml")
    assert (result.status, result.err) == (0, "")


# --- artifact files ------------------------------------------------------------------------------


@pytest.mark.contract("CLI-18", "CLI-16")
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.json", None, "failed to read artifact file {path}: No such file or directory"),
        ("a.json", b"\xff", "artifact file must be valid UTF-8 JSON: {path}"),
        ("a.json", b"{", "artifact file must contain valid JSON {path}: "),
        ("a.json", b"", "artifact file must contain valid JSON {path}: "),
        ("a.json", b"NaN", "artifact file must contain valid JSON {path}: "),
        ("a.json", b"[" * 100_000, "artifact file must contain valid JSON {path}: "),
    ],
)
def test_problems_of_an_artifact_are_told_before_anybody_is_asked(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    words = ("--artifact-type", "t", "--artifact-file", str(path))
    result = agentd("run", "a", "--socket-path", str(tmp_path / "absent"), *words)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("agentd: " + message.format(path=path))


@pytest.mark.contract("CLI-18")
@pytest.mark.parametrize("name", ["", "/", ".", b"\xff.json"])
def test_a_file_without_a_name_is_refused(name: str | bytes) -> None:
    words = ("--artifact-type", "t", "--artifact-file", name)
    result = agentd("run", "a", "--socket-path", "/absent", *words)
    assert result.status == 2
    assert "must have a non-empty UTF-8 file stem" in result.err


@pytest.mark.contract("RTP-10")
def test_the_socket_is_resolved_before_the_artifact_is_read() -> None:
    result = agentd("run", "a", "--artifact-type", "t", "--artifact-file", "/nonexistent/x")
    assert "XDG_RUNTIME_DIR" in result.err
    assert "artifact" not in result.err


# --- runs ----------------------------------------------------------------------------------------

RUN = ("run", "a", "--socket-path", "agentd.sock")


@pytest.mark.contract("CLI-11", "CLI-12", "CLI-15", "RTP-08")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), {}),
        (("https://h/x",), {"repo_url": "https://h/x"}),
        (("--work-unit", "42"), {"work_unit": "42"}),
        (("--request", "- fix this"), {"input": wire.TextInput(description="- fix this")}),
        (("--request=--fix"), {"input": wire.TextInput(description="--fix")}),
        (("--request", ' a\n"b" '), {"input": wire.TextInput(description=' a\n"b" ')}),
        (("--request", ""), {"input": wire.TextInput(description="")}),
        (("--timeout", "1h30m"), {"timeout": 5400.0}),
    ],
)
def test_what_is_asked_for_reaches_the_daemon_unchanged(
    answering: Any, words: tuple[str, ...] | str, expected: dict[str, Any]
) -> None:
    daemon = answering(finished(from_exit_code(0)))
    result = agentd(*RUN, *([words] if isinstance(words, str) else words))
    assert result.status == 0, result
    assert daemon.request == wire.Run(agent="a", **expected)


@pytest.mark.contract("CLI-16", "CLI-17", "F-50")
@pytest.mark.parametrize(
    ("name", "artifact_id"),
    [("request.json", "request"), ("a.b.json", "a.b"), (".json", ".json"), ("plain", "plain")],
)
def test_an_artifact_is_named_as_its_file_and_sent_as_it_is(
    answering: Any, tmp_path: Path, name: str, artifact_id: str
) -> None:
    content = b'{ "b": 1.0e2, "a": 1 }\n'
    (tmp_path / name).write_bytes(content)
    daemon = answering(finished(from_exit_code(0)))
    agentd(*RUN, "--artifact-type", "t", "--artifact-file", str(tmp_path / name))
    assert daemon.request == wire.Run(
        agent="a",
        input=wire.ArtifactInput(artifact_type="t", artifact_id=artifact_id, document=content),
    )


@pytest.mark.contract("CLI-19", "CLI-20", "CLI-21", "CLI-22", "CLI-23")
@pytest.mark.parametrize(
    ("outcome", "status", "out", "err"),
    [
        (from_exit_code(0), 0, "session success\n", ""),
        (from_exit_code(3), 0, "session blocked\n", ""),
        (from_exit_code(4), 0, "session nothing_ready\n", ""),
        (from_exit_code(23), 23, "", "session generic_failure (exit code 23)\n"),
        (
            from_exit_code(130),
            130,
            "",
            "session terminated_by_signal (exit code 130, signal 2)\n",
        ),
        (TIMED_OUT, 124, "", "session timed out\n"),
    ],
)
def test_a_quiet_run_is_its_last_line_alone(
    answering: Any, outcome: Outcome, status: int, out: str, err: str
) -> None:
    accepted = wire.Accepted(session_id="s", record="/r")
    output = wire.Output(stream="stdout", data=b"work\n")
    answering(accepted, output, finished(outcome))
    result = agentd(*RUN, "--quiet")
    assert (result.status, result.out, result.err) == (status, out, err)


@pytest.mark.contract("CLI-19", "F-54")
def test_output_goes_where_the_agent_wrote_it(answering: Any) -> None:
    answering(
        wire.Accepted(session_id="s", record="/r"),
        wire.Output(stream="stdout", data=b"out\n"),
        wire.Output(stream="stderr", data=b"err\n"),
        finished(from_exit_code(0)),
    )
    result = agentd(*RUN)
    assert result.out == "out\nsession success\n"
    assert result.err == "agentd: session s, record /r\nerr\n"


@pytest.mark.parametrize("words", [("--detach",), ("-d",)])
def test_a_detached_run_is_its_id(answering: Any, words: tuple[str, ...]) -> None:
    daemon = answering(wire.Accepted(session_id="s", record="/r"))
    result = agentd(*RUN, *words)
    assert daemon.request == wire.Run(agent="a", detach=True)
    assert (result.status, result.out) == (0, "s\n")
    assert result.err == "agentd: session s, record /r\n"


def test_a_detached_run_that_waits_says_where(answering: Any) -> None:
    answering(wire.Queued(session_id="s", position=2))
    result = agentd(*RUN, "--detach")
    assert (result.status, result.out) == (0, "s\n")
    assert result.err == "agentd: session s is number 2 in the queue\n"


def test_what_a_detached_run_waits_for_is_told(answering: Any) -> None:
    answering(wire.Progress(text="pulling"), wire.Accepted(session_id="s", record="/r"))
    result = agentd(*RUN, "--detach")
    assert (result.status, result.out) == (0, "s\n")
    assert result.err == "agentd: pulling\nagentd: session s, record /r\n"


@pytest.mark.parametrize("text", ["0s", "soon", "-1h"])
def test_a_timeout_that_is_none_is_refused_before_anything_is_asked(text: str) -> None:
    result = agentd(*RUN, "--timeout", text)
    assert (result.status, "--timeout" in result.err) == (2, True)


@pytest.mark.contract("SES-29")
def test_what_could_not_be_cleaned_up_is_no_success(answering: Any) -> None:
    answering(finished(from_exit_code(0), "container removal: stuck"))
    result = agentd(*RUN, "--quiet")
    assert (result.status, result.out) == (6, "")
    assert "container removal: stuck" in result.err


@pytest.mark.contract("CLI-24", "DSP-01")
def test_an_error_of_the_daemon_is_printed_with_its_own_status(answering: Any) -> None:
    answering(wire.Failed(code="unknown_agent", message="unknown agent 'a'"))
    result = agentd(*RUN)
    assert (result.status, result.out, result.err) == (2, "", "agentd: unknown agent 'a'\n")


def test_an_error_moves_nothing_on_a_terminal(answering: Any) -> None:
    answering(wire.Failed(code="podman_failed", message="bad \x1b[2J\x9bm\nname"))
    assert agentd(*RUN).err == "agentd: bad \\x1b[2J\\x9bm\nagentd: name\n"


@pytest.mark.contract("CLI-15", "CLI-28")
@pytest.mark.parametrize(
    "words",
    [
        (b"\xff",),
        ("a", b"\xff"),
        ("a", "--request", b"\xff"),
        ("a", "--work-unit", b"\xff"),
    ],
)
def test_words_that_are_no_text_are_an_error_of_use(
    answering: Any, words: tuple[str | bytes, ...]
) -> None:
    answering(finished(from_exit_code(0)))
    result = agentd("run", *words, "--socket-path", "agentd.sock")
    assert result.status == 2
    assert "Traceback" not in result.err


# --- ps, logs, stop ------------------------------------------------------------------------------

AT = ("--socket-path", "agentd.sock")


@pytest.mark.contract("F-53")
def test_ps_is_a_table_of_the_live_sessions(answering: Any) -> None:
    answering(wire.Sessions(sessions=(SESSION_INFO,)))
    result = agentd("ps", *AT)
    assert (result.status, result.err) == (0, "")
    assert [line.split()[0] for line in result.out.splitlines()] == [
        "SESSION",
        SESSION_INFO.session_id,
    ]


@pytest.mark.contract("F-53")
@pytest.mark.parametrize("past", [False, True])
def test_ps_of_an_agent_asks_for_its_sessions_alone(answering: Any, past: bool) -> None:
    daemon = answering(wire.Sessions(sessions=()))
    assert agentd("ps", *(["-a"] if past else []), "--agent", "builder", *AT).status == 0
    assert daemon.request == wire.ListSessions(agent="builder", past=past)


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_what_is_known_of_a_session_is_json_with_and_without_saying_so(
    answering: Any, words: tuple[str, ...]
) -> None:
    answering(wire.Inspected(record="/r", state="closed", facts={"outcome": "success"}))
    result = agentd("inspect", "01", *words, *AT)
    assert json.loads(result.out) == {"record": "/r", "state": "closed", "outcome": "success"}


@pytest.mark.contract("CLI-28")
@pytest.mark.parametrize("words", [("logs",), ("inspect",), ("stop",)])
def test_a_beginning_that_fits_more_than_one_session_is_an_error_of_use(
    answering: Any, words: tuple[str, ...]
) -> None:
    text = "'01' fits 2 sessions: 0123456789abcdef, 0123456789abcdee, …"
    answering(wire.Failed(code="unknown_session", message=text))
    result = agentd(*words, "01", *AT)
    assert (result.status, result.out, result.err) == (2, "", f"agentd: {text}\n")


@pytest.mark.contract("CLI-28")
@pytest.mark.parametrize("command", ["logs", "inspect", "stop"])
def test_an_id_that_no_session_can_have_is_an_error_of_use(command: str) -> None:
    result = agentd(command, "f" * 1025, *AT)
    assert result.status == 2
    assert result.err == "agentd: session: Expected `str` of length <= 1024\n"


@pytest.mark.contract("F-53")
@pytest.mark.parametrize(
    ("words", "follow"), [(("logs", "01"), False), (("logs", "-f", "01"), True)]
)
def test_logs_are_shown_as_they_were_written(
    answering: Any, words: tuple[str, ...], follow: bool
) -> None:
    daemon = answering(
        wire.Output(stream="stdout", data=b"out\n"),
        wire.Output(stream="stderr", data=b"err\n"),
        wire.EndOfOutput(),
    )
    result = agentd(*words, *AT)
    assert (result.status, result.out, result.err) == (0, "out\n", "err\n")
    assert daemon.request == wire.Logs(session="01", follow=follow)


@pytest.mark.contract("F-53")
def test_what_of_the_logs_is_wanted_reaches_the_daemon(answering: Any) -> None:
    daemon = answering(wire.EndOfOutput())
    words = ("--tail", "0", "--since", "2026-08-20T14:00+02:00", "--timestamps", "--stderr")
    assert agentd("logs", "01", *words, *AT).status == 0
    assert daemon.request == wire.Logs(
        session="01", stream="stderr", since=NOON, tail=0, timestamps=True
    )


@pytest.mark.contract("F-53")
def test_a_duration_says_how_long_ago_the_oldest_line_may_be(answering: Any) -> None:
    daemon = answering(wire.EndOfOutput())
    before = datetime.datetime.now(datetime.UTC)
    agentd("logs", "01", "--since", "1h30m", *AT)
    asked = daemon.request.since + datetime.timedelta(minutes=90)
    assert before <= asked <= datetime.datetime.now(datetime.UTC)


@pytest.mark.parametrize("words", [(), ("--stdout", "--stderr")])
def test_both_streams_are_shown_unless_one_is_named(answering: Any, words: tuple[str, ...]) -> None:
    daemon = answering(wire.EndOfOutput())
    agentd("logs", "01", *words, *AT)
    assert daemon.request == wire.Logs(session="01")


@pytest.mark.contract("F-53")
def test_the_time_of_a_line_stands_before_it(answering: Any) -> None:
    answering(
        wire.Output(stream="stdout", data=b"half ", time="2026-08-20T12:00:00Z"),
        wire.Output(stream="stdout", data=b"a line\n"),
        wire.EndOfOutput(),
    )
    assert agentd("logs", "01", "-f", *AT).out == "2026-08-20T12:00:00Z half a line\n"


@pytest.mark.contract("CLI-28")
@pytest.mark.parametrize(
    "words",
    [
        ("--tail", "-1"),
        ("--tail", "100000000000000000000"),
        ("--tail", "some"),
        ("--since", "yesterday"),
        ("--since", "2026-08-20T12:00"),
    ],
)
def test_a_choice_that_is_none_is_an_error_of_use(words: tuple[str, ...]) -> None:
    result = agentd("logs", "01", *words, *AT)
    assert (result.status, words[0] in result.err) == (2, True)


@pytest.mark.contract("F-53")
@pytest.mark.parametrize(
    ("words", "grace"),
    [
        ((), 30.0),
        (("--grace", "2m"), 120.0),
        (("--grace", "500ms"), 0.5),
        (("--grace", "0s"), 0.0),
        (("--grace", "0"), 0.0),
    ],
)
def test_stop_asks_with_a_grace(answering: Any, words: tuple[str, ...], grace: float) -> None:
    daemon = answering(finished(from_exit_code(130)))
    assert agentd("stop", "01", *words, *AT).status == 0
    assert daemon.request == wire.Stop(session="01", grace_seconds=grace)


@pytest.mark.contract("F-53")
def test_what_goes_wrong_with_one_of_several_sessions_names_it(answering: Any) -> None:
    answering(wire.Failed(code="audit_failed", message="the disk is full"), connections=2)
    result = agentd("stop", "01", "02", *AT)
    assert result.status == 6
    assert sorted(result.err.splitlines()) == [
        f"agentd: {session}: the disk is full" for session in ("01", "02")
    ]


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (("run", "a"), "--timeout"),
        (("logs", "01"), "--since"),
        (("stop", "01"), "--grace"),
        (("status",), "--wait"),
        (("audit", "prune", "--audit-root", "."), "--older-than"),
    ],
)
def test_a_length_of_time_has_a_unit_wherever_it_is_said(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    option: str,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nonexistent")
    assert run_command_line([*command, option, "30"]) == 2
    assert f"{option}: '30' is no" in capfd.readouterr().err


@pytest.mark.parametrize("grace", ["", "-1s", "soon", "25h", "1"])
def test_a_grace_that_is_none_is_an_error_of_use(grace: str) -> None:
    result = agentd("stop", "01", f"--grace={grace}", *AT)
    assert (result.status, result.out) == (2, "")
    assert "--grace" in result.err


@pytest.mark.contract("SES-29")
def test_a_stopped_session_that_could_not_be_cleaned_up_is_an_error(answering: Any) -> None:
    answering(finished(from_exit_code(137), "container removal: stuck"))
    result = agentd("stop", "01", *AT)
    assert (result.status, result.out) == (6, "")
    assert "container removal: stuck" in result.err


def test_a_session_that_was_stopped_before_it_began_was_stopped(answering: Any) -> None:
    words = "the session was stopped before its container was started"
    answering(
        wire.Accepted(session_id="s", record="/r"),
        wire.Failed(code="stopped_before_start", message=words, session_id="s"),
    )
    result = agentd("stop", "01", *AT)
    assert (result.status, result.out) == (0, f"{words}\n")


@pytest.mark.contract("SES-43")
def test_progress_of_a_run_is_shown_on_standard_error(answering: Any) -> None:
    answering(wire.Progress(text="pulling"), finished(from_exit_code(0)))
    assert agentd(*RUN).err == "agentd: pulling\n"


def test_a_reader_that_has_had_enough_ends_the_command_quietly(answering: Any) -> None:
    answering(wire.Output(stream="stdout", data=b"x\n"), wire.EndOfOutput())
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "agentd", "logs", "01", *AT],
            check=False,
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=SECONDS,
        )
    assert (done.returncode, done.stderr) == (141, b"")
