"""A generator in a thread is waited for as long as it may take, then left; what it learns stays that of the log."""

import threading
from concurrent.futures import wait
from dataclasses import dataclass, field

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.clock import elapsed_s
from sevenfold.errors import ServingError
from sevenfold.retrieval.beside import Beside, Place
from sevenfold.retrieval.build import Retrieval, build_retrieval
from sevenfold.retrieval.catalogue import Catalogue
from sevenfold.retrieval.popular import Popular
from sevenfold.retrieval.protocol import Candidates, Query
from sevenfold.types import EventBatch, Texts

ITEM, STREAM = "item", "sales"
LONG_S = 60.0
QUERY = Query({}, 10_000_000)


@dataclass
class Held:
    """A generator that proposes when its gate is open."""

    inner: Popular
    name: str = "held"
    gate: threading.Event = field(default_factory=threading.Event)
    fault: Exception | None = None

    def observe(self, batch: EventBatch) -> None:
        self.inner.observe(batch)

    def settle(self) -> None:
        self.inner.settle()

    def propose(self, query: Query) -> Candidates:
        assert self.gate.wait(LONG_S), "nobody has opened the gate"
        if self.fault is not None:
            raise self.fault
        return self.inner.propose(query)


def sales(*items: str, at_us: int = 1_000_000) -> EventBatch:
    """Sales of items, all at one instant."""
    n = len(items)
    at = np.full(n, at_us, dtype=np.int64)
    ids = Texts.of([str(number) for number in range(n)])
    return EventBatch(STREAM, at, at, ids, {ITEM: Texts.of(list(items))}, {})


class Shop:
    """A retrieval with one quick generator and one that is held."""

    def __init__(self, timeout_s: float = LONG_S) -> None:
        self.catalogue = Catalogue()
        quick = Popular("quick", STREAM, ITEM, 1_000_000_000, 2, self.catalogue)
        inner = Popular("inner", STREAM, ITEM, 1_000_000_000, 9, self.catalogue)
        self.held = Held(inner)
        self.beside = Beside(self.held, timeout_s, Place(STREAM, ITEM, self.catalogue))
        self.retrieval = Retrieval(self.catalogue, (), (self.beside, quick), 10)
        self.retrieval.observe(sales("a", "a", "a", "b", "b", "c"))

    def ask(self, seconds: float = LONG_S, only: bool = False) -> tuple[list[str], list[str]]:
        """The items found within so many seconds, and who was left out."""
        fused, out = self.retrieval.candidates_in_time(QUERY, elapsed_s() + seconds, only)
        return self.catalogue.names(fused.codes), out

    def come_back(self) -> None:
        """Let the thread end its work."""
        running = self.beside._running
        assert running is not None
        self.held.gate.set()
        wait([running], LONG_S)


def test_both_are_asked_and_merged() -> None:
    shop = Shop()
    shop.held.gate.set()
    assert shop.ask() == (["a", "b", "c"], [])
    shop.retrieval.close()


def test_a_slow_one_is_left_behind_after_its_own_time() -> None:
    shop = Shop(timeout_s=0.01)
    assert shop.ask() == (["a", "b"], ["held"])
    shop.come_back()
    shop.retrieval.close()


def test_a_slow_one_is_left_behind_at_the_end_of_the_stage() -> None:
    shop = Shop()
    assert shop.ask(0.01) == (["a", "b"], ["held"])
    assert shop.ask() == (["a", "b"], ["held"])  # still at work: not asked, not waited for
    shop.come_back()
    assert shop.ask() == (["a", "b", "c"], [])
    shop.retrieval.close()


def test_late_only_the_last_resort_is_asked() -> None:
    shop = Shop()
    shop.held.gate.set()
    assert shop.ask(-1.0) == (["a", "b"], ["held"])
    assert shop.ask(only=True) == (["a", "b"], ["held"])
    shop.retrieval.close()


def test_what_comes_meanwhile_is_learnt_afterwards_with_the_codes_of_the_log() -> None:
    shop = Shop()
    assert shop.ask(0.01)[1] == ["held"]
    shop.retrieval.observe(sales("z", "z", "z", "z", "y"))
    assert shop.catalogue.names(np.arange(len(shop.catalogue))) == ["a", "b", "c", "z", "y"]
    shop.come_back()
    shop.retrieval.settle()
    again = Shop()
    again.retrieval.observe(sales("z", "z", "z", "z", "y"))
    again.held.gate.set()
    assert shop.ask() == again.ask()
    assert shop.ask()[0][0] == "z"
    for one in (shop, again):
        one.retrieval.close()


def test_items_have_their_codes_before_it_is_back() -> None:
    shop = Shop()
    assert shop.ask(0.01)[1] == ["held"]
    shop.beside.observe(sales("z", "y"))  # of which nobody else hears
    assert shop.catalogue.names(np.arange(len(shop.catalogue))) == ["a", "b", "c", "z", "y"]
    shop.come_back()
    shop.retrieval.close()


def test_one_that_fails_is_left_out_and_a_mistake_is_not_hidden(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shop = Shop()
    shop.held.gate.set()
    shop.held.fault = ServingError("gone")
    assert shop.ask() == (["a", "b"], ["held"])
    assert "generator failed name=held error=gone" in caplog.text
    shop.held.fault = ValueError("a mistake")
    with pytest.raises(ValueError, match="a mistake"):
        shop.ask()
    shop.held.fault = None
    assert shop.ask()[1] == []
    shop.retrieval.close()


def test_without_an_end_all_are_waited_for() -> None:
    shop = Shop(timeout_s=0.01)
    assert shop.ask() == (["a", "b"], ["held"])
    threading.Timer(0.05, shop.held.gate.set).start()
    fused, out = shop.retrieval.candidates_in_time(QUERY, float("inf"))
    assert (shop.catalogue.names(fused.codes), out) == (["a", "b", "c"], [])
    shop.retrieval.close()


def test_a_timeout_in_the_declaration_gives_a_thread() -> None:
    item, customer = sf.Entity("item"), sf.Entity("customer")
    stream = sf.Stream(STREAM, time="at", keys=[customer, item], fields={"basket": sf.Id()})
    declared = [
        sf.BoughtBefore(stream, customer, item, half_life="9 d", n=3, timeout="5 ms"),
        sf.Popular(stream, item, half_life="9 d", n=3, by=customer),
        sf.Popular(stream, item, half_life="9 d", n=3, name="all"),
    ]
    retrieval = build_retrieval(declared, 9)
    assert [isinstance(one, Beside) for one in retrieval.generators] == [True, False, False]
    assert retrieval.last_resort == 2
    assert build_retrieval(declared[:2], 9).last_resort == 1
    assert build_retrieval(declared[:1], 9).last_resort == -1
    assert retrieval.names == ["bought_before", "popular", "all"]
