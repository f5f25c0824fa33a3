"""Which zone is the local one."""

from __future__ import annotations

import zoneinfo
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from agentd.daemon.zone import local_zone
from agentd.errors import HostUnsupported


def zone_file(name: str) -> Path:
    found = (Path(base, name) for base in zoneinfo.TZPATH)
    return next(path for path in found if path.exists())


@pytest.fixture
def absent(tmp_path: Path) -> Path:
    return tmp_path / "absent"


@pytest.mark.contract("SCH-02")
@pytest.mark.parametrize("tz", ["Europe/Berlin", ":Europe/Berlin"])
def test_tz_names_the_zone(tz: str, absent: Path) -> None:
    assert local_zone({"TZ": tz}, absent).key == "Europe/Berlin"


@pytest.mark.contract("SCH-02")
def test_the_hosts_zone_has_its_name(tmp_path: Path) -> None:
    (tmp_path / "localtime").symlink_to(zone_file("Asia/Kathmandu"))
    assert local_zone({}, tmp_path / "localtime").key == "Asia/Kathmandu"


@pytest.mark.contract("SCH-02")
def test_a_copy_of_a_zones_file_is_a_zone(tmp_path: Path) -> None:
    """It is called by the file, since its name is not in it."""
    localtime = tmp_path / "localtime"
    localtime.write_bytes(zone_file("Asia/Kathmandu").read_bytes())
    zones = [local_zone({}, localtime), local_zone({"TZ": str(localtime)}, tmp_path / "absent")]
    assert [(str(zone), zone.utcoffset(datetime(2026, 1, 1))) for zone in zones] == [
        (str(localtime), timedelta(hours=5, minutes=45))
    ] * 2


def test_without_any_zone_it_is_utc(absent: Path) -> None:
    assert local_zone({}, absent).key == "UTC"


def test_an_empty_tz_is_utc() -> None:
    assert local_zone({"TZ": ""}, zone_file("Asia/Kathmandu")).key == "UTC"


@pytest.mark.parametrize(
    "tz",
    ["Mars/Olympus", "CET-1CEST,M3.5.0,M10.5.0/3", "../../etc/passwd", "/etc/passwd", "/absent"],
)
def test_a_tz_that_names_no_zone_is_told_with_a_remedy(tz: str, absent: Path) -> None:
    with pytest.raises(HostUnsupported, match="such as Europe/Berlin"):
        local_zone({"TZ": tz}, absent)


def test_a_localtime_that_is_no_zone_is_told(tmp_path: Path) -> None:
    (tmp_path / "localtime").write_text("not a zone")
    with pytest.raises(HostUnsupported, match="is no time zone"):
        local_zone({}, tmp_path / "localtime")
