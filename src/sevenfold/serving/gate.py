"""The gate before the answers: refuses at the head of a request, and gives turns on the event loop.

Answers are made on the loop itself, so a request that has arrived waits in three places: in the kernel while an answer
is made, among the callbacks of the loop, and here. Only the last can be ordered and bounded. So nothing is answered but in
its turn, and after a turn the loop comes round a few times before the next: in these rounds all that has arrived
meanwhile is accepted, read, and let in or refused. A turn is one answer, or as many as can be made in some
milliseconds, because they share what a commit takes of the loop: fewer where that is little, or while requests are refused, so that nobody waits long to be told.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from sevenfold.clock import elapsed_s
from sevenfold.serving.admission import Admission, Group, Priority, Rejection, Ticket
from sevenfold.serving.costs import Demand, Kind, Most, kind_of
from sevenfold.serving.ladder import Ladder
from sevenfold.serving.problem import HttpError, overloaded

__all__ = ["Gate", "Kept"]

_ROUNDS = (
    3  # of the loop: a connection is accepted in one, read in the next, and heard in the third
)
_SLICE_S = 0.015  # of a turn at most, and a tenth of the budget
_SHORT_SLICE_S = 0.002  # where commits are made beside the loop
_REFUSING_SLICE_S = 0.001  # while requests are refused: nobody shall wait long to be told
_SHORT_FOR_S = 1.0
_SHARED = 8  # times what a turn takes beside its work: a turn is at least so long, where it can be
_LONG = 0.4  # of the budget: a wait that is a reason for cheaper answers
_MOST_HEARD = 0.95  # of the time: what is left for turns is never nothing
_PRESSED = 0.5  # of what can be done
_HELD = 0.25  # of the budget: no turn while an answer that is made has waited so long for the disk
_HELD_S = 0.002
_UNKEPT_S = 1.0  # and the budget at least: as long an answer that is made waits for the disk, then its client is told to ask again
_LOOK_S = 0.05  # between looks at the load
_FEW_S = 5.0  # of late: as long as nobody was refused, and this many asked at once


class Kept(Protocol):
    """What becomes of answers that are made: they wait for a commit, and are given after it."""

    @property
    def loop_s(self) -> float:
        """What a commit takes of the event loop, of late, in seconds."""
        ...

    @property
    def kept_s(self) -> float:
        """How long an answer that is made now is expected to wait until it is on disk, in seconds."""
        ...

    @property
    def age_s(self) -> float:
        """How long the oldest answer that is not on disk has waited, in seconds; 0 where there is none."""
        ...


class Gate:
    """Turns for the answers of one server, all on its event loop.

    `budget_s` is the time of an answer, `rungs` are the levels that what is laddered is answered at. `kept` says how answers are
    doing that are made and wait for their commit; without it, what a turn takes beside its work is taken for the commit.
    """

    def __init__(
        self,
        budget_s: float,
        rungs: Sequence[str],
        now_s: Callable[[], float] = elapsed_s,
        kept: Kept | None = None,
    ) -> None:
        self.admission = Admission(budget_s)
        self.ladder = Ladder(rungs)
        self.admitted: Counter[tuple[str, Priority]] = Counter()
        self.refused: Counter[tuple[str, Priority, str]] = Counter()
        self._groups: dict[str, Group] = {}
        self._laddered: set[str] = set()
        self._now_s = now_s
        self._kept = kept
        self._demand = Demand()
        self._at_once = Most(_FEW_S)
        self._looked_s = 0.0
        self._load = 0.0
        self._crowded = False
        self._crowded_s = -math.inf
        self._waiting: dict[Ticket, asyncio.Future[None]] = {}
        self._turn: list[Ticket] = []  # whose turn it is
        self._holding = 0  # how many of them have not left
        self._open = False  # whether more may join the turn
        self._left_s = 0.0  # of it
        self._refused_s = -math.inf
        self._watching = False
        self._heard = 0  # since the last turn was over
        self._no_room: dict[tuple[Kind, Priority], float] = {}  # until the next turn
        self._rounds = 0  # of the loop until the next turn
        self._was_held = False
        self._began_s = 0.0
        self._taken_s = 0.0
        self._useful_s = 0.0  # of it: work and commit, without what was read and refused meanwhile

    def serve(self, route: str, group: Group, laddered: bool) -> None:
        """Give turns to a route, in a group; `laddered` when it can be answered at any level."""
        self.admission.serve(route, group)
        self._groups[route] = group
        if laddered:
            self._laddered.add(route)

    def use(self, budget_s: float, rungs: Sequence[str]) -> None:
        """Have answers take so long and be made at these levels from now on."""
        self.admission.use(budget_s)
        self._no_room.clear()
        self.ladder = Ladder(rungs)

    @property
    def routes(self) -> tuple[str, ...]:
        """The routes that turns are given to."""
        return tuple(self._groups)

    def is_pressed(self) -> bool:
        """Whether the server is asked for so much that what nobody waits for is to be left: half of what it can do, or cheaper answers."""
        return self._load > _PRESSED or self.ladder.level > 0

    def is_refusing(self) -> bool:
        """Whether the server is asked for more than it can do: somebody was refused in the last second, or answers are cheaper."""
        return self._now_s() - self._refused_s <= _SHORT_FOR_S or self.ladder.level > 0

    @property
    def load(self) -> float:
        """What was asked for of late, as a share of what can be done at the level of now."""
        return self._load

    def enter(self, route: str, priority: Priority, size: int, left_s: float = math.inf) -> Ticket:
        """The ticket of a request whose head has come; `size` is that of its body in bytes. Raises HttpError 503.

        `left_s` is how long its caller waits for it, where that is less than the budget.
        """
        found = self.admit(route, priority, size, left_s)
        if isinstance(found, Rejection):
            raise overloaded(found.reason, found.retry_s)
        return found

    def admit(
        self, route: str, priority: Priority, size: int, left_s: float = math.inf
    ) -> Ticket | Rejection:
        """The same, and why it is refused: nine of ten are under a great load, and to raise takes longer than to decide."""
        now_s = self._now_s()
        self._heard += 1
        kind = kind_of(route, size)
        if priority < Priority.LOW:
            self._demand.note(kind, now_s)
        if now_s - self._looked_s >= _LOOK_S:
            self._look(now_s)
        known_s = self._no_room.get((kind, priority)) if left_s == math.inf else None
        if known_s is not None:
            rejection = self.admission.reject("overloaded", known_s, self._load)
            self._note_refused(route, priority, rejection)
            return rejection
        # What is heard of right after a turn may have come when that began; while the disk is waited for, the loop hears at once.
        is_after = (self._rounds or self._holding) and not self._was_held
        arrived_s = self._began_s if is_after else now_s
        ticket = self.admission.ticket(kind, priority, size, arrived_s, left_s)
        found = self.admission.ask(ticket, now_s, self._load, is_head=True)
        if found is None:
            self.admission.expect(ticket, now_s)
            return ticket
        if found.reason == "overloaded" and not ticket.is_hurried:
            # Until the next turn those that wait become no fewer, so the next like it is refused as well.
            self._no_room[kind, priority] = found.wait_s
        self._note_refused(route, priority, found, ticket.is_hurried)
        return found

    async def turn(self, ticket: Ticket) -> None:
        """Wait until it is the request's turn; its level is then in the ticket. Raises HttpError 503.

        Who has had a turn gives it back with `leave`, whatever happens.
        """
        self.admission.came(ticket)
        self._at_once.note(1 + self._holding + len(self._waiting), self._now_s())
        if self._may_join(ticket):
            self._give(ticket)
            return
        is_free = not self._holding and not self._rounds
        if is_free and not self._waiting and not self._is_held():
            self._begin([ticket])
            return
        rejection = self.admission.ask(ticket, self._now_s(), self._load)
        if rejection is not None:
            raise self._refused(ticket, rejection)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = turn
        self.admission.join(ticket)
        if is_free:
            self._hold()
        try:
            await turn
        except asyncio.CancelledError:
            if self._waiting.pop(ticket, None) is not None:
                self.admission.withdraw(ticket)
                self._no_room.clear()
            elif ticket in self._turn:
                self.leave(ticket)
            raise

    def leave(self, ticket: Ticket) -> None:
        """Give the turn back; the ticket says how it ended."""
        self._holding -= 1
        now_s = self._now_s()
        if ticket.route in self._laddered and (ticket.rung is not None or ticket.failed):
            waited_s = self._began_s - ticket.arrived_s
            excused = ticket.excused or waited_s > (ticket.deadline_s - ticket.arrived_s) / 4
            self.ladder.ended(now_s, ticket.level, ticket.rung, excused)
            self._watch()
        if self._holding:
            return
        self._open = False
        self._taken_s = now_s - self._began_s
        self._learn(now_s)
        self._turn = []
        if not self._rounds:
            asyncio.get_running_loop().call_soon(self._round)
        self._rounds = _ROUNDS

    def patience_s(self, ticket: Ticket) -> float:
        """How long the answer to a request, made now, may wait for the disk, in seconds."""
        return max(_UNKEPT_S, ticket.deadline_s - self._now_s())

    def unkept(self, ticket: Ticket) -> HttpError:
        """The refusal of a request whose answer has waited for the disk for so long; asked again by the same id, it is the same."""
        backlog_s = self._now_s() - ticket.arrived_s
        return self._refused(ticket, self.admission.reject("unkept", backlog_s, self._load))

    def _learn(self, now_s: float) -> None:
        """Take in what the turn took."""
        costs, known, work_s = self.admission.costs, True, 0.0
        for had in self._turn:
            if had.done and had.work_s > 0:
                work_s += had.work_s
            else:
                known = False
        self._useful_s = self._taken_s
        if known and self._groups[self._turn[0].route] == "answers":
            # The commit is made when the turn is over, and often beside the loop.
            beside_s = max(0.0, self._taken_s - work_s) if self._kept is None else self._kept.loop_s
            costs.note_fixed(beside_s)
            self._useful_s = work_s + beside_s
        # Events are written together, so what one of them took is known only on an average.
        each_s = max(self._taken_s - costs.fixed_s, 0.2 * self._taken_s) / len(self._turn)
        for had in self._turn:
            self.admission.spent(had, self._taken_s / len(self._turn))
            # An answer that had been given before has no rung, and says nothing of what one takes.
            if had.done and (had.rung is not None or had.route not in self._laddered):
                is_event = self._groups[had.route] == "events"
                own_s = each_s if is_event or not had.work_s else had.work_s
                costs.note(had.kind, had.level, own_s, now_s)

    def _refused(self, ticket: Ticket, rejection: Rejection) -> HttpError:
        self._note_refused(ticket.route, ticket.priority, rejection, ticket.is_hurried)
        return overloaded(rejection.reason, rejection.retry_s)

    def _note_refused(
        self, route: str, priority: Priority, rejection: Rejection, is_hurried: bool = False
    ) -> None:
        # Nobody's answer gets worse for the sake of the low class, or of who has less time than is declared.
        if not is_hurried:
            self._refused_s = self._now_s()
            if priority < Priority.LOW:
                self._crowded, self._crowded_s = True, self._refused_s
        self.refused[route, priority, rejection.reason] += 1

    def _round(self) -> None:
        self._rounds -= 1
        if self._rounds:
            asyncio.get_running_loop().call_soon(self._round)
        else:
            self._next()

    def _is_held(self) -> bool:
        """Whether the disk is so slow just now that what would be made is better not made yet."""
        return self._kept is not None and self._kept.age_s > _HELD * self.admission.budget_s

    def _hold(self) -> None:
        """Look again in a moment, and give the next turn then."""
        self._rounds, self._was_held = 1, True
        asyncio.get_running_loop().call_later(_HELD_S, self._round)

    def _next(self) -> None:
        self._no_room.clear()
        now_s = self._now_s()
        if self._kept is not None:
            self.admission.kept_s = self._kept.kept_s
        if self._is_held():
            # Who waits hears in time that there will be no turn, however long the disk takes.
            self._tell_late(self.admission.late(now_s), now_s)
            self._hold()
            return
        costs = self.admission.costs
        # With nobody waiting, what follows the turn is idleness and costs nothing.
        is_waited_for = self._waiting and not self._was_held
        self._was_held = False
        whole_s = now_s - self._began_s if is_waited_for else self._taken_s
        costs.note_round(self._useful_s, whole_s, max(1, self._heard))
        self._heard = 0
        if not self._waiting:
            return
        self._set_slice(now_s)
        turn, late = self.admission.turn(now_s)
        self._tell_late(late, now_s)
        if turn:
            self._begin(turn)
            for ticket in turn:
                _tell(self._waiting.pop(ticket))

    def _tell_late(self, late: list[Ticket], now_s: float) -> None:
        for ticket in late:
            rejection = self.admission.reject("late", now_s - ticket.arrived_s, self._load)
            _tell(self._waiting.pop(ticket), self._refused(ticket, rejection))

    def _begin(self, turn: list[Ticket]) -> None:
        self._began_s = self._now_s()
        self._left_s = self.admission.slice_of(turn[0])
        for ticket in turn:
            self._give(ticket)
        # What is heard in this round of the loop may be made with it, and share its commit.
        self._open = True
        asyncio.get_running_loop().call_soon(self._close)

    def _give(self, ticket: Ticket) -> None:
        self._turn.append(ticket)
        self._holding += 1
        self._left_s -= ticket.cost_s or self._left_s
        self.admitted[ticket.route, ticket.priority] += 1
        if ticket.route in self._laddered:
            ticket.level = self.ladder.begin(self._began_s)

    def _may_join(self, ticket: Ticket) -> bool:
        """Whether a request that was just heard is made in the turn that has just begun."""
        if not self._open or self._waiting or not self._holding:
            return False
        same = self._groups[ticket.route] == self._groups[self._turn[0].route]
        return same and self.admission.fits(ticket, self._left_s)

    def _set_slice(self, now_s: float) -> None:
        calm = now_s - self._refused_s > _SHORT_FOR_S
        shortest_s = _SLICE_S if calm else _REFUSING_SLICE_S
        # With less work than what its commit takes, most of a turn would be waiting for the disk.
        least_s = min(shortest_s, self.admission.budget_s / 10)
        fixed_s, most_s = self.admission.costs.fixed_s, self.admission.budget_s / 4
        self.admission.events_slice_s = min(max(least_s, fixed_s), most_s)
        # Where the commit is made beside the loop there is little to share, and who is made first waits for all of the turn to be sent.
        least_s = min(least_s, max(_SHORT_SLICE_S, _SHARED * fixed_s))
        self.admission.slice_s = min(max(least_s, fixed_s), most_s)

    def _close(self) -> None:
        self._open = False

    def _look(self, now_s: float) -> None:
        self._looked_s = now_s
        rates = self._demand.rates(now_s)
        costs = self.admission.costs
        if self._kept is not None:
            self.admission.kept_s = self._kept.kept_s
        self._set_slice(now_s)
        events_s = sum(
            rate * costs.expected(kind, 0)
            for kind, rate in rates.items()
            if self._groups[kind[0]] == "events"
        )
        free = 1 - min(0.5, events_s * costs.overhead)
        # To be heard takes the same at every level, so where answers take longer it is a smaller part of them.
        n = sum(rates.values())
        free *= 1 - min(_MOST_HEARD, n * costs.heard_s)

        def share(level: int) -> float | None:
            work_s = 0.0
            for kind, rate in rates.items():
                if self._groups[kind[0]] == "events":
                    continue
                laddered = kind[0] in self._laddered
                cost_s = costs.of(kind, level if laddered else 0)
                if cost_s is None and laddered and rate > 0.01:
                    return None
                work_s += rate * (cost_s or 0.0)
            # Of a second in which all turns are full, or of one request where that is more.
            turn_s = max(self.admission.slice_s, work_s / n if n else 0.0)
            return work_s * (1 + costs.fixed_s / turn_s) / free

        waits_s = [self.admission.wait_s(route, Priority.NORMAL) for route in self._laddered]
        # Who asks for all that can be done, and waits for it, is no reason for worse answers: only a long queue is.
        is_long = max(waits_s, default=0.0) > _LONG * self.admission.budget_s
        self.ladder.loaded(now_s, share, self._crowded or is_long, self._few(rates, now_s))
        self._crowded = False
        self.admission.level = self.ladder.level
        self._no_room.clear()
        self._load = share(self.ladder.level) or 0.0
        self._watch()

    def _few(self, rates: dict[Kind, float], now_s: float) -> Callable[[int], bool]:
        """Tells whether as many as asked at once of late would not wait long at a level."""
        costs, at_once = self.admission.costs, self._at_once.of(now_s)
        laddered = [
            kind for kind, rate in rates.items() if kind[0] in self._laddered and rate > 0.01
        ]
        if now_s - self._crowded_s < _FEW_S:
            return lambda _: False

        def few(level: int) -> bool:
            each_s = [costs.of(kind, level) for kind in laddered]
            if None in each_s:
                return False
            work_s = at_once * max((s for s in each_s if s is not None), default=0.0)
            return costs.whole_s(work_s, self.admission.slice_s) <= _LONG * self.admission.budget_s

        return few

    def _watch(self) -> None:
        """Look on while answers are degraded, also when nobody asks."""
        if self.ladder.level and not self._watching:
            self._watching = True
            asyncio.get_running_loop().call_later(_LOOK_S, self._look_again)

    def _look_again(self) -> None:
        self._watching = False
        self._look(self._now_s())


def _tell(turn: asyncio.Future[None], error: HttpError | None = None) -> None:
    if turn.done():  # who asked is gone
        return
    if error is None:
        turn.set_result(None)
    else:
        turn.set_exception(error)
