"""A letter goes with its row, in one transaction; clamped events keep what they said of their time."""

from typing import Any

import pytest

from sevenfold.clock import ManualClock
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.plan import compile_plan
from sevenfold.serving.ingest import Ingest, read_counts
from sevenfold.serving.redrive import Picked, redrive
from sevenfold.spec.entity import Entity
from sevenfold.spec.field import Number
from sevenfold.spec.stream import Stream
from sevenfold.stores.clamped import original_us
from sevenfold.stores.log import read_stream
from sevenfold.stores.memory import MemoryStore
from sevenfold.types import US_PER_S

NOW_US = 1_700_000_000 * US_PER_S


def declared(low: float | None) -> Stream:
    """Sales at a lowest price."""
    fields = {"price": Number(low=low)}
    return Stream("sales", time="at", id="line", keys=[Entity("customer")], fields=fields)


def row(line: str, price: float = 1.0, ahead_us: int = 0) -> dict[str, Any]:
    """A sale."""
    return {"line": line, "at": NOW_US + ahead_us, "customer": "c", "price": price}


class Shop:
    """A store and its door."""

    def __init__(self) -> None:
        self.store, self.clock = MemoryStore(), ManualClock(NOW_US)
        self.engine = OnlineEngine(compile_plan([]))
        self.ingest = Ingest(self.store, {"sales": declared(0)}, self.engine, self.clock)


def test_a_letter_is_gone_exactly_when_its_row_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop()
    shop.ingest.accept("sales", [row(f"l{i}", price=-1) for i in range(2_500)])
    shop.ingest.use({"sales": declared(None)}, shop.engine)
    taken: list[int] = []
    accept = shop.ingest.accept

    def failing(*args: Any, **how: Any) -> Any:
        if len(taken) == 2:
            raise KeyboardInterrupt
        taken.append(1)
        return accept(*args, **how)

    monkeypatch.setattr(shop.ingest, "accept", failing)
    with pytest.raises(KeyboardInterrupt):
        redrive(shop.ingest, shop.store, ["sales"], Picked())
    with shop.store.read() as txn:
        assert txn.count("dead") == 500
        assert read_counts(txn, ["sales"]).events == 2_000
    monkeypatch.undo()
    done = redrive(shop.ingest, shop.store, ["sales"], Picked())
    assert (done.letters, done.events) == (500, 500)
    with shop.store.read() as txn:
        counts = read_counts(txn, ["sales"])
        assert (counts.rows_in, counts.events, counts.dead_letters) == (2_500, 2_500, 0)


def test_letters_of_a_stream_that_is_gone_stay() -> None:
    shop = Shop()
    shop.ingest.accept("sales", [row("l", price=-1)])
    done = redrive(shop.ingest, shop.store, ["returns"], Picked())
    assert (done.letters, done.kept) == (1, 1)


def test_a_clamped_event_keeps_what_it_said_of_its_time() -> None:
    shop = Shop()
    rows = [row("a"), row("b", ahead_us=3), row("c", ahead_us=-5), row("d", ahead_us=5 * US_PER_S)]
    assert shop.ingest.accept("sales", [*rows, row("e", ahead_us=5 * US_PER_S + 1)]).events == 4
    shop.ingest.accept("sales", [row("a", ahead_us=9)])  # a duplicate changes nothing
    with shop.store.read() as txn:
        kept = read_stream(txn, "sales")
        originals = [original_us(txn, "sales", name) for name in "abcde"]
    assert kept is not None
    times = dict(zip(kept.event_ids, kept.event_us.tolist(), strict=True))
    assert times == {"a": NOW_US, "b": NOW_US, "c": NOW_US - 5, "d": NOW_US}
    assert originals == [None, NOW_US + 3, None, NOW_US + 5 * US_PER_S, None]
