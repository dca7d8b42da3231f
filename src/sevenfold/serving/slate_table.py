"""Slates made ahead for many keys: tables with a version each, of which one is served.

    slates TABLE KEY        one slate, under the digest of its request's keys
    meta "slates"           the table that is served
    meta "slates/making/N"  a table that is being written, and how far it is
    meta "slates/freeing/N" a table whose slates are being deleted
    meta "slates/last"      the number of the newest table

A table is written in bounded transactions that nobody reads, one small transaction has it served, and the one before it is
freed in slices: whoever is killed at it leaves the old table or the new one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import msgspec
import numpy as np

from sevenfold.errors import StoreError
from sevenfold.hashing import canonical_json, digest
from sevenfold.serving.prediction_log import Prediction
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.tables import META, SLATES

__all__ = [
    "Slate",
    "SlateTable",
    "clean_slates",
    "drop_table",
    "find_slate",
    "free_tables",
    "next_table",
    "note_making",
    "put_slates",
    "read_slates",
    "serve_table",
    "served_table",
    "slates_of",
    "tables_in_making",
]

_SERVED = b"slates"
_LAST = b"slates/last"
_MAKING = b"slates/making/"
_FREEING = b"slates/freeing/"
_NUMBER_BYTES = 8
_KEY_BYTES = 16
_PAGE = 256


class Slate(msgspec.Struct, array_like=True):
    """The items for one request's keys as of an instant, the best first, and what they were made by.

    `scores` float64 bytes are what they were ranked by, `sources` uint32 bytes say which of `generators` proposed each,
    `candidate_scores` float32 bytes (n, g) how strongly. `features` is the id of the list of features with their
    definitions that they were made from, as in the prediction log.
    """

    keys: dict[str, str]
    as_of_us: int
    model: str
    version: int
    rung: str
    features: str
    generators: list[str]
    items: list[str]
    sources: bytes
    candidate_scores: bytes
    scores: bytes

    def as_prediction(self, request_id: str, t_us: int) -> Prediction:
        """All of it as an answer at `t_us`, without vectors, which are of another instant."""
        return Prediction(
            request_id=request_id,
            t_us=t_us,
            keys=self.keys,
            model=self.model,
            version=self.version,
            rung="batch",
            k=len(self.items),
            features="",
            generators=self.generators,
            items=self.items,
            sources=self.sources,
            candidate_scores=self.candidate_scores,
            shown=np.arange(len(self.items), dtype=np.int32).tobytes(),
            scores=self.scores,
            logged=b"",
            vectors=b"",
            sample_weight=0.0,
            as_of_us=self.as_of_us,
        )


class SlateTable(msgspec.Struct, frozen=True):
    """A table: as of when and by what it was made, how many items a slate has at most, and how many slates there are.

    `identity` is what all of it depends on: a table in the making is gone on with by whoever would make the same. `done`
    of `total` keys have been looked at; `slates` of them have one, the others have no candidates. `reranked` when the
    slates are to be shown as they are; otherwise they are candidates, in the order of their scores.
    """

    number: int
    as_of_us: int
    k: int
    reranked: bool
    model: str
    version: int
    features: str
    feature_set: str
    population: str
    identity: str
    rewrites: int = 0
    done: int = 0
    total: int = 0
    slates: int = 0


_ENCODE = msgspec.msgpack.Encoder().encode
_SLATE = msgspec.msgpack.Decoder(Slate)
_TABLE = msgspec.msgpack.Decoder(SlateTable)


def next_table(txn: Transaction) -> int:
    """A number that no table of this store has had."""
    number = int.from_bytes(txn.get(META, _LAST) or b"", "big") + 1
    txn.put(META, _LAST, _packed(number))
    return number


def note_making(txn: Transaction, table: SlateTable) -> None:
    """Note how far a table is that is not served yet."""
    txn.put(META, _MAKING + _packed(table.number), _ENCODE(table))


def tables_in_making(txn: Transaction) -> list[SlateTable]:
    """The tables that are being written, by whoever."""
    return [_TABLE.decode(raw) for _, raw in txn.scan(META, _MAKING, _after(_MAKING))]


def put_slates(txn: Transaction, number: int, slates: Sequence[Slate]) -> None:
    """Write slates into a table."""
    rows = ((_key(number, slate.keys), zlib.compress(_ENCODE(slate), 1)) for slate in slates)
    txn.put_many(SLATES, sorted(rows))


def serve_table(txn: Transaction, table: SlateTable) -> None:
    """Have a table served from this commit on; the one before it is to be freed."""
    before = served_table(txn)
    txn.put(META, _SERVED, _ENCODE(table))
    txn.delete(META, _MAKING + _packed(table.number))
    if before is not None and before.number != table.number:
        drop_table(txn, before.number)


def served_table(txn: Transaction) -> SlateTable | None:
    """The table that is served, if there is one; StoreError when its description cannot be read."""
    raw = txn.get(META, _SERVED)
    try:
        return None if raw is None else _TABLE.decode(raw)
    except msgspec.DecodeError as error:
        raise StoreError(
            f"the description of the table of slates cannot be read: {error}"
        ) from error


def drop_table(txn: Transaction, number: int) -> None:
    """Have a table that is not served freed."""
    txn.delete(META, _MAKING + _packed(number))
    txn.put(META, _FREEING + _packed(number), b"")


def find_slate(txn: Transaction, number: int, keys: Mapping[str, str]) -> Slate | None:
    """The slate of a request's keys in a table; None where there is none. StoreError for a damaged one."""
    raw = txn.get(SLATES, _key(number, keys))
    return None if raw is None else _decoded(raw, str(dict(keys)))


