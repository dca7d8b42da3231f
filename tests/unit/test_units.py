import pytest

from sevenfold.errors import TimeError
from sevenfold.spec.units import US_PER_UNIT, default_hop_us, duration_text, parse_duration


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("0 s", 0),
        ("1us", 1),
        ("2.5 ms", 2_500),
        (" 90 min ", 5_400_000_000),
        ("1.5h", 5_400_000_000),
        ("0.1 s", 100_000),
        ("30 d", 2_592_000_000_000),
    ],
)
def test_a_duration_is_whole_microseconds(text, us) -> None:
    assert parse_duration(text) == us


@pytest.mark.parametrize(
    "text",
    [
        10,
        1.5,
        None,
        True,
        "",
        "10",
        "s",
        "-1 s",
        "1e3 s",
        "1 week",
        "1 H",
        "1 s 2",
        "١ s s",
        ".5 s",
    ],
)
def test_what_is_not_a_duration_is_refused_with_the_units(text) -> None:
    with pytest.raises(TimeError, match="us, ms, s, min, h, d"):
        parse_duration(text)


def test_a_part_of_a_microsecond_is_refused() -> None:
    with pytest.raises(TimeError, match="whole number of microseconds"):
        parse_duration("0.0000001 s")


def test_a_duration_beyond_the_calendar_is_refused() -> None:
    with pytest.raises(TimeError, match="64-bit"):
        parse_duration("999999999999 d")


@pytest.mark.parametrize("unit", US_PER_UNIT)
def test_text_and_duration_are_inverse(unit) -> None:
    for n in (1, 7, 23):
        assert parse_duration(duration_text(n * US_PER_UNIT[unit])) == n * US_PER_UNIT[unit]


@pytest.mark.parametrize(
    ("window", "hop"),
    [
        ("1 s", "1 s"),
        ("1 min", "1 s"),
        ("239999999 us", "1 s"),
        ("4 min", "10 s"),
        ("10 min", "10 s"),
        ("1 h", "1 min"),
        ("2 h", "5 min"),
        ("24 h", "1 h"),
        ("7 d", "1 h"),
        ("24 d", "1 d"),
        ("30 d", "1 d"),
    ],
)
def test_the_default_hop_is_the_largest_at_most_a_24th(window, hop) -> None:
    assert default_hop_us(parse_duration(window)) == parse_duration(hop)
