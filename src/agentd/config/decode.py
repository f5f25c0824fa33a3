"""TOML text into the Structs of `schema`, finding every fault on the way.

msgspec stops at the first fault, so each table is walked key by key and only single values are
converted by it. What could not be read is replaced by a harmless value, the rules run over the
whole, and findings that rest on such a value are dropped again.
"""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from ..quantities import parse_duration, parse_size
from .agent_rules import declaration_problems
from .problems import Place, Problem, dependable, in_document_order
from .rules import daemon_problems, duplicate_problems
from .schema import Agent, Config, Credential, Daemon, Limits, Mount
from .wording import EXAMPLES, RETIRED, kind_of, noun

_Table = TypeVar("_Table", bound=msgspec.Struct)
_Document = dict[str, Any]

_DURATION: Final = (parse_duration, ', such as "30m"')
_SIZE: Final = (parse_size, ', such as "4GiB"')

_READERS: Final[dict[tuple[type, str], tuple[Callable[[str], Any], str]]] = {
    (Daemon, "shutdown_grace"): _DURATION,
    (Agent, "timeout"): _DURATION,
    (Agent, "repo_token_source"): (lambda text: text or None, ""),
    (Limits, "memory"): _SIZE,
    (Limits, "output"): _SIZE,
    (Limits, "record"): _SIZE,
}
"""Values that the document writes as a string and the Struct holds as something else, each with
its reader and an example for people."""


def decode(text: str, base: Path | None) -> tuple[Config, list[Problem]]:
    """The configuration in `text` and its problems in document order; usable only without any.

    Relative paths are joined onto `base`, which is absolute, or kept when it is None.
    """
    document, fault = _document(text)
    if fault:
        return Config(Daemon(), ()), [fault]
    reader = _Reader(base)
    daemon, agents = reader.document(document)
    found = [problem.below(("daemon",)) for problem in daemon_problems(daemon)]
    found += [problem.below(("agents",)) for problem in duplicate_problems(agents)]
    for index, agent in enumerate(agents):
        found += [p.below(("agents", index)) for p in declaration_problems(agent)]
    if not agents and not reader.faults_at("agents"):
        text = "a configuration must declare at least one agent: add an `[[agents]]` table"
        found.append(Problem(("agents",), text))
    return Config(daemon, agents), reader.all_with(found, document)


def decode_daemon(text: str, base: Path | None) -> tuple[Daemon, list[Problem]]:
    """As `decode`, for the `[daemon]` table alone; nothing inside `agents` is looked at."""
    document, fault = _document(text)
    if fault:
        return Daemon(), [fault]
    reader = _Reader(base)
    daemon, _ = reader.document({key: v for key, v in document.items() if key != "agents"})
    found = [problem.below(("daemon",)) for problem in daemon_problems(daemon)]
    return daemon, reader.all_with(found, document)


def _document(text: str) -> tuple[_Document, Problem | None]:
    try:
        return tomllib.loads(text), None
    except ValueError as error:
        # Not only TOMLDecodeError: an integer of thousands of digits is a plain ValueError.
        return {}, Problem((), f"not valid TOML: {error}")
    except RecursionError:
        return {}, Problem((), "not valid TOML: it is nested too deeply")


