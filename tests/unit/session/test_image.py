"""Which references are refused unseen, and how long and how often a pull is tried."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
import trio
import trio.testing

from agentd.errors import ImageUnavailable, PodmanError
from agentd.podman import Image, Podman
from agentd.session import image
from agentd.session.image import check_reference, explain, obtain_image
from tests.unit import builders

DIGEST = "sha256:" + "0123456789abcdef" * 4
HERE = Image("ab" * 32, DIGEST)
REFUSED = (
    "initializing source docker://h:5000/x:1: pinging container registry h:5000:"
    ' Get "https://h:5000/v2/": dial tcp 10.0.0.1:5000: connect: connection refused'
)
UNKNOWN = "initializing source docker://h/x:1: reading manifest 1 in h/x: manifest unknown"


@pytest.mark.contract("SES-43")
@pytest.mark.parametrize(
    "reference",
    [
        "debian",
        "debian:bookworm-slim",
        "localhost/agent",
        "localhost:5000/agent:1.2_3-x",
        "127.0.0.1:5000/team/agent",
        "[::1]:5000/team/agent:1",
        "Registry.Example.org/team/some__agent/with.dots-and--dashes",
        f"registry.example.org/agent@{DIGEST}",
        f"registry.example.org/agent:1@{DIGEST}",
        "0123456789ab",
        DIGEST,
    ],
)
def test_what_podman_takes_for_a_reference_is_one(reference: str) -> None:
    check_reference(builders.agent(base_image=reference))


@pytest.mark.contract("SES-43", "DSP-19")
@pytest.mark.parametrize(
    "reference",
    [
        "",
        " agent",
        "agent\n",
        "two words",
        "docker://localhost/agent",
        "https://localhost/agent",
        "localhost/Agent",
        "Agent",
        "localhost/agent:",
        "localhost/agent:.1",
        "localhost/agent:" + "x" * 129,
        "localhost/agent@sha256:12",
        "localhost//agent",
        "/agent",
        "agent/",
        "../agent",
        "agent?x=1",
        "agént",
        "localhost:port/agent",
    ],
)
def test_what_no_image_can_be_called_is_refused(reference: str) -> None:
    with pytest.raises(ImageUnavailable, match="of agent 'builder' is no image reference"):
        check_reference(builders.agent(base_image=reference))


@pytest.mark.contract("SES-43")
@pytest.mark.parametrize(
    ("reason", "final"),
    [
        (REFUSED, False),
        ("reading manifest 1 in h/x: received unexpected HTTP status: 503 Service", False),
        ("dial tcp: lookup h on 10.0.0.1:53: no such host", False),
        ("reading manifest 1 in h/x: StatusCode: 429, ", False),
        ("the pull was not done within 1800 s", False),
        ("pinging container registry h/denied: connection refused", False),
        (UNKNOWN, True),
        ("reading manifest 1 in h/x: unauthorized: authentication required", True),
        ("reading manifest 1 in h/x: requested access to the resource is denied", True),
        ('Get "https://h/v2/": x509: certificate signed by unknown authority', True),
        ('Get "https://h/v2/": http: server gave HTTP response to HTTPS client', True),
        ("pull policy is always but image has been referred to by ID (0123)", True),
    ],
)
def test_only_what_may_pass_by_itself_is_tried_again(reason: str, final: bool) -> None:
    assert explain(reason).final is final


class FakePodman:
    """The faults: a registry that never ends an answer, and one that fails as often as it likes."""

    def __init__(self, *pulls: str | Exception) -> None:
        """`pulls` are the ends of each pull; after them, pulls hang."""
        self.pulls = list(pulls)
        self.asked = 0

    async def image(self, reference: str) -> Image | None:
        await trio.lowlevel.checkpoint()
        return HERE if reference == HERE.id else None

    async def pull(self, _reference: str, _policy: str, _progress: Callable[[str], None]) -> str:
        self.asked += 1
        if not self.pulls:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        end = self.pulls.pop(0)
        if isinstance(end, Exception):
            raise end
        return end


async def obtained(podman: FakePodman, progress: Callable[[str], None] = print) -> Image | str:
    """The image, or the sentence with which it is refused."""
    try:
        return await obtain_image(cast(Podman, podman), builders.SOUND_AGENT, progress)
    except ImageUnavailable as error:
        return str(error)


@pytest.mark.contract("SES-43")
async def test_a_pull_that_hangs_is_tried_until_all_time_is_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    podman, started = FakePodman(), trio.current_time()
    said = await obtained(podman)
    assert trio.current_time() - started == pytest.approx(image.PULL_SECONDS)
    assert "cannot be pulled: the pull was not done within 1800 s" in str(said)


@pytest.mark.contract("SES-43")
async def test_an_attempt_that_hangs_leaves_time_for_another(
    autojump_clock: trio.testing.MockClock,
) -> None:
    podman = FakePodman()
    await obtained(podman)
    assert podman.asked == 2


@pytest.mark.contract("SES-43")
async def test_each_failed_attempt_is_told_before_the_next(
    autojump_clock: trio.testing.MockClock,
) -> None:
    lines: list[str] = []
    failures = [PodmanError(REFUSED), PodmanError(REFUSED)]
    assert await obtained(FakePodman(*failures, HERE.id), lines.append) == HERE
    assert lines == [
        f"the pull failed: {REFUSED}; trying again in 2 s",
        f"the pull failed: {REFUSED}; trying again in 5 s",
    ]


@pytest.mark.contract("SES-43")
async def test_a_failure_for_good_is_told_at_once(autojump_clock: trio.testing.MockClock) -> None:
    podman = FakePodman(PodmanError(UNKNOWN))
    expected = f"'localhost/builder' cannot be pulled: {UNKNOWN}; check the image's name and tag"
    assert expected in str(await obtained(podman))
    assert podman.asked == 1


@pytest.mark.contract("SES-43")
async def test_an_image_that_somebody_removes_after_its_pull_is_missed() -> None:
    """The fault: the image is removed in the moment after its pull."""
    assert "was pulled and is gone again" in str(await obtained(FakePodman("cd" * 32)))
