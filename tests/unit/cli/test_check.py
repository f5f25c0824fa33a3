"""`agentd check` as far as no Podman is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agentd.check.finding import ok, warn
from agentd.cli.app import run_command_line
from agentd.cli.check import line, summary

SOUND = """\
[[agents]]
name = "worker"
base_image = "localhost/worker"
methodology_dir = "methodology"
command = { argv = ["work"] }
credentials = [{ name = "KEY", source = "NO_SUCH_VARIABLE_OF_THE_TESTS" }]
"""


class Told(NamedTuple):
    """What the command said and ended with."""

    status: int
    out: str
    err: str

    @property
    def checks(self) -> list[dict[str, Any]]:
        """The checks of the JSON document."""
        found: list[dict[str, Any]] = json.loads(self.out)["checks"]
        return found


class Machine:
    """Configurations, with a Podman that does not answer."""

    def __init__(self, base: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.base = base
        self.config = base / "agentd.toml"
        self._capfd = capfd

    def check(self, text: str, *words: str) -> Told:
        self.config.write_text(text)
        status = run_command_line(["check", "--config", str(self.config), *words])
        return Told(status, *self._capfd.readouterr())


@pytest.fixture
def machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Machine:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("CONTAINER_HOST", f"unix://{tmp_path}/absent.sock")
    return Machine(tmp_path, capfd)


@pytest.mark.contract("CFG-43")
def test_all_problems_of_a_configuration_are_told_and_end_the_check(machine: Machine) -> None:
    told = machine.check(SOUND.replace('argv = ["work"]', "argv = []") + "sort = 1\npull = 'x'\n")
    *lines, last = told.out.splitlines()
    assert (told.status, told.err) == (1, "")
    assert [each.split()[:2] for each in lines] == [["fail", "config"]] * 3
    assert all("; remedy: " in each for each in lines)
    assert last == "0 ok, 0 warn, 3 fail"


@pytest.mark.contract("RTP-02")
def test_without_runtime_paths_the_check_ends(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    told = machine.check(SOUND, "--json")
    (finding,) = told.checks
    assert (told.status, finding["status"]) == (1, "fail")
    assert "XDG_RUNTIME_DIR" in finding["text"] + finding["remedy"]


def test_an_unknown_agent_is_an_error_of_use(machine: Machine) -> None:
    told = machine.check(SOUND, "--agent", "other", "--json")
    assert (told.status, told.out) == (2, "")
    assert "unknown agent 'other'; declared are: worker" in told.err


def test_a_configuration_that_cannot_be_read_is_an_error_of_use(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status = run_command_line(["check", "--config", str(tmp_path / "absent.toml")])
    told = capfd.readouterr()
    assert (status, told.out) == (2, "")
    assert "absent.toml: No such file" in told.err


def test_without_podman_all_else_is_looked_at(machine: Machine) -> None:
    told = machine.check(SOUND, "--json")
    status = {each["name"]: each["status"] for each in told.checks}
    assert (told.status, told.err) == (1, "")
    assert (status["podman"], status["image"]) == ("fail", "warn")
    assert (status["methodology"], status["credential"], status["audit-root"]) == (
        *("fail", "fail"),
        "ok",
    )


def test_nothing_is_made_of_what_is_missing(machine: Machine) -> None:
    machine.check(SOUND)
    assert list(machine.base.iterdir()) == [machine.config]


def test_only_the_agent_that_is_named_is_looked_at(machine: Machine) -> None:
    told = machine.check(SOUND + SOUND.replace("worker", "other"), "--agent", "other", "--json")
    assert {each["agent"] for each in told.checks} == {None, "other"}


def test_a_check_of_the_document_has_all_its_fields(machine: Machine) -> None:
    told = machine.check(SOUND, "--json")
    assert {tuple(each) for each in told.checks} == {("name", "agent", "status", "text", "remedy")}
    assert all((each["remedy"] is None) == (each["status"] == "ok") for each in told.checks)


def test_a_check_is_one_line() -> None:
    finding = warn("linger", "it is\nso", "do\nthis", "worker")
    assert line(finding) == "warn  linger             worker: it is so; remedy: do this"
    assert line(ok("podman", "it is so")) == "ok    podman             it is so"


def test_what_an_image_says_moves_nothing_on_a_terminal() -> None:
    finding = warn("runa", "runa says \x1b[2J\x9b1mhello\u202e", "do \x07this", "worker")
    assert line(finding).isprintable()
    assert "runa says \\x1b[2J\\x9b1mhello\\u202e" in line(finding)


def test_the_summary_counts() -> None:
    findings = [ok("a", "x"), ok("b", "x"), warn("c", "x", "y")]
    assert summary(findings) == "2 ok, 1 warn, 0 fail"
