"""Durations and sizes as operators write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.quantities import MAX_DURATION, parse_duration, parse_size


@pytest.mark.contract("F-52")
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1d", 86400),
        ("500ms", 0.5),
        ("1m500ms", 60.5),
        ("0h5m", 300),
        ("3650d", MAX_DURATION),
    ],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "90",
        "s",
        "1.5h",
        "-1s",
        "+1s",
        "1s ",
        "1 s",
        "1H",
        "30m1h",
        "1h1h",
        "٣s",
        "1w",
        "5s\n",
    ],
)
def test_what_is_no_duration_is_refused_with_its_form(text: str) -> None:
    with pytest.raises(ValueError, match="write whole numbers with the units d, h, m, s or ms"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0s", "0d0h0m0s0ms", "3651d", "999999999d"])
def test_a_duration_of_nothing_or_of_ages_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="from 1ms to 3650d"):
        parse_duration(text)


@given(st.integers(min_value=1, max_value=int(MAX_DURATION) * 1000))
def test_durations_round_trip(milliseconds: int) -> None:
    left, text = milliseconds, ""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    assert parse_duration(text) == milliseconds / 1000


@given(st.text())
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        assert parse_duration(text) > 0
    except ValueError as error:
        assert "duration" in str(error)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1B", 1),
        ("4096 B", 4096),
        ("1kB", 1000),
        ("1GB", 10**9),
        ("512MiB", 512 * 2**20),
        ("4GiB", 4 * 2**30),
        ("2TiB", 2 * 2**40),
        ("9223372036854775807B", 2**63 - 1),
    ],
)
def test_a_size_is_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "4", "4G", "4gib", "1.5GiB", "-1B", "GiB", "4  GiB", "٣B"])
def test_what_is_no_size_is_refused_with_its_form(text: str) -> None:
    with pytest.raises(ValueError, match="write a whole number and one of B, kB"):
        parse_size(text)


@pytest.mark.parametrize("text", ["9223372036854775808B", "9999999999TiB"])
def test_a_size_that_fits_no_64_bits_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="too large"):
        parse_size(text)
