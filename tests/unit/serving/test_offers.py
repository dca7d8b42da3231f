"""Processes write for one another what waits for the store's lock, and nothing that the store does not bear out."""

import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sevenfold as sf
from sevenfold.clock import SystemClock
from sevenfold.errors import StoreError
from sevenfold.registry.registry import Registry
from sevenfold.serving.audit import audit_all
from sevenfold.serving.definition import Definition
from sevenfold.serving.ingest import Post
from sevenfold.serving.instants import Instants
from sevenfold.serving.offers import SLOT_BYTES, Offer, Offers
from sevenfold.serving.pending import OvertakenError, Pending
from sevenfold.serving.prediction_log import read_predictions
from sevenfold.serving.request import RecommendRequest
from sevenfold.serving.service import Service
from sevenfold.serving.worker import Worker
from sevenfold.stores.lmdb import LmdbStore

Sale = Callable[..., dict[str, Any]]
PATIENCE_S = 60


class Fleet:
    """An owner, number 0, and two workers over one store on disk, whose drafts wait for as long as it takes."""

    def __init__(self, home: Path, system: sf.System) -> None:
        self.home, self.system = home, system
        self.store = LmdbStore(home / "store")
        self.registry = Registry(home / "registry")
        clock = SystemClock()
        self.owner = Service(system, self.store, self.registry, clock)
        self.owner.pending = Pending(self.store, math.inf)
        self.owner.share(Instants(home / "instants", clock), self.offers(0))
        self.all: list[Service] = [self.owner]
        for number in (1, 2):
            worker = Worker(system, self.store, self.registry, Instants(home / "instants", clock))
            check = worker.pending.check
            worker.pending = Pending(self.store, math.inf)
            worker.pending.check, worker.pending.offers = check, self.offers(number)
            self.all.append(worker)

    def offers(self, number: int) -> Offers:
        return Offers(self.home / "offers", number, 3)

    def shown(self, number: int) -> list[Offer]:
        offers = self.all[0].pending.offers
        assert offers is not None
        return offers.of(number)

    def commits(self) -> int:
        """How many commits the store has had."""
        found: int = self.store._env.info()["last_txnid"]
        return found

    def logged(self) -> list[str]:
        with self.store.read() as txn:
            return sorted(one.request_id for one in read_predictions(txn))

    def settled_at_once(self, *services: Service) -> None:
        """Have them settle while another has the lock, all of them waiting for it when it is free."""
        with self.store.write():
            threads = [threading.Thread(target=one.pending.settle) for one in services]
            for thread in threads:
                thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), f"not settled in {PATIENCE_S} s"

    def audited(self) -> tuple[int, int]:
        with self.store.read() as txn:
            *_, totals = audit_all(txn, Definition(self.system), 1.0)
        return totals.compared, totals.different


@pytest.fixture
def fleet(tmp_path: Path, anew: Callable[[], sf.System], sale: Sale) -> Iterator[Fleet]:
    """The fleet, which has sold a and b, and whose store knows the list of features."""
    made = Fleet(tmp_path, anew())
    made.owner.accept_posts([Post("sales", [sale("a0", "a"), sale("b0", "b")])])
    made.owner.recommend(asked("first"))
    yield made
    made.store.close()


def asked(name: str, customer: str = "ada") -> RecommendRequest:
    return RecommendRequest(request_id=name, keys={"customer": customer})


def test_what_all_of_them_wait_for_is_one_commit(fleet: Fleet) -> None:
    drafts = [
        one.draft_recommend(asked(f"r{n}-{i}")) for n, one in enumerate(fleet.all) for i in range(2)
    ]
    assert [len(fleet.shown(n)) for n in range(3)] == [2, 2, 2]
    before = fleet.commits()
    fleet.settled_at_once(*fleet.all)
    assert fleet.commits() == before + 1
    assert all(draft.is_kept for draft in drafts)
    assert [len(fleet.shown(n)) for n in range(3)] == [0, 0, 0]
    assert fleet.logged() == ["first", *(f"r{n}-{i}" for n in range(3) for i in range(2))]
    assert fleet.audited() == (14, 0)


