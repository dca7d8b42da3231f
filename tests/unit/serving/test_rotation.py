"""Answers that moved to sealed files: whoever reads the log sees no difference, and no kill loses or doubles one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import sevenfold as sf
from sevenfold.errors import StoreError
from sevenfold.serving.audit import audit_all
from sevenfold.serving.forgetting import Forgetting, orders
from sevenfold.serving.mover import is_forgetting
from sevenfold.serving.prediction_log import (
    Prediction,
    SealedFile,
    count_predictions,
    feature_list,
    find_prediction,
    keep_feature_list,
    read_predictions,
    sealed_files,
    write_prediction,
)
from sevenfold.serving.request import RecommendRequest
from sevenfold.serving.retention import Retention
from sevenfold.serving.rotation import Bounds, Rotation, drop_before
from sevenfold.serving.sealed_answers import PREDICTIONS_FOLDER, SealedAnswers
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.open import open_store
from sevenfold.stores.tables import PREDICTIONS, REQUESTS

START_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000
FEATURES = feature_list(["one", "two"], ["h1", "h2"])


def answer(n: int, t_us: int, who: str = "ada", items: tuple[str, ...] = ("a", "b")) -> Prediction:
    """An answer with something strange in every field."""
    rng = np.random.default_rng(n)
    vectors = rng.normal(size=(len(items), 2)).astype(np.float32)
    vectors[0, 0] = (np.nan, np.inf, -0.0)[n % 3]
    return Prediction(
        request_id=f"r{n}\0é\u2028'\"",
        t_us=t_us,
        keys={"customer": who, "": "x"},
        model="rule" if n % 2 else "",
        version=n,
        rung="full",
        k=3,
        features=FEATURES.name,
        generators=["g"],
        items=list(items),
        sources=bytes(4 * len(items)),
        candidate_scores=rng.bytes(4 * len(items)),
        shown=np.arange(len(items), dtype=np.int32).tobytes(),
        scores=rng.bytes(8 * len(items)),
        logged=np.arange(len(items), dtype=np.int32).tobytes() if n % 4 else b"",
        vectors=vectors.tobytes() if n % 4 else b"",
        sample_weight=float(rng.normal()),
        timing_us={"log": n} if n % 2 else {},
        asked="" if n % 3 else "digest",
        degraded={"score": "no time"} if n % 5 == 0 else {},
    )


class Log:
    """A store with its files, or, without a folder, one that never rotates."""

    def __init__(self, store: Store, folder: Path | None, system: sf.System) -> None:
        self.store, self.system = store, system
        self.sealed = None if folder is None else SealedAnswers(folder)
        with store.write() as txn:
            keep_feature_list(txn, FEATURES)

    def write(self, made: Prediction) -> None:
        """Log an answer."""
        with self.store.write() as txn:
            write_prediction(txn, made)

    def rotate(self, head: int, rows: int) -> None:
        """Make files for as long as there is something to be moved."""
        if self.sealed is not None:
            rotation = Rotation(self.store, self.sealed, Bounds(head, rows), is_forgetting)
            while rotation.rotate():
                pass

    def forget(self, entity: str, key: str) -> None:
        """Carry out an order to forget."""
        job = Forgetting(self.store, self.system, lambda: ())
        job.sealed = self.sealed
        job.order(entity, key)
        while job.step():
            pass

    def retain(self, since_us: int) -> None:
        """Drop what is older."""
        job = Retention(self.store, self.system, lambda _: 0)
        job.sealed, job._answers = self.sealed, 0
        while job._drop_predictions(since_us):
            pass

    def told(self, names: list[str], ranges: list[tuple[int, int | None]]) -> Any:
        """All that a reader can ask of it."""
        with self.store.read() as txn:
            return (
                [list(read_predictions(txn, a, b, self.sealed)) for a, b in ranges],
                [find_prediction(txn, name, self.sealed) for name in names],
                count_predictions(txn),
                sorted(key for key, _ in txn.scan(REQUESTS)),
            )


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("write"),
            st.sampled_from([0, 0, 1, 1, 3, 25]),
            st.sampled_from(["ada", "bob", "eve"]),
        ),
        st.tuples(st.just("rotate"), st.integers(0, 4), st.integers(1, 5)),
        st.tuples(st.just("forget"), st.sampled_from(["ada", "bob", "i1"]), st.just(0)),
        st.tuples(st.just("retain"), st.integers(0, 60), st.just(0)),
    ),
    min_size=5,
    max_size=40,
)


HOURLY = [("write", 1, who) for who in ("ada", "bob", "bob", "eve", "ada")]


def same(told: Any) -> Any:
    """What was told, as bytes: NaN is itself."""
    return msgspec.msgpack.encode(told)


@settings(max_examples=30)
@given(STEPS, st.integers(0, 60), st.integers(0, 60))
@example([*HOURLY, ("rotate", 0, 4), ("retain", 3, 0), *HOURLY, ("rotate", 0, 4)], 2, 9)
@example([*HOURLY, ("rotate", 0, 4), ("forget", "bob", 0), *HOURLY, ("retain", 4, 0)], 0, 60)
def test_rotated_at_any_points_is_not_rotated(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any], low: int, high: int
) -> None:
    folder = tmp_path_factory.mktemp("home") / PREDICTIONS_FOLDER
    moved, plain = Log(MemoryStore(), folder, SYSTEM), Log(MemoryStore(), None, SYSTEM)
    t_us, names = START_US, []
    for n, (what, one, other) in enumerate(steps):
        if what == "write":
            t_us += one * HOUR_US  # several at one instant, and several on one day, or none
            made = answer(n, t_us, other, ("i1", "b") if n % 7 == 0 else ("a", "b"))
            names.append(made.request_id)
        for log in (moved, plain):
            if what == "write":
                log.write(made)
            elif what == "rotate":
                log.rotate(one, other)
            elif what == "forget":
                log.forget("item" if one == "i1" else "customer", one)
            else:
                log.retain(START_US + one * HOUR_US)
    # A late one, such as of another process that drew its instant first.
    late = answer(99, START_US + HOUR_US // 2)
    ranges = [(0, None), (START_US + low * HOUR_US, START_US + high * HOUR_US), (t_us, t_us + 1)]
    for log in (moved, plain):
        log.write(late)
    assert same(moved.told([*names, "never"], ranges)) == same(
        plain.told([*names, "never"], ranges)
    )
    with moved.store.read() as txn:
        named = {file.name for file in sealed_files(txn)}
    on_disk = {path.name for path in folder.iterdir()} if folder.exists() else set()
    assert on_disk == named, "nothing lies about that nobody names"


def _declared() -> sf.System:
    customer, item = sf.Entity("customer"), sf.Entity("item")
    sales = sf.Stream(
        "sales", time="at", id="line", keys=[customer, item], fields={"basket": sf.Id()}
    )
    return sf.System(
        name="stall",
        requirements=sf.Requirements(
            goal="test",
            metric="recall@3",
            latency=sf.Latency(p99="1 s"),
            scale=sf.Scale(daily_users=1, requests_per_user=1, items=5),
            guardrails=[sf.Guardrail("p99 latency")],
            privacy=sf.Privacy(retention="730 d"),
        ),
        task=sf.Ranking(
            item=item,
            query=[customer],
            label=sf.Label("taken", outcome=sales, request="basket", within="2 h"),
            k=3,
            baseline="what sold most",
        ),
        data=[sales],
        features=[sf.aggregate(item, sales, sf.count(windows=["7 d"]))],
        models=[sf.Rule(by="item__count_7d")],
        evaluation=sf.Evaluation(
            primary="ndcg@3", split=sf.Split(train="5 d", gap="1 d", valid="1 d")
        ),
        serving=sf.Pipeline(retrieve=[sf.Popular(sales, item, half_life="1 d", n=5)], limit=5),
        monitoring=sf.Monitoring(),
    )


SYSTEM = _declared()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Twenty answers on four days, of which the oldest fourteen have moved."""
    made = Log(open_store(f"lmdb:{tmp_path / 'store'}"), tmp_path / PREDICTIONS_FOLDER, SYSTEM)
    for n in range(20):
        made.write(answer(n, START_US + n * 5 * HOUR_US, "bob" if n % 3 else "ada"))
    made.rotate(6, 4)
    return made


