"""A process beside the owner answers as the owner would, logs only what the log bears out, and says when it cannot."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sevenfold as sf
from sevenfold.engines.offline import read_at
from sevenfold.errors import InputError, ServingError
from sevenfold.features.frame import Spine
from sevenfold.models.probe import Probe
from sevenfold.models.rule import RuleModel
from sevenfold.registry.registry import Registry
from sevenfold.serving.audit import audit_all
from sevenfold.serving.definition import Definition
from sevenfold.serving.ingest import Post
from sevenfold.serving.instants import Instants
from sevenfold.serving.pending import Draft, OvertakenError, Pending
from sevenfold.serving.request import FeaturesAnswer, FeaturesRequest, RankRequest, RecommendRequest
from sevenfold.serving.service import Service
from sevenfold.serving.worker import Worker
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.log import read_stream
from sevenfold.stores.memory import MemoryStore
from sevenfold.types import Texts

START_US = 1_700_000_000_000_000
Sale = Callable[..., dict[str, Any]]


class Clock:
    """Goes on by `step_us` at each look, and wherever it is set, back too."""

    def __init__(self, step_us: int = 0) -> None:
        self.us = START_US
        self.step_us = step_us

    def now_us(self) -> int:
        self.us += self.step_us
        return self.us


class Watched:
    """A store in memory that calls `before_commit` when all of a transaction is written and nothing can be seen of it."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        self.before_commit: Callable[[], None] = lambda: None
        self.read = self._store.read

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        with self._store.write() as txn:
            yield txn
            self.before_commit()


class Fleet:
    """An owner and workers over one store, by one clock."""

    def __init__(self, folder: Path, system: sf.System, n: int = 2, step_us: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "instants").unlink(missing_ok=True)
        self.system, self.folder = system, folder
        self.clock = Clock(step_us)
        self.watched = Watched()
        self.store: Store = self.watched  # type: ignore[assignment]
        self.registry = Registry(folder / "registry")
        self.owner = Service(system, self.store, self.registry, self.clock)
        self.owner.share(self.instants())
        self.workers = [self.worker() for _ in range(n)]

    def instants(self) -> Instants:
        return Instants(self.folder / "instants", self.clock)

    def worker(self, declared: Callable[[], sf.System | None] = lambda: None) -> Worker:
        return Worker(self.system, self.store, self.registry, self.instants(), declared)

    @property
    def all(self) -> list[Service]:
        return [self.owner, *self.workers]

    def sell(self, *rows: dict[str, Any]) -> None:
        done = self.owner.accept_posts([Post("sales", list(rows))])
        assert done[0].events == len(rows), done

    def audited(self) -> tuple[int, int]:
        """How many logged vectors were compared with the log, and how many of them differ."""
        with self.store.read() as txn:
            *_, totals = audit_all(txn, Definition(self.system), 1.0)
        return totals.compared, totals.different

    def require_true(self, answer: FeaturesAnswer, key: dict[str, str]) -> None:
        """What was read of a key is what the log says of that instant."""
        definition = Definition(self.system)
        with self.store.read() as txn:
            events = read_stream(txn, "sales")
        assert events is not None
        keys = {name: Texts.of([value]) for name, value in key.items()}
        spine = Spine(np.array([answer.t], dtype=np.int64), keys)
        expected = read_at(definition.plan, answer.features, spine, {"sales": events})
        found = np.array(answer.values, dtype=np.float64)
        np.testing.assert_array_equal(expected.values, found)


@pytest.fixture
def fleet(tmp_path: Path, anew: Callable[[], sf.System], sale: Sale) -> Fleet:
    """An owner and two workers that have sold three of a, two of b and one of c; a second has passed."""
    made = Fleet(tmp_path / "fleet", anew())
    made.sell(
        *(sale(f"{item}{i}", item) for item, n in (("a", 3), ("b", 2), ("c", 1)) for i in range(n))
    )
    made.clock.us += 1_000_000
    return made


def asked(name: str = "r", customer: str = "ada") -> RecommendRequest:
    return RecommendRequest(request_id=name, keys={"customer": customer})


def test_it_answers_as_the_owner_does_and_its_answers_are_in_the_log(fleet: Fleet) -> None:
    given = [one.recommend(asked(f"r{i}"))[0] for i, one in enumerate(fleet.all)]
    assert [answer.slate() for answer in given] == [["a", "b", "c"]] * 3
    assert len({answer.scores for answer in given}) == 1
    assert [one.recommend(asked("r1"))[1] for one in fleet.all] == [True] * 3
    compared, different = fleet.audited()
    assert (compared, different) == (9, 0)


