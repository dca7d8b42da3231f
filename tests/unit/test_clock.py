import pytest

from sevenfold.clock import ManualClock, SystemClock, elapsed_s
from sevenfold.errors import TimeError


def test_a_manual_clock_stands_still_until_told() -> None:
    clock = ManualClock(5)
    assert [clock.now_us(), clock.now_us()] == [5, 5]
    clock.advance(0)
    clock.set(7)
    assert clock.now_us() == 7


def test_a_manual_clock_never_goes_back() -> None:
    clock = ManualClock(5)
    with pytest.raises(TimeError, match="stands at 5 us and was set to 4 us"):
        clock.set(4)
    with pytest.raises(TimeError):
        clock.advance(-1)
    assert clock.now_us() == 5


def test_the_system_clock_counts_microseconds_of_this_century() -> None:
    assert 1_577_836_800_000_000 < SystemClock().now_us() < 4_102_444_800_000_000


def test_elapsed_seconds_do_not_fall() -> None:
    first = elapsed_s()
    assert elapsed_s() >= first
