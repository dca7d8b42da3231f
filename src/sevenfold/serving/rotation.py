"""How old answers move out of the store into sealed files, and what takes answers out of those again.

Making a file takes a tenth of a second or two, and reading it back some more; then it is named in the store and its answers deleted there, in one
transaction, if they are still what was read back. A server has a process beside it do all of that (`mover`): in its own the interpreter, and the store's one
turn to write, would be taken when answers want them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from msgspec.structs import replace

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

__all__ = ["LOG_HEAD", "Bounds", "Made", "Rotation", "drop_before", "replacement", "take_place"]

Made: TypeAlias = tuple[SealedFile, list[bytes]]
"""A file of answers that the store does not name yet, and their keys as read back from it."""

LOG_HEAD = 20_000
"""Answers that stay in the store, unless another number is asked for."""

_LONGEST_S = 1.0
_MOST_HEADS = 10
_REST = 2.0  # after a file, of what it took: where files follow one another they have a third of the time


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much stays in the store, and how much a file has at most: answers, and bytes as they are kept."""

    head: int = LOG_HEAD
    rows: int = 1_024
    bytes: int = 8 << 20


class Rotation:
    """Keeps about `bounds.head` answers in the store, and all older ones in the files `sealed`.

    `hold` says of what is in the store when nothing is to be moved.
    """

    def __init__(
        self,
        store: Store,
        sealed: SealedAnswers,
        bounds: Bounds,
        hold: Callable[[Transaction], bool],
    ) -> None:
        self._store, self._sealed, self._bounds, self._hold = store, sealed, bounds, hold

    def rotate(self) -> bool:
        """Move the oldest answers into one file, if that is due; whether it was done."""
        made = self.make()
        return made is not None and self.settle(*made)

    def rest_s(self, took_s: float) -> float:
        """How long nothing is to be moved after a file that took so long, in seconds."""
        return 0.0 if self.is_far_behind() else min(_LONGEST_S, _REST * took_s)

    def is_far_behind(self) -> bool:
        """Whether ten times as many answers are in the store as are to stay."""
        with self._store.read() as txn:
            return txn.count(PREDICTIONS) >= _MOST_HEADS * self._bounds.head

    def is_due(self) -> bool:
        """Whether there are enough answers for a file beyond those that stay, and nothing holds them."""
        with self._store.read() as txn:
            if txn.count(PREDICTIONS) < self._bounds.head + self._bounds.rows or self._hold(txn):
                return False
            return next(txn.scan(PREDICTIONS, _behind(txn), _frontier(txn)), None) is not None

    def make(self) -> Made | None:
        """A file of the oldest answers of the store, which does not name it yet, and their keys as read back from it; None where none is due."""
        if not self.is_due():
            return None
        with self._store.read() as txn:
            taken = self._taken(txn)
            lists = {answer.features for _, answer in taken}
            names = {name: feature_names(txn, name) for name in lists if name}
        if not taken:
            return None
        file = self._sealed.write(taken, names)
        return file, self._sealed.keys(file)

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

    def settle(self, file: SealedFile, read_back: list[bytes]) -> bool:
        """Name the file and delete its answers from the store, unless they are not what was read back."""
        with self._store.write() as txn:
            keys = [key for key, _ in txn.scan(PREDICTIONS, file.first, file.last + b"\0")]
            is_same = keys == read_back and _behind(txn) <= file.first
            # In this order: who forgets somebody sweeps the files for as long as that holds.
            if is_same and not self._hold(txn) and self._sealed.is_there(file):
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
