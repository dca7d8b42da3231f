"""One entity leaves the home: log, states, prediction log and dead letters, step by step, killed or not.

    log          the entity's key is taken out of its events, with the fields declared personal and the event's id;
                 an event that touches no other entity is emptied. Each keeps its place, and counts for the
                 others as before. A link that leads to the entity leads nowhere. States under the entity's key, composite ones too, are deleted with it.
    predictions  answers to the entity, or with it among their items, are deleted
    files        sealed files that hold such answers are written anew without them, and the old ones deleted
    slates       so are slates that were made ahead, and the requests of jobs
    letters      refused rows that hold the key in any field are deleted
    states       states of others that were computed from the key itself or from a personal field are
                 computed again from the log

The order is kept in the store until it is carried out, and each step is one durable transaction of bounded size
that notes how far it came. What the file still holds of it in unused pages goes when the store is compacted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from sevenfold.algebra.grouping import match
from sevenfold.clock import elapsed_s
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import InputError, NotFoundError
from sevenfold.features.columns import event_hashes
from sevenfold.features.plan import KeyPart, Plan, ViewPlan
from sevenfold.hashing import digest, key_bytes
from sevenfold.serving.backfill import drop_behind
from sevenfold.serving.forgotten_answers import Leaver, clean_file, clean_stored
from sevenfold.serving.job_records import forget_in_jobs
from sevenfold.serving.sealed_answers import SealedAnswers
from sevenfold.serving.slate_table import clean_slates
from sevenfold.spec.declaration import links
from sevenfold.spec.on_demand import parameters
from sevenfold.spec.system import System
from sevenfold.stores.block import decode_block, encode_block, position_of
from sevenfold.stores.compact import COMPACT
from sevenfold.stores.dead_letters import letters
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.log import blocks, note_rewrite, position
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.tables import DEAD, LOG, META, STATE
from sevenfold.types import Column, EventBatch, Texts

__all__ = ["Forgetting", "Forgotten", "Order", "forgotten", "orders", "personal_fields"]

Stage = Literal["log", "predictions", "files", "slates", "letters", "states"]
Bools = npt.NDArray[np.bool_]

_ORDER = b"forget/"
_AFFECTED = b"forget-state/"
_DONE = b"forgotten"
_STEP_S = 0.010
_BLOCKS = 512
_ROWS = 256
_SLICE = 8_192


class Order(msgspec.Struct):
    """Whom to forget, which stage that is at, and where in it."""

    entity: str
    key: str
    stage: Stage = "log"
    cursor: bytes = b""
    events: int = 0
    predictions: int = 0
    dead_letters: int = 0
    states: int = 0


class Forgotten(msgspec.Struct):
    """How much has been taken out since the store was made; of whom, nothing says."""

    entities: int = 0
    events: int = 0
    predictions: int = 0
    dead_letters: int = 0
    states: int = 0


def orders(txn: Transaction) -> list[Order]:
    """What is still to be carried out."""
    return [
        msgspec.msgpack.decode(raw, type=Order)
        for _, raw in txn.scan(META, _ORDER, _ORDER + b"\xff" * 33)
    ]


def forgotten(txn: Transaction) -> Forgotten:
    """What has been carried out."""
    raw = txn.get(META, _DONE)
    return msgspec.msgpack.decode(raw, type=Forgotten) if raw else Forgotten()


def personal_fields(system: System, stream: str) -> frozenset[str]:
    """The fields of a stream that are declared personal, by name or by a class."""
    declared = system.streams[stream].logged
    named = frozenset(declared).intersection(system.requirements.privacy.personal)
    return named | {name for name, field in declared.items() if field.pii}


@dataclass
class _Shadow:
    """States of others, computed again beside the store."""

    wanted: dict[bytes, list[bytes]]
    store: MemoryStore
    at: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Traces:
    """Which events of a batch are the entity's, and which rows of a field tell of it."""

    mine: Bools
    blank: dict[str, Bools]


