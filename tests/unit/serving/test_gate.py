"""Turns on a real event loop whose time is the test's own: no outcome here depends on the machine."""

import asyncio
import math
import selectors
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import httpx
import pytest

from sevenfold.serving.admission import Priority, Ticket
from sevenfold.serving.gate import Gate
from sevenfold.serving.guard import Guard
from sevenfold.serving.head import priority
from sevenfold.serving.problem import HttpError
from sevenfold.serving.tokens import Tokens

RANK, POST, READ = "/v1/rank", "/v1/events", "/v1/features"
RUNGS = ("full", "baseline", "popular", "empty")
TOKEN = {"Authorization": "Bearer the-token"}


class Desk:
    """A gate and what goes through it, in a time of its own."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.gate = Gate(0.15, RUNGS, lambda: self.now_s)
        self.gate.serve(RANK, "answers", laddered=True)
        self.gate.serve(READ, "answers", laddered=False)
        self.gate.serve(POST, "events", laddered=False)
        self.served: list[Any] = []
        self.refused: list[tuple[Any, str]] = []
        self.at_once = 0
        self.most_at_once = 0

    def cost(self, route: str, seconds: float) -> None:
        """Have the gate know what a route takes."""
        ticket = self.gate.enter(route, Priority.NORMAL, 700)
        self.gate.admission.costs.note(ticket.kind, 0, seconds, self.now_s)

    def hear(self, priority: Priority = Priority.NORMAL) -> Ticket:
        """A request whose body is there with its head, and that does not want its turn yet."""
        ticket = self.gate.enter(RANK, priority, 700)
        self.gate.admission.came(ticket)
        return ticket

    def run(self, *asked: Callable[[], Awaitable[None]]) -> None:
        """All of them at one time, in this order, in the time of the desk; it has an end."""

        async def all_of_them() -> None:
            async with asyncio.timeout(120):
                await asyncio.gather(*(ask() for ask in asked))

        with asyncio.Runner(loop_factory=lambda: _Loop(self)) as runner:
            runner.run(all_of_them())

    async def ask(
        self,
        name: Any,
        route: str = RANK,
        priority: Priority = Priority.NORMAL,
        left_s: float = math.inf,
        **more: Any,
    ) -> None:
        """One request, answered in `taken_s`; its caller waits for `left_s`."""
        try:
            ticket = self.gate.enter(route, priority, 700, left_s)
            await self.gate.turn(ticket)
        except HttpError as error:
            self.refused.append((name, f"{error.status} {error.code}"))
            return
        await self.answer(name, ticket, **more)

    async def answer(
        self,
        name: Any,
        ticket: Ticket,
        taken_s: float = 0.005,
        rung: str | None = None,
        pause: bool = False,
    ) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if pause:
                await asyncio.sleep(0)
            self.served.append(name)
            self.now_s += taken_s
            ticket.work_s = taken_s
            ticket.done = True
            ticket.rung = RUNGS[ticket.level] if rung is None else rung
        finally:
            self.at_once -= 1
            self.gate.leave(ticket)


class _Leap(selectors.DefaultSelector):
    """Hears what there is; where only a timer is left to wait for, the wait is over at once."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk

    def select(self, timeout: float | None = None) -> Any:
        heard = super().select(0)
        if not heard:
            assert timeout is not None, "nothing will ever happen again"
            self._desk.now_s += timeout
        return heard


