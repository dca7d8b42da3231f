"""When answers are moved to files: not while the server is pressed, and not one file right after another."""

import time
from pathlib import Path

import pytest

from sevenfold.serving.prediction_log import keep_feature_list, sealed_files, write_prediction
from sevenfold.serving.rotation import Bounds, Rotation
from sevenfold.serving.sealed_answers import SealedAnswers
from sevenfold.stores.log import raise_frontier
from sevenfold.stores.memory import MemoryStore
from tests.unit.serving.test_rotation import FEATURES, START_US, answer


def test_under_pressure_it_rests_until_ten_times_as_many_are_there(tmp_path: Path) -> None:
    store = MemoryStore()
    rotation = Rotation(store, SealedAnswers(tmp_path), Bounds(3, 1))
    rotation.pressed = lambda: True

    def looked(n: int) -> bool:
        with store.write() as txn:
            keep_feature_list(txn, FEATURES)
            for at in range(n):
                write_prediction(txn, answer(at, START_US + at))
        rotation._next_s = 0.0
        return rotation.step()

    try:
        assert not looked(29)
        assert looked(30)
    finally:
        rotation.close()


@pytest.mark.parametrize(("n", "rests"), [(25, True), (60, False)])
def test_what_has_piled_up_is_moved_with_a_rest_after_each_file(
    tmp_path: Path, n: int, rests: bool
) -> None:
    """Unless ten times as many are there as are to be: then they are moved as fast as they can be."""
    store = MemoryStore()
    rotation = Rotation(store, SealedAnswers(tmp_path), Bounds(5, 1))
    with store.write() as txn:
        keep_feature_list(txn, FEATURES)
        for at in range(n):
            write_prediction(txn, answer(at, START_US + at))
        raise_frontier(txn, START_US + n)
    deadline = time.monotonic() + 60
    try:
        assert rotation.step()
        while rotation._made is not None:
            rotation.step()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        with store.read() as txn:
            assert [file.rows for file in sealed_files(txn)] == [1]
        assert (rotation._next_s > rotation._begun_s) == rests
        rotation._next_s = 0.0 if rests else rotation._next_s
        assert rotation.step()
        assert rotation._made is not None, "the next is begun"
    finally:
        rotation.close()
