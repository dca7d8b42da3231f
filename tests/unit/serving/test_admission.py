from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sevenfold.serving.admission import Admission, Priority, Ticket
from sevenfold.serving.costs import Costs, Demand, kind_of

BUDGET_S, SLICE_S = 0.15, 0.004
RANK, POST = kind_of("/v1/rank", 700), kind_of("/v1/events", 700)


def made(rank_s: float = 0.005, post_s: float = 0.005) -> Admission:
    admission = Admission(BUDGET_S)
    admission.slice_s = SLICE_S
    admission.serve("/v1/rank", "answers")
    admission.serve("/v1/events", "events")
    admission.costs.note(RANK, 0, rank_s, 0.0)
    admission.costs.note(POST, 0, post_s, 0.0)
    return admission


def come(
    admission: Admission,
    at_s: float = 0.0,
    priority: Priority = Priority.NORMAL,
    kind: tuple[str, int] = RANK,
    now_s: float | None = None,
) -> Ticket | None:
    """The ticket of a request that waits; None when it was refused."""
    ticket = admission.ticket(kind, priority, 700, at_s)
    if admission.ask(ticket, at_s if now_s is None else now_s, 10.0) is not None:
        return None
    admission.join(ticket)
    return ticket


def one_turn(admission: Admission, now_s: float, slice_s: float) -> list[Ticket]:
    admission.slice_s = slice_s
    return admission.turn(now_s)[0]


class Simulated:
    """One server in a time of its own: requests come every `gap_s`, and each turn takes what `taken_s` says."""

    def __init__(self, admission: Admission, gap_s: float, refusing_s: float = 0.00002) -> None:
        self.admission, self.gap_s, self.refusing_s = admission, gap_s, refusing_s
        self.now_s = self.due_s = 0.0
        self.n = self.answered = 0
        self.useful: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.slowest_s, self.beyond = 0.0, 0

    def run(self, seconds: float, taken_s: list[float], high_every: int = 7) -> None:
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            began_s = self.now_s
            turn, late = self.admission.turn(self.now_s)
            self.refused["late"] += len(late)
            for ticket in turn:
                self.now_s += taken_s[self.answered % len(taken_s)]
                self.answered += 1
                self.admission.costs.note(ticket.kind, 0, self.now_s - began_s, self.now_s)
                self.admission.spent(ticket, self.now_s - began_s)
                took_s = self.now_s - ticket.arrived_s
                self.slowest_s = max(self.slowest_s, took_s)
                if took_s <= BUDGET_S:
                    self.useful[ticket.priority.name] += 1
                else:
                    self.beyond += 1
            turn_s = self.now_s - began_s
            while self.due_s <= self.now_s:
                self._arrive(high_every)
            if turn:
                self.admission.costs.note_round(turn_s, self.now_s - began_s)
            else:
                self.now_s = self.due_s

    def _arrive(self, high_every: int) -> None:
        self.n += 1
        priority = Priority.NORMAL if self.n % high_every else Priority.HIGH
        if come(self.admission, self.due_s, priority, now_s=self.now_s) is None:
            self.refused[priority.name] += 1
            self.now_s += self.refusing_s
        self.due_s += self.gap_s


@settings(max_examples=25)
@given(st.lists(st.floats(0.002, 0.02), min_size=1, max_size=20), st.floats(2, 12))
@example([0.01953125, 0.005, 0.002], 4.9)  # some take ten times what others of their kind do
@example([0.01953125, 0.005, 0.002], 6.0)
def test_ten_times_too_much_leaves_nearly_all_the_time_useful(taken_s: list[float], load: float):
    mean_s = sum(taken_s) / len(taken_s)
    simulated = Simulated(made(), mean_s / load)
    simulated.run(1, taken_s)  # until the cost is known
    simulated.slowest_s, simulated.beyond = 0.0, 0
    before = sum(simulated.useful.values())
    simulated.run(4, taken_s)
    # What refusing takes is the only loss.
    refusing_s, came = simulated.refusing_s, load / mean_s
    most = 4 * (1 - came * refusing_s) / (mean_s - refusing_s)
    assert sum(simulated.useful.values()) - before >= 0.95 * most - 1
    assert simulated.slowest_s <= BUDGET_S + max(taken_s)
    assert simulated.beyond <= 0.02 * simulated.answered


def test_the_high_class_is_served_in_full_while_others_are_refused():
    simulated = Simulated(made(), 0.0005)
    simulated.run(4, [0.005], high_every=20)  # half of what can be done is asked for by it
    assert simulated.refused["HIGH"] == 0
    assert simulated.refused["NORMAL"] > 5000
    assert simulated.useful["HIGH"] > 350


def test_a_server_that_gets_slow_lets_fewer_in_and_is_useful_still():
    simulated = Simulated(made(), 0.002)
    simulated.run(1, [0.002])
    before = sum(simulated.useful.values())
    simulated.run(4, [0.02])
    assert sum(simulated.useful.values()) - before > 0.85 * 4 / 0.021


