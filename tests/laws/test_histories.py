"""Reading from a kept history gives what reading from the events themselves gives, bit for bit."""

import itertools
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sevenfold as sf
from sevenfold.engines.offline import read_at
from sevenfold.features.frame import Spine
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.stores.block import encode_block, key_of
from sevenfold.stores.history import History, StreamHistory, merge
from sevenfold.stores.log import (
    Departed,
    append,
    arrange,
    blocks,
    departed,
    floor_us,
    note_departed,
    note_rewrite,
    read_stream,
)
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.segment import Segment, write_segment
from sevenfold.stores.tables import LOG
from sevenfold.testing.strategies import Log, logs
from sevenfold.types import EventBatch, Texts
from tests.laws.views import AGGREGATES, FEATURES, item, positive, stream, user

VIEWS = [
    sf.aggregate(user, stream, *AGGREGATES, name="all"),
    sf.aggregate([user, item], stream, sf.last("x"), sf.since_last(), name="newest"),
    sf.aggregate(item, stream, sf.sum("x", windows=["24 h"]), where=positive, name="some"),
    sf.aggregate(item, stream, sf.last("x"), where=positive, name="newest_of_some"),
    sf.aggregate(user, stream, sf.distinct("item", cap=8), sf.count("tag"), name="texts"),
]
WANTED = {"s": list(dict.fromkeys(view.entities for view in compile_plan(VIEWS).views))}
# Hundreds of small files, each made durable: in memory where the machine has a folder there.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
FEW_BYTES = 400  # a handful of events a part


def kept(folder: Path, plan: Plan, batch: EventBatch, cuts: Sequence[int]) -> StreamHistory:
    """Segments between `cuts`, and what follows the last cut as the head."""
    segments: dict[tuple[str, ...], tuple[Segment, ...]] = {}
    for entities in dict.fromkeys(view.entities for view in plan.views):
        place = folder / "+".join(entities)
        segments[entities] = tuple(
            write_segment(
                place / f"{begin:020d}-{end:020d}", "s", entities, batch.take(np.arange(begin, end))
            )
            for begin, end in itertools.pairwise([0, *cuts])
        )
    last = cuts[-1] if cuts else 0
    head = batch.take(np.arange(last, len(batch))) if last < len(batch) else None
    return StreamHistory("s", segments, dict.fromkeys(segments, head))


def spine(log: Log) -> Spine:
    keys = {
        "user": Texts.of([user for _, user, _ in log.reads]),
        "item": Texts.of([item for _, _, item in log.reads]),
    }
    return Spine(np.array([t_us for t_us, _, _ in log.reads], dtype=np.int64), keys)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs(), st.data())
def test_a_history_reads_as_its_events_do_however_it_is_cut(log: Log, data: st.DataObject) -> None:
    plan = compile_plan(VIEWS)
    n = len(log.batch)
    cuts = sorted(data.draw(st.sets(st.integers(1, n), max_size=3)))
    memory = data.draw(st.sampled_from([1, FEW_BYTES, 1 << 30]))
    threads = data.draw(st.integers(1, 4))
    expected = read_at(plan, plan.names, spine(log), {"s": log.batch})
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        history = kept(Path(folder), plan, log.batch, cuts)
        found = read_at(plan, plan.names, spine(log), {"s": history}, None, memory, threads)
    assert found.values.tobytes() == expected.values.tobytes()
    assert found.states.tolist() == expected.states.tolist()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs(), st.integers(2, 5))
def test_events_read_as_they_do_by_however_many_threads(log: Log, threads: int) -> None:
    plan = compile_plan(FEATURES)
    rows = spine(log)
    rows = Spine(rows.t_us, rows.keys, {"price": np.array([2.5])})
    expected = read_at(plan, plan.names, rows, {"s": log.batch})
    found = read_at(plan, plan.names, rows, {"s": log.batch}, threads=threads)
    assert found.values.tobytes() == expected.values.tobytes()
    assert found.states.tolist() == expected.states.tolist()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs(), st.integers(1, 30), st.data())
def test_merged_segments_are_the_segment_of_all_their_events(
    log: Log, at_once: int, data: st.DataObject
) -> None:
    n = len(log.batch)
    cuts = sorted(data.draw(st.sets(st.integers(1, n), min_size=1, max_size=3)) | {n})
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        plan = compile_plan(VIEWS)
        parts = kept(Path(folder, "parts"), plan, log.batch, cuts)
        whole = kept(Path(folder, "whole"), plan, log.batch, [n])
        for entities, (expected,) in whole.segments.items():
            place = Path(folder, "merged", "+".join(entities), expected.path.name)
            merged = merge(place, parts.segments[entities], at_once)
            names = sorted(path.name for path in expected.path.iterdir())
            assert sorted(path.name for path in merged.path.iterdir()) == names
            for name in names:
                assert (merged.path / name).read_bytes() == (expected.path / name).read_bytes()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs(), st.data())
def test_a_history_kept_in_any_steps_reads_as_the_log_does(log: Log, data: st.DataObject) -> None:
    """Between batches it is extended or not, a bit of it turns over, the log is rewritten or its oldest events leave."""
    plan = compile_plan(VIEWS)
    store = MemoryStore()
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        size = data.draw(st.integers(1, 12), label="segment_events")
        history = History(Path(folder, "history"), WANTED, segment_events=size, merge_events=3)
        for begin, end in itertools.pairwise([0, *log.cuts]):
            with store.write() as txn:
                append(txn, arrange(log.batch.take(np.arange(begin, end)), floor_us(txn)))
            for what in data.draw(st.lists(st.sampled_from(STEPS), max_size=3), label="steps"):
                _take(what, history, store, data)
            with store.read() as txn:
                events = read_stream(txn, "s")
            assert events is not None
            expected = read_at(plan, plan.names, spine(log), {"s": events})
            found = history.mending(
                lambda: read_at(plan, plan.names, spine(log), history.at(store))
            )
            assert found.values.tobytes() == expected.values.tobytes()
            assert found.states.tolist() == expected.states.tolist()


STEPS = ("step", "step", "extend", "turn a bit over", "lose a file", "rewrite", "retire")


def _take(what: str, history: History, store: MemoryStore, data: st.DataObject) -> None:
    files = sorted(path for path in history.path.glob("*/*/*/*") if path.stat().st_size)
    if what == "step":
        history.step(store, data.draw(st.integers(1, 9), label="head"))
    elif what == "extend":
        history.extend(store, 1)
    elif what == "rewrite":
        with store.write() as txn:
            note_rewrite(txn)
    elif what == "retire":
        _retire(store, data.draw(st.integers(0, 9), label="retired"))
    elif files:
        file = data.draw(st.sampled_from(files), label="file")
        raw = bytearray(file.read_bytes())
        raw[data.draw(st.integers(0, len(raw) - 1), label="byte")] ^= 1 << 6
        file.unlink() if what == "lose a file" else file.write_bytes(raw)


def _retire(store: MemoryStore, n: int) -> None:
    """Take the oldest events out of the log, as a retention does; one stays."""
    with store.write() as txn:
        held = list(blocks(txn, "s"))
        known_us = np.concatenate([batch.known_us for _, batch in held])
        from_us = int(known_us[min(n, len(known_us) - 1)])
        begin = departed(txn, "s").position
        for seq, batch in held:
            old = int(np.searchsorted(batch.known_us, from_us))
            if old:
                txn.delete(LOG, key_of(seq))
                begin = seq + old
            if 0 < old < len(batch):
                txn.put(LOG, key_of(begin), encode_block(batch, old, len(batch), begin))
        note_departed(txn, "s", Departed(begin, from_us))
