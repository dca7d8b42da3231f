"""A population scored into the store of a home: a new table of slates, switched to when all of it is there.

    one transaction       a number for the table, and no event becomes known before the instant any more
    one transaction a page  some slates, and how many of the keys have been looked at
    one transaction       the table is served, the one before it is to be freed
    one transaction a slice  slates of the table before are deleted

Killed at any instant, the old table is served or the new one; the next run that would make the same goes on where this one
was, any other begins anew and frees what lies there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from sevenfold.batch.histories import history_of, kept_events
from sevenfold.batch.population import Keys, Population, Seen, file_keys
from sevenfold.batch.reader import row_bytes
from sevenfold.batch.slate_file import require_kind, write_slates
from sevenfold.batch.slates import SlateMaker, Vectors
from sevenfold.engines.offline import read_at
from sevenfold.errors import InputError, RunError
from sevenfold.features.frame import Spine
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.hashing import canonical_json, digest
from sevenfold.registry.registry import Registry
from sevenfold.retrieval.build import Retrieval, build_retrieval
from sevenfold.serving.budget import Pace
from sevenfold.serving.champion import Champion
from sevenfold.serving.definition import Definition
from sevenfold.serving.filtering import Filters
from sevenfold.serving.forgetting import orders
from sevenfold.serving.prediction_log import FeatureList, feature_list, keep_feature_list
from sevenfold.serving.reranking import Reranking
from sevenfold.serving.rungs import fewer_of
from sevenfold.serving.scoring import Scoring
from sevenfold.serving.slate_table import (
    SlateTable,
    drop_table,
    free_tables,
    next_table,
    note_making,
    put_slates,
    serve_table,
    tables_in_making,
)
from sevenfold.spec.feature_set import FeatureSet
from sevenfold.spec.outline import outline
from sevenfold.spec.system import System
from sevenfold.stores.durable import locked
from sevenfold.stores.history import HEAD_EVENTS, StreamHistory
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.log import blocks, last_known_us, raise_frontier, rewrites
from sevenfold.stores.open import open_store
from sevenfold.types import Instant

__all__ = ["Scored", "Wanted", "score_population"]

Progress = Callable[[str, int, int], None]

_PAGE = 256
"""Slates a transaction: some milliseconds, for which a server beside it may wait."""
_SLICE = 8_192
_LOCK = "score.lock"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose slates, as of when, and how they are made.

    `population` is `all`, `active=30d` or the path of a file (see `Population`). Of a slate `k` items are kept; when it is
    not given as many as the task answers, and in the mode `hybrid`, where they are candidates, as many as a cheaper answer
    has. `memory_mib` bounds what is held of events at a time, and with a quarter of it the rows to score. With `out`, a
    Parquet or CSV file, the slates are written there too.
    """

    population: str
    as_of_us: Instant
    k: int | None = None
    memory_mib: int = 1024
    out: Path | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """The table that is served now, and how many of its keys had been done by a run that was interrupted."""

    table: SlateTable
    resumed: int


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """What is to be made."""

    definition: Definition
    home: Path
    population: Population
    as_of_us: Instant
    k: int
    memory_bytes: int
    progress: Progress

    @property
    def system(self) -> System:
        return self.definition.system


class _Known(NamedTuple):
    """What a log tells of the time before an instant."""

    retrieval: Retrieval
    population: list[Keys]


