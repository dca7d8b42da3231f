"""Old answers are moved by a process beside the server, which may be ended at any moment and does not outlive it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sevenfold.errors import StoreError
from sevenfold.serving import mover, moving
from sevenfold.serving.forgetting import Order, _put
from sevenfold.serving.mover import Orders
from sevenfold.serving.moving import Moving
from sevenfold.serving.prediction_log import (
    SealedFile,
    count_predictions,
    keep_feature_list,
    read_predictions,
    sealed_files,
    write_prediction,
)
from sevenfold.serving.rotation import Bounds, Rotation
from sevenfold.serving.sealed_answers import NotAloneError, SealedAnswers
from sevenfold.stores.companion import Companion
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
        self.moving = self.of(Bounds(HEAD, ROWS))

    def of(self, bounds: Bounds) -> Moving:
        """The job of a server that is started here."""
        sealed = SealedAnswers(self.folder)
        moving = Moving(self.store, self.url, sealed, bounds, lambda: self.held)
        moving.pressed = lambda: self.pressed
        return moving

    def leave(self, name: str = "2023-11-14-half-done.parquet") -> Path:
        """What a process that was killed has left."""
        self.folder.mkdir(exist_ok=True)
        path = self.folder / name
        path.write_text("half a file")
        return path

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

    def check(self) -> None:
        """Each answer is there once, in its order, and nothing lies about that nobody names."""
        with self.store.read() as txn:
            sealed = SealedAnswers(self.folder)
            names = [found.request_id for found in read_predictions(txn, sealed=sealed)]
            named = {file.name for file in sealed_files(txn)}
        assert names == [answer(at, 0).request_id for at in range(N)]
        assert {path.name for path in self.folder.iterdir()} == named


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
    place.check()
    assert not place.moving._rotation.is_due()


class Noted(Rotation):
    """Notes how the thread is scheduled that makes a file, and that which writes the store."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.made: list[int] = []
        self.settled: list[int] = []

    def make(self) -> tuple[SealedFile, list[bytes]] | None:
        """Note it."""
        self.made.append(os.sched_getscheduler(0))
        return super().make()

    def settle(self, file: SealedFile, read_back: list[bytes]) -> bool:
        """Note it."""
        self.settled.append(os.sched_getscheduler(0))
        return super().settle(file, read_back)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no such class")
@pytest.mark.parametrize(("head", "made"), [(HEAD, "SCHED_IDLE"), (1, "SCHED_OTHER")])
def test_files_are_made_at_leisure_unless_it_is_late_and_the_store_is_not_written_so(
    place: Place, head: int, made: str
) -> None:
    place.folder.mkdir()
    noted = Noted(place.store, SealedAnswers(place.folder), Bounds(head, ROWS), lambda _: False)
    mover._rotate(noted, 0.1)
    assert set(noted.made) == {getattr(os, made)}
    assert noted.settled == [os.SCHED_OTHER] * 3
    place.check()


def test_nothing_moves_when_nothing_is_due(place: Place) -> None:
    for bounds in (Bounds(N, ROWS), Bounds(N - ROWS + 1, ROWS)):
        place.moving = place.of(bounds)
        assert not place.step()
        assert place.moving.pid == 0
    assert not place.folder.exists()
    place.moving = place.of(Bounds(N - ROWS, ROWS))
    assert place.step()


def test_nothing_moves_while_it_is_held_or_the_server_pressed(place: Place) -> None:
    place.moving = place.of(Bounds(20, 10))  # else ten times as many would be there
    place.held = True
    assert not place.step()
    place.held, place.pressed = False, True
    assert not place.step()
    assert place.moving.pid == 0
    place.pressed = False
    assert not place.step(), "it may be pressed again in a moment"
    place.moving._pressed_s -= 10
    assert place.step()
    place.held = True
    place.step()
    assert place.moving.pid == 0, "and the process is ended"


def test_a_server_that_comes_under_pressure_ends_it(place: Place) -> None:
    place.moving = place.of(Bounds(20, 10))
    assert place.step()
    place.pressed = True
    assert not place.step()
    assert place.moving.pid == 0
    place.pressed = False
    assert not place.step(), "it may be pressed again in a moment"
    place.moving._pressed_s -= 10
    place.until(lambda: place.in_files() == 20)
    place.check()


