"""Answers that are made and not yet on disk: those of one turn of the event loop share one commit.

The guarantee: no answer leaves the process before it is on disk with its vectors, its index and its instant. A process that is
killed, or a machine that loses power, takes with it only answers that nobody has had, and their requests may be sent again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from sevenfold.clock import elapsed_s
from sevenfold.errors import ServingError, StoreError, StoreFullError
from sevenfold.serving.blocked import Blocked
from sevenfold.serving.prediction_log import (
    FeatureList,
    Prediction,
    encode_prediction,
    keep_feature_list,
    write_prediction,
)
from sevenfold.stores.kv import Store, Transaction

__all__ = ["Draft", "OvertakenError", "Pending"]

_LOG = logging.getLogger(__name__)
_LONGEST_S = 0.01  # that an answer waits for others to be made; what is one more commit by then?
_MOST_S = 0.05  # the same where the disk is slow
_MOST = 256  # that are made and not on disk, whatever the disk does
_KEEP = 0.5  # of what a commit was thought to take


class OvertakenError(ServingError):
    """Another process has written what an answer should have known of: it is to be made again."""


class Draft:
    """An answer that is made: given once it `is_kept`; `repeated` when it had been given before.

    `error` is why it could not be written. `features` are those that its vectors are of.
    """

    def __init__(self, prediction: Prediction, features: FeatureList | None) -> None:
        self.prediction = prediction
        self.repeated = features is None
        self.features = features
        self.is_kept = self.repeated
        self.basis: object = None  # what it was made from, for whoever checks that
        self.error: Exception | None = None
        self.raw = b"" if self.repeated else encode_prediction(prediction)
        self.made_s = elapsed_s()
        self._told: list[Callable[[], None]] = []

    def again(self) -> Draft:
        """The same answer to the same request, which came again before the answer was on disk."""
        twin = Draft(self.prediction, None)
        twin.is_kept = self.is_kept
        self._told.append(lambda: twin.settled(self.error))
        return twin

    def settled(self, error: Exception | None) -> None:
        """Tell all that wait for it that it is on disk, or why it is not."""
        self.error, self.is_kept = error, error is None
        if not self.repeated:
            self.prediction.timing_us["log"] = round((elapsed_s() - self.made_s) * 1e6)
        for tell in self._told:
            tell()

    async def kept(self) -> None:
        """Wait until it is on disk; raises what kept it from there."""
        if not self.is_kept and self.error is None:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._told.append(lambda: None if future.done() else future.set_result(None))
            await future
        self.require_kept()

    def require_kept(self) -> None:
        """Raise what kept it from the disk, if anything did."""
        if self.error is not None:
            raise self.error


class Pending:
    """The drafts that wait, in the order in which they were made; `settle` writes them by one commit.

    Where other processes write too, `check` is asked in that transaction and raises OvertakenError for a draft that is void.

    One that has waited `longest_s` is written when the next is made, with it; where the disk is slow, one that has waited for
    twice as long as a commit takes, so that a slow commit is shared by more. Whoever makes a draft has it settled: an event loop at its next turn, everyone else at once.
    """

    def __init__(self, store: Store, longest_s: float = _LONGEST_S, most: int = _MOST) -> None:
        self._store = store
        self.check: Callable[[Transaction, Draft], None] | None = None
        self._longest_s = longest_s
        self._most = most
        self._commit_s = 0.0
        self._waiting: dict[str, Draft] = {}
        self.blocked = Blocked()

    @property
    def commit_s(self) -> float:
        """What a commit takes of late, in seconds."""
        return self._commit_s

    @property
    def patience_s(self) -> float:
        """How long a draft waits for others to be made, at most, in seconds."""
        return max(self._longest_s, min(2 * self._commit_s, _MOST_S))

    def find(self, request_id: str) -> Draft | None:
        """The draft that answers a request and is not on disk yet, if any."""
        return self._waiting.get(request_id)

    def add(self, draft: Draft) -> None:
        """Have a draft wait, and write all that wait where the oldest has waited long, or they are as many as may."""
        self._waiting[draft.prediction.request_id] = draft
        oldest = next(iter(self._waiting.values()))
        if draft.made_s - oldest.made_s > self.patience_s or len(self._waiting) >= self._most:
            self.settle()

    def settle_soon(self) -> None:
        """Settle at the next turn of the event loop, after what is ready in this one."""
        if self._waiting:
            asyncio.get_running_loop().call_soon(self.settle)

    def settle(self) -> None:
        """Write all that wait; each draft is told what became of it, and nothing is raised."""
        drafts = list(self._waiting.values())
        self._waiting.clear()
        if not drafts:
            return
        begin_s = elapsed_s()
        error = self._write(drafts)
        self._commit_s += (1 - _KEEP) * (elapsed_s() - begin_s - self._commit_s)
        # Together nothing of them is written; one may be at fault, and the others are not to suffer for it.
        is_shared = error is None or len(drafts) == 1 or isinstance(error, StoreFullError)
        errors = [error if is_shared else self._write([draft]) for draft in drafts]
        self._note(errors)
        for draft, own in zip(drafts, errors, strict=True):
            draft.settled(own)

    def _note(self, errors: list[Exception | None]) -> None:
        """Block when nothing could be written; the errors then say so."""
        if None in errors:
            self.blocked.wrote()
            return
        for at, error in enumerate(errors):
            if isinstance(error, StoreError):
                errors[at] = self.blocked.failed(error)

    def _write(self, drafts: Sequence[Draft]) -> Exception | None:
        try:
            with self._store.write() as txn:
                if self.check is not None:
                    for draft in drafts:
                        self.check(txn, draft)
                for features in {
                    d.features.name: d.features for d in drafts if d.features
                }.values():
                    keep_feature_list(txn, features)
                for draft in drafts:
                    write_prediction(txn, draft.prediction, draft.raw)
        except OvertakenError as error:
            _LOG.info("answers to be made again n=%d reason=%s", len(drafts), error)
            return error
        except Exception as error:  # noqa: BLE001  the edge of the process: each who waits hears of it
            _LOG.error("answers not written n=%d error=%s", len(drafts), error)
            return error
        return None
