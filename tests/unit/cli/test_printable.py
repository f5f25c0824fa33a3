"""Text of others on a terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.cli.printable import printable, printable_json
from agentd.cli.tables import columns, json_line, print_json

# Surrogates stand for bytes that were no UTF-8.
TEXT = st.text(st.characters() | st.sampled_from("\x1b\x7f\x9b\r\u202e\u2066\udcff"))
HOSTILE = "\x1b]0;owned\x07\x9b2J\u202e"


@given(TEXT)
def test_nothing_in_it_does_anything_to_a_terminal(text: str) -> None:
    assert printable(text).isprintable()


@pytest.mark.parametrize("text", ["", "plain", "grün, 表", "a\\b"])
def test_what_can_be_seen_stays(text: str) -> None:
    assert printable(text) == text


def test_what_cannot_be_seen_is_named() -> None:
    assert printable("a\x1b[2J\u202eb\udcff") == r"a\x1b[2J\u202eb\udcff"


@given(st.recursive(TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)))
def test_a_json_document_means_what_it_meant(value: object) -> None:
    document = json.dumps(value, ensure_ascii=False, indent=2)
    shown = printable_json(document)
    assert json.loads(shown) == value
    assert all(line.isprintable() for line in shown.split("\n"))


def test_no_cell_of_a_table_is_more_than_text() -> None:
    shown = columns([("A", "B"), (HOSTILE, "x")])
    assert shown.replace("\n", "").isprintable()
    heading, line = shown.split("\n")
    assert heading.index("B") == line.rindex("x") == len(printable(HOSTILE)) + 2


def test_no_json_is_more_than_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"error": HOSTILE})
    print(json_line({"error": HOSTILE}))
    shown = capsys.readouterr().out
    assert shown.replace("\n", "").isprintable()
    first, second = shown.split("}\n{")
    assert json.loads(first + "}") == json.loads("{" + second) == {"error": HOSTILE}
