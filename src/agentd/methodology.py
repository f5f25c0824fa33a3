"""The methodology directory: is it there, and does an operator's input fit it?

agentd reads of it what admits an input: the manifest's artifact types and their JSON Schemas. All
else in it is runa's. Nothing is ever fetched: a schema that refers to another by URL is refused.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec

from . import schema_check
from .errors import InputRefused, MethodologyUnusable
from .strict_json import parse_json
from .wire import ArtifactInput, TextInput

REQUEST_TYPE: Final = "request"
REQUEST_ID: Final = "operator-input"
CANONICAL_VERSIONS: Final = ("1.0.0",)
"""Versions of the canonical request schema whose documents agentd knows how to write."""

MANIFEST: Final = "manifest.toml"

MAX_NAME_BYTES: Final = 255
"""The longest name of a file on the file systems of Linux, NAME_MAX."""

_UNSUPPORTED: Final = "methodology does not support operator request input: "


class Document(msgspec.Struct, frozen=True):
    """An input ready to be placed: `.runa/workspace/<artifact_type>/<artifact_id>.json`."""

    artifact_type: str
    artifact_id: str
    content: bytes


def check(directory: Path) -> None:
    """Refuse a directory without a manifest.

    Raises:
        MethodologyUnusable: there is no `manifest.toml` in `directory`.
    """
    manifest = directory / MANIFEST
    try:
        found = manifest.is_file()
    except OSError as error:
        raise MethodologyUnusable(f"cannot read {manifest}: {error.strerror}") from error
    if not found:
        raise MethodologyUnusable(f"methodology directory must contain {MANIFEST}: {directory}")


def resolve_input(directory: Path, given: TextInput | ArtifactInput) -> Document:
    """Turn an input into the document that the session gets, after every check.

    Blocking: reads the manifest and one schema.

    Raises:
        MethodologyUnusable: the manifest cannot be read.
        InputRefused: the input does not fit; the text says why.
    """
    types = _artifact_types(directory / MANIFEST)
    if isinstance(given, TextInput):
        return _text_document(directory, types, given.description)
    return _artifact_document(directory, types, given)


def segment_fault(text: str, suffix: str = "") -> str | None:
    """Why `text` + `suffix` cannot be one segment of a path, as the end of a sentence, or None."""
    if text in {"", ".", ".."} or any(mark in text for mark in ("/", "\\", "\0")):
        return "must be a single path segment"
    try:
        size = len(text.encode()) + len(suffix)
    except UnicodeEncodeError:
        return "must be UTF-8"
    if size > MAX_NAME_BYTES:
        return f"must not be above {MAX_NAME_BYTES - len(suffix)} bytes, as the name of a file"
    return None


def _text_document(directory: Path, types: frozenset[str], text: str) -> Document:
    if REQUEST_TYPE not in types:
        raise InputRefused(f"{_UNSUPPORTED}the manifest declares no artifact type 'request'")
    try:
        schema, parsed = _schema(directory, REQUEST_TYPE)
        _check_canonical(parsed)
    except InputRefused as error:
        raise InputRefused(f"{_UNSUPPORTED}{error}") from error
    # Compact and in this order: the canonical document, byte for byte.
    content = json.dumps(
        {"description": text, "source": "operator"}, ensure_ascii=False, separators=(",", ":")
    ).encode()
    _validate(schema, content, REQUEST_TYPE)
    return Document(REQUEST_TYPE, REQUEST_ID, content)


def _check_canonical(schema: Any) -> None:
    canonical = schema.get("x-tesserine-canonical") if isinstance(schema, dict) else None
    version = canonical.get("version") if isinstance(canonical, dict) else None
    if not isinstance(version, str):
        raise InputRefused("request schema must declare x-tesserine-canonical.version")
    if version not in CANONICAL_VERSIONS:
        raise InputRefused(f"canonical request version {version} is not supported")


def _artifact_document(directory: Path, types: frozenset[str], given: ArtifactInput) -> Document:
    for what, text, suffix in (
        ("type", given.artifact_type, ""),
        ("id", given.artifact_id, ".json"),
    ):
        if fault := segment_fault(text, suffix):
            raise InputRefused(f"artifact {what} {fault}: {text!r}")
    if given.artifact_type not in types:
        raise InputRefused(
            f"artifact type '{given.artifact_type}' is not declared in the methodology manifest"
        )
    schema, _ = _schema(directory, given.artifact_type)
    _validate(schema, given.document, given.artifact_type)
    return Document(given.artifact_type, given.artifact_id, given.document)


def _artifact_types(manifest: Path) -> frozenset[str]:
    try:
        parsed = tomllib.loads(manifest.read_text(encoding="utf-8"))
    except OSError as error:
        raise MethodologyUnusable(
            f"cannot read methodology manifest {manifest}: {error.strerror}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputRefused(f"failed to parse methodology manifest {manifest}: {error}") from error
    declared = parsed.get("artifact_types", [])
    rows = declared if isinstance(declared, list) else []
    names = (row.get("name") for row in rows if isinstance(row, dict))
    return frozenset(name for name in names if isinstance(name, str))


def _schema(directory: Path, artifact_type: str) -> tuple[bytes, Any]:
    """The schema of a type, as it stands in its file and as a value."""
    path = directory / "schemas" / f"{artifact_type}.schema.json"
    try:
        content = path.read_bytes()
        return content, parse_json(content)
    except OSError as error:
        raise InputRefused(f"failed to read schema {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputRefused(f"schema {path} must contain valid JSON: {error}") from error


def _validate(schema: bytes, content: bytes, artifact_type: str) -> None:
    verdict = schema_check.check(schema_check.Question(schema, content))
    match verdict.fault:
        case "document":
            raise InputRefused(f"artifact input must be valid JSON: {verdict.text}")
        case "schema":
            raise InputRefused(
                f"schema for artifact type '{artifact_type}' is invalid: {verdict.text}"
            )
        case "mismatch":
            raise InputRefused(
                f"artifact input for type '{artifact_type}' does not match the methodology schema:"
                f" {verdict.text}"
            )
