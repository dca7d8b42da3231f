"""The job that moves old answers out of the store into sealed files, and what takes answers out of those again.

Making a file takes a tenth of a second or two, and reading it back some more; then it is named in the store and its answers deleted there, in one
transaction, if they are still what was read back. A server has a process do all of it (`mover`); `step` does it in one, the making on a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from msgspec.structs import replace

from sevenfold.clock import elapsed_s
from sevenfold.errors import StoreError
from sevenfold.serving.prediction_log import (
    Prediction,
    SealedFile,
    decode_prediction,
    feature_names,
    name_file,
    sealed_files,
    unname_file,
)
from sevenfold.serving.sealed_answers import SealedAnswers, day_of
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.log import frontier_us
from sevenfold.stores.tables import PREDICTIONS, REQUESTS, SHADOWS

__all__ = ["LOG_HEAD", "Bounds", "Rotation", "drop_before", "replacement", "take_place"]

LOG_HEAD = 20_000
"""Answers that stay in the store, unless another number is asked for."""

_LOOK_S = 1.0
_MOST_HEADS = 10
_REST = 2.0  # after a file, of what it took: where files follow one another they have a third of the time


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much stays in the store, and how much a file has at most: answers, and bytes as they are kept."""

    head: int = LOG_HEAD
    rows: int = 1_024
    bytes: int = 8 << 20


class Rotation:
    """Keeps about `bounds.head` answers in the store; `hold` says when nothing is to be moved, and so does the store itself by `held`.

    While the server is `pressed` it rests, until ten times as many are there: a file is made on a thread of its own, but in Python, and
    the event loop would wait for the interpreter's lock at every request that it refuses. What has piled up is moved with a rest after each file: one after another, right when
    the server has just become able to answer all in full again, they would take that from it.
    """

    name = "rotation"

    def __init__(
        self,
        store: Store,
        sealed: SealedAnswers,
        bounds: Bounds | None = None,
        hold: Callable[[], bool] = lambda: False,
        held: Callable[[Transaction], bool] = lambda _: False,
    ) -> None:
        self._store, self._sealed, self._hold, self._held = store, sealed, hold, held
        self._bounds = bounds or Bounds()
        self._thread: ThreadPoolExecutor | None = None
        self._made: Future[SealedFile | None] | None = None
        self._next_s = self._begun_s = 0.0
        self._read_back: tuple[str, list[bytes]] = ("", [])
        self.pressed: Callable[[], bool] = lambda: False
        with store.read() as txn:
            sealed.sweep({file.name for file in sealed_files(txn)})

    def step(self) -> bool:
        """Begin a file, or put one that is made in its place; whether anything was done."""
        if self._made is not None:
            if not self._made.done():
                return False
            made, self._made = self._made, None
            file = made.result()
            moved = file is not None and self._settle(file)
            now_s = elapsed_s()
            if rest_s := self.rest_s(now_s - self._begun_s):
                self._next_s = now_s + rest_s
            return moved
        if elapsed_s() < self._next_s:
            return False
        if self._hold() or self._rests() or not self.is_due():
            self._next_s = elapsed_s() + _LOOK_S
            return False
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "rotation")
        self._begun_s = elapsed_s()
        self._made = self._thread.submit(self.make)
        return True

    def rotate(self) -> bool:
        """The same at once, on this thread; whether a file was made."""
        file = self.make() if self.is_due() and not self._hold() else None
        return file is not None and self._settle(file)

    def failed(self, error: Exception) -> None:
        """Nothing is lost: what the store does not name is swept away."""
        self._made = None
        with self._store.read() as txn:
            self._sealed.sweep({file.name for file in sealed_files(txn)})

    def close(self) -> None:
        """Wait for the thread; what it has made is made again."""
        if self._thread is not None:
            self._thread.shutdown()

    def rest_s(self, took_s: float) -> float:
        """How long nothing is to be moved after a file that took so long, in seconds."""
        return 0.0 if self.is_far_behind() else min(_LOOK_S, _REST * took_s)

    def make(self) -> SealedFile | None:
        """The file of the oldest answers of the store, which does not name it yet, read back; None when there are none."""
        with self._store.read() as txn:
            taken = self._taken(txn)
            lists = {answer.features for _, answer in taken}
            names = {name: feature_names(txn, name) for name in lists if name}
        if not taken:
            return None
        file = self._sealed.write(taken, names)
        self._read_back = file.name, self._sealed.keys(file)
        return file

    def _rests(self) -> bool:
        return self.pressed() and not self.is_far_behind()

    def is_far_behind(self) -> bool:
        """Whether ten times as many answers are in the store as are to stay."""
        with self._store.read() as txn:
            return txn.count(PREDICTIONS) >= _MOST_HEADS * self._bounds.head

    def is_due(self) -> bool:
        """Whether there are enough answers for a file beyond those that stay."""
        with self._store.read() as txn:
            if txn.count(PREDICTIONS) < self._bounds.head + self._bounds.rows:
                return False
            return next(txn.scan(PREDICTIONS, _behind(txn), _frontier(txn)), None) is not None

    def _taken(self, txn: Transaction) -> list[tuple[bytes, Prediction]]:
        bounds = self._bounds
        most = min(bounds.rows, txn.count(PREDICTIONS) - bounds.head)
        taken: list[tuple[bytes, Prediction]] = []
        size, day = 0, ""
        # Files do not overlap: an answer that came late, before the last of them, stays where it is.
        for key, raw in islice(txn.scan(PREDICTIONS, _behind(txn), _frontier(txn)), max(0, most)):
            answer = decode_prediction(raw, key.hex())
            size, day = size + len(raw), day or day_of(answer.t_us)
            if taken and (size > bounds.bytes or day_of(answer.t_us) != day):
                break
            taken.append((key, answer))
        return taken

    def _settle(self, file: SealedFile) -> bool:
        """Name the file and delete its answers from the store, unless they are not what they were."""
        if self._hold() or not self._sealed.is_there(file):
            self._sealed.remove(file.name)
            return False
        with self._store.write() as txn:
            keys = [key for key, _ in txn.scan(PREDICTIONS, file.first, file.last + b"\0")]
            name, read_back = self._read_back
            same = name == file.name and keys == read_back
            if same and _behind(txn) <= file.first and not self._held(txn):
                name_file(txn, file)
                for key in keys:
                    txn.delete(PREDICTIONS, key)
                return True
        self._sealed.remove(file.name)
        return False


