"""Answers one in a round of the loop: in order, and what the loop hears between two of them is done before the next."""

import asyncio

from sevenfold.serving.rounds import Rounds


def test_they_come_in_order_and_let_others_in_between() -> None:
    told: list[str] = []

    async def answer(rounds: Rounds, name: str) -> None:
        await rounds.turn()
        told.append(name)
        # What the answer leads to, two rounds of the loop later.
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: loop.call_soon(lambda: told.append(f"{name} sent")))

    async def work() -> None:
        rounds = Rounds()
        await asyncio.gather(*(answer(rounds, name) for name in "abc"))
        await asyncio.sleep(0.01)
        await answer(rounds, "d")
        await asyncio.sleep(0.01)

    asyncio.run(work())
    assert told == [word for name in "abcd" for word in (name, f"{name} sent")]


def test_who_gives_up_takes_nobodys_turn() -> None:
    told: list[str] = []

    async def answer(rounds: Rounds, name: str) -> None:
        await rounds.turn()
        told.append(name)

    async def work() -> None:
        rounds = Rounds()
        tasks = [asyncio.ensure_future(answer(rounds, name)) for name in "abcd"]
        await asyncio.sleep(0)
        tasks[1].cancel()
        tasks[2].cancel()
        async with asyncio.timeout(20):
            await tasks[3]

    asyncio.run(work())
    assert told == ["a", "d"]
