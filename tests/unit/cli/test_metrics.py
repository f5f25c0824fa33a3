"""`agentd metrics`: the file that it writes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from agentd.cli.metrics import metrics, replace
from agentd.errors import InfrastructureError, UsageError


def test_the_file_has_the_text_and_anyone_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "agentd.prom"
    before = os.umask(0o077)
    try:
        replace(path, "a 1\n")
    finally:
        os.umask(before)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("a 1\n", 0o644)


def test_whoever_reads_the_old_file_reads_on(tmp_path: Path) -> None:
    path = tmp_path / "agentd.prom"
    path.write_text("old\n")
    with path.open() as reader:
        replace(path, "new\n")
        assert (reader.read(), path.read_text()) == ("old\n", "new\n")


def test_nothing_is_left_beside_the_file(tmp_path: Path) -> None:
    replace(tmp_path / "agentd.prom", "a 1\n")
    assert [path.name for path in tmp_path.iterdir()] == ["agentd.prom"]


def test_a_file_that_cannot_be_replaced_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "agentd.prom/in the way").mkdir(parents=True)
    with pytest.raises(InfrastructureError, match=r"cannot write .*agentd\.prom: "):
        replace(tmp_path / "agentd.prom", "a 1\n")
    assert [path.name for path in tmp_path.iterdir()] == ["agentd.prom"]


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match=r"cannot write .*: No such file or directory"):
        replace(tmp_path / "absent/agentd.prom", "a 1\n")


def test_openmetrics_for_node_exporter_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="add --format prometheus"):
        metrics(output=tmp_path / "agentd.prom")