def test_under_pressure_what_is_ten_times_too_much_is_moved_until_it_is_less(place: Place) -> None:
    place.moving = place.of(Bounds(4, 3))  # forty are there
    place.pressed = True
    assert place.step()
    place.until(lambda: place.in_files() > 0)
    place.until(lambda: place.moving.pid == 0)
    assert not place.step()
    assert place.moving.pid == 0
    place.pressed = False
    place.moving._pressed_s -= 10
    place.until(lambda: place.in_files() == 36)
    place.check()


def test_an_order_to_forget_holds_it_whatever_the_server_says(place: Place) -> None:
    with place.store.write() as txn:
        _put(txn, Order("customer", "ada"))
    assert not place.step()
    place.moving._start()  # one that was started just before
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
    place.check()


def test_what_was_left_half_done_is_swept_away_unless_somebody_is_forgotten(place: Place) -> None:
    left = place.leave()
    other = place.leave("notes.txt")
    place.held = True
    place.step()
    assert left.exists(), "who forgets writes files too"
    place.held, place.pressed = False, True
    place.moving._rotation._bounds = Bounds(20, 10)
    assert not place.step()
    assert not left.exists()
    assert other.exists()


def test_a_process_that_failed_is_told_of_and_begun_again_later(
    place: Place, tmp_path: Path
) -> None:
    (tmp_path / "predictions").write_text("no folder")
    place.step()
    until_s = time.monotonic() + WAIT_S
    while place.moving._mover.code is None:
        assert time.monotonic() < until_s
        time.sleep(0.02)
    with pytest.raises(StoreError, match="ended with 1"):
        place.step()
    place.moving.failed(StoreError(""))
    assert not place.moving.step()
    (tmp_path / "predictions").unlink()
    place.until(lambda: place.in_files() == 30)


def test_while_another_process_makes_files_none_is_begun_and_none_swept_away(place: Place) -> None:
    left = place.leave()
    with SealedAnswers(place.folder).alone():
        assert not place.step()
        assert place.moving.pid == 0
        assert left.exists()
        place.moving._left_s = -1e9
        with pytest.raises(NotAloneError, match=r"\.predictions\.lock"):
            place.step()
        with pytest.raises(NotAloneError), SealedAnswers(place.folder).alone(0.2):
            pass
    place.until(lambda: place.in_files() == 30)
    assert not left.exists()
    place.check()


def test_a_process_does_nothing_beside_another_process_and_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mover, "_ALONE_S", 0.1)
    given = Orders(f"lmdb:{tmp_path / 'store'}", str(tmp_path / "predictions"), HEAD, ROWS)
    with (
        SealedAnswers(tmp_path / "predictions").alone(),
        pytest.raises(NotAloneError, match="predictions"),
    ):
        mover.move(given, 0.1)
    mover.move(given, 0.1)


def test_one_of_a_killed_server_that_has_not_ended_loses_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands still when the next server starts, with a file made or not, and goes on beside that."""
    monkeypatch.setattr(moving, "_ALONE_S", WAIT_S)  # however slow the machine is
    orphan = place.of(Bounds(HEAD, ROWS))
    orphan._next_s = 0.0
    assert orphan.step()
    until_s = time.monotonic() + WAIT_S
    while not (place.folder.exists() and any(place.folder.glob("*.parquet*"))):
        assert time.monotonic() < until_s
    os.kill(orphan.pid, signal.SIGSTOP)
    try:
        left = place.leave()
        for _ in range(3):
            assert not place.step()
        assert place.moving.pid == 0
        assert left.exists()
    finally:
        os.kill(orphan.pid, signal.SIGCONT)
    while place.in_files() < 30:
        assert time.monotonic() < until_s
        assert not place.step()
        time.sleep(0.02)
    orphan.close()
    place.step()
    place.check()


def test_two_processes_move_one_after_the_other(place: Place) -> None:
    source = "import sys; from sevenfold.serving.mover import Orders, move; move(Orders(*sys.argv[1:3], 5, 10), 0.5)"
    command = [sys.executable, "-c", source, place.url, str(place.folder)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    try:
        assert [process.wait(WAIT_S) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert place.in_files() == 30
    place.check()


def test_it_does_not_outlive_the_server(place: Place) -> None:
    companion = Companion("sevenfold.serving.mover")
    companion.start(Orders(place.url, str(place.folder), HEAD, ROWS))
    try:
        until_s = time.monotonic() + WAIT_S
        while place.in_files() < 30:
            assert time.monotonic() < until_s
            time.sleep(0.02)
        assert companion.code is None, "it looks for more"
        process = companion._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(WAIT_S) == 0
    finally:
        companion.close()
    with SealedAnswers(place.folder).alone():
        place.check()
