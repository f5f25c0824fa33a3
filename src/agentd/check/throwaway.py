"""A container that is thrown away: what a session would get, with a script that looks around.

It is made from a session's own specification, less its network and its names: a daemon removes
containers of its instance that it does not know, and this one is of none. It is removed whatever
happens.
"""

from __future__ import annotations

import datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import trio

from .. import audit, cri, names
from ..audit import Record
from ..config import Agent, Limits
from ..errors import AgentdError, ImageUnfit
from ..methodology import MANIFEST
from ..podman import ContainerSpec, ContainerState, Image, Namespace, Podman
from ..session.container import SessionContainer
from ..session.facts import start_facts
from ..session.invocation import Invocation
from ..session.setup import required_tools
from ..session.spec import (
    METHODOLOGY,
    SESSION_ID,
    Admitted,
    HostAbilities,
    container_spec,
)
from ..session.teardown import Teardown
from ..watch import CLOSED, Hint, Watcher
from . import image_rules
from .finding import Finding, Tell, fail, ok, refused
from .look import is_directory
from .trial_record import PREFIX, sealed, trial_record

TRIAL_SECONDS: Final = 60.0
"""How long the container may take; a second is usual."""

OUTPUT_BYTES: Final = 1024 * 1024
"""Of what the container wrote, so much is read."""


class Bench(NamedTuple):
    """What a trial needs."""

    podman: Podman
    watcher: Watcher
    abilities: HostAbilities
    place: Path
    """Where the record is made for the while."""
    is_root: bool
    """Whether that is on the file system of the audit root."""


async def try_session(
    bench: Bench,
    agent: Agent,
    image: Image,
    sources: tuple[str | None, ...],
    tell: Tell,
    *,
    methodology_sound: bool,
) -> bool:
    """Look at an image from the inside, and seal a file that the session user wrote; whether that
    was tried.

    `sources` are the agent's mount sources, None for those that are not there.
    """
    admitted = trial_admitted(agent, image, sources, bench.abilities)
    whose = names.Identity("0" * 8, names.new_session_id())
    start = msgspec.structs.replace(
        start_facts(admitted, whose, datetime.datetime.now(datetime.UTC)),
        container_name=f"{PREFIX}{whose.session}",
    )
    owner = bench.abilities.session_owner
    try:
        async with trial_record(bench.place, start, owner, tell) as record:
            spec = trial_spec(admitted, start, record, bench.abilities)
            seen, trouble = await _look(bench, spec, record, tell)
            for finding in image_rules.findings(agent, seen, methodology_sound=methodology_sound):
                tell(finding)
            if trouble:
                remedy = f"look what keeps {agent.base_image}, or runa in it, from it"
                tell(fail("image-trial", trouble, remedy, agent.name))
            elif bench.is_root and not seen.get("missing"):
                tell(
                    await _record_finding(record, start, bench.abilities, written="written" in seen)
                )
                return True
    except ImageUnfit as error:
        tell(refused("image-tools", error, "put a shell into the image", agent.name))
    except AgentdError as error:
        remedy = "see what Podman and the host say of it"
        tell(refused("image-trial", error, remedy, agent.name))
    return False


def trial_admitted(
    agent: Agent, image: Image, sources: tuple[str | None, ...], abilities: HostAbilities
) -> Admitted:
    """The agent's plainest session, with what it declares as far as this machine has it."""
    there = [(m, s) for m, s in zip(agent.mounts, sources, strict=True) if s is not None]
    limits = agent.limits
    able = Limits(
        memory=limits.memory if "memory" in abilities.controllers else None,
        cpus=limits.cpus if "cpu" in abilities.controllers else None,
        pids=limits.pids if "pids" in abilities.controllers else None,
    )
    plain = msgspec.structs.replace(
        agent,
        mounts=tuple(mount for mount, _ in there),
        limits=able,
        timeout=TRIAL_SECONDS,
    )
    return Admitted(
        invocation=Invocation(agent=plain, repo_url="", credentials=()),
        document=None,
        mount_sources=tuple(source for _, source in there),
        image=image,
    )


