"""A sum of whole numbers is exact or an error, in both engines and by definition."""

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.engines.offline import read_at
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import InputError
from sevenfold.features.frame import Spine
from sevenfold.features.plan import compile_plan
from sevenfold.stores.memory import MemoryStore
from sevenfold.testing import oracle
from sevenfold.types import EventBatch, Texts

MOST = float(1 << 53)
user = sf.Entity("user")
stream = sf.Stream(
    "s", time="at", keys=[user], fields={"whole": sf.Integer(), "number": sf.Number()}
)
VIEWS = [sf.aggregate(user, stream, sf.count(), sf.sum("number"), sf.sum("whole", windows=["1 h"]))]


def sums(xs: list[float]) -> list[list[float]]:
    """The features by the offline engine, the online engine and the oracle."""
    plan, n = compile_plan(VIEWS), len(xs)
    at = np.arange(1, n + 1)
    ids, users = Texts.of([f"e{i}" for i in range(n)]), Texts.of(["u"] * n)
    fields = {"whole": np.array(xs), "number": np.array(xs)}
    batch = EventBatch("s", at, at, ids, {"user": users}, fields)
    spine = Spine(np.array([n + 1]), {"user": Texts.of(["u"])})
    store, engine = MemoryStore(), OnlineEngine(plan)
    with store.write() as txn:
        engine.apply(txn, batch)
    events = {"s": oracle.events_of(batch)}
    ways = (
        lambda: read_at(plan, plan.names, spine, {"s": batch}).values[0].tolist(),
        lambda: engine.read(txn, plan.names, spine).values[0].tolist(),
        lambda: [
            v.value
            for v in oracle.read_at(VIEWS, oracle.OracleRow(n + 1, {"user": "u"}), events).values()
        ],
    )
    found = []
    with store.read() as txn:
        for way in ways:
            try:
                found.append(way())
            except (InputError, OverflowError) as error:
                found.append(str(error))
    return found


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_sum_of_whole_numbers_is_exact_up_to_the_last(sign: float) -> None:
    assert sums([sign * MOST, -sign, sign]) == [[3.0, sign * MOST, sign * MOST]] * 3


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_beyond_that_it_is_an_error_everywhere(sign: float) -> None:
    offline, online, defined = sums([sign * MOST, sign, sign])
    assert offline == online
    assert "$.user__sum_whole_1h: the sum of row 0 is beyond 2^53" in offline
    assert "exact whole number" in defined
