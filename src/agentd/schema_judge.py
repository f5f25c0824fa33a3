"""The process in which documents are judged: `python -m agentd.schema_judge SECONDS`.

It reads a `Question` and writes a `Verdict`, both MessagePack. Nothing is ever fetched: a
reference leads to a place in the schema, or to the metaschema of a dialect, which the library has
on disk. `format` is a remark and refuses nothing; patterns are those of Python's `re`.
"""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Mapping
from typing import Any, Final

import jsonschema
import jsonschema.validators
import jsonschema_specifications
import msgspec
import referencing
import referencing.exceptions
import referencing.jsonschema

from .schema_check import Question, Verdict
from .strict_json import parse_json

DIALECTS: Final = (
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    *(f"http://json-schema.org/draft-0{number}/schema" for number in (7, 6, 4, 3)),
)
"""What `$schema` may name, with or without an empty fragment; without it the first applies."""

MAX_TEXT: Final = 400
"""Characters of a verdict: a message of the library can hold the whole document."""

MAX_MEMORY_BYTES: Final = 4 * 2**30

_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")


def judge(question: Question) -> Verdict:
    """Say whether the document fits the schema, by the dialect that the schema names."""
    try:
        document = parse_json(question.document)
    except (ValueError, RecursionError) as error:
        return _verdict("document", str(error))
    try:
        mismatch = _mismatch(parse_json(question.schema), document)
    except _UnusableSchemaError as error:
        return _verdict("schema", str(error))
    except RecursionError:
        return _verdict("schema", "it or the document is nested too deeply")
    except (ArithmeticError, ValueError, TypeError, AttributeError, re.error) as error:
        # A number that no float holds, an address that is none, a reference to what is no schema.
        return _verdict("schema", f"it cannot be applied to the document: {error}")
    return Verdict() if mismatch is None else _verdict("mismatch", mismatch)


class _UnusableSchemaError(Exception):
    """The schema cannot judge any document; the text says why."""


def _mismatch(schema: Any, document: Any) -> str | None:
    """What of `document` breaks `schema` first, or None."""
    dialect = _dialect(schema)
    validator = jsonschema.validators.validator_for({"$schema": dialect})
    try:
        validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise _UnusableSchemaError(f"{error.message} at {error.json_path}") from error
    _check_references(schema, dialect)
    # Without a registry of its own, the library fetches what a schema refers to.
    checks = validator(schema, registry=referencing.Registry())
    found = next(checks.iter_errors(document), None)
    return None if found is None else f"{_brief(found.message)} at {found.json_path}"


def _dialect(schema: Any) -> str:
    if type(schema) not in {dict, bool}:
        raise _UnusableSchemaError("a schema is an object, true or false")
    named = schema.get("$schema", DIALECTS[0]) if isinstance(schema, dict) else DIALECTS[0]
    if not isinstance(named, str) or named.removesuffix("#") not in DIALECTS:
        raise _UnusableSchemaError(
            f"its $schema {named!r} is no dialect that agentd knows; these are: "
            + ", ".join(DIALECTS)
        )
    return named


def _check_references(schema: Any, dialect: str) -> None:
    """Refuse a schema with a reference that leads nowhere, whether or not a document needs it."""
    specification = referencing.jsonschema.specification_with(dialect)
    root = specification.create_resource(schema)
    waiting = [(root, jsonschema_specifications.REGISTRY.resolver_with_root(root))]
    while waiting:
        part, resolver = waiting.pop()
        contents = part.contents if isinstance(part.contents, Mapping) else {}
        for reference in (contents[key] for key in _REFERENCES if key in contents):
            try:
                resolver.lookup(reference)
            except referencing.exceptions.Unresolvable as error:
                raise _UnusableSchemaError(
                    f"it refers to '{reference}', which is not in it, and agentd fetches nothing"
                ) from error
        waiting.extend((sub, resolver.in_subresource(sub)) for sub in part.subresources())


def _verdict(fault: Any, text: str) -> Verdict:
    # A document may hold half a surrogate pair, which is no text for a client.
    sound = text.encode(errors="backslashreplace").decode()
    return Verdict(fault, _brief(sound, 2 * MAX_TEXT))


def _brief(text: str, most: int = MAX_TEXT) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"


def main() -> None:
    """Answer the one question on standard input, and end by signal if it takes too long."""
    # The one who asks has its own clock; this one holds when that process is gone.
    seconds = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    question = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Question)
    sys.stdout.buffer.write(msgspec.msgpack.encode(judge(question)))


if __name__ == "__main__":
    main()
