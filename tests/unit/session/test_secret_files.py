"""A session's secrets in Podman's store: gone after every way in which a session can end."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from agentd.errors import PodmanError, PodmanTimeout
from agentd.session.secret_files import secret_files
from agentd.session.setup import SessionSecret
from agentd.session.teardown import Teardown
from tests.unit.session.fake_podman import FakePodman

WANTED = [SessionSecret(f"s{index}", f"/c/{index}", b"value") for index in range(3)]


@pytest.fixture
def podman() -> FakePodman:
    return FakePodman()


async def hold(podman: FakePodman, teardown: Teardown, *, release: bool = True) -> None:
    async with secret_files(podman.as_podman, WANTED, teardown) as secrets:
        if release:
            await secrets.release()


@pytest.mark.contract("SES-06")
async def test_all_secrets_are_in_the_store_while_inside(podman: FakePodman) -> None:
    async with secret_files(podman.as_podman, WANTED, Teardown()):
        assert podman.secrets == {"s0": b"value", "s1": b"value", "s2": b"value"}


@pytest.mark.contract("SES-21", "SES-28")
async def test_what_was_not_released_is_removed_at_the_exit(podman: FakePodman) -> None:
    await hold(podman, Teardown(), release=False)
    assert podman.secrets == {}


@pytest.mark.contract("SES-19", "F-02")
async def test_what_was_released_is_not_removed_twice(podman: FakePodman) -> None:
    await hold(podman, Teardown())
    assert podman.secrets == {}
    assert podman.counts["remove_secret"] == 3


@pytest.mark.contract("SES-28", "SES-13")
@pytest.mark.parametrize("step", range(1, 13))
async def test_a_cancel_at_any_step_leaves_no_secret(podman: FakePodman, step: int) -> None:
    teardown = Teardown()
    podman.cancel_at = step
    with trio.CancelScope() as podman.scope:
        await hold(podman, teardown)
    assert podman.scope.cancelled_caught
    assert podman.secrets == {}
    assert teardown.failures == []


@pytest.mark.contract("SES-13")
@pytest.mark.parametrize("failing", [0, 1, 2])
async def test_a_secret_that_cannot_be_made_takes_the_others_with_it(
    podman: FakePodman, failing: int
) -> None:
    made = podman.create_secret

    async def create(name: str, value: bytes) -> None:
        if len(podman.secrets) == failing:
            raise PodmanError("store is full")
        await made(name, value)

    podman.create_secret = create  # type: ignore[method-assign]
    with pytest.raises(PodmanError, match="store is full"):
        await hold(podman, Teardown())
    assert podman.secrets == {}


@pytest.mark.contract("SES-13")
async def test_a_secret_whose_create_was_not_answered_is_removed(podman: FakePodman) -> None:
    podman.lost_replies["create_secret"] = PodmanTimeout("late")
    with pytest.raises(PodmanTimeout):
        await hold(podman, Teardown())
    assert podman.secrets == {}


@pytest.mark.contract("SES-20")
async def test_a_failed_release_is_logged_and_tried_again_at_the_exit(
    podman: FakePodman, logged: list[dict[str, object]]
) -> None:
    teardown = Teardown()
    podman.failures["remove_secret"] = [PodmanError("locked")]
    await hold(podman, teardown)
    assert podman.secrets == {}
    assert teardown.failures == []
    assert [line["stage"] for line in logged] == ["secret release"]


@pytest.mark.contract("SES-27", "SES-29")
async def test_one_that_cannot_be_removed_is_noted(podman: FakePodman) -> None:
    teardown = Teardown()
    podman.refused_names = {"s1"}
    await hold(podman, teardown, release=False)
    assert teardown.error == "secret removal: cannot remove s1"


@pytest.mark.contract("SES-27")
@pytest.mark.parametrize("stuck", ["s0", "s1", "s2"])
async def test_one_that_cannot_be_removed_does_not_keep_the_others(
    podman: FakePodman, stuck: str
) -> None:
    podman.refused_names = {stuck}
    await hold(podman, Teardown(), release=False)
    assert set(podman.secrets) == {stuck}


@pytest.mark.contract("F-34")
async def test_a_store_that_hangs_is_given_up(
    podman: FakePodman, autojump_clock: MockClock
) -> None:
    async def hang(_name: str) -> None:
        await trio.sleep_forever()

    podman.remove_secret = hang  # type: ignore[method-assign, assignment]
    teardown = Teardown()
    await hold(podman, teardown, release=False)
    assert teardown.failures == ["secret removal: not done within 60 s"]
