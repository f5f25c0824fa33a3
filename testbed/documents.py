"""What README.md and docs/ show: the commands that can be typed, and the configuration.

A command is a line of a fenced block `sh`. `<!-- exits 2 -->` before the block says that its
commands end with that status, and not with 0.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

PROJECT: Final = Path(__file__).parents[1]
SOURCE: Final = PROJECT / "src/agentd"
DOCUMENTS: Final = (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")))

WITH_LINKS: Final = (
    *DOCUMENTS,
    *(PROJECT / f"{name}.md" for name in ("ARCHITECTURE", "CHANGELOG", "CONTRIBUTING")),
)

_FENCE: Final = re.compile(
    r"(?:^ *<!-- (?P<remark>[^>]*) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_LINK: Final = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
_HEADING: Final = re.compile(r"^#+ (.*)$", re.MULTILINE)
_TEST: Final = re.compile(r"tests/[\w/]+\.py::\w+")


class Block(NamedTuple):
    """A fenced block of a document."""

    document: str
    language: str
    text: str
    remark: str


class Command(NamedTuple):
    """A command that a document shows, without the words that explain it."""

    document: str
    line: str
    exit_status: int


def blocks(language: str) -> list[Block]:
    """The blocks of this language in all documents."""
    return [
        block
        for path in DOCUMENTS
        for block in _blocks(_name(path), path.read_text())
        if block.language == language
    ]


def commands() -> list[Command]:
    """The commands that the documents show, each once, in order."""
    found: dict[tuple[str, int], Command] = {}
    for path in DOCUMENTS:
        for command in commands_in(_name(path), path.read_text()):
            found.setdefault((command.line, command.exit_status), command)
    return list(found.values())


def commands_in(document: str, text: str) -> Iterator[Command]:
    """The commands that a document's text shows."""
    for block in _blocks(document, text):
        status = re.fullmatch(r"exits (\d+)", block.remark)
        exit_status = int(status[1]) if status else 0
        for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
            command = re.sub(r"(^|\s+)#.*", "", line).strip()
            if command and block.language == "sh":
                yield Command(document, command, exit_status)


def tests_named_in(text: str) -> list[str]:
    """What looks like a test's name, `tests/live/test_x.py::test_name`."""
    return _TEST.findall(text)


def is_test(name: str) -> bool:
    """Whether there is a test of that name."""
    file, _, function = name.partition("::")
    path = PROJECT / file
    if not path.is_file():
        return False
    return any(
        isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name == function
        for each in ast.walk(ast.parse(path.read_text()))
    )


def broken_links(path: Path) -> list[str]:
    """The links of a document whose file or heading does not exist."""
    found = []
    for file, anchor in _LINK.findall(path.read_text()):
        target = (path.parent / file) if file else path
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            found.append(f"{file}#{anchor}" if anchor else file)
    return found


def _anchors(path: Path) -> set[str]:
    """What headings are linked by: lower case, hyphens for spaces, no other signs."""
    headings = _HEADING.findall(re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.M | re.S))
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}


def _name(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def _blocks(document: str, text: str) -> Iterator[Block]:
    for match in _FENCE.finditer(text):
        inner = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        yield Block(document, match["language"], inner, match["remark"] or "")
