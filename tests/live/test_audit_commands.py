"""`agentd audit` on the records of real sessions, while their daemon runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from testbed.agentd_client import HOLD, Ended
from testbed.agentd_process import Agentd, Table

pytestmark = pytest.mark.live

LITTER = r"""
mkdir -p .runa/deep/er && echo text >.runa/deep/er/file && ln .runa/deep/er/file .runa/second-name
ln -s /etc/passwd .runa/link
mkfifo .runa/fifo
touch "$(printf '.runa/not-utf8-\377')"
for mode in 000 111 444 700; do
    mkdir .runa/mode-$mode && echo $mode >.runa/mode-$mode/file && chmod $mode .runa/mode-$mode
done
"""


@pytest.fixture(scope="module")
def agentd(start_agentd: Callable[..., Agentd], declare: Callable[..., Table]) -> Agentd:
    return start_agentd(declare())


def audit(agentd: Agentd, *words: str) -> Ended:
    """Run `agentd audit` with the daemon's own configuration."""
    return agentd.command("audit", *words, "--config", str(agentd.config)).wait()


@pytest.mark.contract("F-27")
def test_the_record_of_a_session_verifies_until_somebody_changes_it(
    agentd: Agentd,
) -> None:
    ended = agentd.script(LITTER).wait()
    before = audit(agentd, "verify", ended.session_id)
    assert (before.code, before.stderr) == (0, ""), before
    file = ended.record.runa / "second-name"
    file.chmod(0o644)
    file.write_text("TEXT\n")
    file.chmod(0o444)
    after = audit(agentd, "verify", ended.session_id)
    problem = "has another content: its SHA-256 is "
    assert (after.code, after.stdout.count(problem)) == (1, 2), after


@pytest.mark.contract("AUD-22", "AUD-33", "F-59")
def test_a_pruning_beside_a_live_session_removes_only_what_has_ended(agentd: Agentd) -> None:
    past = agentd.script("mkdir -p .runa/a/b; echo x >.runa/a/b/c").wait()
    live = agentd.script(HOLD)
    live.wait_for_line("ready")
    pruned = audit(agentd, "prune", "--older-than", "1ms")
    assert (pruned.code, "left alone: 1 not closed" in pruned.stderr) == (0, True), pruned
    assert not past.record.directory.exists()
    live.record.release()
    assert live.wait().code == 0
    assert audit(agentd, "verify", live.session_id).code == 0
    gone = agentd.command("logs", past.session_id).wait()
    assert (gone.code, "there is no session" in gone.stderr) == (2, True), gone
