"""What runa asks of a methodology, so that it is told before a session has cloned anything. Pure.

The rules of `runa init`: a manifest with its keys, each of its kind, a schema for each artifact
type, instructions for each protocol. Keys that it does not know it ignores, but for those of an
artifact type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

ON_TYPE: Final = ("on_artifact", "on_change", "on_invalid")
OF_OTHERS: Final = ("all_of", "any_of")
_LISTS: Final = ("requires", "accepts", "produces", "may_produce")
_TABLES: Final = {"artifact_types": "artifact type", "protocols": "protocol"}


def schema_path(artifact_type: str) -> str:
    """Where the schema of an artifact type is, below the methodology's directory."""
    return f"schemas/{artifact_type}.schema.json"


def instructions_path(protocol: str) -> str:
    """Where the instructions of a protocol are, below the methodology's directory."""
    return f"protocols/{protocol}/PROTOCOL.md"


def declared(manifest: Mapping[str, Any], key: str) -> list[str]:
    """The names in `artifact_types` or `protocols` that can be parts of a path, each once."""
    names = (row.get("name") for row in _rows(manifest, key))
    sound = (name for name in names if isinstance(name, str) and _name_fault(name) is None)
    return list(dict.fromkeys(sound))


def _rows(manifest: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    rows = manifest.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _name_fault(name: str) -> str | None:
    if not name or "\0" in name or any(part in name for part in ("/", "\\", "..")):
        return "must not be empty nor hold '/', a backslash or '..'"
    return None


def manifest_faults(manifest: Mapping[str, Any]) -> list[str]:
    """What is wrong with the manifest by itself, a sentence each."""
    return list(_manifest_faults(manifest))


def _manifest_faults(manifest: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(manifest.get("name"), str):
        yield "the manifest has no string 'name'"
    for key, what in _TABLES.items():
        value = manifest.get(key)
        if not isinstance(value, list) or len(_rows(manifest, key)) != len(value):
            yield f"the manifest has no array of tables '{key}'"
        yield from _naming_faults(_rows(manifest, key), what)
    for row in _rows(manifest, "artifact_types"):
        for key in row.keys() - {"name"}:
            yield f"artifact type {row.get('name')!r} has a key '{key}', and may only have 'name'"
    for row in _rows(manifest, "protocols"):
        yield from _protocol_faults(row)


def _naming_faults(rows: list[dict[str, Any]], what: str) -> Iterator[str]:
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        name = row.get("name")
        if not isinstance(name, str):
            yield f"{what} {number} has no string 'name'"
        elif fault := _name_fault(name):
            yield f"the name {name!r} of {what} {number} {fault}"
        elif name in seen:
            yield f"{what} {name!r} is declared twice"
        else:
            seen.add(name)


def _protocol_faults(row: Mapping[str, Any]) -> Iterator[str]:
    which = f"protocol {row.get('name')!r}"
    if fault := _trigger_fault(row.get("trigger")):
        yield f"the trigger of {which} {fault}"
    for key in _LISTS:
        if not _are_texts(row.get(key, [])):
            yield f"'{key}' of {which} is no array of artifact types' names"
    choices = row.get("required_output_choices", [])
    if not isinstance(choices, list) or not all(map(_is_choice, choices)):
        yield (
            f"'required_output_choices' of {which} is no array of tables with 'name' and 'members'"
        )
    if not isinstance(row.get("scoped", False), bool):
        yield f"'scoped' of {which} is neither true nor false"


def _trigger_fault(trigger: Any) -> str | None:
    """What is wrong with a trigger, or with one inside it, as the end of a sentence."""
    # Not by recursion: TOML nests as deep as its author likes.
    left = [trigger]
    while left:
        match left.pop():
            case {"type": kind, "name": str()} if kind in ON_TYPE:
                pass
            case {"type": kind} if kind in ON_TYPE:
                return f"is {kind} and has no string 'name', the artifact type"
            case {"type": kind, "conditions": [*conditions]} if kind in OF_OTHERS:
                left += conditions
            case {"type": kind} if kind in OF_OTHERS:
                return f"is {kind} and has no array 'conditions' of triggers"
            case _:
                return f"is no table whose type is one of {', '.join(ON_TYPE + OF_OTHERS)}"
    return None


def _is_choice(choice: Any) -> bool:
    return (
        isinstance(choice, dict)
        and isinstance(choice.get("name"), str)
        and _are_texts(choice.get("members"))
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def scope_faults(manifest: Mapping[str, Any], schemas: Mapping[str, Any]) -> list[str]:
    """Unscoped protocols with outputs that need a work unit; `schemas` are parsed, by type."""
    return [
        f"protocol {row.get('name')!r} is unscoped, and the schema of its output {output!r}"
        " requires work_unit: set scoped = true, or do not require it"
        for row in _rows(manifest, "protocols")
        if row.get("scoped", False) is False
        for output in _outputs(row)
        if _requires_unit(schemas.get(output))
    ]


def _outputs(row: Mapping[str, Any]) -> list[str]:
    lists = (row.get(key) for key in ("produces", "may_produce"))
    return [each for names in lists if isinstance(names, list) for each in map(str, names)]


def _requires_unit(schema: Any) -> bool:
    required = schema.get("required") if isinstance(schema, dict) else None
    return isinstance(required, list) and "work_unit" in required
