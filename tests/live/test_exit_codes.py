"""What a session's exit code is called, to its client and in its record."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from testbed.agentd_client import Ended
from testbed.agentd_process import Agentd, Table

pytestmark = pytest.mark.live

FINE = [(0, "success"), (3, "blocked"), (4, "nothing_ready")]
FAILURES = [
    (1, "generic_failure"),
    (2, "usage_error"),
    (5, "work_failed"),
    (6, "infrastructure_failure"),
    (23, "generic_failure"),
    (124, "generic_failure"),
    (125, "generic_failure"),
    (126, "command_not_executable"),
    (127, "command_not_found"),
    (128, "generic_failure"),
    (193, "generic_failure"),
    (200, "generic_failure"),
    (255, "generic_failure"),
]
SIGNALS = [(129, 1), (130, 2), (137, 9), (143, 15), (192, 64)]

RUNAS_OWN = [
    (6, "infrastructure_failure (exit code 6)"),
    (125, "generic_failure (exit code 125)"),
    (126, "command_not_executable (exit code 126)"),
    (127, "command_not_found (exit code 127)"),
    (128, "generic_failure (exit code 128)"),
    (130, "terminated_by_signal (exit code 130, signal 2)"),
    (137, "terminated_by_signal (exit code 137, signal 9)"),
    (143, "terminated_by_signal (exit code 143, signal 15)"),
    (200, "generic_failure (exit code 200)"),
    (255, "generic_failure (exit code 255)"),
]
RUNA = """\
#!/bin/sh
# A runa that ends as the work unit says: `runa run --work-unit CODE ...`.
[ "$1" != run ] || exit "$3"
"""


@pytest.fixture(scope="module")
def agentd(
    start_agentd: Callable[..., Agentd],
    declare: Callable[..., Table],
    faithful: Table,
    tmp_path_factory: pytest.TempPathFactory,
) -> Agentd:
    runa = tmp_path_factory.mktemp("runa") / "runa"
    runa.write_text(RUNA)
    runa.chmod(0o755)
    other_runa = {"source": str(runa), "target": "/usr/local/bin/runa", "read_only": True}
    kill_runa = ["/bin/sh", "-c", "kill -KILL $PPID"]
    # runa calls an agent that does not take its prompt a fault of the host.
    die = "cat >/dev/null; kill -KILL $$"
    return start_agentd(
        declare(),
        declare("runa", mounts=[other_runa]),
        faithful | {"name": "regicide", "command": {"argv": kill_runa}},
        faithful | {"name": "suicide", "command": {"argv": ["/bin/sh", "-c", die]}},
        declare("absent", command={"argv": ["/no/such/agent"]}),
        declare("unrunnable", command={"argv": ["/etc/passwd"]}),
    )


@pytest.mark.contract("CLI-19", "SES-32", "AUD-12")
@pytest.mark.parametrize(("code", "label"), FINE)
def test_a_fine_end_exits_0(agentd: Agentd, code: int, label: str) -> None:
    ended = agentd.client("worker", "--quiet", "--work-unit", f"exit {code}").wait()
    assert (ended.code, ended.stdout, ended.stderr) == (0, f"session {label}\n", "")


@pytest.mark.contract("CLI-20", "SES-32", "SES-33", "SES-34", "SES-36", "F-29", "B-23")
@pytest.mark.parametrize(("code", "label"), FAILURES)
def test_a_failure_exits_with_the_sessions_own_code(agentd: Agentd, code: int, label: str) -> None:
    ended = agentd.client("worker", "--quiet", "--work-unit", f"exit {code}").wait()
    line = f"session {label} (exit code {code})\n"
    assert (ended.code, ended.stdout, ended.stderr) == (code, "", line)


@pytest.mark.contract("CLI-21", "SES-33", "F-29")
@pytest.mark.parametrize(("code", "signal"), SIGNALS)
def test_an_end_by_a_signal_names_the_signal(agentd: Agentd, code: int, signal: int) -> None:
    ended = agentd.client("worker", "--quiet", "--work-unit", f"exit {code}").wait()
    line = f"session terminated_by_signal (exit code {code}, signal {signal})\n"
    assert (ended.code, ended.stdout, ended.stderr) == (code, "", line)


@pytest.mark.contract("SES-33")
@pytest.mark.parametrize(("signal", "code"), [("KILL", 137), ("TERM", 143), ("SEGV", 139)])
def test_an_agent_that_a_signal_ends_has_the_code_of_it(
    agentd: Agentd, signal: str, code: int
) -> None:
    assert agentd.script(f"kill -{signal} $$").wait().code == code


@pytest.fixture(scope="module")
def runas_own(agentd: Agentd) -> dict[int, Ended]:
    """Sessions whose runa ended with these codes itself, whatever its agent did; all at once."""
    clients = {code: agentd.script(str(code), "runa") for code, _ in RUNAS_OWN}
    return {code: client.wait() for code, client in clients.items()}


@pytest.mark.contract("SES-32", "SES-33", "SES-34", "SES-36", "F-29")
@pytest.mark.parametrize(("code", "end"), RUNAS_OWN)
def test_runas_own_codes_are_called_the_same(
    runas_own: dict[int, Ended], code: int, end: str
) -> None:
    ended = runas_own[code]
    assert (ended.code, ended.stderr.splitlines()[-1]) == (code, f"session {end}")


@pytest.mark.contract("SES-33")
def test_a_runa_that_a_signal_ends_has_the_code_of_it(agentd: Agentd) -> None:
    ended = agentd.run("regicide", "--request", "end it")
    line = "session terminated_by_signal (exit code 137, signal 9)"
    assert (ended.code, ended.stderr.splitlines()[-1]) == (137, line)


@pytest.mark.contract("B-16", "SES-32")
def test_an_agent_that_a_signal_ends_is_runas_to_judge(agentd: Agentd) -> None:
    ended = agentd.run("suicide", "--request", "end it")
    assert ended.stderr.splitlines()[-1] == "session work_failed (exit code 5)"


@pytest.mark.contract("AUD-12", "SES-32", "SES-33")
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, ("success", 0, None)),
        (3, ("blocked", 3, None)),
        (23, ("generic_failure", 23, None)),
        (143, ("terminated_by_signal", 143, 15)),
    ],
)
def test_the_record_says_how_it_ended(
    agentd: Agentd, code: int, expected: tuple[str, int, int | None]
) -> None:
    facts = agentd.script(f"exit {code}").wait().record.facts
    assert (facts["outcome"], facts["exit_code"], facts.get("signal")) == expected


@pytest.mark.contract("F-05", "SES-32")
@pytest.mark.parametrize(("agent", "code"), [("absent", 127), ("unrunnable", 126)])
def test_an_agent_that_cannot_be_started_says_why(agentd: Agentd, agent: str, code: int) -> None:
    assert agentd.run(agent).code == code


@pytest.mark.contract("DSP-20")
def test_the_end_of_a_run_is_one_line_in_the_log(agentd: Agentd) -> None:
    ended = agentd.script("exit 23").wait()
    completed = agentd.wait_for("agentd.run_completed", session_id=ended.session_id)
    shown = {key: completed[key] for key in ("level", "trigger", "outcome", "exit_code")}
    assert shown == {
        "level": "warning",
        "trigger": "manual",
        "outcome": "generic_failure",
        "exit_code": 23,
    }