class _Reader:
    """Walks a document and remembers what it could not read."""

    def __init__(self, base: Path | None) -> None:
        self._base = base
        self._faults: list[Problem] = []
        self._whose = ""

    def faults_at(self, key: str) -> bool:
        return any(fault.place == (key,) for fault in self._faults)

    def all_with(self, found: list[Problem], document: _Document) -> list[Problem]:
        """Our faults and those of `found` that rest on values which were read."""
        unread = [fault.place for fault in self._faults]
        return in_document_order([*self._faults, *dependable(found, unread)], document)

    def document(self, document: _Document) -> tuple[Daemon, tuple[Agent, ...]]:
        for key in document:
            if key not in {"daemon", "agents"}:
                self._unknown((key,), ["daemon", "agents"])
        daemon = self._table(Daemon, document.get("daemon", {}), ("daemon",))
        agents = document.get("agents", [])
        if isinstance(agents, dict):
            self._fault(("agents",), "agents must be an array of tables: write `[[agents]]`")
            agents = [agents]
        elif not isinstance(agents, list):
            self._fault(("agents",), f"agents must be `[[agents]]` tables, not {kind_of(agents)}")
            agents = []
        return daemon, tuple(self._agent(raw, ("agents", i)) for i, raw in enumerate(agents))

    def _agent(self, raw: object, place: Place) -> Agent:
        name = raw.get("name") if isinstance(raw, dict) else None
        self._whose = f"agent {name!r}: " if isinstance(name, str) and name.strip() else ""
        return self._table(Agent, raw, place)

    def _table(self, cls: type[_Table], raw: object, place: Place) -> _Table:
        """A Struct from a table; what is missing or unreadable in it is noted and stood in for."""
        hints = get_type_hints(cls)
        required = [f.name for f in msgspec.structs.fields(cls) if f.required]
        values: dict[str, Any] = {name: _stand_in(hints[name]) for name in required}
        if not isinstance(raw, dict):
            self._fault(place, f"must be a table, not {kind_of(raw)}")
            return cls(**values)
        for key, value in raw.items():
            here = (*place, key)
            if key not in hints:
                self._unknown(here, list(hints))
                continue
            faults_before = len(self._faults)
            read = self._field(cls, key, hints[key], value, here)
            if read is not None or len(self._faults) == faults_before:
                values[key] = read
        for name in required:
            if name not in raw:
                text = f"missing field '{name}'; add {EXAMPLES[cls, name]}"
                self._fault((*place, name), text)
        return cls(**values)

    def _field(self, cls: type, key: str, hint: Any, raw: object, place: Place) -> object:
        if (cls, key) not in _READERS:
            return self._value(hint, raw, place)
        read, example = _READERS[cls, key]
        if not isinstance(raw, str):
            self._fault(place, f"must be a string{example}, not {kind_of(raw)}")
            return None
        try:
            return read(raw)
        except ValueError as error:
            self._fault(place, str(error))
            return None

    def _value(self, hint: Any, raw: object, place: Place) -> Any:
        """A value of type `hint`, or None after noting why there is none."""
        kind, arguments = get_origin(hint), get_args(hint)
        if kind in {typing.Union, types.UnionType}:
            return self._value(arguments[0], raw, place)
        if kind is tuple:
            return self._array(arguments[0], raw, place)
        if kind is dict:
            return self._mapping(arguments[1], raw, place)
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            return self._table(hint, raw, place)
        return self._scalar(hint, raw, place)

    def _array(self, hint: Any, raw: object, place: Place) -> tuple[Any, ...] | None:
        if not isinstance(raw, list):
            what = "`[[…]]` tables" if hint in {Mount, Credential} else "an array of strings"
            self._fault(place, f"must be {what}, not {kind_of(raw)}")
            return None
        values = [self._value(hint, item, (*place, index)) for index, item in enumerate(raw)]
        # A position is kept even when its value is not, so that later ones keep their index.
        return tuple(_stand_in(hint) if value is None else value for value in values)

    def _mapping(self, hint: Any, raw: object, place: Place) -> dict[str, Any] | None:
        if not isinstance(raw, dict):
            self._fault(place, f"must be a table of strings, not {kind_of(raw)}")
            return None
        values = {key: self._value(hint, item, (*place, key)) for key, item in raw.items()}
        return {key: _stand_in(hint) if v is None else v for key, v in values.items()}

    def _scalar(self, hint: Any, raw: object, place: Place) -> object:
        try:
            value = msgspec.convert(raw, str if hint is Path else hint, strict=True)
        except msgspec.ValidationError:
            self._fault(place, f"must be {noun(hint)}, not {kind_of(raw, hint)}")
            return None
        return self._file_path(str(value), place) if hint is Path else value

    def _file_path(self, text: str, place: Place) -> Path | None:
        # Checked on the text, since an empty path is afterwards the same as ".".
        if not text.strip():
            key = ".".join(part for part in place if isinstance(part, str)).removeprefix("agents.")
            self._fault(place, f"field '{key}' must not be empty")
            return None
        if "://" in text:
            self._fault(place, f"must be a plain path, not a URL: {text!r}")
            return None
        return Path(text) if self._base is None else self._base / text

    def _unknown(self, place: Place, known: list[str]) -> None:
        key = str(place[-1])
        near = difflib.get_close_matches(key, known, n=1)
        remedy = RETIRED.get(key) or (f"did you mean '{near[0]}'?" if near else "")
        remedy = remedy or f"known here: {', '.join(known)}"
        self._fault(place, f"unknown field {key!r}: {remedy}")

    def _fault(self, place: Place, text: str) -> None:
        self._faults.append(Problem(place, self._whose + text))


def _stand_in(hint: Any) -> Any:
    """A value of type `hint` that says nothing, in place of one that could not be read."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        hints = get_type_hints(hint)
        required = [f.name for f in msgspec.structs.fields(hint) if f.required]
        return hint(**{name: _stand_in(hints[name]) for name in required})
    return Path("/") if hint is Path else (get_origin(hint) or hint)()
