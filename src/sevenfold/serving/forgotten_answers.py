"""The answers that tell of somebody who leaves, taken out of the store and of the sealed files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice

from sevenfold.errors import StoreError
from sevenfold.serving.prediction_log import (
    Prediction,
    decode_prediction,
    feature_names,
    sealed_files,
)
from sevenfold.serving.rotation import replacement, take_place
from sevenfold.serving.sealed_answers import SealedAnswers
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.tables import PREDICTIONS, REQUESTS, SHADOWS

__all__ = ["Leaver", "clean_file", "clean_stored"]


@dataclass(frozen=True, slots=True)
class Leaver:
    """Who leaves; `is_item` when it is what the system ranks."""

    entity: str
    key: str
    is_item: bool

    def is_in(self, answer: Prediction) -> bool:
        """Whether an answer is to the entity, or has it among its items."""
        among = self.is_item and self.key in answer.items
        return among or answer.keys.get(self.entity) == self.key

    def is_not_in(self, answer: Prediction) -> bool:
        """Whether an answer may stay."""
        return not self.is_in(answer)


def clean_stored(
    txn: Transaction, leaver: Leaver, cursor: bytes, most: int
) -> tuple[bytes | None, int]:
    """Where to go on in the store after at most so many answers, None at its end, and how many were taken out."""
    page = list(islice(txn.scan(PREDICTIONS, cursor), most))
    gone = 0
    for key, raw in page:
        cursor = key + b"\0"
        if leaver.is_in(decode_prediction(raw, key.hex())):
            txn.delete(PREDICTIONS, key)
            txn.delete(SHADOWS, key)
            txn.delete(REQUESTS, key[8:])
            gone += 1
    return (cursor if len(page) == most else None), gone


def clean_file(
    store: Store,
    sealed: SealedAnswers | None,
    leaver: Leaver,
    cursor: bytes,
    note: Callable[[Transaction, bytes | None, int], None],
) -> None:
    """Write the next file after a cursor anew without what tells of the leaver, and delete the old one.

    `note` is told in the same transaction where to go on, None when there is no further file, and how many answers were taken out.
    """
    with store.read() as txn:
        file = next((f for f in sealed_files(txn) if f.last > cursor), None)
        if file is not None and sealed is None:
            raise StoreError("answers of this home are in files: forgetting needs their folder")
        made = (
            replacement(sealed, file, leaver.is_not_in, partial(feature_names, txn))
            if file is not None and sealed is not None
            else None
        )
    with store.write() as txn:
        if file is not None and made is not None:
            take_place(txn, file, *made)
        note(txn, None if file is None else file.last, len(made[1]) if made else 0)
        named = {found.name for found in sealed_files(txn)}
    if sealed is not None:
        sealed.sweep(named)