def test_events_that_the_owner_takes_in_are_in_its_next_answer(fleet: Fleet, sale: Sale) -> None:
    worker = fleet.workers[0]
    assert worker.recommend(asked("before"))[0].slate()[0] == "a"
    fleet.sell(*(sale(f"d{i}", "d") for i in range(9)))
    fleet.clock.us += 1
    assert worker.recommend(asked("after"))[0].slate()[:2] == ["d", "a"]
    assert fleet.audited()[1] == 0


def test_a_worker_that_is_far_behind_keeps_nobody_waiting_and_catches_up(
    fleet: Fleet, sale: Sale
) -> None:
    worker = fleet.workers[0]
    for part in range(3):
        fleet.sell(*(sale(f"e{part}-{i}", f"e{i % 7}") for i in range(1_000)))
    fleet.clock.us += 1
    worker.recommend(asked())
    assert worker.follow()
    assert not worker.follow()
    assert (
        worker.recommend(asked("again"))[0].slate()
        == fleet.owner.recommend(asked("own"))[0].slate()
    )


def test_it_takes_no_events_in_and_no_instants(fleet: Fleet) -> None:
    worker = fleet.workers[0]
    with pytest.raises(ServingError, match="owns the store"):
        worker.accept("sales", [], None)
    with pytest.raises(ServingError, match="owns the store"):
        worker.accept_posts([])
    with pytest.raises(InputError, match="live server reads now"):
        worker.rank(RankRequest(request_id="r", keys={"customer": "ada"}, items=["a"], t=START_US))
    assert worker.ready() is None


def test_of_two_answers_to_one_request_the_first_is_logged_and_the_other_not_given(
    fleet: Fleet,
) -> None:
    one, other = fleet.workers
    first, second, third = (each.draft_recommend(asked()) for each in (one, other, fleet.owner))
    one.pending.settle()
    assert first.is_kept
    for service, draft in ((other, second), (fleet.owner, third)):
        service.pending.settle()
        with pytest.raises(OvertakenError, match="another process has answered"):
            draft.require_kept()
        assert service.recommend(asked())[1]
    assert fleet.audited() == (3, 0)


def test_an_answer_that_is_void_takes_none_of_its_commit_with_it(fleet: Fleet) -> None:
    one, other = fleet.workers
    check, other.pending = other.pending.check, Pending(fleet.store, math.inf)
    other.pending.check = check  # both wait, however long it takes to make them
    void, good = other.draft_recommend(asked("void")), other.draft_recommend(asked("good"))
    one.recommend(asked("void"))
    other.pending.settle()
    assert isinstance(void.error, OvertakenError)
    assert good.is_kept


def test_a_clock_that_is_set_back_before_an_answer_is_logged(fleet: Fleet, sale: Sale) -> None:
    worker = fleet.workers[0]
    draft = worker.draft_recommend(asked())
    fleet.clock.us -= 500_000
    fleet.sell(sale("late", "c"))
    worker.pending.settle()
    with pytest.raises(OvertakenError, match="set back"):
        draft.require_kept()
    assert (
        worker.recommend(asked())[0].t_us > fleet.clock.us
    )  # after the event, which is after all reads
    assert fleet.audited()[1] == 0


@pytest.mark.parametrize("step_us", [0, 1, 7])
def test_a_read_while_events_are_being_committed_is_before_them(
    tmp_path: Path, anew: Callable[[], sf.System], sale: Sale, step_us: int
) -> None:
    fleet = Fleet(tmp_path / "fleet", anew(), step_us=step_us)
    fleet.sell(sale("first", "a"))
    worker, key = fleet.workers[0], {"customer": "ada", "item": "a"}
    read: list[FeaturesAnswer] = []

    def meanwhile() -> None:
        fleet.watched.before_commit = lambda: None
        fleet.clock.us += 1_000
        read.append(worker.read_features(FeaturesRequest(rows=[key])))

    fleet.watched.before_commit = meanwhile
    fleet.sell(sale("second", "a"))
    read.append(worker.read_features(FeaturesRequest(rows=[key])))
    assert [answer.position for answer in read] == [1, 2]
    for answer in read:
        fleet.require_true(answer, key)