def trial_spec(
    admitted: Admitted, start: audit.Start, record: Record, abilities: HostAbilities
) -> ContainerSpec:
    """The specification of the session's container, with our script, no network, other names."""
    agent = admitted.invocation.agent
    whole = container_spec(
        admitted,
        names.Identity("0" * 8, start.session_id),
        record,
        abilities,
        started_at=start.start_timestamp,
        grace_seconds=0,
    )
    has_methodology = is_directory(agent.methodology_dir)
    home = f"/home/{agent.name}"
    arguments = (
        str(SESSION_ID),
        home,
        f"{home}/.agentd/audit/runa",
        f"{METHODOLOGY}/{MANIFEST}" if has_methodology else "",
        agent.environment.get("PATH", ""),
        image_rules.command_word(agent),
        *required_tools(),
    )
    return msgspec.structs.replace(
        whole,
        name=start.container_name,
        labels={"agentd.check": start.session_id},
        command=("-c", probe_script(), "agentd", *arguments),
        mounts=tuple(
            mount for mount in whole.mounts if has_methodology or mount.destination != METHODOLOGY
        ),
        netns=Namespace("none"),
        networks=msgspec.UNSET,
    )


@cache
def probe_script() -> str:
    """The text of `probe.sh`."""
    return (resources.files(__package__) / "probe.sh").read_text(encoding="utf-8")


async def _record_finding(
    record: Record, start: audit.Start, abilities: HostAbilities, *, written: bool
) -> Finding:
    """Whether the record can be sealed, with what the session user has written into it."""
    remedy = "keep records on a local file system that Podman's containers can write"
    if not written:
        text = "the session user cannot write into its record"
        return fail("record", text, remedy, start.agent)
    try:
        return ok("record", await sealed(record, start, abilities), start.agent)
    except AgentdError as error:
        return refused("record", error, remedy, start.agent)


# --- the container -------------------------------------------------------------------------------


async def _look(
    bench: Bench, spec: ContainerSpec, record: Record, tell: Tell
) -> tuple[image_rules.Facts, str]:
    """What the script in the container has seen; and why that is not all, or nothing.

    Raises:
        AgentdError: the container could not be made or started.
    """
    state = await _last_state(bench, spec, record, tell)
    with record.output_raw.open("rb") as file:
        entries = cri.Parser().feed(file.read(OUTPUT_BYTES))
    output = b"".join(entry.data for entry in entries).decode(errors="replace")
    seen = image_rules.facts(output)
    if "end" in seen:
        return seen, ""
    how = f"was not done within {TRIAL_SECONDS:g} s"
    if state is not None and state.finished:
        how = f"ended with status {state.exit_code}"
    said = " ".join(output.split()[-40:]) or "nothing"
    return seen, f"the look into the image {how}; the last that it said: {said}"


async def _last_state(
    bench: Bench, spec: ContainerSpec, record: Record, tell: Tell
) -> ContainerState | None:
    hint = Hint()
    container = SessionContainer(bench.podman, spec.name, hint, trio.CapacityLimiter(1))
    teardown = Teardown()
    try:
        await container.create(spec)
        await container.check_entrypoint(spec.entrypoint[0])
        with (
            trio.move_on_after(TRIAL_SECONDS),
            bench.watcher.watch(record.output_raw, CLOSED, hint),
        ):
            await container.start()
            await container.wait_ended()
    finally:
        # Shields, within a bound.
        await teardown.insist("container removal", container.remove)  # noqa: ASYNC102
        if teardown.error is not None:
            text = f"the container {spec.name} could not be removed: {teardown.error}"
            tell(fail("left-behind", text, f"run 'podman rm --force {spec.name}'"))
    return container.state
