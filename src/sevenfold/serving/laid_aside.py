"""Answers that are put aside and not in the tables yet: they are put there now and then, beside the event loop.

A process that is killed leaves them to whoever opens the store next. What a loss of power takes is for whoever gives them to decide: nothing of what was given
after a `sync`; where nobody waits for one, what came since the last that was done here, a quarter of a second before it and what that and a
commit take. Until they are in the tables a request that comes again is answered from here.

A commit of the tables does not need what it commits to be on disk elsewhere. So where the disk fails what is aside is moved all the same; and since it is not known what of the file
can be read back then, what is not found there is written from memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from sevenfold.errors import StoreError
from sevenfold.serving.beside import Beside, Work
from sevenfold.serving.blocked import Blocked
from sevenfold.serving.prediction_log import (
    FeatureList,
    Prediction,
    entry_of,
    is_answered,
    keep_feature_list,
    write_prediction,
)
from sevenfold.stores.kv import Aside, Store, Transaction

__all__ = ["LaidAside"]

_LOG = logging.getLogger(__name__)
_LATEST_S = 0.25  # that they wait for others: a commit more then is one in many
_AGAIN_S = 0.5


class Answered(Protocol):
    """An answer that is made."""

    prediction: Prediction
    features: FeatureList | None
    raw: bytes


A = TypeVar("A", bound=Answered)


class LaidAside(Generic[A]):
    """Answers put `aside` on the event loop, and moved into the tables of `store` by a thread.

    With `waited` whoever gives them waits for each by `sync`; else they are on disk before they are moved, which may take long. What keeps them from the tables is
    noted in `blocked`, and it is tried again twice a second: they stay aside, and in memory.
    """

    def __init__(self, store: Store, aside: Aside, blocked: Blocked, waited: bool = True) -> None:
        self._store, self._aside, self._blocked, self._waited = store, aside, blocked, waited
        self._answers: dict[str, A] = {}
        self._groups: deque[tuple[int, list[str]]] = deque()  # the number behind each group
        self._lists: set[str] = set()  # the lists of features that the store has by now
        self._beside = Beside("tables", awaited=False)
        self._timer: asyncio.TimerHandle | None = None
        self._moving = False
        self._told: Callable[[OSError | None], None] | None = None
        self._hearing: tuple[asyncio.AbstractEventLoop, int] | None = None

    @property
    def is_open(self) -> bool:
        """Whether answers can be put aside now: not while nothing can be written to the tables."""
        return self._aside.is_open and self._blocked.error is None

    def find(self, request_id: str) -> A | None:
        """The answer to a request that may not be in the tables yet, if any."""
        return self._answers.get(request_id)

    def put(self, answers: Sequence[A]) -> bool:
        """Put answers aside, to be kept by `sync`: whether there is room. Raises what keeps any of them from there."""
        lists: set[str] = set()
        entries = []
        for answer in answers:
            made, features = answer.prediction, answer.features
            if features is not None and features.name in self._lists | lists:
                features = None
            elif features is not None:
                lists.add(features.name)
            entries.append(entry_of(made.request_id, made.t_us, answer.raw, features))
        behind = self._aside.append(entries)
        if behind is None:
            return False
        self._lists |= lists
        names = [answer.prediction.request_id for answer in answers]
        self._answers.update(zip(names, answers, strict=True))
        self._groups.append((behind, names))
        return True

    def sync_soon(self, told: Callable[[OSError | None], None]) -> None:
        """Have `told` called on the event loop when all that was put aside by now is on disk, or cannot be written to it.

        One at a time, and `sync` may be before it.
        """
        loop = asyncio.get_running_loop()
        place = self._aside.begin_sync()
        self._told = told
        if self._hearing != (
            loop,
            place,
        ):  # kept from one to the next: to hear takes a call of the system
            self._stop_hearing()
            loop.add_reader(place, self._ready)
            self._hearing = loop, place

    def sync(self) -> None:
        """Wait here for what `sync_soon` would tell of, which then does not; raises OSError."""
        self._told = None
        self._aside.end_sync(wait=True)

    def move_soon(self, in_s: float = _LATEST_S) -> None:
        """Have them in the tables in a moment, with those that come meanwhile; to be called on the event loop."""
        if self._timer is None and not self._moving and self._groups:
            self._timer = asyncio.get_running_loop().call_later(in_s, self._move)

    def settle(self) -> None:
        """Have all in the tables now; nothing is raised."""
        self._let_go()
        if self._groups:
            self._note(self._written(self._waiting()))

    def close(self) -> None:
        """Settle, and end the thread."""
        if self._timer is not None:
            self._timer.cancel()
        self._beside.close()
        self.settle()
        self._stop_hearing()

    def _ready(self) -> None:
        told, error = self._told, None
        if told is None:  # nobody waits for what is told
            self._stop_hearing()
            return
        try:
            if not self._aside.end_sync():
                return
        except OSError as found:
            error = found
        self._told = None
        told(error)

    def _stop_hearing(self) -> None:
        if self._hearing is not None:
            loop, place = self._hearing
            self._hearing = None
            if not loop.is_closed():
                loop.remove_reader(place)

    def _move(self) -> None:
        self._timer = None
        self._let_go()
        if not self._groups:
            return
        self._moving = True
        loop = asyncio.get_running_loop()
        waiting = self._waiting()
        found: list[int | StoreError] = []

        def do(_: Callable[[], None]) -> None:
            found.append(self._written(waiting))

        def told() -> None:
            with suppress(RuntimeError):  # the loop is closed: whoever ended it has settled
                loop.call_soon_threadsafe(self._moved, found)

        self._beside.give(Work(do, told))

    def _moved(self, found: Sequence[int | StoreError]) -> None:
        self._moving = False
        self._note(*found)
        self.move_soon(_AGAIN_S if isinstance(found[0], StoreError) else _LATEST_S)

    def _waiting(self) -> list[tuple[int, list[A]]]:
        """The groups that may not be in the tables, each with the number behind it."""
        return [(behind, [self._answers[name] for name in names]) for behind, names in self._groups]

    def _written(self, waiting: Sequence[tuple[int, Sequence[A]]]) -> int | StoreError:
        """Have these in the tables, on whatever thread: the number behind the last that is known to be there, or what keeps them from there."""
        if not self._waited:
            try:
                self._aside.sync()  # nobody has waited for it, and a commit may take long, or fail
            except OSError as error:
                _LOG.error("nothing is put aside any more, answers are committed: error=%s", error)
        try:
            with self._store.write() as txn:  # what is aside is in the tables of whoever writes
                if not self._aside.is_failed:
                    return self._aside.done
                # What cannot be read back is not there. What has left since is not to come back.
                done = self._aside.done
                for behind, answers in waiting:
                    if behind > done:
                        self._put(txn, answers)
                last = waiting[-1][0]
                self._aside.note_kept(txn, last)
        except StoreError as error:
            return error
        except Exception as error:  # noqa: BLE001  the edge of the process: no caller hears of it
            return StoreError(f"what is aside cannot be moved: {error}")
        return last

    def _put(self, txn: Transaction, answers: Sequence[A]) -> None:
        for answer in answers:
            made = answer.prediction
            if not is_answered(txn, made.request_id):
                if answer.features is not None:
                    keep_feature_list(txn, answer.features)
                write_prediction(txn, made, answer.raw)

    def _note(self, found: int | StoreError) -> None:
        if isinstance(found, StoreError):
            _LOG.error("answers stay aside: error=%s", found)
            self._blocked.failed(found)
        else:
            self._blocked.wrote()
            self._let_go(found)

    def _let_go(self, written: int = 0) -> None:
        done = max(self._aside.done, written)
        while self._groups and self._groups[0][0] <= done:
            for name in self._groups.popleft()[1]:
                self._answers.pop(name, None)