def test_whoever_is_forgotten_leaves_the_workers_memory(
    tmp_path: Path, anew: Callable[[], sf.System], sale: Sale
) -> None:
    system = anew()
    sales, (customer, item, *_) = system.data[0], system.entities
    before = sf.BoughtBefore(sales, customer, item, half_life="14 d", n=20)
    serving = replace(system.serving, retrieve=[before, *system.serving.retrieve])
    fleet = Fleet(tmp_path / "fleet", replace(system, serving=serving), n=3)
    slow, quick, asleep = fleet.workers
    fleet.sell(sale("x", "x", customer="bob"), sale("y", "y"))
    fleet.clock.us += 1
    for worker in fleet.workers:
        assert worker.recommend(asked(f"{id(worker)}", "bob"))[0].source_masks()[0] & 1
    fleet.owner.forget("customer", "bob")
    quick.follow()
    draft = slow.draft_recommend(asked("meanwhile", "bob"))
    while fleet.owner.forgetting.step():
        quick.follow()
    slow.pending.settle()
    with pytest.raises(OvertakenError, match="changed"):
        draft.require_kept()
    asleep.follow()  # it has seen nothing of it, and learns anew from the log
    for service in fleet.all:
        answer, _ = service.recommend(asked(f"after {id(service)}", "bob"))
        assert answer.slate() == ["y", "x"] or answer.slate() == ["x", "y"]
        assert not (answer.source_masks() & 1).any()
    assert fleet.audited()[1] == 0


def altered(system: sf.System) -> sf.System:
    """The stall with one feature more."""
    sales, (customer, *_) = system.data[0], system.entities
    more = sf.aggregate(customer, sales, sf.count(windows=["30 d"]))
    return replace(system, features=[*system.features, more])


def test_another_declaration_is_answered_by_the_owner_until_the_worker_has_it(
    fleet: Fleet, anew: Callable[[], sf.System]
) -> None:
    told: list[sf.System | None] = [None]
    worker = fleet.worker(lambda: told[0])
    waiting = worker.draft_recommend(asked("waiting"))
    fleet.owner.change(altered(anew()))
    while fleet.owner.changing.status.state != "none":
        fleet.owner.changing.step()
    worker.pending.settle()
    with pytest.raises(OvertakenError, match="changed"):
        waiting.require_kept()
    with pytest.raises(OvertakenError, match="another declaration"):
        worker.recommend(asked())
    with pytest.raises(OvertakenError, match="another declaration"):
        worker.read_features(FeaturesRequest(rows=[{"customer": "ada", "item": "a"}]))
    assert not worker.follow()
    told[0] = anew()
    assert not worker.follow()  # that is not what the owner serves
    told[0] = altered(anew())
    assert worker.follow()
    answer = worker.read_features(FeaturesRequest(rows=[{"customer": "ada", "item": "a"}]))
    assert "customer__count_30d" in answer.features
    assert worker.recommend(asked())[0].features != ""


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("sell"), st.integers(0, 3)),
        st.tuples(st.just("ask"), st.integers(0, 2)),
        st.tuples(st.just("settle"), st.integers(0, 2)),
        st.tuples(st.just("clock"), st.integers(-3, 4)),
    ),
    min_size=4,
    max_size=40,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_whatever_the_order_what_is_logged_is_what_the_log_says(
    tmp_path: Path, anew: Callable[[], sf.System], sale: Sale, steps: list[tuple[str, int]]
) -> None:
    fleet = Fleet(tmp_path, anew())
    drafts: list[tuple[Service, Draft]] = []
    for at, (what, which) in enumerate(steps):
        if what == "sell":
            fleet.sell(sale(f"s{at}", f"i{which}", at_us=START_US - which))
        elif what == "ask":
            service = fleet.all[which]
            drafts.append((service, service.draft_recommend(asked(f"r{at // 2}"))))
        elif what == "settle":
            fleet.all[which].pending.settle()
        else:
            fleet.clock.us += which
    for service in fleet.all:
        service.pending.settle()
    for _, draft in drafts:
        assert draft.is_kept or isinstance(draft.error, OvertakenError)
        kept, repeated = fleet.owner.recommend(asked(draft.prediction.request_id))
        if draft.is_kept:
            assert repeated
            assert kept.slate() == draft.prediction.slate()
    assert fleet.audited()[1] == 0


def test_a_model_whose_scores_are_not_those_that_were_stored_is_not_ready(fleet: Fleet) -> None:
    rule = RuleModel("item__sum_pieces", None, ("item__sum_pieces",))
    folder = fleet.folder / "model"
    rule.save(folder)
    made = fleet.registry.register(
        folder,
        name="rule",
        feature_names=["item__sum_pieces"],
        feature_hashes=fleet.owner.plan.definition_hashes(["item__sum_pieces"]),
        metrics={},
        lineage={},
        created_us=START_US,
    )
    fleet.registry.set_alias("champion", made.version, "test", START_US)
    for service in fleet.all:
        assert service.ready() is None
        loaded = service.champion.loaded
        assert loaded is not None
        assert loaded.differs() is None
        other = Probe(loaded.probe.rows, np.nextafter(loaded.probe.scores, np.inf))
        service.champion.loaded = replace(loaded, probe=other)
        reason = service.ready()
        assert reason is not None
        assert reason.startswith("version 1: 1 of 1 rows score otherwise")
