"""A session's container: made, started once, watched to its end, and always removed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from agentd.audit import Record
from agentd.errors import HostUnsupported, ImageUnfit, PodmanError, PodmanTimeout, PodmanUnreachable
from agentd.podman import ContainerSpec, ContainerState
from agentd.session.container import SessionContainer, session_container
from agentd.session.spec import container_spec
from agentd.session.teardown import Teardown
from agentd.watch import Hint
from tests.unit import builders
from tests.unit.builders import NOON, ROOTFUL, WHOSE, admitted, state
from tests.unit.session.fake_podman import FakePodman

SPEC: ContainerSpec = container_spec(
    admitted(), WHOSE, Record(Path("/r")), ROOTFUL, started_at=NOON, grace_seconds=5.0
)
LOST = [PodmanUnreachable("the connection broke"), PodmanTimeout("no answer")]


@pytest.fixture
def podman() -> FakePodman:
    return FakePodman()


@pytest.fixture
def hint() -> Hint:
    return Hint()


@pytest.fixture
def container(podman: FakePodman, hint: Hint) -> SessionContainer:
    podman.containers[SPEC.name] = builders.never_started()
    return SessionContainer(podman.as_podman, SPEC.name, hint, trio.CapacityLimiter(1))


def shows(podman: FakePodman, *states: ContainerState | None) -> Callable[[str], None]:
    """At each inspect the next of these states; the last stays."""
    left = list(states)

    def show(name: str) -> None:
        now = left.pop(0) if len(left) > 1 else left[0]
        if now is None:
            podman.containers.pop(name, None)
        else:
            podman.containers[name] = now

    return show


async def live(podman: FakePodman, teardown: Teardown) -> None:
    """A whole life, as the lifecycle leads it, under a daemon that is forced down if cancelled."""
    engine = podman.engine()
    engine.forced.set()
    async with session_container(builders.session(), engine, SPEC, teardown) as container:
        await container.start()
        podman.containers[SPEC.name] = state("exited", 0, ended=1)
        await container.wait_ended()


# --- create and remove ---------------------------------------------------------------------------


@pytest.mark.contract("SES-28")
async def test_nothing_is_left_of_a_container_that_ended(podman: FakePodman) -> None:
    teardown = Teardown()
    await live(podman, teardown)
    assert podman.containers == {}
    assert teardown.failures == []
    assert podman.calls == ["create", "start", "inspect", "remove"]


@pytest.mark.contract("SES-28", "F-36")
@pytest.mark.parametrize("step", range(1, 7))
async def test_a_cancel_at_any_step_leaves_no_container(podman: FakePodman, step: int) -> None:
    teardown = Teardown()
    podman.cancel_at = step
    with trio.CancelScope() as podman.scope:
        await live(podman, teardown)
    assert podman.scope.cancelled_caught
    assert podman.containers == {}
    assert teardown.failures == []
    assert podman.counts["start"] <= 1


@pytest.mark.contract("SES-15")
async def test_a_failed_create_is_told_and_cleaned_up(podman: FakePodman) -> None:
    podman.failures["create"] = [PodmanError("no space left", status=500)]
    with pytest.raises(PodmanError, match="no space left"):
        await live(podman, Teardown())
    assert podman.calls == ["create", "remove"]


@pytest.mark.contract("SES-15")
async def test_a_create_whose_reply_was_lost_is_removed_by_name(podman: FakePodman) -> None:
    podman.lost_replies["create"] = PodmanTimeout("late")
    with pytest.raises(PodmanTimeout):
        await live(podman, Teardown())
    assert podman.containers == {}


@pytest.mark.contract("F-12")
async def test_what_a_killed_daemon_left_of_that_name_makes_way(podman: FakePodman) -> None:
    podman.containers[SPEC.name] = builders.never_started()
    await live(podman, Teardown())
    assert podman.calls[:3] == ["create", "remove", "create"]


@pytest.mark.contract("F-12")
async def test_a_name_that_stays_taken_is_given_up_after_the_second_try(
    podman: FakePodman,
) -> None:
    taken = PodmanError("in use", status=500, cause="that name is already in use")
    podman.failures["create"] = [taken, taken]
    with pytest.raises(PodmanError, match="in use"):
        await live(podman, Teardown())
    assert podman.counts["create"] == 2


@pytest.mark.contract("F-24")
async def test_a_warning_refuses_the_session(podman: FakePodman) -> None:
    podman.warnings = ["Resource limits are not supported"]
    with pytest.raises(HostUnsupported, match="Resource limits are not supported"):
        await live(podman, Teardown())
    assert podman.containers == {}
    assert podman.counts["start"] == 0


async def test_an_empty_list_of_warnings_is_none(podman: FakePodman) -> None:
    podman.warnings = []
    await live(podman, Teardown())
    assert podman.counts["start"] == 1


async def test_a_missing_init_is_told_with_what_to_install(podman: FakePodman) -> None:
    podman.failures["create"] = [PodmanError("exec: catatonit: not found", status=500, cause="c")]
    with pytest.raises(PodmanError, match=r"isolation\.init = false") as caught:
        await live(podman, Teardown())
    assert (caught.value.status, caught.value.cause) == (500, "c")


@pytest.mark.contract("F-28")
async def test_an_image_without_the_entrypoint_is_told(podman: FakePodman) -> None:
    podman.entrypoint_exists = False
    engine = podman.engine()
    engine.fit_images.clear()
    with pytest.raises(ImageUnfit, match="no /bin/sh"):
        async with session_container(builders.session(), engine, SPEC, Teardown()):
            pass
    assert podman.containers == {}


async def test_an_image_is_looked_into_once(podman: FakePodman) -> None:
    engine = podman.engine()
    engine.fit_images.clear()
    for _ in range(2):
        async with session_container(builders.session(), engine, SPEC, Teardown()):
            pass
    assert podman.counts["has /bin/sh"] == 1


@pytest.mark.contract("SES-15", "F-36")
async def test_a_create_that_takes_effect_after_it_was_given_up_leaves_nothing(
    podman: FakePodman, autojump_clock: MockClock
) -> None:
    podman.failures["create"] = [PodmanTimeout("late")]

    async def take_effect() -> None:
        await trio.sleep(0.3)
        podman.containers[SPEC.name] = builders.never_started()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_effect)
        with pytest.raises(PodmanTimeout):
            await live(podman, Teardown())
    assert podman.containers == {}


@pytest.mark.contract("SES-27", "SES-29")
async def test_a_container_that_cannot_be_removed_is_noted(podman: FakePodman) -> None:
    teardown = Teardown()
    podman.failures["remove"] = [PodmanError("device busy")]
    await live(podman, teardown)
    assert teardown.error == "container removal: device busy"


@pytest.mark.contract("SES-30")
async def test_the_error_of_the_session_is_not_replaced_by_that_of_the_removal(
    podman: FakePodman,
) -> None:
    teardown = Teardown()
    podman.failures = {"start": [PodmanError("first")], "remove": [PodmanError("second")]}
    with pytest.raises(PodmanError, match="first"):
        await live(podman, teardown)
    assert teardown.error == "container removal: second"


@pytest.mark.contract("F-06")
async def test_one_that_may_run_is_killed_before_it_is_removed(podman: FakePodman) -> None:
    async with session_container(
        builders.session(), podman.engine(), SPEC, Teardown()
    ) as container:
        await container.start()
    assert podman.calls[-2:] == ["kill", "remove"]


@pytest.mark.contract("SES-27")
async def test_a_kill_that_fails_does_not_keep_it_from_being_removed(podman: FakePodman) -> None:
    podman.failures["kill"] = [PodmanError("did not die")]
    teardown = Teardown()
    async with session_container(builders.session(), podman.engine(), SPEC, teardown) as container:
        await container.start()
    assert podman.containers == {}
    assert teardown.failures == []


@pytest.mark.contract("F-34")
async def test_a_podman_that_hangs_in_the_removal_is_given_up(
    podman: FakePodman, autojump_clock: MockClock
) -> None:
    async def hang(_name: str) -> None:
        await trio.sleep_forever()

    podman.remove = hang  # type: ignore[method-assign, assignment]
    teardown = Teardown()
    await live(podman, teardown)
    assert teardown.failures == ["container removal: not done within 60 s"]


# --- start ---------------------------------------------------------------------------------------


async def test_a_start_that_is_refused_is_no_start(
    podman: FakePodman, container: SessionContainer
) -> None:
    podman.failures["start"] = [PodmanError("OCI permission denied", status=500)]
    with pytest.raises(PodmanError, match="OCI permission denied"):
        await container.start()
    assert not container.started


@pytest.mark.parametrize("error", LOST)
@pytest.mark.parametrize(
    "then", [state("running"), state("exited", 7, ended=1)], ids=["runs", "ended"]
)
async def test_a_start_whose_reply_was_lost_is_seen_in_the_state_and_not_sent_again(
    podman: FakePodman,
    container: SessionContainer,
    autojump_clock: MockClock,
    error: PodmanError,
    then: ContainerState,
) -> None:
    """Design D5b."""
    podman.lost_replies["start"] = error
    podman.on_inspect = shows(podman, builders.never_started(), builders.never_started(), then)
    await container.start()
    assert container.started
    assert podman.counts["start"] == 1


@pytest.mark.parametrize("error", LOST)
@pytest.mark.parametrize("last", [builders.never_started(), None], ids=["created", "gone"])
async def test_a_lost_start_that_shows_no_effect_is_given_up_and_not_sent_again(
    podman: FakePodman,
    container: SessionContainer,
    autojump_clock: MockClock,
    error: PodmanError,
    last: ContainerState | None,
) -> None:
    """Design D5b."""
    podman.failures["start"] = [error]
    podman.on_inspect = shows(podman, last)
    with pytest.raises(type(error)):
        await container.start()
    assert trio.current_time() == 30.0
    assert not container.started
    assert podman.counts["start"] == 1


async def test_a_podman_that_restarts_during_a_start_is_asked_again(
    podman: FakePodman, container: SessionContainer, autojump_clock: MockClock
) -> None:
    """Design D5b: the service is away for a moment when the reply is lost because it died."""
    podman.lost_replies["start"] = PodmanUnreachable("the connection broke")
    podman.failures["inspect"] = [PodmanUnreachable("no service"), PodmanUnreachable("no service")]
    await container.start()
    assert container.started
    assert podman.counts["start"] == 1


async def test_a_cancel_during_the_start_counts_as_started(
    podman: FakePodman, container: SessionContainer
) -> None:
    podman.cancel_at = 1
    with trio.CancelScope() as podman.scope:
        await container.start()
    assert container.started


async def test_only_so_many_containers_start_at_once(podman: FakePodman, hint: Hint) -> None:
    limiter = trio.CapacityLimiter(1)
    container = SessionContainer(podman.as_podman, SPEC.name, hint, limiter)
    async with trio.open_nursery() as nursery:
        await limiter.acquire_on_behalf_of("another session")
        nursery.start_soon(container.create, SPEC)
        await wait_all_tasks_blocked()
        assert podman.calls == []
        limiter.release_on_behalf_of("another session")
    assert podman.calls == ["create"]


# --- the end -------------------------------------------------------------------------------------


async def test_a_hint_only_wakes_and_the_state_decides(
    podman: FakePodman, container: SessionContainer, hint: Hint
) -> None:
    """Design D5a."""
    podman.on_inspect = shows(
        podman, state("running"), state("stopping"), state("exited", 3, ended=9)
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(container.wait_ended)
        for looks in (1, 2):
            await wait_all_tasks_blocked()
            assert podman.counts["inspect"] == looks
            assert not container.ended
            hint.give()
    assert container.ended
    assert container.state == state("exited", 3, ended=9)


@pytest.mark.parametrize(
    "last",
    [state("exited"), state("created"), None],
    ids=["reboot of Podman 5", "reboot of Podman 4", "removed"],
)
async def test_a_container_that_will_never_end_counts_as_ended(
    podman: FakePodman, container: SessionContainer, last: ContainerState | None
) -> None:
    podman.on_inspect = shows(podman, last)
    await container.wait_ended()
    assert container.ended
    assert container.state == last


async def test_podman_may_be_away_for_as_long_as_it_likes(
    podman: FakePodman, container: SessionContainer, autojump_clock: MockClock
) -> None:
    podman.failures["inspect"] = [PodmanUnreachable("away")] * 1000
    podman.on_inspect = shows(podman, state("exited", 0, ended=1))
    await container.wait_ended()
    assert container.ended


async def test_a_hint_ends_the_pause_before_podman_is_asked_again(
    podman: FakePodman, container: SessionContainer, hint: Hint
) -> None:
    podman.failures["inspect"] = [PodmanUnreachable("away")]
    podman.on_inspect = shows(podman, state("exited", 0, ended=1))
    hint.give()
    with trio.fail_after(0.9):
        await container.wait_ended()


async def test_a_hint_that_comes_before_the_end_is_recorded_costs_a_second(
    podman: FakePodman, container: SessionContainer, hint: Hint, autojump_clock: MockClock
) -> None:
    """conmon closes the log a moment before it records the exit code."""
    podman.on_inspect = shows(
        podman, state("running"), state("running"), state("exited", 0, ended=1)
    )
    hint.give()
    await container.wait_ended()
    assert (container.state, trio.current_time()) == (state("exited", 0, ended=1), 1.0)


async def test_without_a_hint_nothing_is_asked(
    podman: FakePodman, container: SessionContainer, autojump_clock: MockClock
) -> None:
    with trio.move_on_after(3600):
        await container.wait_ended()
    assert podman.calls == ["inspect"]


async def test_an_end_without_conmon_is_an_end(
    podman: FakePodman, container: SessionContainer, autojump_clock: MockClock
) -> None:
    """Podman then says `running` for ever."""
    podman.containers[SPEC.name] = state("running")
    podman.dead.add(SPEC.name)
    await container.wait_ended()
    assert (container.ended, container.state) == (True, state("running"))


async def test_an_exit_that_conmon_is_about_to_record_is_not_lost(
    podman: FakePodman, container: SessionContainer, autojump_clock: MockClock
) -> None:
    podman.on_inspect = shows(podman, state("running"), state("exited", 0, ended=1))
    podman.dead.add(SPEC.name)
    await container.wait_ended()
    assert container.state == state("exited", 0, ended=1)


async def test_a_session_without_conmon_goes_on_while_it_has_a_process(
    podman: FakePodman, container: SessionContainer, autojump_clock: MockClock
) -> None:
    podman.containers[SPEC.name] = state("running")
    with trio.move_on_after(3600) as scope:
        await container.wait_ended()
    assert (scope.cancelled_caught, container.ended) == (True, False)


@pytest.mark.contract("SES-26")
async def test_a_kill_that_podman_complains_of_may_have_worked(
    podman: FakePodman, container: SessionContainer
) -> None:
    """Without conmon nobody records the exit, and Podman complains after it has killed."""
    podman.failures["kill"] = [PodmanError("timed out waiting for file")]
    podman.containers[SPEC.name] = state("stopped", -1, ended=1)
    await container.kill()
    assert (container.ended, container.state) == (True, state("stopped", -1, ended=1))


@pytest.mark.contract("SES-26")
async def test_a_kill_that_did_not_work_is_an_error(
    podman: FakePodman, container: SessionContainer
) -> None:
    podman.failures["kill"] = [PodmanError("did not die")]
    podman.containers[SPEC.name] = state("running")
    with pytest.raises(PodmanError, match="did not die"):
        await container.kill()
    assert not container.ended


@pytest.mark.contract("SES-23")
async def test_a_kill_gives_the_last_state(podman: FakePodman, container: SessionContainer) -> None:
    podman.containers[SPEC.name] = state("running")
    await container.kill()
    assert container.ended
    assert container.state == state("exited", 137, ended=1)
