"""A process that answers beside the one that owns the store: the same answers from the same states, nothing taken in.

It reads what the owner commits: the states from the store, what the generators know from the log, and at which instant
it may read from `Instants`. Its answers it logs itself. What it cannot answer so that the log bears it out it does not
answer at all (`OvertakenError`): the owner does, see `passing`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from sevenfold.errors import ServingError, SevenfoldError
from sevenfold.models.trees import rehearse_trees
from sevenfold.registry.registry import Registry
from sevenfold.retrieval.build import build_retrieval
from sevenfold.serving.background import Job
from sevenfold.serving.basis import Basis, Leaving, read_leaving
from sevenfold.serving.definition import Definition
from sevenfold.serving.ingest import IngestResult, Post
from sevenfold.serving.instants import Instants, Moment, seen
from sevenfold.serving.pending import Draft, OvertakenError
from sevenfold.serving.record import encoded_record, raw_record
from sevenfold.serving.repeated import check_fresh
from sevenfold.serving.service import Service
from sevenfold.spec.system import System
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.log import blocks, position
from sevenfold.types import Instant

__all__ = ["Worker"]

_LOG = logging.getLogger(__name__)
_MOST = 2_000  # events learned at once: no answer waits for more


class Worker(Service):
    """Answers for one system over a store that another process of this machine owns; live only.

    `declared` gives the declaration that the owner serves now, to be asked when it is not the one served here.
    """

    owns = False

    def __init__(
        self,
        system: System,
        store: Store,
        registry: Registry,
        instants: Instants,
        declared: Callable[[], System | None] = lambda: None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._instants = instants
        self._declared = declared
        with store.read() as txn:  # before the log: what is carried out meanwhile is done once more
            self._known = read_leaving(txn)
        super().__init__(system, store, registry, instants.clock, False, progress)
        self.pending.check = self._check
        self._following = _Following(self)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The work beside the answers: to keep up with the owner."""
        return (self._following, self.shadow)

    def rehearse(self) -> None:
        """Have what scores compiled; `ready` does so for what reads."""
        rehearse_trees()

    def accept(self, stream: str, rows: list[object], known_us: Instant | None) -> IngestResult:
        """Raises ServingError: the owner takes events in."""
        raise ServingError("this process only answers: give events to the one that owns the store")

    def accept_posts(self, posts: Sequence[Post]) -> list[IngestResult]:
        """Raises ServingError: the owner takes events in."""
        raise ServingError("this process only answers: give events to the one that owns the store")

    def follow(self) -> bool:
        """Keep up with the owner: its declaration, who has been forgotten, its log; whether there was anything."""
        with self.store.read() as txn:
            raw = raw_record(txn)
            before = self._learned
            if raw == self._record:
                self._mind(txn, read_leaving(txn))
                self._learn_some(txn)
                return self._learned != before
        return self._change(raw)

    def _adopt(self, definition: Definition) -> None:
        super()._adopt(definition)
        self._record = encoded_record(definition)

    def _change(self, raw: bytes | None) -> bool:
        """Take over what the owner serves by now; False while nobody can say what that is."""
        try:
            system = self._declared()
        except SevenfoldError as error:
            _LOG.error("declaration not taken over error=%s", error)
            return False
        if system is None:
            return False
        definition = Definition(system)
        if encoded_record(definition) != raw:
            return False
        self._adopt(definition)
        self.audit.use(definition)
        _LOG.info("change followed serving=%s", definition.name)
        return True

    def _moment(self) -> Moment:
        return self._instants.look()

    def _instant(
        self, txn: Transaction, given: Instant | None, moment: Moment | None = None
    ) -> Instant:
        """The instant of a read: later than all that the snapshot has, before all that it has not."""
        self._check_instant(given)
        assert moment is not None
        return moment.instant(txn)

    def _catch_up(self, txn: Transaction) -> Basis:
        record = raw_record(txn)
        if record != self._record:
            raise OvertakenError("another declaration serves by now; ask again")
        leaving = read_leaving(txn)
        self._mind(txn, leaving)
        self._learn_some(txn)
        return Basis(position(txn), record, leaving)

    def _learn_some(self, txn: Transaction) -> None:
        """Have generators and caches learn what the log has more by now, or some of it."""
        stop = min(position(txn), self._learned + _MOST)
        if stop <= self._learned:
            return
        for _, batch in blocks(txn, start=self._learned, stop=stop):
            self.retrieval.observe(batch)
            self.caches.observe(batch)
        self.retrieval.settle()
        self._learned = stop

    def _mind_forgetting(self) -> None:
        """Nothing: it is seen in the snapshot that is read, see `_mind`."""

    def _mind(self, txn: Transaction, now: Leaving) -> None:
        """Keep nothing in memory of whoever has been forgotten, and no states while somebody is."""
        before, self._known = self._known, now
        if now.open or before.open or now.done != before.done:
            self.caches.clear()
        if now.done == before.done:
            return
        still = {order[:2] for order in now.open}
        gone = {order[:2] for order in before.open} - still
        if len(gone) != now.done - before.done:  # an order came and went unseen
            self._learn_anew(txn)
            return
        for entity, key in gone:
            self._has_left(entity, key)

    def _learn_anew(self, txn: Transaction) -> None:
        """Let go of all that the generators know, and have them learn from the log as it is now."""
        self.retrieval.close()
        serving = self.system.serving
        self.retrieval = build_retrieval(serving.retrieve, serving.limit)
        self._adopt(self.definition)
        self._learned = self._learn(txn, 0)

    def _check(self, txn: Transaction, drafts: Sequence[Draft]) -> None:
        """Refuse to log answers of which the store does not bear one out by now."""
        check_fresh(txn, drafts)
        record, leaving = raw_record(txn), read_leaving(txn)
        for draft in drafts:
            basis = draft.basis
            assert basis is not None
            if not seen(txn, basis.end, draft.prediction.t_us):
                raise OvertakenError("the clock was set back while this was answered; ask again")
            if record != basis.record or leaving != basis.leaving:
                raise OvertakenError("the store was changed while this was answered; ask again")


class _Following:
    """The job that keeps up with the owner while nobody asks."""

    name = "following"

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def step(self) -> bool:
        """Keep up; whether there was anything."""
        return self._worker.follow()

    def failed(self, error: Exception) -> None:
        """Nothing is lost: what was not learned is learned at the next step."""
