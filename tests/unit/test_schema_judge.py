"""Which documents a schema admits, which schemas can be used, and that nothing is fetched."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from agentd.schema_check import Question, Verdict
from agentd.schema_judge import DIALECTS, MAX_TEXT, judge


def verdict(schema: Any, document: Any = 1) -> Verdict:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return judge(Question(json.dumps(schema).encode(), content))


def unusable(schema: Any, document: Any = 1) -> str:
    found = verdict(schema, document)
    assert found.fault == "schema", found
    return found.text


def admits(schema: Any, document: Any) -> bool:
    found = verdict(schema, document)
    assert found.fault in {None, "mismatch"}, found
    return found.fault is None


# --- dialects ------------------------------------------------------------------------------------


@pytest.mark.contract("INP-14")
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nope"},
        {"multipleOf": 0},
        {"pattern": "("},
        {"$ref": "#/nowhere"},
        {"$ref": "#nowhere"},
        {"$ref": "#"},
        {"$ref": 5},
        {"$ref": "#/title", "title": "no schema"},
        {"$id": 5},
        {"$id": "http://[bad", "$ref": "x"},
        {"$schema": 5},
        {"$schema": []},
        {"$schema": ""},
        {"$schema": "http://[bad"},
        [],
        "text",
        5,
        None,
    ],
    ids=json.dumps,
)
def test_a_schema_that_can_judge_nothing_is_unusable(schema: Any) -> None:
    unusable(schema)


@pytest.mark.contract("INP-14")
@pytest.mark.parametrize("admitting", [True, False])
def test_a_boolean_is_a_schema(admitting: bool) -> None:
    assert admits(admitting, []) is admitting


@pytest.mark.contract("INP-14")
@pytest.mark.parametrize("fragment", ["", "#"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_known_dialect_can_be_named(dialect: str, fragment: str) -> None:
    assert admits({"$schema": dialect + fragment, "type": "integer"}, 1)


@pytest.mark.contract("INP-14")
def test_the_dialect_is_the_one_that_the_schema_names() -> None:
    """`exclusiveMinimum` was a boolean in draft 4 and is a number since."""
    schema = {"minimum": 5, "exclusiveMinimum": True}
    draft4 = {"$schema": "http://json-schema.org/draft-04/schema#", **schema}
    assert (admits(draft4, 6), admits(draft4, 5)) == (True, False)
    assert "is not of type 'number'" in unusable(schema)


@pytest.mark.contract("INP-14")
@pytest.mark.parametrize(
    "dialect",
    [
        "https://json-schema.org/draft/2099-01/schema",
        "https://json-schema.org/draft-07/schema",
        "https://example.org/my-dialect",
        "urn:example:dialect",
    ],
)
def test_an_unknown_dialect_is_refused_by_name(dialect: str) -> None:
    assert f"its $schema '{dialect}' is no dialect that agentd knows" in unusable(
        {"$schema": dialect}
    )


@pytest.mark.contract("INP-14")
def test_a_format_is_a_remark() -> None:
    assert admits({"format": "date"}, "no date")


# --- references ----------------------------------------------------------------------------------


@pytest.mark.contract("INP-14")
@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {"n": {"type": "number"}}, "$ref": "#/$defs/n"},
        {"$defs": {"n": {"$anchor": "a", "type": "number"}}, "$ref": "#a"},
        {"$defs": {"n": {"$dynamicAnchor": "a", "type": "number"}}, "$dynamicRef": "#a"},
        {"$defs": {"n": {"$id": "http://h/n", "type": "number"}}, "$ref": "http://h/n"},
        {"$id": "urn:u", "$defs": {"n": {"type": "number"}}, "$ref": "urn:u#/$defs/n"},
        {"$id": "http://h/x/", "$defs": {"n": {"$id": "y", "type": "number"}}, "$ref": "y"},
    ],
    ids=json.dumps,
)
def test_references_within_the_schema_work(schema: Any) -> None:
    assert (admits(schema, 1), admits(schema, "x")) == (True, False)


@pytest.mark.contract("INP-14")
def test_a_metaschema_is_at_hand() -> None:
    schema = {"$ref": DIALECTS[0]}
    assert (admits(schema, {"type": "number"}), admits(schema, {"type": 5})) == (True, False)


class Network:
    """What Python is asked to do with sockets while it is watched."""

    def __init__(self) -> None:
        self.watched = False
        self.asked: list[str] = []

    def hook(self, event: str, _args: object) -> None:
        if self.watched and event.startswith(("socket.", "urllib.", "ftplib.", "http.")):
            self.asked.append(event)


@pytest.fixture(scope="module")
def _hooked() -> Network:
    # Such a hook stays for the life of the process, hence one for all tests.
    network = Network()
    sys.addaudithook(network.hook)
    return network


@pytest.fixture
def network(_hooked: Network) -> Iterator[Network]:
    _hooked.asked.clear()
    _hooked.watched = True
    yield _hooked
    _hooked.watched = False


def test_the_watch_on_the_network_sees_a_socket(network: Network) -> None:
    socket.socket().close()
    assert network.asked == ["socket.__new__"]


ELSEWHERE = [
    *("http://127.0.0.1:9/x", "https://example.org/x", "file:///etc/passwd", "urn:example:x"),
    *("ftp://example.org/x", "//example.org/x", "x.schema.json", "https://example.org/x#/a"),
]


@pytest.mark.contract("INP-14")
@pytest.mark.parametrize("key", ["$ref", "$dynamicRef"])
@pytest.mark.parametrize("address", ELSEWHERE)
def test_a_reference_to_elsewhere_is_refused_by_name_and_never_fetched(
    network: Network, key: str, address: str
) -> None:
    text = unusable({key: address})
    assert (f"'{address}'" in text, "fetches nothing" in text) == (True, True), text
    assert network.asked == []


@pytest.mark.contract("INP-14")
@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"absent": {"$ref": "http://h/x"}}},
        {"$defs": {"unused": {"items": {"$ref": "http://h/x"}}}},
        {"$id": "http://h/y", "allOf": [{"$ref": "x"}]},
        {"$id": "file:///etc/", "anyOf": [True, {"$ref": "passwd"}]},
        {"$schema": DIALECTS[1], "$recursiveRef": "http://h/x"},
        {"$schema": DIALECTS[2], "definitions": {"a": {"$ref": "http://h/x"}}},
        {"$schema": DIALECTS[4], "dependencies": {"a": {"$ref": "http://h/x"}}},
    ],
    ids=json.dumps,
)
def test_a_reference_that_the_document_does_not_need_is_refused_as_well(
    network: Network, schema: Any
) -> None:
    assert "fetches nothing" in unusable(schema)
    assert network.asked == []


@pytest.mark.contract("INP-14")
@pytest.mark.parametrize(
    "schema",
    [
        {"const": {"$ref": "http://h/x"}},
        {"enum": [{"$ref": "http://h/x"}]},
        {"properties": {"$ref": {"type": "string"}}},
        {"default": {"$ref": "http://h/x"}, "examples": [{"$ref": "http://h/x"}]},
    ],
    ids=json.dumps,
)
def test_what_only_looks_like_a_reference_is_none(schema: Any) -> None:
    assert verdict(schema).fault in {None, "mismatch"}


# --- hostile schemas and documents ---------------------------------------------------------------


LOOP = {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}


@pytest.mark.contract("INP-14")
@pytest.mark.parametrize(
    ("schema", "document"),
    [
        ({"multipleOf": 0.1}, b"1e400"),
        ({"multipleOf": 0.5}, b"1" * 4000),
        ({"$ref": "#"}, b"1"),
        ({"$ref": "#/$defs/a", "$defs": LOOP}, b"1"),
        ({"items": {"$ref": "#"}}, b"[" * 900 + b"]" * 900),
    ],
    ids=["infinite", "digits", "loop", "mutual", "nested"],
)
def test_what_cannot_be_computed_is_told(schema: Any, document: bytes) -> None:
    unusable(schema, document)


@pytest.mark.contract("INP-14")
@pytest.mark.parametrize("document", [b"[" * 100_000, b'{"a":' * 100_000], ids=["[", "{"])
def test_a_document_nested_too_deeply_is_told(document: bytes) -> None:
    assert verdict({}, document).fault == "document"


@pytest.mark.contract("INP-14")
@pytest.mark.parametrize(
    ("schema", "document"),
    [({"type": "object"}, ["x" * 100_000]), ({"propertyNames": False}, {"k" * 100_000: 1})],
    ids=["value", "key"],
)
def test_a_verdict_does_not_repeat_a_large_document(schema: Any, document: Any) -> None:
    found = verdict(schema, document)
    assert (found.fault, len(found.text) <= 3 * MAX_TEXT) == ("mismatch", True)


@pytest.mark.contract("INP-14")
def test_half_a_surrogate_pair_in_a_document_is_no_crash() -> None:
    found = verdict({"additionalProperties": {"type": "string"}}, rb'{"\ud800": 1}')
    assert (found.fault, r"\ud800" in found.text) == ("mismatch", True)
    found.text.encode()
