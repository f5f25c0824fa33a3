"""The methodology: its manifest, and which inputs its schemas admit.

Documents are judged in the process of the tests; the one of its own is a matter of other tests.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentd import methodology, schema_check, schema_judge
from agentd.errors import InputRefused, MethodologyUnusable
from agentd.methodology import Document
from agentd.wire import ArtifactInput, TextInput

UNSUPPORTED = "methodology does not support operator request input: "
CANONICAL = {"x-tesserine-canonical": {"version": "1.0.0"}}
REQUEST_SCHEMA = {
    **CANONICAL,
    "type": "object",
    "required": ["description", "source"],
    "additionalProperties": False,
    "properties": {"description": {"type": "string", "minLength": 1}, "source": {}},
}
NESTED = b"[" * 100_000


class Methodology:
    """A methodology directory with the artifact types `request` and `claim`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manifest = directory / "manifest.toml"
        self.manifest.write_text(
            'name = "m"\nunknown = 1\n'
            '[[artifact_types]]\nname = "request"\nmore = 1\n[[artifact_types]]\nname = "claim"\n'
        )
        (directory / "schemas").mkdir()
        self.schema("request", REQUEST_SCHEMA)
        self.schema("claim", {"type": "object", "required": ["id"]})

    def schema_path(self, name: str) -> Path:
        return self.directory / f"schemas/{name}.schema.json"

    def schema(self, name: str, schema: Any) -> None:
        self.schema_path(name).write_text(json.dumps(schema))

    def text(self, description: str = "do it") -> Document:
        return methodology.resolve_input(self.directory, TextInput(description=description))

    def artifact(
        self, document: bytes = b'{"id":1}', *, type: str = "claim", id: str = "claim-42"
    ) -> Document:
        given = ArtifactInput(artifact_type=type, artifact_id=id, document=document)
        return methodology.resolve_input(self.directory, given)

    def text_refusal(self, description: str = "do it") -> str:
        with pytest.raises(InputRefused) as caught:
            self.text(description)
        return caught.value.message

    def artifact_refusal(self, document: bytes = b'{"id":1}', **names: str) -> str:
        with pytest.raises(InputRefused) as caught:
            self.artifact(document, **names)
        return caught.value.message


@pytest.fixture
def method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Methodology:
    monkeypatch.setattr(schema_check, "check", schema_judge.judge)
    return Methodology(tmp_path)


# --- the directory -------------------------------------------------------------------------------


@pytest.mark.contract("SES-10", "INP-21")
def test_without_a_manifest_there_is_no_methodology(tmp_path: Path) -> None:
    text = f"methodology directory must contain manifest.toml: {tmp_path}"
    with pytest.raises(MethodologyUnusable) as caught:
        methodology.check(tmp_path)
    assert caught.value.message == text


@pytest.mark.contract("SES-10")
@pytest.mark.parametrize("place", ["absent", "manifest.toml"])
def test_a_directory_that_is_none_is_refused(method: Methodology, place: str) -> None:
    with pytest.raises(MethodologyUnusable, match=r"manifest\.toml"):
        methodology.check(method.directory / place)


@pytest.mark.contract("INP-21")
def test_without_input_the_manifest_is_not_read(method: Methodology) -> None:
    method.manifest.write_bytes(b"= no TOML \xff")
    methodology.check(method.directory)


# --- text ----------------------------------------------------------------------------------------


@pytest.mark.contract("INP-04", "INP-05", "CLI-15")
def test_text_becomes_the_canonical_document_byte_for_byte(method: Methodology) -> None:
    text = '- fix "this"\n\tü \\ \x00'
    content = '{"description":"- fix \\"this\\"\\n\\tü \\\\ \\u0000","source":"operator"}'
    assert method.text(text) == Document("request", "operator-input", content.encode())


@pytest.mark.contract("INP-06", "INP-10")
def test_text_needs_the_request_type(method: Methodology) -> None:
    method.manifest.write_text('[[artifact_types]]\nname = "claim"\n')
    assert method.text_refusal().startswith(UNSUPPORTED)
    assert "'request'" in method.text_refusal()


@pytest.mark.contract("INP-07", "INP-10")
def test_text_needs_the_request_schema(method: Methodology) -> None:
    path = method.schema_path("request")
    path.unlink()
    assert method.text_refusal().startswith(f"{UNSUPPORTED}failed to read schema {path}: ")


