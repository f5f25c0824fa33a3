"""Completion: bash is asked, as a user would; zsh and fish are not on every machine."""

from __future__ import annotations

import subprocess

import pytest

from agentd.cli import COMMANDS
from agentd.cli.completion import completion

ASK = """\
. "$1"
COMP_WORDS=($2)
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_agentd
echo "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("agentd sch", {"schedule"}),
        ("agentd run --work", {"--work-unit"}),
        ("agentd audit pru", {"prune"}),
    ],
)
def test_bash_offers_what_there_is(
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
    typed: str,
    offered: set[str],
) -> None:
    assert completion("bash") == 0
    script = tmp_path_factory.mktemp("bash") / "agentd"
    script.write_text(capsys.readouterr().out)
    asked = ["bash", "-c", ASK, "bash", str(script), typed]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_hear_of_every_command(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    completion(shell)  # type: ignore[arg-type]
    printed = capsys.readouterr().out
    assert [name for name in COMMANDS if name not in printed] == []
