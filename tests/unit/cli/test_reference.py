"""docs/cli.md says what the program's own help says."""

from __future__ import annotations

import pytest

from agentd.cli import COMMANDS
from agentd.cli.app import build_app
from testbed import cli_reference


@pytest.mark.contract("CLI-11", "CLI-12")
def test_the_reference_of_the_command_line_is_what_the_program_says() -> None:
    written = cli_reference.FILE.read_text()
    assert written == cli_reference.reference(), "run ./dev reference, and commit docs/cli.md"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_has_a_meaning(name: str) -> None:
    root = build_app(name)
    app = root[name]
    for each in [app, *(app[sub] for sub in app if not sub.startswith("-"))]:
        if each.default_command is not None:
            arguments = each.assemble_argument_collection(parse_docstring=True)
            assert [one.name for one in arguments if one.show and not one.parameter.help] == []


def test_every_command_shows_an_example() -> None:
    sections = cli_reference.reference().split("\n## agentd ")[1:]
    without = [each.partition("\n")[0] for each in sections if "```sh\n" not in each]
    assert without == []