def test_a_file_is_of_one_day_and_says_what_it_is(log: Log, tmp_path: Path) -> None:
    with log.store.read() as txn:
        files = sealed_files(txn)
        assert txn.count(PREDICTIONS) == 20 - sum(file.rows for file in files) >= 6
    assert len(files) >= 3
    for file in files:
        path = tmp_path / PREDICTIONS_FOLDER / file.name
        assert path.stat().st_mode & 0o777 == 0o600
        query = "SELECT DISTINCT make_timestamp(t_us)::DATE::VARCHAR, format, feature_names FROM read_parquet(?)"
        with duckdb.connect() as connection:
            ((day, version, names),) = connection.execute(query, [str(path)]).fetchall()
            codecs = "SELECT DISTINCT compression FROM parquet_metadata(?)"
            assert connection.execute(codecs, [str(path)]).fetchall() == [("ZSTD",)]
        assert file.name.startswith(day)
        assert (version, msgspec.json.decode(names)) == (1, ["one", "two"])


def test_without_the_files_nobody_is_told_half(log: Log) -> None:
    with log.store.read() as txn:
        with pytest.raises(StoreError, match="predictions"):
            list(read_predictions(txn))
        with pytest.raises(StoreError, match="predictions"):
            find_prediction(txn, answer(0, 0).request_id)
        newest = list(read_predictions(txn, START_US + 19 * 5 * HOUR_US))
    assert len(newest) == 1
    with pytest.raises(StoreError, match="folder"):
        drop_before(log.store, None, b"\xff")


