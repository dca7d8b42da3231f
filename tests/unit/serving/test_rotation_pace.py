"""When answers are moved to files: not one file right after another, unless far too many are there."""

from pathlib import Path

import pytest

from sevenfold.serving import mover
from sevenfold.serving.prediction_log import keep_feature_list, sealed_files, write_prediction
from sevenfold.serving.rotation import Bounds, Rotation
from sevenfold.serving.sealed_answers import SealedAnswers
from sevenfold.stores.kv import Store
from sevenfold.stores.log import raise_frontier
from sevenfold.stores.memory import MemoryStore
from tests.unit.serving.test_rotation import FEATURES, START_US, answer


def filled(n: int) -> Store:
    """A store with so many answers, all of which may be moved."""
    store = MemoryStore()
    with store.write() as txn:
        keep_feature_list(txn, FEATURES)
        for at in range(n):
            write_prediction(txn, answer(at, START_US + at))
        raise_frontier(txn, START_US + n)
    return store


def rotation_of(store: Store, folder: Path, bounds: Bounds) -> Rotation:
    return Rotation(store, SealedAnswers(folder), bounds, mover.is_forgetting)


@pytest.mark.parametrize(("n", "is_far_behind"), [(49, False), (50, True)])
def test_the_rest_after_a_file_is_twice_what_it_took(
    tmp_path: Path, n: int, is_far_behind: bool
) -> None:
    """A second at most; none where ten times as many are there as are to be."""
    rotation = rotation_of(filled(n), tmp_path, Bounds(5, 1))
    assert rotation.is_far_behind() == is_far_behind
    rests = [rotation.rest_s(took_s) for took_s in (0.1, 0.3, 0.6)]
    assert rests == ([0.0] * 3 if is_far_behind else [0.2, 0.6, 1.0])


def test_what_has_piled_up_is_moved_with_a_rest_after_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, slept = filled(53), []
    monkeypatch.setattr(mover.time, "sleep", slept.append)
    mover._rotate(rotation_of(store, tmp_path, Bounds(5, 2)), linger_s=0.5)
    with store.read() as txn:
        assert [file.rows for file in sealed_files(txn)] == [2] * 24
    *rests, first, last = slept
    assert (first, last) == (mover._LOOK_S, mover._LOOK_S), "it looks for more, and ends"
    assert len(rests) == 24
    assert rests[0] == 0.0, "more than fifty were left"
    assert all(rest > 0 for rest in rests[1:])


@pytest.mark.parametrize("n", [0, 4, 6])
def test_nothing_moves_when_nothing_is_due(tmp_path: Path, n: int) -> None:
    store = filled(n)
    rotation = rotation_of(store, tmp_path / "predictions", Bounds(5, 2))
    assert not rotation.is_due()
    assert not rotation.rotate()
    assert not (tmp_path / "predictions").exists()
    with store.read() as txn:
        assert sealed_files(txn) == []