@pytest.mark.contract("INP-08", "INP-10")
@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        [],
        {"x-tesserine-canonical": None},
        {"x-tesserine-canonical": "1.0.0"},
        {"x-tesserine-canonical": {}},
        {"x-tesserine-canonical": {"version": 1}},
        {"x-tesserine-canonical": {"version": ["1.0.0"]}},
    ],
)
def test_text_needs_a_canonical_version(method: Methodology, schema: Any) -> None:
    method.schema("request", schema)
    text = f"{UNSUPPORTED}request schema must declare x-tesserine-canonical.version"
    assert method.text_refusal() == text


@pytest.mark.contract("INP-08", "INP-09")
@pytest.mark.parametrize("version", ["1.0.1", "2.0.0", "1.0", "", " 1.0.0", "v1.0.0"])
def test_another_canonical_version_is_refused_by_name(method: Methodology, version: str) -> None:
    method.schema("request", {"x-tesserine-canonical": {"version": version}})
    text = f"{UNSUPPORTED}canonical request version {version} is not supported"
    assert method.text_refusal() == text


@pytest.mark.contract("INP-11")
def test_the_canonical_document_must_fit_the_methodologys_own_schema(method: Methodology) -> None:
    assert "does not match the methodology schema" in method.text_refusal("")


# --- artifacts -----------------------------------------------------------------------------------


@pytest.mark.contract("INP-16", "INP-17", "F-50")
def test_a_document_is_handed_on_byte_for_byte(method: Methodology) -> None:
    document = b'{ "z": 1.0e2,\n "id": 123456789012345678901234567890, "a": "\\u00fc" }\n'
    assert method.artifact(document) == Document("claim", "claim-42", document)


@pytest.mark.contract("INP-18")
def test_an_artifact_of_type_request_needs_no_canonical_version(method: Methodology) -> None:
    method.schema("request", {"type": "object"})
    assert method.artifact(b"{}", type="request").artifact_type == "request"


@pytest.mark.contract("INP-12")
@pytest.mark.parametrize("name", ["report", "Claim", "claim ", "a\nb"])
def test_an_undeclared_type_is_refused_by_name(method: Methodology, name: str) -> None:
    text = f"artifact type '{name}' is not declared in the methodology manifest"
    assert method.artifact_refusal(type=name) == text


@pytest.mark.contract("INP-13")
def test_a_type_without_a_schema_is_refused_by_path(method: Methodology) -> None:
    path = method.schema_path("claim")
    path.unlink()
    assert method.artifact_refusal().startswith(f"failed to read schema {path}: ")


@pytest.mark.contract("INP-13")
@pytest.mark.parametrize("content", [b"", b"{", b"\xff", NESTED])
def test_a_schema_that_is_no_json_is_refused(method: Methodology, content: bytes) -> None:
    path = method.schema_path("claim")
    path.write_bytes(content)
    assert method.artifact_refusal().startswith(f"schema {path} must contain valid JSON: ")


@pytest.mark.contract("INP-14")
@pytest.mark.parametrize("document", [b"{}", b"[]", b"null", b'"id"', b"1e400"])
def test_a_document_that_does_not_fit_is_refused(method: Methodology, document: bytes) -> None:
    text = "artifact input for type 'claim' does not match the methodology schema: "
    assert method.artifact_refusal(document).startswith(text)


@pytest.mark.contract("INP-14")
def test_a_mismatch_is_told_with_its_place(method: Methodology) -> None:
    method.schema("claim", {"properties": {"a": {"items": {"type": "string"}}}})
    assert "$.a[1]" in method.artifact_refusal(b'{"a": ["x", 1]}')


@pytest.mark.contract("INP-14")
@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"{} {}",
        b"\xff",
        b"NaN",
        b'{"id": Infinity}',
        '{"id":1}'.encode("utf-16"),
        b'\xef\xbb\xbf{"id":1}',
        b'{"id":1,"id":2}',
        b'{"id":' + b"1" * 5000 + b"}",
        NESTED,
    ],
    ids=[
        *("empty", "open", "two", "bytes", "NaN", "Infinity", "UTF-16", "BOM", "twice", "digits"),
        "nested",
    ],
)
def test_what_is_no_json_is_refused(method: Methodology, document: bytes) -> None:
    assert method.artifact_refusal(document).startswith("artifact input must be valid JSON: ")