class _Loop(asyncio.SelectorEventLoop):
    """A loop that goes by the time of the desk, so that what is due in a moment is due in a moment of that."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        super().__init__(_Leap(desk))

    def time(self) -> float:
        return self._desk.now_s


def test_one_at_a_time_the_high_class_first() -> None:
    desk = Desk()
    order = [Priority.NORMAL, Priority.LOW, Priority.NORMAL, Priority.HIGH]
    desk.run(*(lambda i=i, p=p: desk.ask(i, priority=p) for i, p in enumerate(order)))
    assert desk.served == [0, 3, 2, 1]
    assert desk.most_at_once == 1


def test_what_there_is_no_time_for_is_refused_at_the_head() -> None:
    desk = Desk()
    desk.cost(RANK, 0.03)
    desk.run(*(lambda i=i: desk.ask(i, taken_s=0.03) for i in range(10)))
    assert desk.served == [0, 1]
    assert desk.refused == [(i, "503 overloaded") for i in range(2, 10)]
    assert not desk.gate.admission.costs.overhead > 1.01


def test_who_waited_too_long_is_refused_when_the_turn_comes() -> None:
    desk = Desk()
    desk.run(*(lambda i=i: desk.ask(i, taken_s=0.2) for i in range(2)))
    assert desk.served == [0]
    assert desk.refused == [(1, "503 late")]


def test_who_has_less_time_is_refused_sooner_and_makes_nobodys_answer_worse() -> None:
    desk = Desk()
    desk.cost(RANK, 0.02)
    short = {"left_s": 0.05, "taken_s": 0.02}
    desk.run(
        lambda: desk.ask("first", taken_s=0.02),
        *(lambda i=i: desk.ask(i, **short) for i in range(30)),
        lambda: desk.ask("usual", taken_s=0.02),
    )
    assert desk.served == ["first", 0, "usual"], (
        "whom nobody waits before, and whose time is enough"
    )
    assert desk.refused == [(i, "503 overloaded") for i in range(1, 30)]
    assert not desk.gate._crowded
    desk = Desk()
    desk.run(
        lambda: desk.ask("first", taken_s=0.06, pause=True),
        lambda: desk.ask("no longer waited for", left_s=0.06),
        lambda: desk.ask("usual", taken_s=0.01),
    )
    assert (desk.served, desk.refused) == (
        ["first", "usual"],
        [("no longer waited for", "503 late")],
    )


def test_between_two_turns_the_loop_hears_what_has_arrived() -> None:
    desk = Desk()
    desk.cost(RANK, 0.06)

    async def later(rounds: int, name: str) -> None:
        for _ in range(rounds):
            await asyncio.sleep(0)
        await desk.ask(name, taken_s=0.06)

    desk.run(
        lambda: desk.ask("first", taken_s=0.06),
        lambda: desk.ask("second", taken_s=0.06),
        lambda: later(2, "arrived meanwhile"),
    )
    assert desk.served == ["first", "second"]
    assert desk.refused == [("arrived meanwhile", "503 overloaded")]


@pytest.mark.parametrize("route", [POST, READ])
def test_what_is_heard_together_has_one_turn(route: str) -> None:
    """It shares a commit then; what is of the other group has the next turn."""
    desk, other = Desk(), READ if route == POST else POST
    desk.cost(route, 0.001)
    desk.run(
        *(lambda i=i: desk.ask(i, route, pause=True) for i in range(3)),
        lambda: desk.ask("other", other),
        lambda: desk.ask(3, route, pause=True),
    )
    assert desk.most_at_once == 3
    assert desk.served[:3] == [0, 1, 2]


def test_a_turn_is_short_while_requests_are_refused() -> None:
    desk = Desk()
    desk.cost(READ, 0.003)
    desk.run(*(lambda i=i: desk.ask(i, READ, pause=True, taken_s=0.003) for i in range(20)))
    assert desk.most_at_once == 5  # 15 ms
    desk.most_at_once = 0
    desk.run(*(lambda i=i: desk.ask(i, READ, pause=True, taken_s=0.003) for i in range(60)))
    assert desk.refused
    desk.most_at_once = 0
    desk.now_s += 0.5
    desk.run(*(lambda i=i: desk.ask(i, READ, pause=True, taken_s=0.003) for i in range(20)))
    assert desk.most_at_once == 1


class Disk:
    """What becomes of answers that are made, as the test says."""

    loop_s = 0.0005
    kept_s = age_s = 0.0


def test_no_turn_is_given_while_an_answer_that_is_made_waits_long_for_the_disk() -> None:
    desk, disk = Desk(), Disk()
    desk.gate = Gate(0.15, RUNGS, lambda: desk.now_s, disk)
    desk.gate.serve(RANK, "answers", laddered=True)

    async def ask() -> None:
        disk.age_s = 0.05
        asked = [asyncio.ensure_future(desk.ask(n)) for n in range(3)]
        await asyncio.sleep(0.02)
        assert desk.served == []
        desk.now_s += 1  # the disk takes its time, and who comes now has waited for none of it
        assert isinstance(desk.gate.admit(RANK, Priority.NORMAL, 700), Ticket)
        desk.now_s -= 1
        disk.age_s = 0.03
        await asyncio.gather(*asked)

    desk.run(ask)
    assert desk.served == [0, 1, 2]
    assert desk.gate.admission.costs.fixed_s == pytest.approx(0.0005)


def test_what_was_refused_is_refused_until_the_next_turn_and_then_asked_anew() -> None:
    desk = Desk()
    desk.cost(RANK, 0.03)
    kinds: list[Any] = []

    async def ask() -> None:
        first = [asyncio.ensure_future(desk.ask(n, taken_s=0.03)) for n in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        kinds.extend(desk.gate.admit(RANK, Priority.NORMAL, 700) for _ in range(5))
        high = desk.gate.admit(RANK, Priority.HIGH, 700)
        assert isinstance(high, Ticket), "another class has room still"
        await asyncio.gather(*first)

    desk.run(ask)
    assert not any(isinstance(kind, Ticket) for kind in kinds)
    assert isinstance(desk.gate.admit(RANK, Priority.NORMAL, 700), Ticket)
    assert sum(desk.gate.refused.values()) == len(desk.refused) + 5
    assert desk.gate.is_refusing()
    desk.now_s += 2
    assert not desk.gate.is_refusing()


def test_one_who_goes_away_takes_no_turn() -> None:
    desk = Desk()

    async def scene() -> None:
        first = desk.gate.enter(RANK, Priority.NORMAL, 700)
        await desk.gate.turn(first)
        waiting = [asyncio.create_task(desk.ask(i)) for i in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        assert len(desk.gate.admission) == 2
        desk.gate.leave(first)
        for _ in range(2):
            await asyncio.sleep(0)
        waiting[1].cancel()  # as its turn comes
        async with asyncio.timeout(120):
            await asyncio.gather(*waiting, return_exceptions=True)

    desk.run(scene)
    assert desk.served == [2]


def test_more_than_can_be_done_brings_the_ladder_down_and_rest_brings_it_up() -> None:
    desk = Desk()
    desk.cost(RANK, 0.0052)

    async def scene() -> None:
        waiting = [desk.hear() for _ in range(13)]
        # A second at five times what can be done, with hardly anybody waiting.
        for _ in range(1000):
            desk.hear()
            desk.now_s += 0.001
        assert desk.gate.ladder.level == 0
        turns = [asyncio.create_task(desk.gate.turn(ticket)) for ticket in waiting]
        await asyncio.sleep(0)
        desk.now_s += 0.05
        desk.hear(Priority.HIGH)
        assert desk.gate.ladder.level > 0
        for turn in turns[1:]:
            turn.cancel()
        await asyncio.gather(*turns, return_exceptions=True)
        desk.gate.leave(waiting[0])
        for _ in range(200):
            desk.now_s += 0.05
            desk.hear(Priority.LOW)
        assert desk.gate.ladder.level == 0

    desk.run(scene)


@pytest.mark.parametrize(("clients", "in_full"), [(8, True), (100, False)])
def test_clients_that_wait_for_their_answers_have_full_ones_while_they_are_few(
    clients: int, in_full: bool
) -> None:
    """Each asks again at once: more is asked the faster they are answered. A stall of the machine is got over."""
    desk, taken_s = Desk(), (0.004, 0.002, 0.0005, 0.0)
    levels: list[int] = []

    async def client(name: int) -> None:
        while desk.now_s < 25:
            try:
                ticket = desk.gate.enter(RANK, Priority.NORMAL, 700)
                await desk.gate.turn(ticket)
            except HttpError:
                desk.now_s += 0.0001
                await asyncio.sleep(0)
                continue
            stalled = name == 0 and 5 < desk.now_s < 6
            levels.append(ticket.level)
            await desk.answer(name, ticket, taken_s=0.3 if stalled else taken_s[ticket.level])

    desk.run(*(partial(client, name) for name in range(clients)))
    of_late = levels[-200:]
    assert (of_late.count(0) == 200) == in_full, Counter(of_late)


def test_the_low_class_makes_nobodys_answer_worse() -> None:
    desk = Desk()
    desk.cost(RANK, 0.005)

    async def scene() -> None:
        for _ in range(2000):
            desk.hear(Priority.LOW)
            desk.now_s += 0.001

    desk.run(scene)
    assert desk.gate.ladder.level == 0


def test_a_stage_that_fails_in_a_row_is_left_out() -> None:
    desk = Desk()

    async def scene() -> None:
        for i in range(4):
            await desk.ask(i, rung="baseline")
            for _ in range(5):
                await asyncio.sleep(0)

    desk.run(scene)
    assert desk.gate.ladder.level == 1


def hurried(stall: Any, n: int, path: str = "/v1/recommend", **headers: str) -> list[Any]:
    """The answers to n requests that come at one time."""

    async def scene() -> list[httpx.Response]:
        transport = httpx.ASGITransport(stall.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://stall") as client:
            bodies = [{"request_id": f"r{i}", "keys": {"customer": "ada"}} for i in range(n)]
            alive = client.get("/healthz")
            asked = [client.post(path, json=body, headers=headers) for body in bodies]
            return await asyncio.gather(*asked, alive)

    return asyncio.run(scene())


def test_a_server_asked_for_too_much_says_when_to_come_back(stall: Any) -> None:
    gate = stall.app.site.gate
    gate.use(1.0, stall.service.ladder)
    # It stands still: nobody is late, however long the machine takes, and what is refused is refused for its cost.
    gate._now_s = lambda: 0.0
    for _ in range(6):  # so often that it is known well
        gate.admission.costs.note(("/v1/recommend", 0), 0, 0.4, 0.0)
    *answers, alive = hurried(stall, 20)
    assert alive.status_code == 200
    refused = [answer for answer in answers if answer.status_code == 503]
    assert 0 < len(refused) < 20
    for answer in refused:
        assert answer.json()["error"]["code"] == "overloaded"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    good = [answer for answer in answers if answer.status_code == 200]
    assert len(good) + len(refused) == 20
    text = stall.call("GET", "/metrics").text
    assert (
        f'sevenfold_refused_total{{class="normal",reason="overloaded",route="/v1/recommend"}} {len(refused)}.0'
        in text
    )
    assert f'sevenfold_admitted_total{{class="normal",route="/v1/recommend"}} {len(good)}.0' in text
    assert 'sevenfold_capacity{route="/v1/recommend"}' in text
    assert "sevenfold_level " in text


def test_the_header_of_a_deadline_bounds_the_wait(stall: Any) -> None:
    gate = stall.app.site.gate
    for _ in range(6):  # so often that it is known well
        gate.admission.costs.note(("/v1/recommend", 0), 0, 0.02, 0.0)
    *answers, _ = hurried(stall, 6, **{"x-deadline-ms": "30"})
    codes = [answer.json().get("error", {}).get("code") for answer in answers]
    assert codes[0] is None, "whom nobody is before is let in"
    assert "overloaded" in codes
    assert not set(codes) - {None, "overloaded", "late"}
    for path in ("/v1/recommend", "/v1/features", "/v2/models/m/infer"):
        *answers, _ = hurried(stall, 2, path, **{"x-deadline-ms": "soon"})
        assert {answer.status_code for answer in answers} == {400}
        assert all("x-deadline-ms" in answer.text for answer in answers)


def test_a_deadline_that_is_none_is_refused_without_a_gate_too(
    make_stall: Callable[..., Any],
) -> None:
    stall = make_stall(admission=False)
    for path in ("/v1/rank", "/v1/features", "/v2/models/m/infer"):
        refused = stall.call("POST", path, json={}, headers={"x-deadline-ms": "-1"})
        assert refused.status_code == 400
        assert "x-deadline-ms" in refused.text


def test_a_replay_refuses_nobody(make_stall: Callable[..., Any]) -> None:
    stall = make_stall(replay=True)
    assert stall.app.site.gate is None
    *answers, _ = hurried(stall, 20)
    assert {answer.status_code for answer in answers} == {200}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, Priority.NORMAL),
        ({"priority": "u=3"}, Priority.NORMAL),
        ({"priority": "u=7, i"}, Priority.LOW),
        ({"priority": "i, u=5"}, Priority.LOW),
        ({"priority": "u=1"}, Priority.NORMAL),
        ({"priority": "u=1"} | TOKEN, Priority.HIGH),
        ({"priority": "u=99"} | TOKEN, Priority.NORMAL),
        ({"priority": "xu=1"} | TOKEN, Priority.NORMAL),
    ],
)
def test_the_class_is_what_the_head_may_claim(headers: dict[str, str], expected: Priority) -> None:
    raw = {name.lower().encode(): value.encode() for name, value in headers.items()}
    holder = Guard(Tokens("the-token"), {"predict"}).admit(raw, "predict")
    assert priority(raw, holder is not None) is expected


def test_a_definition_that_changes_changes_the_levels(stall: Any) -> None:
    gate = stall.app.site.gate
    assert gate.ladder.rungs == stall.service.ladder
    assert gate is stall.app.site.gate
