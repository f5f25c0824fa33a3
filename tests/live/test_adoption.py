"""A daemon that is killed at any step of a session: the next one brings it to one true record."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from testbed.agentd_client import Record
from testbed.agentd_process import Agentd, Table
from testbed.processes import wait_until

pytestmark = pytest.mark.live

SECRET = "kept-s3cret-4711"
WORK = "for i in 1 2 3; do echo line $i; done; printf '%s\\n' \"$KEY\"; exit 7"
EXPECTED = "line 1\nline 2\nline 3\n***\n"

# Steps before the agent runs: it is never started, or nobody can say that it was.
EARLY = (
    "agentd.audit:create:before",
    "agentd.session.masks:keep:after",
    "agentd.session.secret_files:SecretFiles.store:after",
    "agentd.podman.api:Podman.create:before",
    "agentd.podman.api:Podman.create:during",
    "agentd.podman.api:Podman.create:after",
    "agentd.podman.api:Podman.start:before",
)
# Steps after that: the session has the end that it earned.
LATE = (
    "agentd.podman.api:Podman.start:after",
    "agentd.session.secret_files:SecretFiles.release:before",
    "agentd.session.secret_files:SecretFiles.release:after",
    "agentd.audit:write_next:before",
    "agentd.audit:write_next:after",
    "agentd.podman.api:Podman.remove:before",
    "agentd.podman.api:Podman.remove:during",
    "agentd.podman.api:Podman.remove:after",
    "agentd.session.output_log:finish:before",
    "agentd.session.output_log:finish:after",
    "agentd.audit.closing:_close:before",
    "agentd.audit.closing:_close:after",
    "agentd.audit:close:after",
    "agentd.session.masks:forget:before",
)


@pytest.fixture
def agentd(own_agentd: Agentd, declare: Callable[..., Table]) -> Agentd:
    own_agentd.environ["ADOPTION_KEY"] = SECRET
    keyed = declare(credentials=[{"name": "KEY", "source": "ADOPTION_KEY"}])
    hasty = declare("hasty", timeout="2s")
    own_agentd.configure(keyed, hasty)
    return own_agentd


def killed_at(agentd: Agentd, step: str) -> None:
    """Run a session in a daemon that is killed at this step."""
    agentd.start_killed_at(step)
    agentd.script(WORK)
    assert agentd.ended() == -signal.SIGKILL


def records(agentd: Agentd) -> list[Record]:
    return [Record(path) for path in agentd.records()]


def closed(record: Record) -> bool:
    return "outcome" in record.facts


def settle(agentd: Agentd) -> None:
    """Start the next daemon, and wait until it has closed what the other left."""
    agentd.start()
    wait_until("every record is closed", lambda: all(map(closed, records(agentd))))
    wait_until("nothing is kept for masking", lambda: not agentd.masks())


@pytest.mark.contract("F-36", "DMN-15", "AUD-22")
@pytest.mark.parametrize("step", EARLY)
def test_a_session_that_never_ran_is_an_error_or_nothing(agentd: Agentd, step: str) -> None:
    killed_at(agentd, step)
    settle(agentd)
    found = [record.facts.get("error_code") for record in records(agentd)]
    assert found in ([], ["never_started"], ["container_vanished"])
    agentd.assert_nothing_left()


@pytest.mark.contract("F-36", "DMN-15", "AUD-22")
@pytest.mark.parametrize("step", LATE)
def test_a_session_that_ran_has_the_end_that_it_earned(agentd: Agentd, step: str) -> None:
    killed_at(agentd, step)
    settle(agentd)
    (record,) = records(agentd)
    facts = record.facts
    shown = (facts["outcome"], facts["exit_code"], facts["output"]["masked"])
    assert shown == ("generic_failure", 7, "masked")
    agentd.assert_nothing_left()
    assert agentd.command("logs", record.directory.name).wait().stdout.endswith(EXPECTED)
