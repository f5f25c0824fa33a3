"""Every command of agentd that README.md and docs/ show is executed as it stands there.

Only names are exchanged: of sessions, of the repository, of files, and of places that the tests
must not touch. What is no command of agentd, tests/unit/test_documents.py accounts for.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from testbed import documents
from testbed.agentd_client import AGENTD, Ended
from testbed.agentd_process import Agentd, Table
from testbed.documents import Command
from testbed.processes import SECONDS, Lines

pytestmark = pytest.mark.live

STARTS: Final = re.compile(r"agentd( daemon)?( --config \S+)?$")
"""What starts a daemon."""

ENDS: Final = re.compile(r"agentd shutdown\b")
"""What ends one."""

NEEDS_LIVE_SESSION: Final = re.compile(r"agentd stop\b")

READS_CONFIGURATION: Final = re.compile(r"agentd (audit|check|plan)\b")
"""Commands that read /etc/agentd/agentd.toml unless another place is named."""

SESSION: Final = re.compile(r"\b(?=\d*[a-f])(?=[a-f]*\d)[0-9a-f]{4,16}\b")
"""The id of a session, or its beginning: a hexadecimal word with a digit and a letter."""

COMMANDS: Final = [each for each in documents.commands() if each.line.startswith("agentd ")]


def as_executed(command: Command, session_id: str, repository: str, audit_root: Path) -> str:
    """The line of the document with the names of this machine."""
    line = SESSION.sub(session_id, command.line)
    line = re.sub(r"https://\S+\.example\.org/\S+|https://example\.org/\S+", repository, line)
    line = re.sub(r"--audit-root \S+", f"--audit-root {audit_root}", line)
    line = re.sub(r"--config \S+", "--config agentd.toml", line)
    line = re.sub(r"--artifact-file \S+", "--artifact-file request.json", line)
    line = re.sub(r"--output \S+/", "--output ", line)
    # Not what the operator has, and in a directory of the test that surely is there.
    line = re.sub(r"> ?[~/]\S*", ">redirected", line)
    if READS_CONFIGURATION.match(line) and not re.search("--config|--audit-root", line):
        line = re.sub(r"^agentd (audit )?\w+", r"\g<0> --config agentd.toml", line)
    return line


def chosen(*patterns: re.Pattern[str], other: bool = False) -> pytest.MarkDecorator:
    """The commands that one of the patterns fits, or with `other` those that none does.

    Those that differ only in names that are exchanged are one.
    """
    fitting = (each for each in COMMANDS if any(p.match(each.line) for p in patterns) is not other)
    found = {as_executed(each, "ID", "URL", Path("/audit")): each for each in fitting}
    return pytest.mark.parametrize("command", found.values(), ids=lambda each: each.line)


def shell(line: str, agentd: Agentd, stdout: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    """Start a line in a shell, beside the daemon's configuration."""
    environ = agentd.environ
    programs = f"{AGENTD.parent}:{agentd.base}:{environ['PATH']}"
    return subprocess.Popen(
        ["/bin/sh", "-euc", line],
        cwd=agentd.base,
        env={**environ, "HOME": str(agentd.base), "PATH": programs},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def executed(command: Command, agentd: Agentd, session_id: str, repository: str) -> Ended:
    line = as_executed(command, session_id, repository, agentd.audit_root)
    process = shell(line, agentd)
    out, err = process.communicate(timeout=SECONDS)
    return Ended(process.returncode, out.decode(), err.decode())


@pytest.fixture(scope="module")
def site_builder(declare: Callable[..., Table]) -> Table:
    return declare(
        "site-builder", schedule="@yearly", command={"argv": ["/bin/sh", "-c", "echo built"]}
    )


@pytest.fixture(scope="module")
def agentd(
    start_agentd: Callable[..., Agentd], declare: Callable[..., Table], site_builder: Table
) -> Agentd:
    agentd = start_agentd(site_builder, declare("code-reviewer"), declare("worker"))
    (agentd.base / "request.json").write_text(
        '{"description": "Add a status page", "source": "operator"}'
    )
    # Not on every machine, and not ours.
    jq = agentd.base / "jq"
    jq.write_text("#!/bin/sh\nexec cat\n")
    jq.chmod(0o755)
    return agentd


@pytest.fixture(scope="module")
def past(agentd: Agentd) -> str:
    """A session that has ended; its record stays whatever is pruned."""
    return agentd.run("site-builder").session_id


@pytest.fixture
def held(agentd: Agentd) -> Iterator[str]:
    """A session that goes on until somebody stops it."""
    client = agentd.script("trap 'exit 0' INT; echo ready; while :; do sleep 0.1; done")
    client.wait_for_line("ready")
    yield client.session_id
    if client.process.poll() is None:
        agentd.command("stop", client.session_id, "--grace", "0s").wait()
    client.wait()


@chosen(STARTS, ENDS, NEEDS_LIVE_SESSION, other=True)
def test_a_command_of_the_documents_does_what_it_should(
    command: Command, agentd: Agentd, past: str, repository: str
) -> None:
    done = executed(command, agentd, past, repository)
    assert done.code == command.exit_status, done


@chosen(NEEDS_LIVE_SESSION)
def test_a_command_of_the_documents_stops_a_session(
    command: Command, agentd: Agentd, held: str, repository: str
) -> None:
    done = executed(command, agentd, held, repository)
    assert (done.code, "has ended" in done.stdout) == (command.exit_status, True), done


@chosen(ENDS)
def test_a_command_of_the_documents_ends_the_daemon(
    command: Command, own_agentd: Agentd, site_builder: Table, repository: str
) -> None:
    own_agentd.configure(site_builder)
    own_agentd.start()
    done = executed(command, own_agentd, "", repository)
    assert (done.code, own_agentd.ended()) == (command.exit_status, 0), done


@chosen(STARTS)
def test_a_command_of_the_documents_starts_a_daemon(
    command: Command, own_agentd: Agentd, site_builder: Table, repository: str
) -> None:
    own_agentd.configure(site_builder)
    line = as_executed(command, "", repository, own_agentd.audit_root)
    # The shell gives its place to the daemon, which gets the signals then.
    own_agentd.process = shell(f"exec {line}", own_agentd, subprocess.DEVNULL)
    assert own_agentd.process.stderr is not None
    own_agentd.log = Lines(own_agentd.process.stderr)
    own_agentd.wait_for("agentd.daemon_started")
    assert own_agentd.drained() == command.exit_status


def test_the_commands_are_those_that_the_patterns_are_for() -> None:
    """A pattern that fits nothing would hide that its test executes nothing."""
    patterns = (STARTS, ENDS, NEEDS_LIVE_SESSION, READS_CONFIGURATION, SESSION)
    assert [
        pattern.pattern
        for pattern in patterns
        if not any(pattern.search(each.line) for each in COMMANDS)
    ] == []
