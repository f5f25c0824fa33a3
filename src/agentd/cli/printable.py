"""Text of others on a terminal: what it says, and nothing that it does."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with everything escaped that is no visible character or space: control characters,
    those that turn the direction of writing, and bytes that were no UTF-8."""
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() else _escaped(char) for char in text])


def printable_json(text: str) -> str:
    """The same for a JSON document, which means what it meant."""
    lines = text.split("\n")
    if all(map(str.isprintable, lines)):
        return text
    # Outside of strings a document has no character but printable ones and newlines.
    return "\n".join(
        "".join([char if char.isprintable() else _json_escaped(char) for char in line])
        for line in lines
    )


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _json_escaped(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