def test_time_bounds_the_queue_and_not_a_number():
    for cost_s in (0.0005, 0.005, 0.02):
        admission = made(cost_s)
        n = 0
        while come(admission):
            n += 1
        assert n == pytest.approx(0.45 * BUDGET_S / cost_s, abs=1)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(Priority)), st.sampled_from([RANK, POST]), st.floats(0, 0.1)
        ),
        max_size=100,
    )
)
def test_who_is_let_in_is_in_time(asked: list[tuple[Priority, tuple[str, int], float]]):
    """Nobody who was let in waits longer than half of the budget for those that were there before."""
    admission, now_s = made(), 0.0
    for priority, kind, after_s in asked:
        now_s += after_s
        ticket = come(admission, now_s, priority, kind)
        if ticket is not None and kind == RANK and priority is Priority.NORMAL:
            assert admission.wait_s("/v1/rank", priority) <= BUDGET_S * 0.45 + 2 * 0.005
        if after_s > 0.05:
            admission.turn(now_s)
    while len(admission):
        before = len(admission)
        turn, late = admission.turn(now_s)
        assert len(turn) + len(late) == before - len(admission) > 0
    assert admission.wait_s("/v1/rank", Priority.LOW) == 0


def test_a_class_goes_before_the_next_and_within_it_who_came_first():
    admission = made(0.001)
    low = come(admission, 0.0, Priority.LOW)
    normal = [come(admission, 0.0) for _ in range(2)]
    high = come(admission, 0.0, Priority.HIGH)
    order = [one_turn(admission, 0.01, 0.0)[0] for _ in range(4)]
    assert order == [high, *normal, low]


def test_the_low_class_is_let_in_last():
    admission = made()
    while come(admission, priority=Priority.LOW):
        pass
    assert len(admission) == pytest.approx(0.2 * BUDGET_S / 0.005, abs=1)
    assert come(admission) is not None


@given(st.floats(0.0005, 0.02), st.floats(0.0005, 0.02))
def test_answers_and_events_have_half_of_the_time_each(rank_s: float, post_s: float):
    admission = made(rank_s, post_s)
    had = Counter[str]()
    now_s = 0.0
    while now_s < 3:
        for kind in (RANK, POST):
            while come(admission, now_s, kind=kind):
                pass
        turn, _ = admission.turn(now_s)
        taken_s = sum(rank_s if ticket.kind == RANK else post_s for ticket in turn)
        admission.spent(turn[0], taken_s)
        had[turn[0].route] += taken_s
        now_s += taken_s
    assert had["/v1/rank"] == pytest.approx(had["/v1/events"], abs=0.1)


def test_a_group_that_was_idle_has_not_saved_up_time():
    admission = made()
    admission.spent(admission.ticket(POST, Priority.NORMAL, 700, 0.0), 1000.0)
    for kind in (POST, POST, RANK, RANK):
        come(admission, kind=kind)
    turns = []
    for _ in range(4):
        turns += one_turn(admission, 0.0, 0.0)
        admission.spent(turns[-1], 0.005)
    assert [ticket.kind for ticket in turns] in ([RANK, POST] * 2, [POST, RANK] * 2)


def test_a_turn_is_what_can_be_made_in_its_slice_and_of_one_group():
    admission = made(post_s=0.004)
    for _ in range(20):
        come(admission, kind=POST)
    come(admission)
    admission.spent(admission.ticket(RANK, Priority.NORMAL, 700, 0.0), 1.0)
    sizes = [len(one_turn(admission, 0.0, slice_s)) for slice_s in (0.001, 0.004, 0.028)]
    assert sizes == [1, 1, 7]
    admission.spent(admission.ticket(POST, Priority.NORMAL, 700, 0.0), 2.0)
    assert [ticket.kind for ticket in one_turn(admission, 0.0, 1.0)] == [RANK]
    assert len(one_turn(admission, 0.0, 0.004)) == 11, "no answer waits for these"


def test_what_nothing_is_known_of_has_a_turn_of_its_own():
    admission = Admission(BUDGET_S)
    admission.serve("/v1/rank", "answers")
    for _ in range(3):
        come(admission)
    assert len(one_turn(admission, 0.0, 1.0)) == 1


def test_who_waited_too_long_is_told_and_not_answered():
    admission = made()
    first, second = come(admission, 0.0), come(admission, 0.1)
    turn, late = admission.turn(0.149)
    assert (turn, late) == ([second], [first])


def test_what_takes_longer_than_it_may_is_answered_when_nobody_waits():
    admission = made(rank_s=10.0)
    ticket = come(admission, 0.0)
    assert ticket is not None
    assert come(admission, 0.0) is None
    assert admission.turn(0.01)[0] == [ticket]


def test_those_refused_together_do_not_come_back_together():
    admission = made()
    while come(admission):
        pass
    ticket = admission.ticket(RANK, Priority.NORMAL, 700, 0.0)
    times = Counter(admission.ask(ticket, 0.0, 10.0).retry_s for _ in range(1000))
    assert times.pop(11) < 10  # those whom the queue itself brings over the last second
    assert set(times) == set(range(1, 11))
    assert max(times.values()) < 1.2 * min(times.values())
    assert admission.reject("overloaded", 1e9, 1.0).retry_s == 60