def test_what_another_has_written_is_settled_without_a_commit_and_given_again(fleet: Fleet) -> None:
    first, second = fleet.all[1:]
    draft = first.draft_recommend(asked("r"))
    second.recommend(asked("other"))
    before = fleet.commits()
    assert not draft.is_kept  # it is on disk; its process has not seen that yet
    again, repeated = second.recommend(asked("r"))
    assert (again.slate(), repeated) == (draft.prediction.slate(), True)
    first.pending.settle()
    assert draft.is_kept
    assert fleet.commits() == before


def test_what_a_killed_process_had_shown_may_be_written_and_is_given_to_whoever_asks_again(
    fleet: Fleet,
) -> None:
    lost = fleet.all[1].draft_recommend(asked("lost"))
    fleet.all[2].recommend(asked("mine"))  # nobody settles the other any more
    assert fleet.logged() == ["first", "lost", "mine"]
    given, repeated = fleet.all[2].recommend(asked("lost"))
    assert (given.t_us, repeated) == (lost.prediction.t_us, True)
    assert fleet.audited()[1] == 0
    fleet.offers(1)  # another takes its place
    assert fleet.shown(1) == []


def test_of_two_answers_to_one_request_one_is_written_and_the_other_is_void(fleet: Fleet) -> None:
    drafts = [one.draft_recommend(asked("same")) for one in fleet.all[1:]]
    fleet.settled_at_once(*fleet.all[1:])
    assert fleet.logged() == ["first", "same"]
    assert sorted(draft.is_kept for draft in drafts) == [False, True]
    assert [type(draft.error) for draft in drafts if not draft.is_kept] == [OvertakenError]


ALTERED: dict[str, Callable[[Offer], Offer]] = {
    "of another declaration, or while another was being forgotten": lambda one: replaced(
        one, standing="x"
    ),
    "that events have come in before since": lambda one: replaced(one, end=0, t_us=1 << 60),
    "of a list of features that the store does not know": lambda one: replaced(one, features="x"),
}


def replaced(offer: Offer, **more: Any) -> Offer:
    told = {name: getattr(offer, name) for name in Offer.__struct_fields__}
    return Offer(**(told | more))


@pytest.mark.parametrize("alter", ALTERED.values(), ids=list(ALTERED))
def test_what_the_store_does_not_bear_out_is_left_to_its_process(
    fleet: Fleet, alter: Callable[[Offer], Offer]
) -> None:
    mine, theirs = fleet.all[1].pending, fleet.all[2]
    fleet.all[1].draft_recommend(asked("r"))
    (offer,) = fleet.shown(1)
    assert mine.offers is not None
    mine.offers.hide(["r"])
    mine.offers.show(alter(offer))
    theirs.recommend(asked("other"))
    assert fleet.logged() == ["first", "other"]
    mine.offers.hide(["r"])
    mine.offers.show(offer)
    theirs.recommend(asked("another"))
    assert fleet.logged() == ["another", "first", "other", "r"]


def offer(name: str, size: int) -> Offer:
    return Offer(name, 1, bytes(size), "f", 0, "s")


def test_offers_are_read_whole_or_not_at_all(tmp_path: Path) -> None:
    one, other = (Offers(tmp_path / "offers", number, 2) for number in range(2))
    one.show(offer("a", 1_000))
    one.show(offer("b", 2_000))
    assert other.of(0) == [offer("a", 1_000), offer("b", 2_000)]
    path = tmp_path / "offers"
    whole = path.read_bytes()
    path_is_torn = whole[:500] + b"\1" + whole[501:]
    with path.open("r+b") as file:
        file.write(path_is_torn)
    assert other.of(0) == []  # half of one and half of another
    one.hide(["a"])
    assert other.of(0) == [offer("b", 2_000)]
    one.hide(["b", "c"])
    assert other.of(0) == []


def test_for_what_there_is_no_room_is_not_shown(tmp_path: Path) -> None:
    one, other = (Offers(tmp_path / "offers", number, 2) for number in range(2))
    other.show(offer("mine", 10))
    one.show(offer("large", SLOT_BYTES - 100))
    one.show(offer("too much", 1_000))
    assert [shown.request_id for shown in other.of(0)] == ["large"]
    assert one.of(1) == [offer("mine", 10)]
    one.hide(["large", "too much"])
    one.show(offer("too much", 1_000))
    assert other.of(0) == [offer("too much", 1_000)]


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "offers").write_bytes(b"something")
    with pytest.raises(StoreError, match=r"has 9 bytes and is no file of offers: delete it"):
        Offers(tmp_path / "offers", 0, 2)
