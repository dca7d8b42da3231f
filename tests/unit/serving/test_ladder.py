from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.serving.ladder import Ladder

RUNGS = ("full", "fewer", "baseline", "popular", "empty")
COSTS = (1.0, 0.5, 0.3, 0.1)  # of an answer, as a share of the best one's
LOOK_S = 0.05


def shares(load: float, known: int = len(COSTS)) -> Callable[[int], float | None]:
    return lambda level: load * COSTS[level] if level < known else None


class Driven:
    """A ladder that is looked at twenty times a second, at loads that are known for every level it has been at."""

    def __init__(self, known: int = len(COSTS)) -> None:
        self.ladder, self.now_s, self.known = Ladder(RUNGS), 0.0, known
        self.seen: list[int] = []

    def run(self, load: float, seconds: float, crowded: bool | None = None) -> int:
        """The level after some time; requests wait long where more is asked for than can be done, unless told."""
        for _ in range(round(seconds / LOOK_S)):
            self.now_s += LOOK_S
            asked = shares(load, self.known)
            is_crowded = (asked(self.ladder.level) or 0) > 1 if crowded is None else crowded
            level = self.ladder.loaded(self.now_s, asked, is_crowded)
            self.seen.append(level)
        return self.ladder.level

    @property
    def moves(self) -> int:
        return sum(a != b for a, b in pairwise(self.seen))


@pytest.mark.parametrize(("load", "level"), [(0.5, 0), (1.5, 1), (3, 2), (8, 3), (50, 3)])
def test_a_load_is_met_by_the_best_level_that_can_do_all_of_it(load: float, level: int):
    assert Driven().run(load, 5) == level


def test_a_level_that_nobody_has_measured_is_tried_before_the_next():
    driven = Driven(known=1)
    driven.run(50, LOOK_S)
    assert driven.ladder.level == 1
    driven.run(50, 1)
    assert driven.ladder.level == 1, "its cost is not known, so nothing says that it is too much"


def test_load_never_brings_it_to_an_empty_answer_and_a_fault_does():
    driven = Driven()
    assert driven.run(1000, 5) == RUNGS.index("popular")
    for _ in range(3):
        driven.ladder.ended(driven.now_s, driven.ladder.level, None, excused=False)
    assert driven.ladder.level == RUNGS.index("empty")


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0.05, 20)), max_size=12))
def test_full_quality_is_back_within_ten_seconds_whatever_was_before(
    history: list[tuple[float, float]],
):
    driven = Driven()
    for load, seconds in history:
        driven.run(load, seconds)
    assert driven.run(0.5, 10) == 0


@given(st.floats(0, 30), st.sampled_from([None, True]))
def test_it_does_not_swing_at_a_steady_load(load: float, crowded: bool | None):
    driven = Driven()
    driven.run(load, 60, crowded)
    assert driven.moves <= len(COSTS)
    assert driven.seen == sorted(driven.seen)


@given(st.integers(1, 40), st.floats(1.05, 30))
def test_a_load_that_comes_and_goes_moves_it_seldom(halves: int, load: float):
    """Between bursts that are nearer than the hold it stays down."""
    driven = Driven()
    for _ in range(halves):
        driven.run(load, 0.5)
        driven.run(0.1, 0.5)
    assert driven.moves <= len(COSTS) + 1


def test_a_climb_that_was_wrong_makes_the_next_one_later():
    driven = Driven()
    at = []
    for _ in range(3):
        driven.run(3, 1)
        begin_s = driven.now_s
        while driven.run(0.1, LOOK_S):
            assert driven.now_s < begin_s + 10
        at.append(round(driven.now_s - begin_s, 2))
    assert at[0] < at[1] < at[2] <= 6.1


def test_between_the_two_thresholds_nothing_moves():
    driven = Driven()
    assert driven.run(0.9, 20) == 0
    driven.run(1.5, 1)
    assert driven.run(0.9, 20) == 1
    assert driven.run(0.7, 3) == 0


def test_who_asks_for_all_that_can_be_done_and_hardly_waits_has_full_answers():
    assert Driven().run(1.3, 5, crowded=False) == 0