def test_a_file_that_is_damaged_or_gone_is_said_to_be(log: Log, tmp_path: Path) -> None:
    with log.store.read() as txn:
        first, second, *_ = sealed_files(txn)
        path = tmp_path / PREDICTIONS_FOLDER / first.name
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)
        fresh = SealedAnswers(tmp_path / PREDICTIONS_FOLDER)
        with pytest.raises(StoreError, match="not what was written"):
            list(read_predictions(txn, sealed=fresh))
        (tmp_path / PREDICTIONS_FOLDER / second.name).unlink()
        with pytest.raises(StoreError, match="not there"):
            list(fresh.read(second))


def test_what_was_forgotten_is_in_no_file(log: Log, tmp_path: Path) -> None:
    log.forget("customer", "ada")
    for path in (tmp_path / PREDICTIONS_FOLDER).iterdir():
        with duckdb.connect() as connection:
            rows = connection.execute("SELECT keys FROM read_parquet(?)", [str(path)]).fetchall()
        assert rows
        assert all("ada" not in keys for (keys,) in rows)
    with log.store.read() as txn:
        left = list(read_predictions(txn, sealed=log.sealed))
        assert {p.keys["customer"] for p in left} == {"bob"}
        assert len(left) == 13


def test_the_side_of_a_trial_is_in_the_file_too(tmp_path: Path) -> None:
    made = msgspec.structs.replace(answer(1, START_US), trial="t", arm="canary")
    file = SealedAnswers(tmp_path / "f").write([(b"k", made)], {})
    ((_, again),) = SealedAnswers(tmp_path / "f").read(file)
    assert (again.trial, again.arm) == ("t", "canary")


def test_an_answer_with_a_field_that_is_not_known_yet_is_read(tmp_path: Path) -> None:
    class Later(Prediction):
        """An answer of a later version."""

        later: str = "then"

    made = Later(**msgspec.structs.asdict(answer(1, START_US)), later="now")
    sealed = SealedAnswers(tmp_path / "f")
    file = sealed.write([(b"k", made)], {})
    ((_, again),) = SealedAnswers(tmp_path / "f").read(file)
    assert msgspec.msgpack.encode(again) == msgspec.msgpack.encode(answer(1, START_US))
    with duckdb.connect() as connection:
        path = str(tmp_path / "f" / file.name)
        ((more,),) = connection.execute("SELECT more FROM read_parquet(?)", [path]).fetchall()
    assert msgspec.msgpack.decode(more)["later"] == "now"


def unchanged(log: Log, before: list[SealedFile]) -> bool:
    """Whether the store names these files, all that lie there."""
    assert log.sealed is not None
    with log.store.read() as txn:
        named = sealed_files(txn)
    names = {path.name for path in log.sealed.folder.iterdir()}
    return named == before and names == {file.name for file in before}


def test_nothing_moves_while_somebody_is_forgotten(log: Log) -> None:
    said: list[bool] = []
    held = iter([False, True, True])

    def hold(_: Transaction) -> bool:
        said.append(next(held))
        return said[-1]

    assert log.sealed is not None
    rotation = Rotation(log.store, log.sealed, Bounds(0, 2), hold)
    with log.store.read() as txn:
        before = sealed_files(txn)
    assert not rotation.rotate()
    assert said == [False, True], "a file was made, and given up"
    assert unchanged(log, before)
    assert not rotation.rotate()
    assert said == [False, True, True], "and no other is begun"
    assert unchanged(log, before)


def test_a_file_that_was_swept_away_before_it_was_named_is_given_up(log: Log) -> None:
    assert log.sealed is not None
    with log.store.read() as txn:
        before = sealed_files(txn)
        answers = list(read_predictions(txn, sealed=log.sealed))

    def hold(_: Transaction) -> bool:
        assert log.sealed is not None
        log.sealed.sweep({file.name for file in before})
        return False

    assert not Rotation(log.store, log.sealed, Bounds(0, 2), hold).rotate()
    assert unchanged(log, before)
    with log.store.read() as txn:
        assert same(list(read_predictions(txn, sealed=log.sealed))) == same(answers)


