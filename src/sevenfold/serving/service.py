"""The system at work: one store, one writer, the generators, the model that serves now."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sevenfold.clock import Clock, elapsed_s
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import InputError, ServingError, StoreFullError
from sevenfold.features.frame import Spine
from sevenfold.models.paths import Choice
from sevenfold.registry.registry import Registry
from sevenfold.retrieval.build import Retrieval, build_retrieval
from sevenfold.serving.ahead import ahead_of
from sevenfold.serving.answer import Answering
from sevenfold.serving.audit import Audit
from sevenfold.serving.background import Job
from sevenfold.serving.basis import Basis, read_basis
from sevenfold.serving.caches import Caches, hot_states, slates_of
from sevenfold.serving.champion import Champion
from sevenfold.serving.changing import ChangeStatus, Changing, obstacle
from sevenfold.serving.definition import Definition
from sevenfold.serving.forgetting import Forgetting, Forgotten, forgotten, orders
from sevenfold.serving.histories import Keeping
from sevenfold.serving.ingest import Ingest, IngestResult, Observer, Post
from sevenfold.serving.instants import Instants, Moment
from sevenfold.serving.job_thread import JobThread
from sevenfold.serving.jobs import Jobs
from sevenfold.serving.moving import Moving
from sevenfold.serving.named import asked_rows, check_keys
from sevenfold.serving.offers import Offers
from sevenfold.serving.on_trial import OnTrial
from sevenfold.serving.pending import Draft, Pending
from sevenfold.serving.prediction_log import Prediction, find_prediction
from sevenfold.serving.record import keep_record
from sevenfold.serving.referee import Referee
from sevenfold.serving.rehearsal import rehearse
from sevenfold.serving.repeated import check_fresh, check_same
from sevenfold.serving.request import (
    FeaturesAnswer,
    FeaturesRequest,
    RankRequest,
    RecommendRequest,
)
from sevenfold.serving.retention import Retention
from sevenfold.serving.rotation import Bounds
from sevenfold.serving.rungs import FULL, Allowance
from sevenfold.serving.sealed_answers import SealedAnswers
from sevenfold.serving.sets import keep_sets
from sevenfold.serving.shadow import Shadow
from sevenfold.serving.slate_table import Slate, SlateTable, served_table
from sevenfold.spec.system import System
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.log import blocks, frontier_us, last_known_us, position
from sevenfold.types import Instant, Texts
from sevenfold.watch import Watch

__all__ = ["Service"]

_GRACE_US = 3_600_000_000
_QUIET_S = 0.1


class Service:
    """Answers for one system over one store; not for more than one thread at a time.

    With `replay` a request may name its instant and events the instant they became known; live, the clock
    does. `progress` is told how many events have been read back at the start. This one `owns` the store: it writes
    all that is in it, but for the answers of processes beside it (see `share` and `Worker`).
    """

    owns = True

    def __init__(
        self,
        system: System,
        store: Store,
        registry: Registry,
        clock: Clock,
        replay: bool = False,
        progress: Callable[[int], None] | None = None,
        grace_us: int = _GRACE_US,
    ) -> None:
        self.store = store
        self.pending = Pending(store)
        self.replay = replay
        self.registry = registry
        self.retrieval: Retrieval = build_retrieval(system.serving.retrieve, system.serving.limit)
        self._clock = clock
        definition = Definition(system)
        self.referee = Referee(store, self.now_us, replay)
        self.shadow = Shadow(store, replay)
        engine = OnlineEngine(definition.plan)
        self.caches = Caches()
        self.table_outcomes: Counter[str] = Counter()
        self._was_forgetting = False
        observers: list[Observer] = [self.retrieval, self.caches]
        self._ingest = Ingest(store, system.streams, engine, clock, observers, self.owns)
        self._adopt(definition)
        # A replay is compared as a whole by whoever replays.
        share = 0.0 if replay else system.monitoring.audit.share
        self.audit = Audit(store, definition, share)
        self.auditing = JobThread(self.audit)
        self.changing = Changing(
            store,
            self._ingest,
            clock,
            definition,
            lambda changed: obstacle(registry, changed),
            self._switch,
            grace_us,
        )
        self.changing.hold = self._is_forgetting
        self.keeping: Keeping | None = None
        self.moving: Moving | None = None
        self._sealed: SealedAnswers | None = None
        self.retention = Retention(store, system, self._now_us)
        self.forgetting = Forgetting(store, system, lambda: self._ingest.views, self._has_left)
        self._asked_s = -math.inf
        self.scoring = Jobs(
            store,
            system.serving.jobs,
            self._slate_of,
            clock.now_us,
            self._is_forgetting,
            lambda: elapsed_s() - self._asked_s > _QUIET_S,
        )
        with store.read() as txn:
            self._learned = self._learn(txn, 0, progress)

    @property
    def watches(self) -> tuple[Watch, ...]:
        """What each answer looks at: whoever has an event loop has that hear of it."""
        aside = self.pending.aside
        return (self.registry.watch,) if aside is None else (self.registry.watch, aside.watch)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The work to be done beside the answers."""
        beside = [job for job in (self.moving, self.keeping) if job is not None]
        judging = (self.auditing, self.referee, self.shadow)
        return (self.forgetting, self.changing, *judging, self.retention, self.scoring, *beside)

    def keep_answers(self, folder: Path, url: str = "", head: int = 0) -> None:
        """Read answers from the files in `folder` too, and have a process move all but the newest `head` there from the store at `url`.

        Without a store's address, or with a head of 0, none are moved.
        """
        self._sealed = SealedAnswers(folder)
        self.audit.sealed = self.retention.sealed = self.forgetting.sealed = self._sealed
        self.referee.sealed = self._sealed
        if url and head:
            bounds = Bounds(head, min(Bounds().rows, head))
            self.moving = Moving(self.store, url, self._sealed, bounds, self._is_forgetting)

    def keep_histories(self, url: str, folder: Path, head_events: int) -> None:
        """Have histories by key kept in `folder` from now on; `url` is the store's address."""
        self.keeping = Keeping(self.store, url, folder, head_events, self._is_forgetting)
        self.keeping.use(self.plan)

    def share(self, instants: Instants, offers: Offers | None = None) -> None:
        """From now on other processes answer from the store too, and go by `instants`; with `offers` commits are shared."""
        self._ingest.instants = instants
        self.pending.check, self.pending.offers = check_fresh, offers

    def _learn(
        self, txn: Transaction, start: int, progress: Callable[[int], None] | None = None
    ) -> int:
        """Have the generators learn from the log from a position on; its end."""
        for seq, batch in blocks(txn, start=start):
            self.retrieval.observe(batch)
            if progress is not None:
                progress(seq + len(batch))
        self.retrieval.settle()
        return position(txn)

    def close(self) -> None:
        """End what the service has started; the store stays open."""
        self.auditing.close()
        self.pending.close()
        self.retrieval.close()
        if self.keeping is not None:
            self.keeping.close()
        if self.moving is not None:
            self.moving.close()

    def _adopt(self, definition: Definition) -> None:
        """Answer by `definition` from now on; its states are there."""
        if self.owns:
            keep_sets(self.store, definition)
            keep_record(self.store, definition)
        self.definition = definition
        self.system, self.plan = definition.system, definition.plan
        self.features = definition.features
        # What a replay answers is to come of the log alone, by one way.
        hot = None if self.replay else hot_states(definition.system, self.plan)
        slates = None if self.replay else slates_of(definition.system)
        self.caches.use(slates, hot)
        self._engine = OnlineEngine(self.plan, hot)
        hashes = {name: definition.hashes[name] for name in self.features}
        self.champion = Champion(self.registry, self.features, hashes)
        pipeline = definition.system.serving
        reads = any(keep.must for keep in pipeline.filter)
        ahead = ahead_of(pipeline, self.retrieval.names, reads, self.table_outcomes)
        self._answering = Answering(
            definition, self._engine, self.champion, self.retrieval, slates, not self.replay, ahead
        )
        self.canary = self._answering.scoring.canary
        self.referee.use(self.canary, self.champion, self.system.task)
        self.shadow.use(OnTrial(self.registry, self.features, hashes, "shadow"))

    def _switch(self, definition: Definition) -> None:
        self._adopt(definition)
        self.audit.use(definition)
        self.retention.use(definition.system)
        self.forgetting.use(definition.system)
        self.scoring.use(definition.system.serving.jobs)
        if self.keeping is not None:
            self.keeping.use(definition.plan)

    def change(
        self, system: System, force: bool = False, ended: Callable[[], None] = lambda: None
    ) -> ChangeStatus:
        """Begin to change to `system` while serving; the job `changing` does the work."""
        return self.changing.begin(Definition(system), force, ended)

    def forget(self, entity: str, key: str) -> None:
        """Have an entity leave the home: durable when this returns, carried out by the job `forgetting`."""
        if entity == self.system.task.item.name:
            raise ServingError(
                f"$.entity: the generators hold {entity!r} while they serve; stop the server and use "
                "`sevenfold forget`"
            )
        self.pending.settle()
        self.forgetting.order(entity, key)

    def forgotten(self) -> tuple[int, Forgotten]:
        """How many orders to forget are open, and what has been taken out."""
        with self.store.read() as txn:
            return len(orders(txn)), forgotten(txn)

    def _is_forgetting(self) -> bool:
        return self.forgetting.open > 0

    def _has_left(self, entity: str, key: str) -> None:
        self.retrieval.forget(entity, key)
        self.audit.forget()
        self.caches.clear()
        self.scoring.reload()

    def _mind_forgetting(self) -> None:
        """Keep nothing in memory from one request to the next while states are taken out under way."""
        is_forgetting = self._is_forgetting()
        if is_forgetting or self._was_forgetting:
            self.caches.clear()
        self._was_forgetting = is_forgetting

    def _now_us(self, txn: Transaction) -> Instant:
        """The instant that ages are counted from: of a replay, the log's."""
        return last_known_us(txn) if self.replay else self._clock.now_us()

    def now_us(self) -> Instant:
        """The instant now; of a replay, the log's."""
        with self.store.read() as txn:
            return max(self._now_us(txn), 0)

    def accept(self, stream: str, rows: list[object], known_us: Instant | None) -> IngestResult:
        """Take events in; durable when it returns."""
        if known_us is not None and not self.replay:
            raise InputError(
                "$.known_us: a live server stamps events itself; leave it out, or start the server with "
                "--clock replay"
            )
        with self._noting():
            result = self._ingest.accept(stream, rows, known_us)
        self.retrieval.settle()
        return result

    def accept_posts(self, posts: Sequence[Post]) -> list[IngestResult]:
        """Take the posts in with one commit, all or none; durable when it returns."""
        self._asked_s = elapsed_s()
        with self._noting():
            results = self._ingest.accept_posts(posts)
        self.retrieval.settle()
        return results

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """Note when there is no room for events; other failures may be their own fault, and block nobody."""
        blocked = self.pending.blocked
        blocked.require_open()
        try:
            yield
        except StoreFullError as error:
            raise blocked.failed(error) from error
        blocked.wrote()

    @property
    def ladder(self) -> tuple[str, ...]:
        """The rungs that an answer can be served by, the best first."""
        return self._answering.rungs

    @property
    def budget_s(self) -> float:
        """The seconds that an answer may take, as declared; in a replay there is no limit."""
        return self._answering.budget_s

    def recommend(
        self, request: RecommendRequest, allowance: Allowance = FULL
    ) -> tuple[Prediction, bool]:
        """The answer to a request, logged before it is returned, and whether it had been given before.

        `allowance` bounds the rung that serves, and when: who decides on load gives it.
        """
        return self._settled(self.draft_recommend(request, allowance))

    def _slate_of(self, keys: Mapping[str, str], k: int) -> Slate | None:
        """The slate of a request's keys now, of which only a job hears."""
        self.changing.settle()
        with self.store.read() as txn:
            t_us = self._instant(txn, None)
            request = RecommendRequest("job", dict(keys), k)
            slate = self._answering.unhurried(request, t_us).make_aside(txn)
        self._ingest.read_at(t_us)
        return slate

    def rank(self, request: RankRequest, allowance: Allowance = FULL) -> tuple[Prediction, bool]:
        """The items given, ranked; logged as any answer. Where candidates are fewer, the first of them."""
        return self._settled(self.draft_rank(request, allowance))

    def draft_recommend(self, request: RecommendRequest, allowance: Allowance = FULL) -> Draft:
        """The same, not yet on disk: it is to be settled by `pending` before it is given."""
        return self._answer(request, None, allowance)

    def draft_rank(self, request: RankRequest, allowance: Allowance = FULL) -> Draft:
        """The same for items given."""
        if len(set(request.items)) != len(request.items):
            raise InputError("$.items: an item is given twice; give each once")
        return self._answer(request, request.items, allowance)

    def read_features(self, request: FeaturesRequest) -> FeaturesAnswer:
        """The values of the given keys now."""
        self._mind_forgetting()
        asked = asked_rows(request, self.plan)
        moment = self._moment()
        with self.store.read() as txn:
            self._catch_up(txn)
            t_us = self._instant(txn, request.t, moment)
            self._ingest.read_at(t_us)
            return asked.read(txn, self._engine, t_us, self.definition.name)

    def ready(self) -> str | None:
        """Why the service cannot answer, after asking it to score a probe row; None when it can.

        Where the last write failed, it also has to write one.
        """
        unwritten = self.pending.blocked.probe(self.store)
        if unwritten is not None:
            return unwritten
        moment = self._moment()
        with self.store.read() as txn:
            t_us = self._instant(txn, None, moment)
            keys = {entity.name: Texts.of(["probe"]) for entity in self.system.entities}
            return self._answering.probe(txn, Spine(np.array([t_us]), keys))

    def rehearse(self) -> None:
        """Have everything compiled that takes events in, keeps states, scores or audits; `ready` does so for answers."""
        rehearse(self.definition, self._clock, self.audit.share > 0)

    def table_now(self) -> tuple[SlateTable | None, Instant]:
        """The table of slates that is served, if there is one, and the instant that its age is counted to."""
        with self.store.read() as txn:
            return served_table(txn), self._now_us(txn)

    def choices(self) -> dict[str, Choice]:
        """By alias, how the model behind it is scored."""
        loaded = {each.alias: each.loaded for each in self._answering.champions}
        loaded |= {"canary": self.canary.loaded, "shadow": self.shadow.trial.loaded}
        return {alias: found.choice for alias, found in loaded.items() if found is not None}

    def position(self) -> int:
        """How many events the log holds."""
        with self.store.read() as txn:
            return position(txn)

    def _answer(
        self, request: RecommendRequest, items: list[str] | None, allowance: Allowance
    ) -> Draft:
        self.changing.settle()
        self._mind_forgetting()
        self._asked_s = elapsed_s()
        self.check_keys(request.keys, "$.keys")
        self._check_instant(request.t)  # of a request given before, too
        self._judge_before(request.t)
        waiting = self.pending.find(request.request_id)
        if waiting is not None:
            check_same(request, items, waiting.prediction)
            return waiting.again()
        moment = self._moment()
        with self.store.read() as txn:
            given = find_prediction(txn, request.request_id, self._sealed)
            if given is not None:
                check_same(request, items, given)
                return Draft(given, None)
            self.pending.blocked.require_open()
            basis = self._catch_up(txn)
            t_us = self._instant(txn, request.t, moment)
            answer = self._answering.start(request, t_us, allowance)
            prediction = answer.make(txn, items)
        # Events may be taken in before this is written: nothing of them may become known before it.
        self._ingest.read_at(t_us)
        draft = self._answering.draft(prediction, answer)
        draft.basis = basis
        self.pending.add(draft)
        self.shadow.offer(draft, *answer.ranked)
        return draft

    def _judge_before(self, given: Instant | None) -> None:
        """Have a canary of a replay judged by every answer before this one, however fast they came."""
        if not self.replay or self.canary.follow() is None:
            return
        self.pending.settle()
        with self.store.read() as txn:
            t_us = self._instant(txn, given)
        self.referee.before(t_us)

    def _settled(self, draft: Draft) -> tuple[Prediction, bool]:
        self.pending.settle()
        draft.require_kept()
        return draft.prediction, draft.repeated

    def check_keys(self, keys: Mapping[str, str], path: str) -> None:
        """Raise InputError unless a request may name these keys; `path` is where they stand."""
        check_keys(keys, [entity.name for entity in self.system.task.query], path)

    def _check_instant(self, given: Instant | None) -> None:
        if given is not None and not self.replay:
            raise InputError(
                "$.t: a live server reads now; leave it out, or start the server with --clock replay"
            )

    def _moment(self) -> Moment | None:
        """What is to be seen before a snapshot is begun; nothing by whoever writes all that there is."""
        return None

    def _catch_up(self, txn: Transaction) -> Basis | None:
        """Know all that the snapshot has; what an answer from it is to be checked by when it is written."""
        return None if self.pending.offers is None else read_basis(txn)

    def _instant(
        self, txn: Transaction, given: Instant | None, moment: Moment | None = None
    ) -> Instant:
        """The instant of a read: later than all that is applied, and never before an earlier read."""
        if given is None:
            now_us = max(self._clock.now_us(), self._ingest.read_us)
            return max(now_us, last_known_us(txn) + 1, frontier_us(txn))
        self._check_instant(given)
        if given <= last_known_us(txn):
            raise ServingError(
                f"$.t: {given} is not after {last_known_us(txn)}, when the last event became known; "
                "an online read cannot go back, use `sevenfold features` for the past"
            )
        return given
