"""One answer in a round of the event loop: between two of them it hears what has come, and sends what is on disk."""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Rounds"]


class Rounds:
    """Turns for answers that are made on the event loop, first come first served.

    An answer that is made waits for the disk while the next is made. If several were made in one round, those on disk by then would wait for all
    of them before the loop comes to send them.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_taken = False

    async def turn(self) -> None:
        """Wait for a round in which no other answer is made; what follows in the same step is made in it."""
        loop = asyncio.get_running_loop()
        if not self._is_taken:
            self._is_taken = True
            loop.call_soon(self._over)
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _over(self) -> None:
        # What the loop hears in this round is done in the next, and the next answer in the one after it.
        asyncio.get_running_loop().call_soon(self._give)

    def _give(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # who asked is still there
                turn.set_result(None)
                asyncio.get_running_loop().call_soon(self._over)
                return
        self._is_taken = False
