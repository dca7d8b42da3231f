"""The figures of the soak: whole on a whole log, and each one says so when what it is about is not."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks import ranking, soak
from benchmarks.ranking_system import system
from sevenfold.clock import SystemClock
from sevenfold.models.protocol import Model
from sevenfold.registry.registry import Registry
from sevenfold.serving.prediction_log import find_prediction, read_predictions, write_prediction
from sevenfold.serving.request import RankRequest
from sevenfold.serving.rungs import Allowance
from sevenfold.serving.service import Service
from sevenfold.stores.kv import Store
from sevenfold.stores.open import open_store
from sevenfold.stores.tables import PREDICTIONS, REQUESTS

Soaked = tuple[Store, soak.Kept, Model]


@pytest.fixture
def soaked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Soaked]:
    """Eight answers with an outcome each, as a soak leaves them."""
    monkeypatch.setattr(ranking, "TREES", 20)
    asked = ranking.prepare(tmp_path, 0.01).rank_bodies(30)
    store = open_store(f"lmdb:{tmp_path / 'store'}")
    registry = Registry(tmp_path / "registry")
    # A replay has no deadline: nothing here is about how fast the machine is.
    service = Service(system, store, registry, SystemClock(), replay=True)
    kept = soak.Kept()
    for n, body in enumerate(asked[:8]):
        request = msgspec.structs.replace(
            msgspec.json.decode(body, type=RankRequest), request_id=f"r{n}"
        )
        answer, _ = service.rank(request, Allowance())
        kept.answered.add(f"r{n}")
        shown = zip(answer.slate(), answer.shown_scores().tolist(), strict=True)
        kept.whole[f"r{n}"] = list(shown)
        row = {"line": f"o{n}", "at": str(np.datetime64(SystemClock().now_us(), "us"))}
        row |= {"customer": request.keys["customer"], "item": request.items[0]}
        service.accept("sales", [row | {"price": 1.0, "basket": f"r{n}"}], answer.t_us + 1)
        kept.outcomes[f"o{n}"] = (f"r{n}", request.items[0])
    version = registry.alias("champion")
    assert version is not None
    yield store, kept, registry.load(version)
    service.close()
    store.close()


def figures(soaked: Soaked) -> dict[str, float]:
    store, kept, model = soaked
    with store.read() as txn:
        return soak.check(txn, kept, model)


def test_a_soak_is_whole_and_says_what_is_not(soaked: Soaked) -> None:
    store, kept, _ = soaked
    found = figures(soaked)
    assert (found["answers"], found["lost_rows"], found["doubled_rows"]) == (8, 0, 0)
    assert (found["join_completeness"], found["outcomes"]) == (1, 8)
    assert (found["vector_equality"], found["score_equality"]) == (1, 1)
    assert found["vectors_compared"] == 8 * 22  # two of each were not shown
    assert found["scores_compared"] == 2 * 8 * 20
    kept.answered.add("never")
    assert figures(soaked)["lost_rows"] == 1
    item, score = kept.whole["r3"][0]
    kept.whole["r3"][0] = (item, float(np.nextafter(score, np.inf)))
    assert figures(soaked)["score_equality"] == 1 - 1 / 320
    kept.outcomes["o9"] = ("r1", "item-1")
    assert figures(soaked)["join_completeness"] == 8 / 9
    with store.read() as txn:
        answer = find_prediction(txn, "r5")
    assert answer is not None
    vectors = answer.logged_vectors().copy()
    vectors[0, 0] += 1
    answer.vectors = vectors.tobytes()
    with store.write() as txn:
        write_prediction(txn, answer)
    assert figures(soaked)["vector_equality"] < 1
    answer.logged = answer.logged[4:]
    answer.vectors = vectors[1:].tobytes()
    with store.write() as txn:
        write_prediction(txn, answer)
    assert figures(soaked)["lost_rows"] == 2
    with store.write() as txn:
        (key,) = [
            key
            for key, _ in txn.scan(PREDICTIONS)
            if txn.get(REQUESTS, key[8:]) == key and key[:8] == answer.t_us.to_bytes(8, "big")
        ]
        txn.delete(PREDICTIONS, key)
        txn.delete(REQUESTS, key[8:])
    with store.read() as txn:
        assert len(list(read_predictions(txn))) == 7
    found = figures(soaked)
    assert (found["answers"], found["lost_rows"]) == (7, 2)
    assert found["join_completeness"] == 7 / 9


def test_some_answers_are_scored_again_and_all_that_were_kept(
    soaked: Soaked, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, kept, _ = soaked
    monkeypatch.setattr(soak, "_SCORED", 4)
    assert figures(soaked)["scores_compared"] == 2 * 8 * 20
    whole = {"r3": kept.whole["r3"]}
    kept.whole.clear()
    some = figures(soaked)["scores_compared"]
    assert some % 20 == 0
    assert 20 <= some <= 7 * 20
    kept.whole |= whole
    assert figures(soaked)["scores_compared"] in (some + 20, some + 40)


def test_memory_grows_by_what_is_more_after_it_was_warm() -> None:
    assert soak.growth_mb([50, 100, 100, 100, 100, 100, 100, 103]) == 1.5
    assert soak.growth_mb([10, 90]) == 0
