"""Runs that are refused: one sentence, the right exit status, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agentd.client import connect
from agentd.errors import InvalidInvocation
from testbed.agentd_client import Ended
from testbed.agentd_process import Agentd, Table

pytestmark = pytest.mark.live

USAGE, INFRASTRUCTURE = 2, 6
ABSENT_IMAGE = "localhost/agentd-no-such-image:1"


@pytest.fixture(scope="module")
def agentd(
    start_agentd: Callable[..., Agentd],
    declare: Callable[..., Table],
    tmp_path_factory: pytest.TempPathFactory,
) -> Agentd:
    empty = tmp_path_factory.mktemp("empty")
    homeless = declare("homeless")
    del homeless["repo"]
    needs = {"name": "TOKEN", "source": "AGENTD_TEST_ABSENT"}
    binary = {"name": "TOKEN", "source": "AGENTD_TEST_BINARY"}
    mount = {"source": str(empty / "none"), "target": "/data", "read_only": True}
    return start_agentd(
        declare(),
        homeless,
        declare("forgetful", credentials=[needs]),
        declare("binary", credentials=[binary]),
        declare("imageless", base_image=ABSENT_IMAGE),
        declare("methodless", methodology_dir=str(empty)),
        declare("mountless", mounts=[mount]),
        environ={"AGENTD_TEST_BINARY": b"\xff\xfe"},
    )


def sentence(ended: Ended) -> str:
    """The one line of a client that was refused."""
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    return line.removeprefix("agentd: ")


REFUSED = [
    pytest.param(
        ("nobody-of-that-name",),
        USAGE,
        "unknown agent 'nobody-of-that-name'",
        marks=pytest.mark.contract("DSP-01"),
    ),
    pytest.param(
        ("homeless",),
        USAGE,
        "agent 'homeless' requires a repo argument or configured agent repo",
        marks=pytest.mark.contract("DSP-02"),
    ),
    pytest.param(
        ("worker", "ssh://example.org/x.git"),
        USAGE,
        "https://, http://, or git://",
        marks=pytest.mark.contract("DSP-12", "DSP-13"),
    ),
    pytest.param(
        ("worker", "/srv/x.git"),
        USAGE,
        "https://, http://, or git://",
        marks=pytest.mark.contract("DSP-13"),
    ),
    pytest.param(
        ("worker", "https://user:secret@example.org/x.git"),
        USAGE,
        "credential-bearing URLs are not accepted",
        marks=pytest.mark.contract("DSP-14"),
    ),
    pytest.param(
        ("forgetful",),
        INFRASTRUCTURE,
        "agent 'forgetful' credential 'TOKEN' requires daemon environment variable"
        " 'AGENTD_TEST_ABSENT'",
        marks=pytest.mark.contract("DSP-04"),
    ),
    pytest.param(
        ("binary",),
        INFRASTRUCTURE,
        "requires daemon environment variable 'AGENTD_TEST_BINARY' to be UTF-8",
        marks=pytest.mark.contract("DSP-04"),
    ),
    pytest.param(
        ("imageless",),
        INFRASTRUCTURE,
        f"image '{ABSENT_IMAGE}' is not on this host",
        marks=pytest.mark.contract("SES-43"),
    ),
    pytest.param(
        ("methodless",),
        INFRASTRUCTURE,
        "methodology directory must contain manifest.toml",
        marks=pytest.mark.contract("SES-10"),
    ),
    pytest.param(
        ("mountless",),
        INFRASTRUCTURE,
        "mount source path does not exist",
        marks=pytest.mark.contract("MNT-02"),
    ),
    pytest.param(
        ("worker", "--work-unit", " "),
        USAGE,
        "work_unit must not be blank",
    ),
    pytest.param(
        ("worker", "--work-unit", "7", "--request", "text"),
        USAGE,
        "--work-unit and --request cannot be used together",
        marks=pytest.mark.contract("CLI-13", "CLI-28"),
    ),
]


@pytest.mark.contract("CLI-24")
@pytest.mark.parametrize(("args", "code", "text"), REFUSED)
def test_a_refused_run_says_why_in_one_sentence(
    agentd: Agentd, args: tuple[str, ...], code: int, text: str
) -> None:
    ended = agentd.run(*args)
    assert (ended.code, text in sentence(ended)) == (code, True), ended


@pytest.mark.contract("SES-04", "DSP-16")
@pytest.mark.parametrize(("args", "code", "text"), REFUSED)
def test_a_refused_run_leaves_nothing(
    agentd: Agentd, args: tuple[str, ...], code: int, text: str
) -> None:
    before = agentd.records()
    assert agentd.run(*args).code == code, text
    assert agentd.records() == before
    agentd.assert_nothing_left()


@pytest.mark.contract("DSP-20")
def test_a_refused_run_is_one_line_in_the_log(agentd: Agentd) -> None:
    agentd.run("forgetful")
    rejected = agentd.wait_for("agentd.run_rejected", agent="forgetful")
    shown = (rejected["level"], rejected["trigger"], rejected["error_code"])
    assert shown == ("warning", "manual", "credential_unavailable")


@pytest.mark.contract("DSP-01")
def test_an_unknown_agent_comes_before_a_bad_repository(agentd: Agentd) -> None:
    assert "unknown agent 'nobody'" in sentence(agentd.run("nobody", "/not/a/url"))


@pytest.mark.contract("SOC-15", "INP-01")
async def test_the_daemon_refuses_two_purposes_whoever_asks(agentd: Agentd) -> None:
    async with connect(agentd.socket) as client:
        with pytest.raises(InvalidInvocation, match=r"work_unit.*input"):
            await client.dispatch("worker", work_unit="7", request="text")


@pytest.mark.contract("DSP-09", "DSP-16")
def test_an_audit_root_that_went_away_refuses_the_run(
    own_agentd: Agentd, declare: Callable[..., Table]
) -> None:
    """It was sound at startup; the run is refused before the image, which is not there either."""
    own_agentd.configure(declare(base_image=ABSENT_IMAGE))
    own_agentd.start()
    own_agentd.audit_root.rename(own_agentd.base / "moved")
    own_agentd.audit_root.write_text("")
    ended = own_agentd.run("worker")
    assert (ended.code, str(own_agentd.audit_root) in sentence(ended)) == (INFRASTRUCTURE, True)
    own_agentd.assert_nothing_left()


@pytest.mark.contract("CLI-25", "SOC-18")
def test_a_run_without_a_daemon_says_so(own_agentd: Agentd) -> None:
    ended = own_agentd.run("worker")
    expected = f"agentd is not running (socket {own_agentd.socket})"
    assert (ended.code, expected in sentence(ended)) == (INFRASTRUCTURE, True), ended
