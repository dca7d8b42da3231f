"""Answers that are made and not yet on disk: those of one turn of the event loop share one commit.

A commit is mostly waiting for the disk. A server has it done on a thread beside its event loop, so that meanwhile requests are read and
refused; what is made while one is under way goes into the next. The one server of a home puts them aside instead (`stores/aside.py`): that waits
for the disk once and not twice, and copies no pages. They are in the tables with whatever is written next, or with a commit that is begun a quarter of a second later.

The guarantee: no answer leaves the process before it is on disk with its vectors, its index and its instant. A process that is
killed, or a machine that loses power, takes with it only answers that nobody has had, and their requests may be sent again. Where the server is told not to wait
(`--log-sync everysec`) an answer is given once the system has it: a kill takes none that somebody has had, a loss of power those of about the last second.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from sevenfold.clock import elapsed_s
from sevenfold.errors import ServingError, StoreError, StoreFullError
from sevenfold.serving.basis import Basis
from sevenfold.serving.beside import Beside, Work
from sevenfold.serving.blocked import Blocked
from sevenfold.serving.laid_aside import LaidAside
from sevenfold.serving.offers import Offer, Offers
from sevenfold.serving.prediction_log import (
    FeatureList,
    Prediction,
    encode_prediction,
    is_kept,
    keep_feature_list,
    write_prediction,
)
from sevenfold.stores.kv import Aside, Store, Transaction

__all__ = ["Draft", "OvertakenError", "Pending"]

_LOG = logging.getLogger(__name__)
_LONGEST_S = 0.01  # that an answer waits for others to be made; what is one more commit by then?
_MOST_S = 0.05  # the same where the disk is slow
_MOST = 256  # that are made and not on disk, whatever the disk does
_KEEP = 0.5  # of what a commit was thought to take


class OvertakenError(ServingError):
    """Another process has written what an answer should have known of: it is to be made again."""


class Draft:
    """An answer that is made: given once it `is_kept`, on disk or aside; `repeated` when it had been given before.

    `error` is why it could not be written. `features` are those that its vectors are of.
    """

    def __init__(self, prediction: Prediction, features: FeatureList | None) -> None:
        self.prediction = prediction
        self.repeated = features is None
        self.features = features
        self.is_kept = self.repeated
        self.basis: Basis | None = None  # what it was made from, where others may check that
        self.error: Exception | None = None
        self.raw = b"" if self.repeated else encode_prediction(prediction)
        self.made_s = elapsed_s()
        self._told: list[Callable[[], None]] = []

    def again(self) -> Draft:
        """The same answer to the same request, which came again before the answer was in the tables; with the error of one that could not be kept."""
        twin = Draft(self.prediction, None)
        twin.is_kept, twin.error = self.is_kept, self.error
        self._told.append(lambda: twin.settled(self.error))
        return twin

    def offer(self) -> Offer:
        """What of it other processes are shown, which may then write it."""
        assert self.basis is not None
        assert self.features is not None
        made, basis = self.prediction, self.basis
        return Offer(
            made.request_id,
            made.t_us,
            self.raw,
            self.features.name,
            basis.end,
            basis.standing(),
        )

    def settled(self, error: Exception | None) -> None:
        """Tell all that wait for it that it is kept, or why it is not."""
        self.error, self.is_kept = error, error is None
        if not self.repeated:
            self.prediction.timing_us["log"] = round((elapsed_s() - self.made_s) * 1e6)
        for tell in self._told:
            tell()

    async def kept(self, patience_s: float = math.inf) -> bool:
        """Wait until it is kept, for `patience_s` at most: whether it is; raises what kept it from that."""
        if not self.is_kept and self.error is None:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()

            def over() -> None:
                if not future.done():
                    future.set_result(None)

            self._told.append(over)
            # A timer by itself: asyncio.timeout, which cancels, takes four times as long.
            timer = None if patience_s == math.inf else loop.call_later(patience_s, over)
            try:
                await future
            finally:
                if timer is not None:
                    timer.cancel()
        self.require_kept()
        return self.is_kept

    def require_kept(self) -> None:
        """Raise why it is not kept, if it could not be."""
        if self.error is not None:
            raise self.error


class Pending:
    """The drafts that wait, in the order in which they were made; `settle` writes them by one commit.

    Where other processes write too, `check` is asked in that transaction and raises OvertakenError where a draft is void; and with `offers`
    they write for one another what waits.

    One that has waited `longest_s` is written when the next is made, with it; where the disk is slow, one that has waited for
    twice as long as a commit takes, so that a slow commit is shared by more. Whoever makes a draft has it settled: an event loop by `settle_soon`, everyone
    else by `settle`, at once. With `beside` the first has the commit done on a thread of its own, one at a time.
    """

    def __init__(
        self, store: Store, longest_s: float = _LONGEST_S, most: int = _MOST, beside: bool = False
    ) -> None:
        self._store = store
        self.check: Callable[[Transaction, Sequence[Draft]], None] | None = None
        self.offers: Offers | None = None
        self._longest_s = longest_s
        self._most = most
        self._commit_s = self._loop_s = self._kept_s = 0.0
        self._waiting: dict[str, Draft] = {}
        self._group: _Group | None = None  # that is being written on the thread
        self._idle: list[asyncio.Future[None]] = []
        self._beside = Beside("commit") if beside else None
        self.aside: Aside | None = None  # where answers are put aside, if anywhere
        self._aside: LaidAside[Draft] | None = None
        self._sync = True
        self.blocked = Blocked()

    def write_beside(self, aside: Aside | None = None, sync: bool = True) -> None:
        """From now on have what an event loop settles written on a thread beside it, or put aside: given once they are on disk, or without `sync` at once."""
        self._beside = self._beside or Beside("commit")
        self.aside = aside
        self._aside = None if aside is None else LaidAside(self._store, aside, self.blocked, sync)
        self._sync = sync

    @property
    def is_beside(self) -> bool:
        """Whether answers are written beside the event loop: then those of one turn have no commit to share."""
        return self._beside is not None

    @property
    def commit_s(self) -> float:
        """What a commit takes of late, in seconds."""
        return self._commit_s

    @property
    def loop_s(self) -> float:
        """What a commit takes of the event loop of late, in seconds: all of it where it is not made beside."""
        return self._loop_s

    @property
    def age_s(self) -> float:
        """How long the oldest draft that is not on disk has waited, in seconds; 0 where there is none."""
        drafts = self._waiting if self._group is None else self._group.drafts
        return elapsed_s() - next(iter(drafts.values())).made_s if drafts else 0.0

    @property
    def kept_s(self) -> float:
        """How long a draft made now is expected to wait until it is on disk, in seconds: as of late, or as the oldest has waited by now."""
        return max(self._kept_s, self.age_s)

    @property
    def patience_s(self) -> float:
        """How long a draft waits for others to be made, at most, in seconds."""
        return max(self._longest_s, min(2 * self._commit_s, _MOST_S))

    def find(self, request_id: str) -> Draft | None:
        """The draft that answers a request and is not on disk yet, or not in the tables, if any."""
        under_way = None if self._group is None else self._group.drafts.get(request_id)
        aside = None if self._aside is None else self._aside.find(request_id)
        return under_way or self._waiting.get(request_id) or aside

    def add(self, draft: Draft) -> None:
        """Have a draft wait, and write all that wait where the oldest has waited long, or they are as many as may."""
        self._waiting[draft.prediction.request_id] = draft
        if self.offers is not None:
            self.offers.show(draft.offer())
        n = len(self._waiting) + (0 if self._group is None else len(self._group.drafts))
        if n >= self._most or (self._beside is None and self._is_long(draft.made_s)):
            self.settle()

    def settle_soon(self) -> None:
        """Settle at the next turn of the event loop, after what is ready in this one."""
        if not self._waiting:
            return
        if self._beside is None:
            asyncio.get_running_loop().call_soon(self.settle)
        elif self._is_put_aside() or self._is_long(elapsed_s()):  # no commit is to be shared
            self._begin()
        else:
            asyncio.get_running_loop().call_soon(self._begin)

    def settle(self) -> None:
        """Write all that wait, into the tables; each draft is told what became of it, and nothing is raised."""
        if self._group is not None:
            self._group.wait()
            self._tell_group()
        drafts = self._taken()
        if self._aside is not None and not drafts:
            self._aside.settle()
        if drafts:
            group = _Group(drafts)
            self._commit(group)
            group.loop_s = group.taken_s
            self._tell(group)

    async def idle(self) -> None:
        """Wait until what waits is written where there is a thread for it; whoever waits here goes on before the next commit begins."""
        self._begin()
        if self._group is not None:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(future)
            await future

    def close(self) -> None:
        """Settle, and end the thread."""
        self.settle()
        for part in (self._beside, self._aside):
            if part is not None:
                part.close()

    def _is_put_aside(self) -> bool:
        return self._aside is not None and self._aside.is_open

    def _is_long(self, now_s: float) -> bool:
        oldest = next(iter(self._waiting.values()))
        return now_s - oldest.made_s > self.patience_s

    def _taken(self) -> dict[str, Draft]:
        drafts, self._waiting = self._waiting, {}
        return drafts

    def _begin(self) -> None:
        """Have all that wait written beside the loop, unless others are: then they wait for those."""
        if self._group is not None or not self._waiting or self._beside is None:
            return
        group = self._group = _Group(self._taken())
        if not self._is_laid_aside(group):
            self._commit_beside(group, self._beside)
        elif not self._sync:
            group.taken_s = group.loop_s = elapsed_s() - group.begin_s
            self._end(group)
            return
        else:
            assert self._aside is not None
            group.wait = partial(self._wait, group)
            self._aside.sync_soon(partial(self._synced, group))
        group.loop_s = elapsed_s() - group.begin_s

    def _commit_beside(self, group: _Group, beside: Beside) -> None:
        """Have a group committed on the thread."""
        loop = asyncio.get_running_loop()

        def told() -> None:
            with suppress(RuntimeError):  # the loop is closed: whoever ended it has settled
                loop.call_soon_threadsafe(self._end, group)

        work = Work(partial(self._commit, group), told)
        group.wait = work.wait
        beside.give(work)

    def _end(self, group: _Group) -> None:
        """Tell what became of a group that was written on the thread, and go on with those that wait."""
        if self._group is group:  # else whoever settled did not wait for the loop to hear of it
            self._tell_group()
            if self._aside is not None:
                self._aside.move_soon()
            # Behind those who waited for this.
            asyncio.get_running_loop().call_soon(self._begin)

    def _tell_group(self) -> None:
        group, self._group = self._group, None
        assert group is not None
        self._tell(group)
        idle, self._idle = self._idle, []
        for future in idle:
            if not future.done():
                future.set_result(None)

    def _commit(self, group: _Group, begun: Callable[[], None] = lambda: None) -> None:
        """Write a group, on whatever thread this is, and note in it what became of each draft; raises nothing."""
        begin_s = elapsed_s()
        drafts = list(group.drafts.values())
        error = self._write(drafts, begun, with_others=True)
        group.taken_s = elapsed_s() - begin_s
        # Together nothing of them is written; one may be at fault, and the others are not to suffer for it.
        is_own = len(drafts) == 1 and (self.offers is None or isinstance(error, OvertakenError))
        is_shared = error is None or is_own or isinstance(error, StoreFullError)
        group.errors = [error if is_shared else self._write([draft], begun) for draft in drafts]

    def _is_laid_aside(self, group: _Group) -> bool:
        """Put a group aside where that can be done; whether it is."""
        if self._aside is None or not self._is_put_aside():
            return False
        try:
            is_aside = self._aside.put(list(group.drafts.values()))
        except Exception as error:  # noqa: BLE001  the edge of the process: the commit tells each who waits
            _LOG.error("answers not put aside n=%d error=%s", len(group.drafts), error)
            return False
        if is_aside:
            group.errors = [None] * len(group.drafts)
        return is_aside

    def _synced(self, group: _Group, error: OSError | None) -> None:
        """Go on with a group that is on disk, or commit it where it may not be."""
        if (
            self._group is not group or self._beside is None
        ):  # whoever settled did not wait for this
            return
        if error is None:
            group.taken_s = elapsed_s() - group.begin_s
            self._end(group)
            return
        _no_longer_aside(error)
        self._commit_beside(group, self._beside)

    def _wait(self, group: _Group) -> None:
        """Wait here for the disk to have a group, or commit it where it may not; raises nothing."""
        assert self._aside is not None
        try:
            self._aside.sync()
        except OSError as error:
            _no_longer_aside(error)
            self._commit(group)
        else:
            group.taken_s = elapsed_s() - group.begin_s

    def _tell(self, group: _Group) -> None:
        first = next(iter(group.drafts.values()))
        self._commit_s += (1 - _KEEP) * (group.taken_s - self._commit_s)
        self._loop_s += (1 - _KEEP) * (group.loop_s - self._loop_s)
        self._kept_s += (1 - _KEEP) * (elapsed_s() - first.made_s - self._kept_s)
        self._note(group.errors)
        if self.offers is not None:
            self.offers.hide(group.drafts)
        for draft, own in zip(group.drafts.values(), group.errors, strict=True):
            draft.settled(own)

    def _note(self, errors: list[Exception | None]) -> None:
        """Block when nothing could be written; the errors then say so."""
        if None in errors:
            self.blocked.wrote()
            return
        for at, error in enumerate(errors):
            if isinstance(error, StoreError):
                errors[at] = self.blocked.failed(error)

    def _write(
        self, drafts: Sequence[Draft], begun: Callable[[], None], with_others: bool = False
    ) -> Exception | None:
        if self.offers is not None:
            begun()  # other processes have the lock for as long as it takes
        try:
            with self._store.write() as txn:
                if self.offers is not None:  # another process may have had its turn before
                    drafts = [d for d in drafts if not is_kept(txn, d.prediction, d.raw)]
                self._put(txn, drafts)
                if self.offers is not None and drafts and with_others:
                    self.offers.write_others(txn)
                begun()  # what is left is the commit
        except OvertakenError as error:
            _LOG.info("answers to be made again n=%d reason=%s", len(drafts), error)
            return error
        except Exception as error:  # noqa: BLE001  the edge of the process: each who waits hears of it
            _LOG.error("answers not written n=%d error=%s", len(drafts), error)
            return error
        return None

    def _put(self, txn: Transaction, drafts: Sequence[Draft]) -> None:
        if self.check is not None:
            self.check(txn, drafts)
        for features in {d.features.name: d.features for d in drafts if d.features}.values():
            keep_feature_list(txn, features)
        for draft in drafts:
            write_prediction(txn, draft.prediction, draft.raw)


class _Group:
    """Drafts by request that are written together, and what became of each; `wait` is to wait for that."""

    wait: Callable[[], None]

    def __init__(self, drafts: dict[str, Draft]) -> None:
        self.drafts = drafts
        self.errors: list[Exception | None] = []
        self.begin_s = elapsed_s()
        self.taken_s = self.loop_s = 0.0


def _no_longer_aside(error: OSError) -> None:
    _LOG.error("nothing is put aside any more, answers are committed: error=%s", error)