def score_population(
    system: System,
    home: Path,
    wanted: Wanted,
    now_us: Instant,
    progress: Progress = lambda *_: None,
) -> Scored:
    """Make the slates of a population as of an instant, and have them served as one table.

    A server may run beside it. Raises RunError when another run is at work in this home, the log is rewritten meanwhile,
    or nobody is to be scored; InputError for an instant that is still to come at `now_us`.
    """
    is_hybrid = system.serving.mode == "hybrid"
    usual = fewer_of(system.serving, system.task.k) if is_hybrid else system.task.k
    asked = _Asked(
        Definition(system),
        home,
        Population(wanted.population),
        wanted.as_of_us,
        min(wanted.k or usual, system.serving.limit),
        wanted.memory_mib << 20,
        progress,
    )
    if wanted.out is not None:
        require_kind(wanted.out)
    history = history_of(home, compile_plan(system.features))
    with _alone(home):
        scored = history.mending(lambda: _run(asked, now_us))
        if wanted.out is not None:
            with _store(home) as store:
                names = [entity.name for entity in system.task.query]
                write_slates(store, scored.table, names, wanted.out)
    return scored


def _run(asked: _Asked, now_us: Instant) -> Scored:
    system, definition = asked.system, asked.definition
    scoring = _scoring(asked)
    hashes = [definition.hashes[name] for name in definition.features]
    features = feature_list(definition.features, hashes)
    with _store(asked.home) as store:
        _free(store)
        with store.write() as txn:
            known_us = last_known_us(txn)
            if asked.as_of_us > max(now_us, known_us + 1):
                raise InputError(
                    f"as of {asked.as_of_us} us is still to come: give an instant up to now, {now_us} us"
                )
            # What is read as of then is to stay so: nothing may become known before it any more.
            raise_frontier(txn, asked.as_of_us)
        known = _known(store, asked)
        table = _begin(store, asked, scoring, features, known.population)
    plan = compile_plan(system.features)
    kept = kept_events(
        system, plan, asked.home, HEAD_EVENTS, partial(asked.progress, "reading events")
    )
    if kept.rewrites != (table.rewrites, table.rewrites):
        raise _rewritten()
    maker = SlateMaker(
        tuple(entity.name for entity in system.task.query),
        system.task.item.name,
        definition.features,
        features.name,
        known.retrieval,
        Filters.of(system.serving.filter),
        scoring,
        partial(_vectors, plan, kept.events, asked.memory_bytes),
        asked.k,
        Reranking(system.serving.rerank, definition.features, system.task.k)
        if table.reranked
        else None,
    )
    with _store(asked.home) as store:
        resumed = table.done
        try:
            table = _fill(store, maker, table, known.population, asked)
        finally:
            known.retrieval.close()
        with store.write() as txn:
            _require_unchanged(txn, table)
            serve_table(txn, table)
        _free(store)
    return Scored(table, resumed)


def _scoring(asked: _Asked) -> Scoring:
    """What scores, each model as it is now until the end."""
    definition = asked.definition
    hashes = {name: definition.hashes[name] for name in definition.features}
    champion = Champion(Registry(asked.home / "registry"), definition.features, hashes)
    scoring = Scoring(definition, champion, Pace())
    for one in scoring.champions:
        if one.refused is not None:
            raise RunError(f"the model behind {one.alias!r} cannot score: {one.refused}")
        one.pin()
    return scoring


def _known(store: Store, asked: _Asked) -> _Known:
    """The generators and the population as of the instant."""
    system, t_us = asked.system, asked.as_of_us
    retrieval = build_retrieval(system.serving.retrieve, system.serving.limit)
    entities = [entity.name for entity in system.task.query]
    seen = Seen(entities)
    with store.read() as txn:
        for at, batch in blocks(txn):
            before = int(np.searchsorted(batch.known_us, t_us))
            if before < len(batch):
                batch = batch.take(np.arange(before))
            retrieval.observe(batch)
            if asked.population.file is None:
                seen.observe(batch)
            asked.progress("reading the log", at + before, 0)
    retrieval.settle()
    if asked.population.file is not None:
        return _Known(retrieval, file_keys(asked.population.file, entities))
    within = asked.population.within_us
    return _Known(retrieval, seen.since(None if within is None else t_us - within))