def read_slates(
    txn: Transaction, number: int, after: bytes = b"", limit: int = _PAGE
) -> tuple[list[Slate], bytes]:
    """The next slates of a table, at most `limit`, and what to give as `after` for those behind them; b"" at the end."""
    head = _packed(number)
    found = list(islice(txn.scan(SLATES, after or head, head + b"\xff" * 17), limit))
    slates = [_decoded(raw, key.hex()) for key, raw in found]
    return slates, found[-1][0] + b"\0" if len(found) == limit else b""


def free_tables(store: Store, limit: int) -> bool:
    """Delete up to `limit` slates that nobody wants, in one transaction; whether there were any tables of such."""
    with store.read() as txn:
        first = next(iter(txn.scan(META, _FREEING, _after(_FREEING))), None)
    if first is None:
        return False
    head = first[0][len(_FREEING) :]
    with store.write() as txn:
        doomed = [key for key, _ in islice(txn.scan(SLATES, head, head + b"\xff" * 17), limit)]
        for key in doomed:
            txn.delete(SLATES, key)
        if len(doomed) < limit:
            txn.delete(META, first[0])
    return True


def clean_slates(
    txn: Transaction, entity: str, key: str, is_item: bool, after: bytes, limit: int
) -> tuple[bytes | None, int]:
    """Delete the slates of an entity among the next `limit`, those with it among their items where it is one.

    What to give as `after` for the others, None when all have been looked at; and how many were deleted.
    """
    page = list(islice(txn.scan(SLATES, after), limit))
    doomed = []
    for name, raw in page:
        slate = _decoded(raw, name.hex())
        if slate.keys.get(entity) == key or (is_item and key in slate.items):
            doomed.append(name)
    for name in doomed:
        txn.delete(SLATES, name)
    return (page[-1][0] + b"\0" if len(page) == limit else None), len(doomed)


def slates_of(store: Store, number: int) -> Iterator[Slate]:
    """All slates of a table, a page at a time, each in a snapshot of its own."""
    after = b""
    while True:
        with store.read() as txn:
            page, after = read_slates(txn, number, after)
        yield from page
        if not after:
            return


def _key(number: int, keys: Mapping[str, str]) -> bytes:
    return _packed(number) + bytes.fromhex(digest(canonical_json(dict(keys)), _KEY_BYTES))


def _decoded(raw: bytes, name: str) -> Slate:
    try:
        return _SLATE.decode(zlib.decompress(raw))
    except (zlib.error, msgspec.DecodeError) as error:
        raise StoreError(f"the slate of {name} cannot be read: {error}") from error


def _packed(number: int) -> bytes:
    return number.to_bytes(_NUMBER_BYTES, "big")


def _after(prefix: bytes) -> bytes:
    return prefix + b"\xff" * (_NUMBER_BYTES + 1)
