"""JSON by the letter: what other parsers could read in another way is refused."""

import pytest

from agentd.strict_json import parse_json


@pytest.mark.contract("INP-14")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"id": 1, "id": 1}', "the key 'id' occurs twice"),
        (b'{"a": [{"b": 1, "\\u0062": 2}]}', "the key 'b' occurs twice"),
        (b"NaN", "NaN is no JSON"),
        (b"[-Infinity]", "-Infinity is no JSON"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"\xff", "invalid start byte"),
        (b"1" * 5000, "4300 digits"),
        (b"{'a': 1}", "property name"),
        (b"[1,]", "Expecting value|trailing comma"),
        (b"1 // one", "Extra data"),
    ],
)
def test_what_is_ambiguous_or_no_json_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


@pytest.mark.contract("INP-14")
def test_equal_keys_of_different_objects_are_fine() -> None:
    assert parse_json(b'{"a": {"a": 1}, "b": [{"a": 2}, {"a": 3}]}\r\n') == {
        "a": {"a": 1},
        "b": [{"a": 2}, {"a": 3}],
    }
