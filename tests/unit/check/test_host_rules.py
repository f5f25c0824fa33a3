"""What is said of a host, from plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentd.check import host_rules
from agentd.check.finding import Finding, refused
from agentd.check.host_rules import Linger, Listener, Place
from agentd.errors import PodmanError, RuntimePathError
from agentd.podman import Host

SOCKET = Path("/run/podman/podman.sock")
FOREIGN = RuntimePathError("/a is foreign", remedy="leave it")


def host(**changes: Any) -> Host:
    """A rootless Podman on a host with cgroup v2."""
    facts = {
        "version": "4.3.1",
        "rootless": True,
        "cgroup": "v2",
        "controllers": ["cpu", "memory", "pids"],
        "ids": 65537,
    } | changes
    maps = [{"container_id": 0, "host_id": 1000, "size": facts["ids"]}]
    answer = {
        "host": {
            "security": {"rootless": facts["rootless"]},
            "cgroupVersion": facts["cgroup"],
            "cgroupControllers": facts["controllers"],
            "idMappings": {"uidmap": maps, "gidmap": maps} if facts["rootless"] else None,
        },
        "version": {"Version": facts["version"]},
    }
    return msgspec.convert(answer, Host)


def told(name: str, **changes: Any) -> Finding:
    findings = host_rules.podman_findings(SOCKET, host(**changes))
    (finding,) = (each for each in findings if each.name == name)
    return finding


def test_a_sound_host_is_all_ok() -> None:
    findings = host_rules.podman_findings(SOCKET, host())
    assert {(each.status, each.remedy) for each in findings} == {("ok", None)}


@pytest.mark.contract("DMN-02")
@pytest.mark.parametrize(
    ("version", "status"), [("4.2.9", "fail"), ("4.3.0", "ok"), ("5.4.2", "ok"), ("odd", "fail")]
)
def test_podman_must_be_new_enough(version: str, status: str) -> None:
    assert told("podman-version", version=version).status == status


@pytest.mark.parametrize(("ids", "status"), [(10001, "fail"), (10002, "ok"), (1, "fail")])
def test_the_session_user_must_be_mapped(ids: int, status: str) -> None:
    finding = told("id-mapping", ids=ids)
    assert finding.status == status
    assert (status == "ok") == (host_rules.abilities(host(ids=ids)) is not None)
    assert status == "ok" or "/etc/subuid" in str(finding.remedy)


def test_a_rootful_podman_needs_no_mapping() -> None:
    assert told("id-mapping", rootless=False).status == "ok"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"controllers": ["pids"]}, "cannot be limited in memory, cpu"),
        ({"controllers": None}, "memory, cpu, pids"),
        ({"cgroup": "v1"}, "cgroup v1 and rootless: sessions cannot be limited"),
    ],
)
def test_limits_that_cannot_be_had_are_warned_of(changes: dict[str, Any], text: str) -> None:
    finding = told("cgroup", **changes)
    assert (finding.status, text in finding.text) == ("warn", True)
    assert finding.remedy


def test_a_rootful_podman_enforces_limits_on_cgroup_v1_too() -> None:
    assert told("cgroup", rootless=False, cgroup="v1").status == "ok"


@pytest.mark.parametrize(("uid", "status"), [(1000, "ok"), (0, "fail"), (1001, "fail")])
def test_the_service_must_be_of_the_same_user(uid: int, status: str) -> None:
    assert host_rules.owner_finding(Listener(1, uid), 1000).status == status


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("/usr/lib/systemd/systemd --user", "ok"),
        ("/usr/bin/podman system service --time=0", "ok"),
        ("podman system service --time 0 unix:///x", "ok"),
        ("podman system service -t 0", "ok"),
        ("podman system service -t0", "ok"),
        ("podman system service", "warn"),
        ("podman system service --time=60", "warn"),
        ("podman system service -t 5", "warn"),
        ("", "ok"),
    ],
)
def test_a_service_that_ends_when_idle_is_warned_of(words: str, status: str) -> None:
    finding = host_rules.idle_finding(Listener(1, 0, tuple(words.split())))
    assert (finding.status, finding.remedy is not None) == (status, status == "warn")


@pytest.mark.parametrize(
    ("linger", "status"),
    [
        (None, "ok"),
        (Linger("ann", systemd=False, lingers=False), "ok"),
        (Linger("ann", systemd=True, lingers=True), "ok"),
        (Linger("ann", systemd=True, lingers=False), "warn"),
    ],
)
def test_a_log_out_that_ends_sessions_is_warned_of(linger: Linger | None, status: str) -> None:
    finding = host_rules.linger_finding(linger)
    assert finding.status == status
    assert status == "ok" or finding.remedy == "run 'loginctl enable-linger ann'"


def test_what_an_error_says_is_told_whole_with_the_remedy_of_the_check() -> None:
    """Podman's own words may have semicolons."""
    error = PodmanError("Podman answered 500: reading manifest; unauthorized")
    finding = refused("image", error, "log in")
    assert (finding.text, finding.remedy) == (error.message, "log in")


def test_the_remedy_of_an_error_itself_comes_first() -> None:
    finding = refused("runtime", FOREIGN, "look at it")
    assert (finding.text, finding.remedy) == ("/a is foreign", "leave it")
    assert FOREIGN.message == "/a is foreign; leave it"


@pytest.mark.parametrize(
    ("place", "status"),
    [
        (Place(Path("/a/b"), Path("/a/b"), writable=True), "ok"),
        (Place(Path("/a/b"), Path("/a"), writable=True), "ok"),
        (Place(Path("/a/b"), Path("/a"), writable=False), "fail"),
        (Place(Path("/a/b"), Path("/a/b"), writable=False), "fail"),
        (Place(Path("/a"), Path("/a"), writable=True, fault=FOREIGN), "fail"),
    ],
)
def test_a_directory_must_be_there_or_be_possible(place: Place, status: str) -> None:
    finding = host_rules.place_finding("runtime", place)
    assert (finding.status, finding.remedy is not None) == (status, status == "fail")


@pytest.mark.parametrize(("free", "status"), [(10, "ok"), (9, "warn")])
def test_room_for_the_output_of_one_session_is_wanted(free: int, status: str) -> None:
    assert host_rules.space_finding(Path("/a"), free, 10).status == status
