"""The machine's clock jumps, ahead and back: instants never go back, and every vector stays that of the offline engine."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sevenfold as sf
from sevenfold.engines.offline import read_at
from sevenfold.features.frame import Spine
from sevenfold.registry.registry import Registry
from sevenfold.serving.prediction_log import feature_names, read_predictions
from sevenfold.serving.request import RecommendRequest
from sevenfold.serving.service import Service
from sevenfold.stores.log import blocks, read_stream
from sevenfold.stores.open import open_store
from sevenfold.types import Texts

START_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000


class Jumping:
    """A clock that is set at will."""

    def __init__(self) -> None:
        self.us = START_US

    def now_us(self) -> int:
        """What it shows."""
        return self.us


STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "sell", "jump"]), st.integers(-72, 72)),
    min_size=4,
    max_size=14,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_no_jump_of_the_clock_turns_time_back(
    tmp_path_factory: Any,
    anew: Callable[[], sf.System],
    sale: Callable[..., dict[str, Any]],
    steps: list[tuple[str, int]],
) -> None:
    clock, store = Jumping(), open_store("memory:")
    folder: Path = tmp_path_factory.mktemp("registry")
    service = Service(anew(), store, Registry(folder), clock)
    service.accept("sales", [sale("first", "a"), sale("second", "b")], None)
    for n, (what, by) in enumerate([*steps, ("ask", 0)]):
        if what == "jump":
            clock.us = max(HOUR_US, clock.us + by * HOUR_US)
        elif what == "sell":
            service.accept("sales", [sale(f"s{n}", "abc"[by % 3], clock.us)], None)
        else:
            service.recommend(RecommendRequest(f"r{n}", {"customer": "ada"}))
    with store.read() as txn:
        known = [us for _, batch in blocks(txn) for us in batch.known_us.tolist()]
        answers = list(read_predictions(txn))
        events = read_stream(txn, "sales")
        assert events is not None
        names = feature_names(txn, answers[0].features)
    assert known == sorted(known)
    in_order = sorted(answers, key=lambda answer: int(answer.request_id[1:]))
    assert all(one.t_us <= other.t_us for one, other in pairwise(in_order))
    rows = [(p.t_us, p.keys["customer"], p.items[r]) for p in answers for r in p.logged_rows()]
    keys = {
        "customer": Texts.of([row[1] for row in rows]),
        "item": Texts.of([row[2] for row in rows]),
    }
    spine = Spine(np.array([row[0] for row in rows], dtype=np.int64), keys)
    again = read_at(service.plan, names, spine, {"sales": events}).vectors()
    logged = np.concatenate([p.logged_vectors() for p in answers])
    np.testing.assert_array_equal(again.view(np.uint32), logged.view(np.uint32))
    service.close()