class Forgetting:
    """The job: carries out the orders in the store. `views` gives what the store keeps now.

    `done` is told the entity and key when an order is carried out, to let memory forget them too. `sealed` are the files of
    answers, where the home has any.
    """

    name = "forgetting"

    def __init__(
        self,
        store: Store,
        system: System,
        views: Callable[[], Sequence[ViewPlan]],
        done: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self._store = store
        self._views = views
        self._tell = done
        self._shadow: _Shadow | None = None
        self.sealed: SealedAnswers | None = None
        self.use(system)
        with store.read() as txn:
            self.open = len(orders(txn))

    def use(self, system: System) -> None:
        """Take streams and personal fields from `system` from now on."""
        self._system = system
        self._links: dict[tuple[str, str], set[str]] = {}
        for _, link in links(system):
            if link.reached is not None:
                self._links.setdefault((link.table.name, link.reached), set()).add(link.link)
        for stream in system.data:
            for entity in stream.keys:
                lookup = stream.enrich.get(stream.key_field(entity))
                if lookup is not None:
                    reached = (lookup.table.name, entity.name)
                    self._links.setdefault(reached, set()).add(lookup.field)
        self._shadow = None

    def order(self, entity: str, key: str) -> None:
        """Note durably that `key` of `entity` is to be forgotten; `step` does it.

        Raises NotFoundError for an unknown entity, InputError for an empty key.
        """
        if entity not in [known.name for known in self._system.entities]:
            known_names = ", ".join(known.name for known in self._system.entities)
            raise NotFoundError(f"$.entity: no entity {entity!r}; there are {known_names}")
        if not key:
            raise InputError("$.key: '' names nobody; give the key to forget")
        with self._store.write() as txn:
            # States that are not kept up to date are not worth going through: they can be filled again.
            drop_behind(txn)
            _put(txn, Order(entity, key))
        self.open += 1

    def step(self) -> bool:
        """One bounded step of the first order; whether there was one."""
        if not self.open:
            return False
        with self._store.read() as txn:
            found = orders(txn)
        self.open = len(found)
        if not found:
            return False
        order = found[0]
        if order.stage == "states":
            self._compute_again(order)
            return True
        if order.stage == "log":
            self._clean_log(order)
            return True
        is_item = order.entity == self._system.task.item.name
        leaver = Leaver(order.entity, order.key, is_item)
        if order.stage == "files":
            note = partial(_note_answers, order)
            clean_file(self._store, self.sealed, leaver, order.cursor, note)
            return True
        with self._store.write() as txn:
            if order.stage == "predictions":
                _note_answers(order, txn, *clean_stored(txn, leaver, order.cursor, _ROWS))
                return True
            if order.stage == "slates":
                over = _clean_slates(txn, order, is_item)
            else:
                over = _clean_letters(txn, order)
            _proceed(txn, order, over)
        return True

    def failed(self, error: Exception) -> None:
        """Nothing is lost: the step was undone and is tried again."""
        self._shadow = None

    def _clean_log(self, order: Order) -> None:
        """Take the key out of the next blocks, of some milliseconds."""
        begin_s = elapsed_s()
        found: list[tuple[bytes, EventBatch, _Traces]] = []
        with self._store.read() as txn:
            for block_key, value in islice(txn.scan(LOG, order.cursor), _BLOCKS):
                order.cursor = block_key + b"\0"
                batch = decode_block(value, position_of(block_key))
                traces = self._traces(order, batch) if batch is not None else None
                if batch is not None and traces is not None:
                    found.append((block_key, batch, traces))
                if elapsed_s() - begin_s > _STEP_S:
                    break
        with self._store.write() as txn:
            for block_key, batch, traces in found:
                self._clean_states(txn, order, batch, traces)
                clean = _without(batch, order.entity, traces)
                block = encode_block(clean, 0, len(clean), position_of(block_key))
                txn.put(LOG, block_key, block)
                order.events += int(traces.mine.sum())
            if found:
                note_rewrite(txn)
            _proceed(txn, order, next(txn.scan(LOG, order.cursor), None) is None)

    def _traces(self, order: Order, batch: EventBatch) -> _Traces | None:
        """Where a batch tells of the entity; None where it does not."""
        mine = np.zeros(len(batch), dtype=np.bool_)
        if order.entity in batch.keys:
            mine = _equal(batch.keys[order.entity], order.key)
        blank = dict.fromkeys(personal_fields_of(self._system, batch), mine) if mine.any() else {}
        pointing = {}
        for name in self._links.get((batch.stream, order.entity), ()):
            column = batch.fields.get(name)
            if isinstance(column, Texts) and (rows := _equal(column, order.key)).any():
                pointing[name] = rows
        if not mine.any() and not pointing:
            return None
        for name, rows in pointing.items():
            blank[name] = blank[name] | rows if name in blank else rows
        return _Traces(mine, blank)

    def _clean_states(
        self, txn: Transaction, order: Order, batch: EventBatch, traces: _Traces
    ) -> None:
        """Delete the states under the entity's key; note those of others that read of it."""
        for view in self._views():
            if view.stream != batch.stream:
                continue
            hashes = event_hashes(view, batch)
            keyed = hashes.any(axis=1)
            if order.entity in view.entities:
                order.states += sum(
                    txn.delete(STATE, key) for key in _keys(view, hashes[keyed & traces.mine])
                )
                keyed &= ~traces.mine
            rows = traces.mine if _reads(view, {order.entity}) else np.zeros_like(traces.mine)
            for name, blank in traces.blank.items():
                if _reads(view, {name}):
                    rows = rows | blank
            affected = _keys(view, hashes[keyed & rows])
            txn.put_many(META, [(_AFFECTED + key, b"") for key in affected])

    def _compute_again(self, order: Order) -> None:
        """Replay a slice of the log for the states noted; put them in place when its end is met."""
        with self._store.write() as txn:
            if self._shadow is None:
                self._shadow = _Shadow(_affected(txn), MemoryStore())
            shadow = self._shadow
            end = position(txn) if shadow.wanted else 0
            stop = min(shadow.at + _SLICE, end)
            self._replay(txn, shadow, stop)
            shadow.at = stop
            if stop < end:
                return
            order.states += _put_in_place(txn, shadow)
            _close(txn, order)
        self._shadow = None
        self.open -= 1
        self._tell(order.entity, order.key)

    def _replay(self, txn: Transaction, shadow: _Shadow, stop: int) -> None:
        views = [view for view in self._views() if view.view_id in shadow.wanted]
        hashes = {
            view.view_id: np.frombuffer(
                b"".join(shadow.wanted[view.view_id]), dtype=np.uint64
            ).reshape(-1, 2)
            for view in views
        }
        with shadow.store.write() as into:
            for _, batch in blocks(txn, None, shadow.at, stop):
                for view in views:
                    if view.stream != batch.stream:
                        continue
                    mine = np.ascontiguousarray(event_hashes(view, batch))
                    keep = match(hashes[view.view_id], mine) >= 0
                    if keep.any():
                        OnlineEngine(Plan((view,), ())).apply(into, batch.take(keep))


_NEXT: dict[str, Stage] = {
    "log": "predictions",
    "predictions": "files",
    "files": "slates",
    "slates": "letters",
    "letters": "states",
}


def personal_fields_of(system: System, batch: EventBatch) -> frozenset[str]:
    """The personal fields that a batch of the log holds."""
    if batch.stream not in system.streams:
        return frozenset()
    return personal_fields(system, batch.stream) & batch.fields.keys()


def _proceed(txn: Transaction, order: Order, is_over: bool) -> None:
    """Note how far the order came; when its stage is over, that the next one begins."""
    if is_over:
        order.stage, order.cursor = _NEXT[order.stage], b""
    _put(txn, order)


def _put(txn: Transaction, order: Order) -> None:
    name = digest(msgspec.msgpack.encode([order.entity, order.key]))
    txn.put(META, _ORDER + name.encode(), msgspec.msgpack.encode(order))


def _close(txn: Transaction, order: Order) -> None:
    """Count what was done and let go of the order, which holds the key."""
    total = forgotten(txn)
    total.entities += 1
    total.events += order.events
    total.predictions += order.predictions
    total.dead_letters += order.dead_letters
    total.states += order.states
    txn.put(META, _DONE, msgspec.msgpack.encode(total))
    name = digest(msgspec.msgpack.encode([order.entity, order.key]))
    txn.delete(META, _ORDER + name.encode())
    txn.put(META, COMPACT, b"due")


def _put_in_place(txn: Transaction, shadow: _Shadow) -> int:
    """Let the states that were computed again be those of the store; how many."""
    keys = [view_id + key for view_id, found in shadow.wanted.items() for key in found]
    with shadow.store.read() as computed:
        values = computed.get_many(STATE, keys)
    for key, value in zip(keys, values, strict=True):
        if value is None:
            txn.delete(STATE, key)
        else:
            txn.put(STATE, key, value)
        txn.delete(META, _AFFECTED + key)
    return len(keys)


def _affected(txn: Transaction) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for key, _ in txn.scan(META, _AFFECTED, _AFFECTED + b"\xff" * 25):
        name = key[len(_AFFECTED) :]
        found.setdefault(name[:8], []).append(name[8:])
    return found


def _note_answers(order: Order, txn: Transaction, after: bytes | None, gone: int) -> None:
    order.cursor = after or b""
    order.predictions += gone
    _proceed(txn, order, after is None)


def _clean_slates(txn: Transaction, order: Order, is_item: bool) -> bool:
    after, slates = clean_slates(txn, order.entity, order.key, is_item, order.cursor, _ROWS)
    order.cursor = after or b""
    order.predictions += slates
    if after is None:
        forget_in_jobs(txn, order.entity, order.key)
    return after is None


def _clean_letters(txn: Transaction, order: Order) -> bool:
    page = letters(txn, order.cursor, _ROWS)
    # As a whole word: the key 17 is not in 2017.
    word = re.compile(rf"(?<![\w-]){re.escape(order.key)}(?![\w-])")
    for key, letter in page:
        order.cursor = key + b"\0"
        if word.search(letter.detail) or _holds(letter.row, word):
            txn.delete(DEAD, key)
            order.dead_letters += 1
    return len(page) < _ROWS


def _holds(value: object, word: re.Pattern[str]) -> bool:
    """Whether the word stands anywhere in a row that came from outside."""
    if isinstance(value, dict):
        return any(_holds(part, word) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple):
        return any(_holds(part, word) for part in value)
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return word.search(text) is not None


def _keys(view: ViewPlan, hashes: npt.NDArray[np.uint64]) -> list[bytes]:
    return sorted(set(key_bytes(hashes, view.view_id)))


def _reads(view: ViewPlan, names: Collection[str]) -> bool:
    """Whether a view computes from one of the fields or keys."""
    for source in (*view.numbers, *view.marks, *view.kept, view.where, view.delete):
        if isinstance(source, KeyPart):
            read: tuple[str, ...] = (source.field,)
        elif isinstance(source, str):
            read = (source,)
        else:
            read = (parameters(source) if source else ()) or ()
        if not set(names).isdisjoint(read):
            return True
    return False


def _equal(column: Texts, key: str) -> Bools:
    """Which strings of a column are `key`, compared by length first."""
    raw = np.frombuffer(key.encode(), dtype=np.uint8)
    rows = np.flatnonzero(column.valid & (np.diff(column.offsets) == len(raw)))
    places = column.offsets[rows][:, None] + np.arange(len(raw))
    same = np.zeros(len(column), dtype=np.bool_)
    same[rows] = (column.data[places] == raw).all(axis=1)
    return same


def _without(batch: EventBatch, entity: str, traces: _Traces) -> EventBatch:
    """The batch, of the same length, in which nothing tells of the entity any more."""
    mine = traces.mine
    keys = dict(batch.keys)
    alone = mine
    if entity in keys:
        keys[entity] = _emptied(keys[entity], mine)
        others = [column.valid for name, column in batch.keys.items() if name != entity]
        alone = mine & ~np.logical_or.reduce(others) if others else mine
    fields: dict[str, Column] = {}
    for name, column in batch.fields.items():
        blank = traces.blank[name] | alone if name in traces.blank else alone
        fields[name] = (
            _emptied(column, blank)
            if isinstance(column, Texts)
            else np.where(blank.reshape(-1, *[1] * (column.ndim - 1)), np.nan, column)
        )
    # An id may be made of the key, or name the event in another system.
    names = batch.event_ids.to_list()
    drawn = np.random.default_rng().bytes(16 * int(mine.sum()))
    for i, row in enumerate(np.flatnonzero(mine).tolist()):
        names[row] = drawn[16 * i : 16 * i + 16].hex()
    return replace(batch, event_ids=Texts.of(names), keys=keys, fields=fields)


def _emptied(column: Texts, where: Bools) -> Texts:
    values = column.to_list()
    for row in np.flatnonzero(where).tolist():
        values[row] = None
    return Texts.of(values)
