"""Who may come in: how long a request would wait, from costs measured as the server works.

Nothing here reads a clock or waits: the time is an argument, so that every decision can be tested. A bound on the queue
is a time and not a number of requests, because a number is no deadline: thirty requests of 15 ms each are late for a
budget of 150 ms, thirty of 1 ms are not.

The queue is first come, first served within a class and a class before the next; two groups share the time, answers and
events. Sources: Nichols and Jacobson, "Controlling Queue Delay" (2012), for a bound in time; Goyal, Vin and Cheng,
"Start-time Fair Queueing" (1996), for the share of the groups.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, TypeAlias

from sevenfold.serving.costs import Costs, Kind

__all__ = ["EVENTS_S", "Admission", "Group", "Priority", "Rejection", "Ticket"]

Group: TypeAlias = Literal["answers", "events"]
"""Requests that share a part of the time."""

EVENTS_S = 2.0
"""Seconds that a post of events may take, at least; the sender has it still and sends it again."""

_MOST_WAITING = 4096  # a bound for memory; time has bounded the queue long before
_MOST_WAITING_BYTES = 64 * 1024 * 1024
_COMING_S = (
    0.1  # from a head to its body: who takes longer holds nobody's place, and is asked about again
)
_LONGEST_RETRY_S = 60
_KEEP = 0.95  # of the time that a class had: some twenty turns count
_LEAST = 0.05
_SPREAD = 1.5  # of a cost: it is a mean, and half of the requests take longer
_GOLDEN = (math.sqrt(5) - 1) / 2


class Priority(IntEnum):
    """A class of requests; a lower number goes first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


_CLASSES = len(Priority)
# How much of the budget a request may be predicted to need; the rest is for what a prediction cannot know.
_SHARES = (0.75, 0.45, 0.2)


