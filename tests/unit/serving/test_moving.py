"""Old answers are moved by a process beside the server, which may be ended at any moment and never outlives it."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from sevenfold.errors import StoreError
from sevenfold.serving.forgetting import Order, _put
from sevenfold.serving.mover import Orders
from sevenfold.serving.moving import Moving
from sevenfold.serving.prediction_log import (
    count_predictions,
    keep_feature_list,
    read_predictions,
    sealed_files,
    write_prediction,
)
from sevenfold.serving.rotation import Bounds
from sevenfold.serving.sealed_answers import SealedAnswers
from sevenfold.stores.log import raise_frontier
from sevenfold.stores.open import open_store
from sevenfold.stores.tables import PREDICTIONS
from tests.unit.serving.test_rotation import FEATURES, START_US, answer

N, HEAD, ROWS = 40, 5, 10
WAIT_S = 120.0


class Place:
    """A store with answers, and the job."""

    def __init__(self, folder: Path) -> None:
        self.url = f"lmdb:{folder / 'store'}"
        self.folder = folder / "predictions"
        self.store = open_store(self.url)
        self.held = self.pressed = False
        with self.store.write() as txn:
            keep_feature_list(txn, FEATURES)
            for at in range(N):
                write_prediction(txn, answer(at, START_US + at))
            raise_frontier(txn, START_US + N)
        bounds = Bounds(HEAD, ROWS)
        sealed = SealedAnswers(self.folder)
        self.moving = Moving(self.store, self.url, sealed, bounds, lambda: self.held)
        self.moving.pressed = lambda: self.pressed

    def step(self) -> bool:
        self.moving._next_s = 0.0
        return self.moving.step()

    def until(self, what: Callable[[], bool]) -> None:
        until_s = time.monotonic() + WAIT_S
        while not what():
            assert time.monotonic() < until_s, "it takes for ever"
            self.step()
            time.sleep(0.02)

    def in_files(self) -> int:
        with self.store.read() as txn:
            assert count_predictions(txn) == N
            return sum(file.rows for file in sealed_files(txn))


@pytest.fixture
def place(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("PYTHONPATH", str(root / "src"))
    found = Place(tmp_path)
    yield found
    found.moving.close()
    found.store.close()


def test_what_is_over_the_head_is_moved_and_nothing_lost(place: Place) -> None:
    assert place.step()
    assert place.moving.pid > 0
    place.until(lambda: place.in_files() == 30)
    with place.store.read() as txn:
        assert txn.count(PREDICTIONS) == N - 30
        sealed = SealedAnswers(place.folder)
        names = [found.request_id for found in read_predictions(txn, sealed=sealed)]
    assert names == [answer(at, 0).request_id for at in range(N)]
    assert not place.moving._rotation.is_due()


def test_nothing_moves_while_it_is_held_or_the_server_pressed(place: Place) -> None:
    place.held = True
    assert not place.step()
    place.held, place.pressed = False, True
    place.moving._rotation._bounds = Bounds(20, 10)  # else ten times as many would be there
    assert not place.step()
    assert place.moving.pid == 0
    place.pressed = False
    assert place.step()
    place.held = True
    place.step()
    assert place.moving.pid == 0, "and the process is ended"


def test_an_order_to_forget_holds_it_whatever_the_server_says(place: Place) -> None:
    with place.store.write() as txn:
        _put(txn, Order("customer", "ada"))
    place.step()
    begun_s = time.monotonic()
    while time.monotonic() - begun_s < 2:
        place.step()
        time.sleep(0.02)
    assert place.moving.pid > 0
    assert place.in_files() == 0


def test_killed_at_any_moment_it_goes_on(place: Place) -> None:
    for wait_s in (0.3, 0.6, 0.9):
        place.step()
        time.sleep(wait_s)
        place.moving.close()
        place.in_files()
    place.until(lambda: place.in_files() == 30)
    with place.store.read() as txn:
        named = {file.name for file in sealed_files(txn)}
    assert {path.name for path in place.folder.iterdir()} == named


def test_a_process_that_failed_is_told_of_and_begun_again_later(
    place: Place, tmp_path: Path
) -> None:
    (tmp_path / "predictions").write_text("no folder")
    place.step()
    until_s = time.monotonic() + WAIT_S
    while place.moving._process is not None and place.moving._process.poll() is None:
        assert time.monotonic() < until_s
        time.sleep(0.02)
    with pytest.raises(StoreError, match="ended with 1"):
        place.step()
    place.moving.failed(StoreError(""))
    assert not place.moving.step()
    (tmp_path / "predictions").unlink()
    place.until(lambda: place.in_files() == 30)


def test_it_does_not_outlive_the_server(place: Place) -> None:
    command = [sys.executable, "-m", "sevenfold.serving.mover"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        given = Orders(place.url, str(place.folder), HEAD, ROWS)
        process.stdin.write(msgspec.json.encode(given) + b"\n")
        process.stdin.flush()
        place.moving.pressed = lambda: True
        until_s = time.monotonic() + WAIT_S
        while place.in_files() < 30:
            assert time.monotonic() < until_s
            time.sleep(0.02)
        assert process.poll() is None, "it looks for more"
        process.stdin.close()
        assert process.wait(WAIT_S) == 0