def _begin(
    store: Store, asked: _Asked, scoring: Scoring, features: FeatureList, population: list[Keys]
) -> SlateTable:
    """The table to fill: one that an interrupted run has begun, where it is the same, or else a new one."""
    if not population:
        raise RunError(
            f"population {asked.population.text!r}: there is nobody as of {asked.as_of_us} us"
        )
    loaded = scoring.champion.loaded
    is_shown = asked.system.serving.mode != "hybrid"
    with store.write() as txn:
        identity = digest(
            canonical_json(
                [
                    asked.definition.name,
                    outline(asked.system.serving),
                    outline(asked.system.baseline),
                    [one.loaded.version if one.loaded else 0 for one in scoring.champions],
                    asked.as_of_us,
                    asked.k,
                    rewrites(txn),
                    digest(msgspec.msgpack.encode(population)),
                ]
            )
        )
        same = None
        for table in tables_in_making(txn):
            if table.identity == identity:
                same = table
            else:
                drop_table(txn, table.number)
        if same is None:
            same = SlateTable(
                next_table(txn),
                asked.as_of_us,
                asked.k,
                is_shown,
                loaded.name if loaded else "none",
                loaded.version if loaded else 0,
                features.name,
                _label(asked.system, loaded.name if loaded else ""),
                asked.population.text,
                identity,
                rewrites(txn),
                total=len(population),
            )
        keep_feature_list(txn, features)
        note_making(txn, same)
        _require_unchanged(txn, same)
    _free(store)
    return same


def _fill(
    store: Store,
    maker: SlateMaker,
    table: SlateTable,
    population: Sequence[Keys],
    asked: _Asked,
) -> SlateTable:
    limit = asked.system.serving.limit
    width = row_bytes(maker.features, 4)
    at_once = max(1, asked.memory_bytes // 4 // (width * limit))
    while table.done < table.total:
        some = population[table.done : table.done + at_once]
        slates = maker.slates(some, table.as_of_us)
        by_keys = {tuple(slate.keys[name] for name in maker.entities): slate for slate in slates}
        for begin in range(0, len(some), _PAGE):
            page = some[begin : begin + _PAGE]
            here = [by_keys[keys] for keys in page if keys in by_keys]
            done = {"done": table.done + len(page), "slates": table.slates + len(here)}
            table = msgspec.structs.replace(table, **done)
            with store.write() as txn:
                _require_unchanged(txn, table)
                put_slates(txn, table.number, here)
                note_making(txn, table)
            asked.progress("scoring", table.done, table.total)
    return table


def _vectors(
    plan: Plan,
    events: Mapping[str, StreamHistory],
    memory_bytes: int,
    names: Sequence[str],
    spine: Spine,
) -> Vectors:
    return read_at(plan, names, spine, events, None, memory_bytes).vectors()


def _label(system: System, model: str) -> str:
    """The feature set that the model reads, where it has one with a version."""
    for declared in system.models:
        if declared.name == model and isinstance(declared.features, FeatureSet):
            return declared.features.label
    return ""


def _require_unchanged(txn: Transaction, table: SlateTable) -> None:
    """Raise RunError where somebody is being forgotten, or the log is not the one that the table is made from."""
    if rewrites(txn) != table.rewrites or orders(txn):
        raise _rewritten()


def _rewritten() -> RunError:
    return RunError(
        "events were taken out of the log, or somebody is being forgotten, while the population was scored: run the "
        "same command again when that is done"
    )


def _free(store: Store) -> None:
    while free_tables(store, _SLICE):
        pass


@contextmanager
def _store(home: Path) -> Iterator[Store]:
    store = open_store(f"lmdb:{home / 'store'}")
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    if not (home / "store" / "data.mdb").exists():
        raise RunError(f"no store in {home}: `sevenfold ingest` makes one, or give another home")
    try:
        with locked(home / _LOCK, wait=False):
            yield
    except BlockingIOError as error:
        raise RunError(f"another run scores a population in {home}: wait for it to end") from error