def test_who_are_few_have_the_best_answers_that_they_can_all_wait_for():
    ladder = Ladder(RUNGS)
    for look in range(400):
        # Four times what can be done, as long as it is done at once.
        level = ladder.loaded(
            look * LOOK_S,
            shares(4),
            crowded=look < 20,
            few=lambda level, late=look >= 20: late and level > 0,
        )
    assert level == 1


def test_requests_refused_at_a_load_that_is_nearly_all_bring_it_down():
    driven = Driven()
    assert driven.run(0.5, 5, crowded=True) == 0
    assert driven.run(0.9, 5, crowded=True) == 1


def test_a_short_crowd_at_a_load_that_is_nearly_all_does_not_bring_it_down():
    """After a climb the first answers find nothing warm, and for a moment it is crowded."""
    driven = Driven()
    for _ in range(20):
        assert driven.run(1.1, 0.4, crowded=True) == 0
        assert driven.run(1.1, 0.1, crowded=False) == 0
    assert driven.run(1.3, LOOK_S, crowded=True) == 1, "what is far too much is met at once"


@given(st.integers(0, 4))
def test_a_look_in_five_that_is_too_high_by_chance_does_not_keep_it_down(when: int):
    driven = Driven()
    driven.run(3, 1)
    for look in range(60):
        driven.run(0.9 if look % 5 == when else 0.5, LOOK_S)
    assert driven.ladder.level == 0
    driven.run(3, 1)
    for _ in range(60):  # at half of the looks it is too much
        driven.run(0.9, LOOK_S)
        driven.run(0.5, LOOK_S)
    assert driven.ladder.level == 1


def test_while_there_is_time_answers_now_and_then_are_made_at_better_levels():
    driven = Driven()
    driven.run(3, 5)
    assert [driven.ladder.begin(driven.now_s + i) for i in range(4)] == [2, 2, 2, 2]
    driven.run(0.9, 1)
    begun = [driven.ladder.begin(driven.now_s + i / 20) for i in range(20)]
    assert set(begun) == {0, 1, 2}
    assert begun.count(2) > 14


def test_a_stage_that_fails_in_a_row_is_left_out_and_tried_again_after_a_rest():
    ladder = Ladder(RUNGS)
    for _ in range(2):
        ladder.ended(0, 0, "baseline", excused=False)
    ladder.ended(0, 0, "full", excused=False)  # it was not in a row
    for _ in range(2):
        ladder.ended(0, 0, "baseline", excused=False)
    assert ladder.level == 0
    ladder.ended(0, 0, "baseline", excused=False)
    assert ladder.level == 2
    assert [ladder.begin(t) for t in (0.1, 0.9, 1.1, 1.2, 1.9)] == [2, 2, 0, 2, 2]
    ladder.ended(1.15, 0, "baseline", excused=False)
    assert [ladder.begin(t) for t in (1.3, 3.0, 3.2, 3.3)] == [2, 2, 0, 2]
    ladder.ended(3.3, 0, "full", excused=False)
    assert ladder.level == 0


def test_who_left_no_time_breaks_nothing():
    ladder = Ladder(RUNGS)
    for _ in range(100):
        ladder.ended(0, 0, "popular", excused=True)
    assert ladder.level == 0


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=200))
def test_a_broken_stage_is_tried_seldom_and_a_mended_one_is_back(
    answers: list[tuple[float, bool]],
):
    ladder, now_s, tries = Ladder(RUNGS), 0.0, []
    for after_s, is_broken in answers:
        now_s += after_s
        level, floor = ladder.begin(now_s), ladder.floor
        if level < floor:
            tries.append(now_s)
        rung = "baseline" if level == 0 and is_broken else RUNGS[level]
        ladder.ended(now_s, level, rung, excused=False)
    assert all(b - a >= 1.0 for a, b in pairwise(tries))
    now_s += 8.1
    level = ladder.begin(now_s)
    ladder.ended(now_s, level, "full", excused=False)
    assert ladder.level == 0
