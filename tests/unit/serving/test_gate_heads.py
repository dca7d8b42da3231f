"""Heads before their bodies, and a disk that hangs: nobody is let in to be refused later, and nobody hears nothing."""

import asyncio
from functools import partial

from sevenfold.serving.admission import Priority, Ticket
from sevenfold.serving.gate import Gate
from sevenfold.serving.problem import HttpError
from tests.unit.serving.test_gate import RANK, RUNGS, Desk, Disk


def test_who_is_let_in_at_the_head_counts_before_the_body_is_there() -> None:
    """A thousand heads at once: no more bodies are taken in than can be answered in time, and nobody's is refused after it came."""
    desk = Desk()
    desk.cost(RANK, 0.005)
    in_by_head: list[int] = []

    async def ask(name: int) -> None:
        ticket = desk.gate.enter(RANK, Priority.NORMAL, 30_000)
        in_by_head.append(name)
        await asyncio.sleep(0)
        await desk.gate.turn(ticket)
        await desk.answer(name, ticket)

    async def every_other(name: int) -> None:
        try:
            await ask(name)
        except HttpError:
            assert name not in in_by_head, "refused with its body there"

    desk.run(*(partial(every_other, name) for name in range(1000)))
    assert 10 <= len(in_by_head) <= 14
    assert desk.served == in_by_head


def test_heads_whose_bodies_never_come_hold_no_place_for_long() -> None:
    desk = Desk()
    desk.cost(RANK, 0.005)

    async def scene() -> None:
        heads = [desk.gate.admit(RANK, Priority.NORMAL, 30_000) for _ in range(1000)]
        assert sum(isinstance(head, Ticket) for head in heads) < 15
        desk.now_s += 0.11
        await desk.ask("later")

    desk.run(scene)
    assert desk.served == ["later"]


def test_who_waits_is_told_in_time_that_the_disk_hangs() -> None:
    """It never comes back here; the third has waited for less than half of its time when the others hear of it."""
    desk, disk = Desk(), Disk()
    desk.gate = Gate(0.15, RUNGS, lambda: desk.now_s, disk)
    desk.gate.serve(RANK, "answers", laddered=True)
    heard_s: list[float] = []
    codes: set[str] = set()

    async def ask() -> None:
        ticket = desk.gate.enter(RANK, Priority.NORMAL, 700)
        try:
            await desk.gate.turn(ticket)
        except HttpError as error:
            codes.add(error.code)
            heard_s.append(desk.now_s - ticket.arrived_s)

    async def scene() -> None:
        disk.age_s = disk.kept_s = 0.05
        asked = [asyncio.ensure_future(ask()) for _ in range(2)]
        await asyncio.sleep(0.05)
        asked.append(asyncio.ensure_future(ask()))
        disk.age_s = disk.kept_s = 1.0
        await asyncio.sleep(0.04)
        assert len(heard_s) == 2
        await asyncio.gather(*asked)

    desk.run(scene)
    assert len(heard_s) == 3
    assert codes == {"late"}
    assert max(heard_s) <= 0.15