@dataclass(slots=True, eq=False)
class Ticket:
    """A request that wants a turn: what it is, what it is expected to take, when it came, until when it is of use.

    One that is `hurried` has less time than is declared, because its caller has.

    Whoever answers it says what it took (`work_s`, without what it shares with others) and how it ended: it was `done`, by which `rung`, and whether a cheaper one than asked for is
    `excused`; or the server `failed`. What ended otherwise, as a request that was wrong, teaches nothing. One that `is_made` is known to have ended so before it is on disk: its turn is over by then.
    """

    kind: Kind
    priority: Priority
    size: int
    cost_s: float
    arrived_s: float
    deadline_s: float
    is_hurried: bool = False
    level: int = 0
    work_s: float = 0.0
    done: bool = False
    rung: str | None = None
    excused: bool = False
    failed: bool = False
    is_made: bool = False
    slow_s: float = 0.0
    """What it takes if it is one of the slower of its kind."""

    @property
    def route(self) -> str:
        """The route it asks."""
        return self.kind[0]

    def is_late(self, now_s: float, kept_s: float = 0.0) -> bool:
        """Whether there is hardly time left for its work and, `kept_s` more, its commit; what has waited less than half of its time is never late."""
        half_s = (self.deadline_s - self.arrived_s) / 2
        needed_s = max(_SPREAD * self.cost_s, self.slow_s) + kept_s
        return now_s + min(needed_s, half_s) > self.deadline_s


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a request is not answered, and after how many seconds it may be asked again; `wait_s` is how long it would have waited."""

    reason: str
    retry_s: int
    wait_s: float = 0.0


class _Group:
    """Requests that share a part of the time: those that wait, by class, their work and that of those let in whose bodies are to come, and the time they had."""

    def __init__(self, budget_s: float) -> None:
        self.budget_s = budget_s
        self.lines: tuple[deque[Ticket], ...] = tuple(deque() for _ in Priority)
        self.work_s = [0.0] * _CLASSES
        self.coming_s = [0.0] * _CLASSES
        self.had_s = 0.0
        self.had_of_late_s = [0.0] * _CLASSES
        self.size = 0

    def add(self, ticket: Ticket) -> None:
        self.lines[ticket.priority].append(ticket)
        self.work_s[ticket.priority] += ticket.cost_s
        self.size += 1

    def spend(self, priority: Priority, seconds: float) -> None:
        self.had_s += seconds
        self.had_of_late_s = [_KEEP * had_s for had_s in self.had_of_late_s]
        self.had_of_late_s[priority] += seconds

    def share_before(self, priority: Priority) -> float:
        """Of the time that the group had of late, the share of the classes before this one."""
        whole_s = sum(self.had_of_late_s)
        return sum(self.had_of_late_s[:priority]) / whole_s if whole_s else 0.0

    def first(self) -> Ticket:
        return next(line[0] for line in self.lines if line)

    def remove(self, ticket: Ticket) -> None:
        line = self.lines[ticket.priority]
        line.remove(ticket)  # quick where it is the first, as it nearly always is
        self.size -= 1
        # The sum of nothing is nothing: no error of rounding is carried on.
        left_s = self.work_s[ticket.priority] - ticket.cost_s
        self.work_s[ticket.priority] = left_s if line else 0.0


Turn: TypeAlias = list[Ticket]


class Admission:
    """Decides who is let in and whose turn it is.

    `budget_s` is how long an answer may take, from its arrival; a post of events may take `EVENTS_S`.
    """

    def __init__(self, budget_s: float) -> None:
        self.costs = Costs()
        self._level = 0
        self.slice_s = budget_s / 10
        self.events_slice_s: float | None = None  # another for events
        """Seconds of work that are done in one turn."""
        self.kept_s = 0.0
        """Seconds from when an answer is made until it is on disk, and can be given."""
        self._answers, self._events = _Group(budget_s), _Group(max(EVENTS_S, budget_s))
        self._group_of: dict[str, _Group] = {}
        self._bytes = 0
        self._coming: dict[Ticket, float] = {}  # let in by their heads, and when, the first first
        self._coming_bytes = 0
        self._refused = 0

    def serve(self, route: str, group: Group) -> None:
        """Have a route share the time of a group."""
        self._group_of[route] = self._answers if group == "answers" else self._events

    def use(self, budget_s: float) -> None:
        """Have answers take so long from now on; what is known of their cost is forgotten."""
        self.costs = Costs()
        self._answers.budget_s = budget_s
        self._events.budget_s = max(EVENTS_S, budget_s)
        self._level = 0

    def __len__(self) -> int:
        """How many wait."""
        return self._answers.size + self._events.size

    @property
    def budget_s(self) -> float:
        """The seconds that an answer may take."""
        return self._answers.budget_s

    @property
    def level(self) -> int:
        """The level of the ladder that answers are made at."""
        return self._level

    @level.setter
    def level(self, level: int) -> None:
        if level == self._level:
            return
        self._level = level
        for group in (self._answers, self._events):
            for priority, line in enumerate(group.lines):
                for ticket in line:
                    self._cost(ticket)
                group.work_s[priority] = sum(ticket.cost_s for ticket in line)

    def capacities(self) -> dict[str, float]:
        """Requests a second by route that can be answered at the level of now, as measured."""
        return self.costs.capacities(self._level, self.slice_s)

    def wait_s(self, route: str, priority: Priority, behind_coming: bool = False) -> float:
        """How long a request that came now would wait for its turn, in seconds; `behind_coming` with those ahead of it who were let in and do not wait yet."""
        mine = self._group_of[route]
        other = self._events if mine is self._answers else self._answers
        ahead_s, others_s = sum(mine.work_s[: priority + 1]), sum(other.work_s)
        if behind_coming:
            ahead_s += sum(mine.coming_s[: priority + 1])
            others_s += sum(other.coming_s)
        # Those of the classes before it who are yet to come go first, too.
        ahead_s /= max(_LEAST, 1 - mine.share_before(priority))
        # While it waits, the other group has as much of the time, if it needs as much.
        return self.costs.whole_s(ahead_s + min(ahead_s, others_s), self.slice_s)

    def ask(
        self, ticket: Ticket, now_s: float, load: float, is_head: bool = False
    ) -> Rejection | None:
        """Why a request is not let in; None when it is.

        `load` is what the server is asked for, as a multiple of what it can do. One of which only the head is there comes after all that were `expect`ed
        before it; when it wants its turn, those have come or are late.
        """
        if is_head:
            self._forget(now_s)
        coming, coming_bytes = (len(self._coming), self._coming_bytes) if is_head else (0, 0)
        if not len(self) and not (is_head and self._has_coming()):
            # One that nobody is ahead of is let in whatever it costs: to refuse it would help no one.
            return None
        allowed_s = (ticket.deadline_s - ticket.arrived_s) * _SHARES[ticket.priority]
        # What takes longer than it may is not refused for that: it waits half as long as it may, and no longer.
        after_s = min(ticket.cost_s + self._kept_s(ticket), allowed_s / 2)
        needed_s = self.wait_s(ticket.route, ticket.priority, is_head) + after_s
        if now_s - ticket.arrived_s + needed_s > allowed_s:
            return self.reject("overloaded", needed_s, load)
        size = self._bytes + coming_bytes + ticket.size
        if len(self) + coming >= _MOST_WAITING or size > _MOST_WAITING_BYTES:
            return self.reject("queue_full", needed_s, load)
        return None

    def reject(self, reason: str, backlog_s: float, load: float) -> Rejection:
        """A rejection; those refused together are not to come back together.

        At a load of 10 one in ten could be served, so they are spread over ten seconds.
        """
        self._refused += 1
        spread_s = (self._refused * _GOLDEN % 1.0) * max(load, 1.0)
        retry_s = min(_LONGEST_RETRY_S, 1 + math.floor(backlog_s + spread_s))
        return Rejection(reason, retry_s, backlog_s)

    def ticket(
        self,
        kind: Kind,
        priority: Priority,
        size: int,
        arrived_s: float,
        left_s: float = math.inf,
    ) -> Ticket:
        """The ticket of a request: let in when `ask` says nothing against it; of use for `left_s` at most."""
        cost_s, slow_s = self.costs.spread(kind, self._level)
        budget_s = self._group_of[kind[0]].budget_s
        deadline_s = arrived_s + min(budget_s, left_s)
        is_hurried = left_s < budget_s
        return Ticket(
            kind, priority, size, cost_s, arrived_s, deadline_s, is_hurried, slow_s=slow_s
        )

    def expect(self, ticket: Ticket, now_s: float) -> None:
        """Have a request that is let in by its head count as one that waits, until it came or might never come.

        The heads of a thousand requests are heard before the first of them wants its turn: judged one by one by those that wait, all would be let in, and all
        of their bodies held.
        """
        self._coming[ticket] = now_s
        self._coming_bytes += ticket.size
        self._group_of[ticket.route].coming_s[ticket.priority] += ticket.cost_s

    def came(self, ticket: Ticket) -> None:
        """Note that its body is there, or never will be."""
        if self._coming.pop(ticket, None) is None:
            return
        self._coming_bytes -= ticket.size
        coming_s = self._group_of[ticket.route].coming_s
        coming_s[ticket.priority] -= ticket.cost_s
        if not self._coming:  # the sum of nothing is nothing: no error of rounding is carried on
            self._answers.coming_s, self._events.coming_s = [0.0] * _CLASSES, [0.0] * _CLASSES

    def _has_coming(self) -> bool:
        # Of what nobody knows yet how long it takes, nothing can be said.
        return any(any(group.coming_s) for group in (self._answers, self._events))

    def _forget(self, now_s: float) -> None:
        while self._coming:
            first = next(iter(self._coming))
            if now_s - self._coming[first] <= _COMING_S:
                return
            self.came(first)

    def join(self, ticket: Ticket) -> None:
        """Have a request wait for its turn."""
        group = self._group_of[ticket.route]
        if not group.size:
            # A group that had nothing to do has not saved up time.
            other = self._events if group is self._answers else self._answers
            group.had_s = max(group.had_s, other.had_s)
        group.add(ticket)
        self._bytes += ticket.size

    def withdraw(self, ticket: Ticket) -> None:
        """Take out a request that was waiting and waits no longer."""
        self._group_of[ticket.route].remove(ticket)
        self._bytes -= ticket.size

    def late(self, now_s: float) -> Turn:
        """Those for whom it is too late by now, taken out of the queue."""
        late = [
            ticket
            for group in (self._answers, self._events)
            for line in group.lines
            for ticket in line
            if ticket.is_late(now_s, self._kept_s(ticket))
        ]
        for ticket in late:
            self.withdraw(ticket)
        return late

    def turn(self, now_s: float) -> tuple[Turn, Turn]:
        """Whose turn it is, taken out of the queue, and those for whom it is too late by now.

        A turn is of one group, which shares a commit: what may be done in `slice_s` seconds, or those of events, one request at least. While
        no answer waits, it is all events that wait.
        """
        late: Turn = []
        while groups := [group for group in (self._answers, self._events) if group.size]:
            turn = self._turn_of(min(groups, key=_had_s), now_s, late)
            if turn:
                return turn, late
        return [], late

    def _turn_of(self, group: _Group, now_s: float, late: Turn) -> Turn:
        turn: Turn = []
        slice_s = self._slice_s(group)
        while group.size and (not turn or self.fits(group.first(), slice_s)):
            ticket = group.first()
            self.withdraw(ticket)
            # By what it takes now: that may be known better than when it came.
            self._cost(ticket)
            if ticket.is_late(now_s, self._kept_s(ticket)):
                late.append(ticket)
                continue
            turn.append(ticket)
            slice_s -= ticket.cost_s or slice_s
        return turn

    def _cost(self, ticket: Ticket) -> None:
        ticket.cost_s, ticket.slow_s = self.costs.spread(ticket.kind, self._level)

    def slice_of(self, ticket: Ticket) -> float:
        """What may be done in a turn of the group of a request, in seconds."""
        return self._slice_s(self._group_of[ticket.route])

    def _slice_s(self, group: _Group) -> float:
        own_s = self.events_slice_s if group is self._events else None
        return self.slice_s if own_s is None else own_s

    def _kept_s(self, ticket: Ticket) -> float:
        # A post of events is on disk when its turn is over.
        return self.kept_s if self._group_of[ticket.route] is self._answers else 0.0

    def fits(self, ticket: Ticket, left_s: float) -> bool:
        """Whether a request may be made in the rest of a turn; one of which nothing is known has a turn of its own."""
        if not self._answers.size and self._group_of[ticket.route] is self._events:
            return True
        return 0 < ticket.cost_s <= left_s

    def spent(self, ticket: Ticket, seconds: float) -> None:
        """Take in what a turn has had of the time."""
        self._group_of[ticket.route].spend(ticket.priority, seconds)


def _had_s(group: _Group) -> float:
    return group.had_s