@pytest.mark.contract("INP-14")
def test_an_unusable_schema_is_refused_as_such(method: Methodology) -> None:
    method.schema("claim", {"type": "nope"})
    text = "schema for artifact type 'claim' is invalid: "
    assert method.artifact_refusal().startswith(text)


@pytest.mark.contract("INP-15")
@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "../x", "a\\b", "a\0b"])
def test_a_name_that_is_no_single_segment_is_refused(method: Methodology, name: str) -> None:
    text = "must be a single path segment"
    assert method.artifact_refusal(type=name).startswith(f"artifact type {text}")
    assert method.artifact_refusal(id=name).startswith(f"artifact id {text}")


@pytest.mark.contract("INP-15", "INP-17")
@pytest.mark.parametrize("name", ["x" * 251, "ü" * 126], ids=["ASCII", "UTF-8"])
def test_an_id_that_no_file_can_be_called_by_is_refused(method: Methodology, name: str) -> None:
    text = "artifact id must not be above 250 bytes, as the name of a file: "
    assert method.artifact_refusal(id=name).startswith(text)
    assert method.artifact(id=name[:-1]).artifact_id == name[:-1]


@pytest.mark.contract("INP-15")
def test_a_type_that_no_file_can_be_called_by_is_refused(method: Methodology) -> None:
    text = "artifact type must not be above 255 bytes"
    assert method.artifact_refusal(type="x" * 256).startswith(text)


@pytest.mark.contract("INP-13", "INP-15")
def test_a_declared_type_whose_schema_no_file_can_hold_is_refused(method: Methodology) -> None:
    name = "x" * 250
    method.manifest.write_text(f'[[artifact_types]]\nname = "{name}"\n')
    assert "File name too long" in method.artifact_refusal(type=name)


@pytest.mark.contract("INP-15")
def test_a_name_that_is_no_text_is_refused(method: Methodology) -> None:
    assert method.artifact_refusal(id="\udcff") == "artifact id must be UTF-8: '\\udcff'"


@pytest.mark.contract("INP-15", "INP-16")
@pytest.mark.parametrize("name", ["a.b", "...", "a b", "-x", "ü", "a\nb", ".json"])
def test_any_other_name_is_a_segment(method: Methodology, name: str) -> None:
    assert method.artifact(id=name).artifact_id == name


# --- the manifest --------------------------------------------------------------------------------


@pytest.mark.contract("INP-19")
@pytest.mark.parametrize("content", [b"= no", b"\xff", b"a = " + b"[" * 100_000])
def test_a_manifest_that_is_no_toml_is_refused_by_path(method: Methodology, content: bytes) -> None:
    method.manifest.write_bytes(content)
    text = f"failed to parse methodology manifest {method.manifest}: "
    assert method.artifact_refusal().startswith(text)


@pytest.mark.contract("INP-19")
def test_a_manifest_that_cannot_be_read_is_the_methodologys_fault(method: Methodology) -> None:
    method.manifest.unlink()
    method.manifest.mkdir()
    with pytest.raises(MethodologyUnusable, match="Is a directory"):
        method.text()


@pytest.mark.contract("INP-12", "INP-19")
@pytest.mark.parametrize(
    "manifest",
    ["", "artifact_types = 5", 'artifact_types = ["claim"]', "[[artifact_types]]\nname = 1"],
)
def test_a_manifest_of_another_shape_declares_nothing(method: Methodology, manifest: str) -> None:
    method.manifest.write_text(manifest)
    assert "is not declared" in method.artifact_refusal()


@pytest.mark.contract("INP-20")
def test_faults_of_an_artifact_are_told_in_a_fixed_order(method: Methodology) -> None:
    sound = method.manifest.read_text()
    method.manifest.write_text("= no")
    method.schema_path("claim").write_text("{")
    assert "manifest" in method.artifact_refusal(b"{", type="..", id="..")
    method.manifest.write_text(sound)
    assert "artifact type must" in method.artifact_refusal(b"{", type="..", id="..")
    assert "artifact id must" in method.artifact_refusal(b"{", type="nope", id="..")
    assert "not declared" in method.artifact_refusal(b"{", type="nope")
    assert "schema" in method.artifact_refusal(b"{")
    method.schema("claim", {})
    assert "artifact input" in method.artifact_refusal(b"{")