def replacement(
    sealed: SealedAnswers,
    file: SealedFile,
    stays: Callable[[Prediction], bool],
    names: Callable[[str], tuple[str, ...]],
) -> tuple[SealedFile | None, list[bytes]]:
    """A file of the answers that stay, None when none does, and the keys of those that do not.

    Where all stay it is the file itself. What counts as deleted already is in neither.
    """
    answers = list(sealed.read(file, file.kept))
    left = [(key, answer) for key, answer in answers if stays(answer)]
    gone = [key for key, answer in answers if not stays(answer)]
    if not gone:
        return file, []
    lists = {answer.features for _, answer in left if answer.features}
    return (sealed.write(left, {name: names(name) for name in lists}) if left else None), gone


def take_place(
    txn: Transaction, file: SealedFile, other: SealedFile | None, gone: list[bytes]
) -> None:
    """Have the store name `other` in the place of a file, and forget the requests of what is gone.

    The file itself is to be removed once that is committed.
    """
    unname_file(txn, file)
    if other is not None:
        name_file(txn, other)
    for key in gone:
        txn.delete(SHADOWS, key)
        txn.delete(REQUESTS, key[8:])


def drop_before(store: Store, sealed: SealedAnswers | None, stop: bytes) -> int | None:
    """How many answers with a key before `stop` were taken out of the first file that begins there; None without one.

    They count as deleted at once; the file goes with the last of its answers, which are of one day.
    """
    with store.read() as txn:
        file = next((f for f in sealed_files(txn) if max(f.kept, f.first) < stop), None)
    if file is None:
        return None
    if sealed is None:
        raise StoreError("the answers to be deleted are in files: give their folder")
    gone = [key for key, _ in sealed.read(file, file.kept, stop)]
    is_over = file.last < stop
    left = None if is_over else replace(file, kept=stop, gone=file.gone + len(gone))
    with store.write() as txn:
        take_place(txn, file, left, gone)
    if is_over:
        sealed.remove(file.name)
    return len(gone)


def _frontier(txn: Transaction) -> bytes:
    """Before this, no answer comes any more from this process."""
    return max(0, frontier_us(txn)).to_bytes(8, "big")


def _behind(txn: Transaction) -> bytes:
    """After this key no file has an answer."""
    return max((file.last for file in sealed_files(txn)), default=b"") + b"\0"
