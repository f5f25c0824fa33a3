"""Where in the container an operator's mount may go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd import mount_rules

PLAIN = "mount target must be an absolute path without trailing '/'"
RESERVED = "mount target is reserved by the runner: "


@pytest.mark.contract("MNT-04")
@pytest.mark.parametrize(
    "target",
    [
        *(
            "",
            "data",
            "./data",
            "/data/",
            "/data/.",
            "/data/..",
            "/a/../b",
            "/a/./b",
            "//a",
            "/a//b",
        ),
        *("/a,b", "/a*", "/a?", "/a[b", "/a]b", "/a\\b", "/a\nb", "/a\0b"),
    ],
)
def test_a_target_that_is_no_plain_absolute_path_is_refused(target: str) -> None:
    assert (mount_rules.target_fault(target, "a") or "").startswith(PLAIN)


@pytest.mark.contract("MNT-05", "MNT-06", "MNT-07")
@pytest.mark.parametrize(
    "target",
    [
        *("/agentd/methodology", "/agentd/methodology/x", "/home/bob", "/home/bob/repo"),
        *("/home/bob/repo/x/y", "/home/bob/.agentd", "/home/bob/.agentd/audit"),
        *("/agentd/invocation-input", "/agentd/invocation-input/x"),
    ],
)
def test_the_runners_own_places_are_reserved(target: str) -> None:
    assert mount_rules.target_fault(target, "bob") == f"{RESERVED}'{target}'"


@pytest.mark.contract("MNT-08")
@pytest.mark.parametrize("target", ["/", "/agentd", "/home"])
def test_every_ancestor_of_a_reserved_place_is_reserved(target: str) -> None:
    assert mount_rules.target_fault(target, "bob") == f"{RESERVED}'{target}'"


@pytest.mark.contract("MNT-09")
@pytest.mark.parametrize(
    "target",
    [
        *("/home/bob/.claude", "/home/bob/.runa", "/home/bob/repo-cache", "/home/bob/.agentd-x"),
        *("/agentd/methodology-cache", "/home/alice", "/home/alice/repo", "/data", "/a b/ü:=."),
    ],
)
def test_other_targets_are_allowed(target: str) -> None:
    assert mount_rules.target_fault(target, "bob") is None


@pytest.mark.contract("MNT-10")
def test_an_equal_target_clashes() -> None:
    assert mount_rules.clash("/a", ("/b", "/a")) == 1


@pytest.mark.contract("MNT-11")
@pytest.mark.parametrize(("target", "earlier"), [("/a/b", "/a"), ("/a", "/a/b/c")])
def test_nested_targets_clash_in_either_order(target: str, earlier: str) -> None:
    assert mount_rules.clash(target, ("/x", earlier)) == 1


@pytest.mark.contract("MNT-11")
def test_the_first_of_several_clashes_is_told() -> None:
    assert mount_rules.clash("/a", ("/a/b", "/a/c")) == 0


@pytest.mark.contract("MNT-11")
def test_targets_with_a_common_beginning_do_not_clash() -> None:
    assert mount_rules.clash("/home/bob/.config", ("/home/bob/.config-alt", "/a")) is None


@pytest.mark.contract("MNT-08", "MNT-11")
@given(st.text(alphabet="ab/.-", max_size=12), st.sampled_from(["/agentd", "/home/bob/repo", ""]))
def test_an_accepted_target_never_touches_a_reserved_one(tail: str, start: str) -> None:
    target = start + tail
    if mount_rules.target_fault(target, "bob") is None:
        assert mount_rules.clash(target, mount_rules.reserved_targets("bob")) is None
