"""Whether what was served is what the log says: a sample of logged vectors, computed again offline, all the time.

A round takes some vectors of the prediction log, walks the log once in slices, keeps the few events that touch
their keys, and lets the offline engine compute them again. Nothing of a round is larger than its bounds, and
rounds keep a distance that makes their share of the time small.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt

from sevenfold.algebra.grouping import match
from sevenfold.clock import elapsed_s
from sevenfold.engines.offline import read_at
from sevenfold.engines.parity import Parity, compare
from sevenfold.errors import StoreError
from sevenfold.features.frame import FeatureFrame, Spine
from sevenfold.features.plan import KeyPart, Reading
from sevenfold.hashing import hash128, siphash128
from sevenfold.retrieval.fusion import candidate_fields
from sevenfold.serving.definition import Definition
from sevenfold.serving.made_up import made_up
from sevenfold.serving.prediction_log import (
    Prediction,
    Sealed,
    feature_list_id,
    read_predictions,
)
from sevenfold.sources.validate import no_events
from sevenfold.stores.block import decode_block, encode_block
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.log import blocks, frontier_us, levelled, position
from sevenfold.stores.tables import META
from sevenfold.types import US_PER_DAY, EventBatch, Instant, Ints, Texts

__all__ = [
    "Audit",
    "AuditTotals",
    "Differing",
    "Round",
    "Sampled",
    "audit_all",
    "read_totals",
    "rehearse_round",
    "sample",
]

Vectors = npt.NDArray[np.float32]
Hashes = npt.NDArray[np.uint64]

_KEY = b"audit"
_VECTORS = 256  # in a round of the job
_EVENTS = 200_000  # kept in a round of the job
_SLICE = 8_192
_LOOK = 64  # answers read in a step
_SHARE_OF_TIME = 0.02
_EXAMPLES = 10


class Differing(msgspec.Struct, frozen=True):
    """A value that is not what the log says: of which answer and item, what was logged, what it should be."""

    request_id: str
    item: str
    t_us: int
    feature: str
    logged: float | None
    recomputed: float | None


class AuditTotals(msgspec.Struct):
    """What has been compared of the answers before `until_us` by one definition; all zero at its start.

    `by_feature` counts differing values, `skipped` sampled vectors of other definitions.
    """

    features: str = ""
    until_us: int = 0
    compared: int = 0
    different: int = 0
    skipped: int = 0
    by_feature: dict[str, int] = {}
    examples: list[Differing] = []

    def add(self, parity: Parity, examples: list[Differing]) -> None:
        """Count a round."""
        self.compared += parity.compared
        self.different += parity.mismatched
        for name, n in parity.by_feature.items():
            self.by_feature[name] = self.by_feature.get(name, 0) + n
        self.examples = (examples + self.examples)[:_EXAMPLES]

    def rates(self, names: tuple[str, ...]) -> dict[str, float]:
        """The share of differing values of each feature."""
        return {name: self.by_feature.get(name, 0) / max(self.compared, 1) for name in names}


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """The sampled vectors of one answer: their rows among its candidates, and the vectors (r, f)."""

    prediction: Prediction
    rows: npt.NDArray[np.int64]
    vectors: Vectors


def sample(prediction: Prediction, share: float) -> Sampled | None:
    """The logged vectors of an answer that belong to the sample; None when none does.

    Which do is decided by a stable hash of request and item: the same in every process and every run.
    """
    rows = prediction.logged_rows()
    request = prediction.request_id.encode()
    chosen = np.array(
        [
            siphash128(b"audit\0" + request + b"\0" + prediction.items[row].encode())[0]
            < share * 2.0**64
            for row in rows.tolist()
        ],
        dtype=np.bool_,
    )
    if not chosen.any():
        return None
    return Sampled(prediction, rows[chosen], prediction.logged_vectors()[chosen])


class Round:
    """Some vectors, and the events that touch their keys as they are found in the log."""

    def __init__(self, definition: Definition, sampled: list[Sampled]) -> None:
        self._definition = definition
        self._sampled = sampled
        self._spine = _spine(definition, sampled)
        self._open = list(definition.plan.readings_for(definition.features))
        self._streams = {reading.view.stream for reading in self._open}
        self._scanned: dict[str, Reading] = {}
        self._wanted: list[tuple[Reading, dict[str, Hashes]]] = []
        self._found: dict[str, list[tuple[Ints, EventBatch]]] = {}
        self.events = 0
        self.next_walk()

    def next_walk(self) -> bool:
        """Make ready for a walk over the log from its start; whether one is needed.

        The first finds what is under the keys of the vectors. Where that is a link, what lies behind can be
        found only when all is known that it ever led to: one more walk for each link of a chain.
        """
        self._scanned |= {reading.name: reading for reading, _ in self._wanted}
        ready = [
            reading
            for reading in self._open
            if all(link.name in self._scanned for link in reading.links.values())
        ]
        self._open = [reading for reading in self._open if reading not in ready]
        self._wanted = [
            (reading, {e: self._keys(reading, e) for e in reading.view.entities})
            for reading in ready
        ]
        return bool(ready)

    def _keys(self, reading: Reading, entity: str) -> Hashes:
        """The keys of an entity under which a reading may be asked, uint64 (k, 2), all different."""
        link = reading.links.get(entity)
        if link is None:
            hashes = hash128(self._spine.keys[entity])
        else:
            fields = {part.field for part in link.view.numbers if isinstance(part, KeyPart)}
            columns = [
                batch.fields[name]
                for _, batch in self._found.get(link.view.stream, ())
                for name in fields
                if name in batch.fields
            ]
            hashes = hash128(Texts.concat([c for c in columns if isinstance(c, Texts)]))
        return np.unique(hashes, axis=0)

    def __len__(self) -> int:
        """The number of vectors."""
        return len(self._spine)

    @property
    def until_us(self) -> Instant:
        """The latest instant of the vectors: no event known at it or later matters."""
        return int(self._spine.t_us.max(initial=0))

    def feed(self, seq: int, batch: EventBatch) -> None:
        """Keep the events of the batch, the first at position `seq`, that touch a key of the vectors."""
        keep = np.zeros(len(batch), dtype=np.bool_)
        for reading, wanted in self._wanted:
            if reading.view.stream == batch.stream:
                touches = np.ones(len(batch), dtype=np.bool_)
                for entity, hashes in wanted.items():
                    # Events from before the stream had the key touch none.
                    column = batch.keys.get(entity)
                    touches &= column is not None and match(hashes, hash128(column)) >= 0
                keep |= touches
        if keep.any():
            kept = (seq + np.flatnonzero(keep), batch.take(keep))
            self._found.setdefault(batch.stream, []).append(kept)
            self.events += int(keep.sum())

    def halved(self) -> Round:
        """A new round of the first half of the answers; the same when it is one."""
        if len(self._sampled) < 2:
            return self
        return Round(self._definition, self._sampled[: len(self._sampled) // 2])

    def _events(self, stream: str) -> EventBatch:
        """What was found of a stream, each event once, in log order."""
        if stream not in self._found:
            return no_events(self._definition.system.streams[stream])
        places = np.concatenate([places for places, _ in self._found[stream]])
        found = EventBatch.concat(levelled([batch for _, batch in self._found[stream]]))
        _, first = np.unique(places, return_index=True)
        return (
            found if len(first) == len(found) and (np.diff(places) > 0).all() else found.take(first)
        )

    def again(self, names: Sequence[str]) -> FeatureFrame:
        """What the offline engine says of features at the instants of the vectors."""
        events = {stream: self._events(stream) for stream in self._streams}
        return read_at(self._definition.plan, names, self._spine, events)

    def finish(self) -> tuple[Parity, list[Differing]]:
        """The comparison of the vectors with what the offline engine says of their instants."""
        names = self._definition.features
        again = self.again(names).vectors()
        parity = compare(names, np.concatenate([one.vectors for one in self._sampled]), again)
        where = [(one.prediction, row) for one in self._sampled for row in one.rows.tolist()]
        examples = []
        for found in parity.examples:
            answer, row = where[found.row]
            examples.append(
                Differing(
                    answer.request_id,
                    answer.items[row],
                    answer.t_us,
                    found.feature,
                    None if np.isnan(found.logged) else found.logged,
                    None if np.isnan(found.recomputed) else found.recomputed,
                )
            )
        return parity, examples


def read_totals(txn: Transaction, definition: Definition) -> AuditTotals:
    """What the job has found for `definition`."""
    raw = txn.get(META, _KEY)
    mine = _features(definition)
    try:
        totals = msgspec.json.decode(raw, type=AuditTotals) if raw else AuditTotals(mine)
    except msgspec.DecodeError as error:
        raise StoreError(f"what the audit has found cannot be read: {error}") from error
    return totals if totals.features == mine else AuditTotals(mine, totals.until_us)


@dataclass
class Audit:
    """The job: compares `share` of the logged vectors with the log, one bounded round after another.

    Steps may be on another thread than all else. `sealed` are the files of answers, where the home has any.
    """

    store: Store
    definition: Definition
    share: float
    name: str = "audit"
    sealed: Sealed | None = None
    totals: AuditTotals = field(init=False)
    _taken: list[Sampled] = field(default_factory=list, init=False)
    _until_us: Instant = field(default=0, init=False)
    _round: Round | None = field(default=None, init=False)
    _at: int = field(default=0, init=False)
    _worked_s: float = field(default=0.0, init=False)
    _rest_until_s: float = field(default=0.0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        """Go on where the totals in the store end."""
        self.use(self.definition)

    def use(self, definition: Definition) -> None:
        """Audit answers by `definition` from now on; a round that had begun is given up."""
        with self._lock:
            self.definition = definition
            with self.store.read() as txn:
                self.totals = read_totals(txn, definition)
            self._restart()

    def step(self) -> bool:
        """A slice of a round; whether there was anything to do."""
        if self.share <= 0 or elapsed_s() < self._rest_until_s:
            return False
        with self._lock:
            begin_s = elapsed_s()
            if self._round is not None:
                self._scan(self._round)
            elif not self._take():
                return False
            self._worked_s += elapsed_s() - begin_s
            if self._round is None and not self._taken:
                self._rest_until_s = elapsed_s() + self._worked_s / _SHARE_OF_TIME
                self._worked_s = 0.0
        return True

    def failed(self, error: Exception) -> None:
        """Begin anew after the last round that was finished."""
        with self._lock:
            self._restart()

    def forget(self) -> None:
        """Let go of examples and of a round that had begun: they may tell of an entity that has left."""
        with self._lock:
            self.totals.examples = []
            self._restart()
            self._keep()

    def _restart(self) -> None:
        self._taken, self._round, self._at = [], None, 0
        self._until_us = self.totals.until_us

    def _take(self) -> bool:
        """Read on in the prediction log; begin a round when there is enough, or no more."""
        mine = self.totals.features
        read = 0
        with self.store.read() as txn:
            # At the latest instant another answer may still come.
            end_us = max(frontier_us(txn), 0)
            for prediction in read_predictions(txn, self._until_us, end_us, self.sealed):
                if read >= _LOOK and prediction.t_us >= self._until_us:
                    break
                read += 1
                self._until_us = prediction.t_us + 1
                found = sample(prediction, self.share)
                if found is not None and prediction.features == mine:
                    self._taken.append(found)
                elif found is not None:
                    self.totals.skipped += len(found.rows)
        enough = sum(len(one.rows) for one in self._taken) >= _VECTORS
        if self._taken and (enough or read < _LOOK):
            self._round, self._at = Round(self.definition, self._taken), 0
        elif read and not self._taken and read < _LOOK:
            self._keep()
        return read > 0 or self._round is not None

    def _scan(self, current: Round) -> None:
        over = True
        with self.store.read() as txn:
            end = min(self._at + _SLICE, position(txn))
            for seq, batch in blocks(txn, None, self._at, end):
                if len(batch) and batch.known_us[0] >= current.until_us:
                    break
                current.feed(seq, batch)
            else:
                over = end == position(txn)
        self._at = end
        if current.events > _EVENTS and (smaller := current.halved()) is not current:
            self._round, self._at = smaller, 0
        elif over and current.next_walk():
            self._at = 0
        elif over:
            self._finish(current)

    def _finish(self, done: Round) -> None:
        parity, examples = done.finish()
        self.totals.add(parity, examples)
        if len(done) < sum(len(one.rows) for one in self._taken):  # it had to be made smaller
            self._until_us = done.until_us + 1
        self._taken, self._round = [], None
        self._keep()

    def _keep(self) -> None:
        self.totals.until_us = self._until_us
        with self.store.write() as txn:
            txn.put(META, _KEY, msgspec.json.encode(self.totals))


def audit_all(
    txn: Transaction,
    definition: Definition,
    share: float,
    vectors: int = 20_000,
    sealed: Sealed | None = None,
) -> Iterator[AuditTotals]:
    """The totals over all answers of the log, growing by a round of at most so many vectors each time."""
    totals = AuditTotals(_features(definition))
    taken: list[Sampled] = []
    waiting = 0  # vectors of those

    def round_of(sampled: list[Sampled]) -> None:
        current = Round(definition, sampled)
        more = True
        while more:
            for seq, batch in blocks(txn):
                if len(batch) and batch.known_us[0] >= current.until_us:
                    break
                current.feed(seq, batch)
            more = current.next_walk()
        totals.add(*current.finish())

    for prediction in read_predictions(txn, sealed=sealed):
        totals.until_us = prediction.t_us + 1
        found = sample(prediction, share)
        if found is None:
            continue
        if prediction.features != totals.features:
            totals.skipped += len(found.rows)
            continue
        taken.append(found)
        waiting += len(found.rows)
        if waiting >= vectors:
            round_of(taken)
            taken, waiting = [], 0
            yield totals
    if taken:
        round_of(taken)
    yield totals


def rehearse_round(definition: Definition) -> None:
    """Have everything compiled that a round runs, on a made-up vector and an event of each stream; what users declare in Python is not called."""
    answer = Prediction(
        request_id="made up",
        t_us=US_PER_DAY,
        keys={entity.name: "made up" for entity in definition.system.task.query},
        model="",
        version=0,
        rung="",
        k=1,
        features="",
        generators=[],
        items=["made up"],
        sources=b"",
        candidate_scores=b"",
        shown=b"",
        scores=b"",
        logged=np.zeros(1, dtype=np.int32).tobytes(),
        vectors=b"",
        sample_weight=1.0,
    )
    vectors = np.zeros((1, len(definition.features)), dtype=np.float32)
    current = Round(definition, [Sampled(answer, answer.logged_rows(), vectors)])
    more = True
    while more:
        for seq, stream in enumerate(definition.system.streams.values()):
            # As it is in the log: a kernel is compiled once more for arrays of another kind.
            event = decode_block(encode_block(made_up(stream), 0, 1, seq), seq)
            assert event is not None
            current.feed(seq, event)
        more = current.next_walk()
    inputs = definition.plan.inputs(definition.features)
    current.again([name for name in definition.plan.stored if name in inputs])


def _features(definition: Definition) -> str:
    hashes = [definition.hashes[name] for name in definition.features]
    return feature_list_id(definition.features, hashes)


def _spine(definition: Definition, sampled: list[Sampled]) -> Spine:
    task = definition.system.task
    sizes = [len(one.rows) for one in sampled]
    which = np.repeat(np.arange(len(sampled)), sizes)
    keys = {
        entity.name: Texts.of([one.prediction.keys[entity.name] for one in sampled]).take(which)
        for entity in task.query
    }
    keys[task.item.name] = Texts.of(
        [one.prediction.items[row] for one in sampled for row in one.rows.tolist()]
    )
    parts: list[Mapping[str, npt.NDArray[np.float64]]] = []
    for one in sampled:
        answer = one.prediction
        fields = candidate_fields(answer.generator_scores(), answer.generators)
        parts.append({name: column[one.rows] for name, column in fields.items()})
    names = dict.fromkeys(name for part in parts for name in part)
    return Spine(
        np.repeat(np.array([one.prediction.t_us for one in sampled], dtype=np.int64), sizes),
        keys,
        {
            name: np.concatenate(
                [part.get(name, np.full(n, np.nan)) for part, n in zip(parts, sizes, strict=True)]
            )
            for name in names
        },
    )