def test_the_queue_is_bounded_though_nothing_is_known_of_the_costs():
    admission = Admission(BUDGET_S)
    admission.serve("/v1/rank", "answers")
    while come(admission):
        pass
    assert len(admission) == 4096
    admission = Admission(BUDGET_S)
    admission.serve("/v1/rank", "answers")
    for _ in range(4):
        admission.join(admission.ticket(RANK, Priority.NORMAL, 16 << 20, 0.0))
    small = admission.ticket(RANK, Priority.HIGH, 1, 0.0)
    assert admission.ask(small, 0.0, 1.0).reason == "queue_full"


def test_another_level_is_another_price_for_those_that_wait():
    admission = made(rank_s=0.01)
    admission.costs.note(RANK, 1, 0.001, 0.0)
    while come(admission):
        pass
    waiting = len(admission)
    admission.level = 1
    assert admission.wait_s("/v1/rank", Priority.NORMAL) == pytest.approx(waiting * 0.001)
    assert come(admission) is not None


def test_a_cost_follows_what_it_is_now():
    costs = Costs()
    for i in range(60):
        costs.note(RANK, 0, 0.1, i / 100)
    for i in range(60):
        costs.note(RANK, 0, 0.005, 0.6 + i / 100)
    assert costs.of(RANK, 0) == pytest.approx(0.005, rel=0.1)
    costs.note(RANK, 0, 0.01, 10.0)  # the last was long ago
    assert costs.of(RANK, 0) == pytest.approx(0.0075, rel=0.1)
    for i in range(30):
        costs.note(RANK, 0, 0.1, 10.0 + i / 100)
    assert costs.of(RANK, 0) > 0.08


def test_the_first_ones_and_one_that_was_interrupted_say_little():
    costs = Costs()
    for seconds in (2.0, 0.5, 0.005, 0.005, 0.005, 0.005, 1.0):
        costs.note(RANK, 0, seconds, 0.0)
    assert costs.of(RANK, 0) < 0.007


def test_a_cost_is_that_of_the_size():
    costs = Costs()
    assert costs.of(RANK, 0) is None
    assert costs.expected(RANK, 0) == 0
    costs.note(kind_of("/v1/rank", 500), 0, 0.001, 0.0)
    costs.note(kind_of("/v1/rank", 30_000), 0, 0.010, 0.0)
    given = [costs.of(kind_of("/v1/rank", size), 0) for size in (0, 1023, 9_000, 31_000, 1 << 24)]
    assert given == [0.001, 0.001, 0.001, 0.010, 0.010]
    assert costs.of(RANK, 1) is None
    assert costs.expected(RANK, 1) == 0.001
    assert costs.capacities(0, 0.015) == {"/v1/rank": pytest.approx(100)}


def test_overhead_is_what_a_round_takes_beyond_its_turn():
    costs = Costs()
    assert costs.overhead == 1
    for _ in range(100):
        costs.note_round(0.004, 0.005)
    assert costs.overhead == pytest.approx(1.25)


def test_what_a_request_takes_beside_its_turn_is_known_by_itself():
    costs = Costs()
    assert costs.heard_s == 0
    for _ in range(100):
        costs.note_round(0.004, 0.006, heard=20)
    assert costs.heard_s == pytest.approx(0.0001)


def test_a_commit_that_is_waited_for_is_part_of_the_time_that_an_answer_needs():
    admission = made(0.005)
    alone = come(admission)
    assert alone is not None
    admission.kept_s = 0.02  # of the 67 ms that it may take
    assert sum(come(admission) is not None for _ in range(20)) == pytest.approx(8, abs=1)
    admission.kept_s = 10.0  # a disk that takes longer than all of it refuses nobody for that alone
    admission.withdraw(alone)
    late = admission.ticket(RANK, Priority.NORMAL, 700, 0.0)
    assert not late.is_late(0.07, 10.0)
    assert late.is_late(0.14, 0.02)
    assert not late.is_late(0.14)
    post = admission.ticket(POST, Priority.NORMAL, 700, 0.0)
    assert admission.ask(post, 0.0, 1.0) is None, "a post is on disk when its turn is over"


def test_a_commit_is_paid_by_the_turn_and_not_by_each():
    costs = Costs()
    for _ in range(100):
        costs.note_fixed(0.01)
    assert costs.whole_s(0.02, 0.004) == pytest.approx(0.07)
    assert costs.whole_s(0.02, 0.02) == pytest.approx(0.03)
    assert costs.whole_s(0.0, 0.004) == 0


def test_demand_is_what_came_of_late():
    demand = Demand()
    for i in range(1000):
        demand.note(RANK, i / 100)
    assert demand.rates(10.0)[RANK] == pytest.approx(100, rel=0.05)
    assert demand.rates(12.0)[RANK] < 5
