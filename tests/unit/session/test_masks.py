"""The values to mask: kept for the daemon's user alone, and gone when they are not needed."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest

from agentd.errors import AuditError
from agentd.session import masks
from tests.unit.builders import SESSION

VALUES = [b"s3cret", b"\xff\0binary"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "masks"


def test_the_values_can_be_read_back(directory: Path) -> None:
    masks.keep(directory, SESSION, VALUES)
    assert msgspec.msgpack.decode((directory / SESSION).read_bytes()) == VALUES


@pytest.mark.contract("F-26")
def test_nobody_else_may_read_them(directory: Path) -> None:
    masks.keep(directory, SESSION, VALUES)
    assert stat.S_IMODE((directory / SESSION).stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_session_without_credentials_has_an_empty_list(directory: Path) -> None:
    masks.keep(directory, SESSION, [])
    assert msgspec.msgpack.decode((directory / SESSION).read_bytes()) == []


def test_values_of_another_session_of_that_name_are_not_replaced(directory: Path) -> None:
    masks.keep(directory, SESSION, VALUES)
    with pytest.raises(AuditError, match="File exists"):
        masks.keep(directory, SESSION, [b"other"])
    assert msgspec.msgpack.decode((directory / SESSION).read_bytes()) == VALUES


def test_a_link_in_the_place_of_the_file_is_not_followed(directory: Path) -> None:
    directory.mkdir()
    (directory / SESSION).symlink_to(directory / "elsewhere")
    with pytest.raises(AuditError):
        masks.keep(directory, SESSION, VALUES)
    assert not (directory / "elsewhere").exists()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditError, match="cannot keep the values to mask"):
        masks.keep(tmp_path / "file", SESSION, VALUES)


def test_forgotten_values_are_gone(directory: Path) -> None:
    masks.keep(directory, SESSION, VALUES)
    masks.forget(directory, SESSION)
    assert list(directory.iterdir()) == []


def test_values_may_be_forgotten_twice(directory: Path) -> None:
    masks.forget(directory, SESSION)
    masks.forget(directory, SESSION)