def test_a_service_gives_an_answer_again_that_has_moved(
    stall: Any, tmp_path: Path, anew: Callable[[], sf.System]
) -> None:
    service = stall.service
    service.keep_answers(tmp_path / PREDICTIONS_FOLDER)
    given = [service.recommend(RecommendRequest(f"r{n}", {"customer": "ada"}))[0] for n in range(9)]
    rotation = Rotation(stall.store, service._sealed, Bounds(1, 2), is_forgetting)
    stall.clock.advance(1)
    service.recommend(RecommendRequest("last", {"customer": "ada"}))
    while rotation.rotate():
        pass
    with stall.store.read() as txn:
        assert txn.count(PREDICTIONS) < 4
        (*_, totals) = audit_all(txn, service.definition, 1.0, sealed=service._sealed)
    assert totals.compared == 30
    assert totals.different == 0
    for one in given:
        again, repeated = service.recommend(RecommendRequest(one.request_id, {"customer": "ada"}))
        assert repeated
        assert again.slate() == one.slate()
    service.close()


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def killed_at(n: int) -> Iterator[None]:
    """Die at the n-th step that the disk or the store would notice."""
    patch = pytest.MonkeyPatch()
    steps = count()

    def dies(owner: Any, name: str) -> None:
        inner = getattr(owner, name)

        def step(*args: Any, **more: Any) -> Any:
            if next(steps) == n:
                raise Killed
            # What is durable is not seen by a process that lives on, and costs a test of many steps a minute.
            return None if name == "fsync" else inner(*args, **more)

        patch.setattr(owner, name, step)

    for owner, name in (
        (os, "fsync"),
        (Path, "rename"),
        (Path, "unlink"),
        (Path, "chmod"),
        (MemoryStore, "write"),
    ):
        dies(owner, name)
    try:
        yield
    finally:
        patch.undo()


def test_killed_at_any_step_each_answer_is_in_one_place(tmp_path: Path) -> None:
    """Files are made, then written anew without somebody; before each step of either the process dies once."""

    made = [answer(m, START_US + m, "bob" if m % 2 else "ada") for m in range(5)]
    stay = same([one for one in made if one.keys["customer"] == "bob"])
    for n in count():
        home = tmp_path / str(n)
        home.mkdir()
        log = Log(MemoryStore(), home / PREDICTIONS_FOLDER, SYSTEM)
        with log.store.write() as txn:
            for one in made:
                write_prediction(txn, one)
        try:
            with killed_at(n):
                log.rotate(1, 2)
                log.forget("customer", "ada")
            over = True
        except Killed:
            over = False
        again = Log(log.store, home / PREDICTIONS_FOLDER, SYSTEM)
        with again.store.read() as txn:
            found = list(read_predictions(txn, sealed=again.sealed))
            for one in made:
                known = find_prediction(txn, one.request_id, again.sealed)
                assert (known is not None) == (one.request_id in {p.request_id for p in found})
            ordered = orders(txn)
        assert same([one for one in found if one.keys["customer"] == "bob"]) == stay, n
        assert over or ordered or same(found) == same(made), f"lost at step {n}"
        again.rotate(1, 2)
        again.forget("customer", "ada")
        with again.store.read() as txn:
            assert same(list(read_predictions(txn, sealed=again.sealed))) == stay, n
            named = {file.name for file in sealed_files(txn)}
        assert {path.name for path in (home / PREDICTIONS_FOLDER).iterdir()} == named
        if over:
            assert n > 10
            return


MOVER = """
import sys
from pathlib import Path
from sevenfold.serving.mover import Orders, move

home = Path(sys.argv[1])
print("ready", flush=True)
move(Orders(f"lmdb:{home / 'store'}", str(home / "predictions"), 0, 3), linger_s=0.5)
print("over", flush=True)
"""


def test_no_kill_9_loses_or_doubles_an_answer(tmp_path: Path, root: Path) -> None:
    folder = tmp_path / PREDICTIONS_FOLDER
    log = Log(open_store(f"lmdb:{tmp_path / 'store'}"), folder, SYSTEM)
    for n in range(400):
        log.write(answer(n, START_US + n))
    names = [answer(n, 0).request_id for n in range(400)]
    wanted = same(log.told(names, [(0, None)]))
    log.store.close()
    moments = np.random.default_rng(5).uniform(0.01, 0.6, 3)
    for moment in moments:
        mover = subprocess.Popen(
            [sys.executable, "-c", MOVER, str(tmp_path)],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(root / "src")},
        )
        assert mover.stdout is not None
        try:
            assert mover.stdout.readline() == b"ready\n"
            time.sleep(float(moment))
        finally:
            mover.send_signal(signal.SIGKILL)
            mover.wait(60)
            mover.stdout.close()
        again = Log(open_store(f"lmdb:{tmp_path / 'store'}"), folder, SYSTEM)
        assert same(again.told(names, [(0, None)])) == wanted
        again.store.close()
