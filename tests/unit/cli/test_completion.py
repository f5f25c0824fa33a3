"""Completion: each shell is asked, as a user would."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agentd.cli import COMMANDS
from agentd.cli.completion import completion

SECONDS = 30.0
BASH = """\
. "$1"
COMP_WORDS=($2)
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_agentd
echo "${COMPREPLY[@]}"
"""
FISH = "source $argv[1]; complete -C $argv[2]"
# zsh completes for somebody at a terminal alone.
ZSH = """\
zmodload zsh/zpty
zpty shell zsh -d -i
zpty -w -n shell "$2"$'\\t\\n'
zpty -r shell seen '*<*>*'
print -r -- $seen
zpty -d shell
"""
ZSHRC = """\
PS1=
fpath=("$ZDOTDIR" $fpath)
autoload -U compinit
compinit -u -D
agentd() { print -r -- "<$*>" }
"""
OFFERED = [
    ("agentd sch", "schedule"),
    ("agentd run --work", "--work-unit"),
    ("agentd audit pru", "prune"),
]
ANSWERS = {
    "bash": ("bash", "-c", BASH, "bash"),
    "fish": ("fish", "--no-config", "-c", FISH),
    "zsh": ("zsh", "-f", "-c", ZSH, "zsh"),
}
"""How each shell is asked, with the file of the completion and what was typed behind it."""

SHELLS = [
    pytest.param(
        shell, marks=pytest.mark.skipif(shutil.which(shell) is None, reason=f"no {shell} is here")
    )
    for shell in ANSWERS
]


@pytest.fixture
def script(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """Puts a shell's completion where that shell looks for it."""

    def written(shell: str) -> Path:
        assert completion(shell) == 0  # type: ignore[arg-type]
        file = tmp_path / "_agentd"
        file.write_text(capsys.readouterr().out)
        (tmp_path / ".zshrc").write_text(ZSHRC)
        return file

    monkeypatch.setenv("ZDOTDIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "dumb")
    return written


def asked(*words: str | Path) -> str:
    done = subprocess.run(
        words,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "80"},
        timeout=SECONDS,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("typed", "offered"), OFFERED)
def test_a_shell_offers_what_there_is(
    script: Callable[[str], Path], shell: str, typed: str, offered: str
) -> None:
    assert offered not in typed
    assert offered in asked(*ANSWERS[shell], script(shell), typed)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_sound(script: Callable[[str], Path], shell: str) -> None:
    assert asked(shell, "-n", script(shell)) == ""


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_knows_every_command(script: Callable[[str], Path], shell: str) -> None:
    text = script(shell).read_text()
    assert [name for name in COMMANDS if name not in text] == []


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh is here")
def test_zsh_may_also_be_given_the_script_by_source(script: Callable[[str], Path]) -> None:
    program = 'autoload -U compinit; compinit -u -D; source "$1"; whence -w $_comps[agentd]'
    assert asked("zsh", "-f", "-c", program, "zsh", script("zsh")).endswith(": function\n")
