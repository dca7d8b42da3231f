"""What a store must do: ordered byte tables, snapshot reads, one durable writer at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from sevenfold.errors import StoreError
from sevenfold.hashing import key_bytes
from sevenfold.types import Instant, Ints
from sevenfold.watch import Watch

__all__ = [
    "MAX_KEY_BYTES",
    "Aside",
    "Entry",
    "Hashes",
    "Store",
    "Transaction",
    "Words",
    "bad_key",
    "ended",
    "joined",
    "kept_by_items",
    "laid_out",
    "parted",
    "spread",
]

Hashes = npt.NDArray[np.uint64]
Words = tuple[Ints, Ints]
"""Words (m,) and where in them values lie, (n, 2): the first byte and the one after the last, the same for no value."""

MAX_KEY_BYTES = 511


class Transaction(Protocol):
    """One view of all tables: a snapshot to read, or that and what this transaction has written.

    Keys are 1 to 511 bytes and are ordered as bytes. A transaction is used by the thread that began it
    and only inside its `with`. A table the store does not have raises StoreError.
    """

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value under `key`, or None."""
        ...

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value under each of `keys`, None where there is none; a key may come twice."""
        ...

    def gather(self, table: str, keys: Sequence[bytes]) -> tuple[bytes, Ints]:
        """The values under `keys` one after the other, and their lengths (n,), 0 where there is none."""
        ...

    def words(self, table: str, asked: Sequence[tuple[bytes, Hashes]]) -> list[Words]:
        """The values of many hashed keys, all found in one go, as words where they lie.

        Asked for are the keys of a prefix of 8 bytes and hashes uint64 (n, 2), as `key_bytes` makes them, a prefix after the
        other. They are good until the transaction ends.
        """
        ...

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Set the value under `key`; StoreError in a read transaction."""
        ...

    def put_many(self, table: str, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Set many values, the last one winning; fastest when the keys come in order."""
        ...

    def keep(self, table: str, prefix: bytes, hashes: Hashes, words: Ints, ends: Ints) -> None:
        """Set the values of many hashed keys of a prefix, given as words one after the other.

        The keys are those of `words` and all different; fastest when they come in order. The i-th value ends before word
        `ends[i]` (n,) and begins where the one before it ends; one of no words removes its key. The arrays may be
        read until the transaction ends, and are not changed.
        """
        ...

    def delete(self, table: str, key: bytes) -> bool:
        """Remove `key`; True when it was there."""
        ...

    def scan(
        self, table: str, start: bytes = b"", stop: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """The items with `start <= key < stop` in the order of their keys, or from the last to the first.

        The table may be written to during the scan: what is written may or may not still be seen, what is
        not touched is seen exactly once.
        """
        ...

    def count(self, table: str) -> int:
        """The number of keys in the table."""
        ...


class Entry(msgspec.Struct, array_like=True, frozen=True):
    """What is put aside together: values by table and key, and an instant that features were read at."""

    puts: list[tuple[str, bytes, bytes]]
    read_us: Instant


class Aside(Protocol):
    """Where writes are put aside: in a file at once, in the tables with the next transaction that is begun to write."""

    @property
    def is_open(self) -> bool:
        """Whether entries can be put aside."""
        ...

    @property
    def is_failed(self) -> bool:
        """Whether the disk has failed: what is aside may not be read back then, so whoever has it in memory writes it from there."""
        ...

    @property
    def done(self) -> int:
        """The number of the first entry that may not be in the tables."""
        ...

    def append(self, entries: Sequence[Entry]) -> int | None:
        """Put entries aside, all or none: the number behind the last, None where there is no room, or the file was taken away.

        They are the system's to write when this returns: they outlive the process, and once there was a `sync` a loss of power.
        One thread at a time. Raises OSError, and takes no more then: what is in the file is not known.
        """
        ...

    def sync(self) -> None:
        """Wait until all that is aside is on disk; beside appends of another thread. Raises OSError, and takes no more then."""
        ...

    def begin_sync(self) -> int:
        """Begin to wait beside this thread for all that is aside by now: the file that can be read when `end_sync` will tell.

        It is to be ended before it is begun again.
        """
        ...

    def end_sync(self, wait: bool = False) -> bool:
        """Whether what was begun to be waited for is on disk; with `wait` once it is. Raises OSError, and takes no more then."""
        ...

    @property
    def watch(self) -> Watch:
        """What tells whether the file may have been taken away."""
        ...

    def note_kept(self, txn: Transaction, number: int) -> None:
        """Note, after a failure, that all before `number` is in the tables with a transaction, if that is all there was."""
        ...


class Store(Protocol):
    """Tables that outlive a transaction; safe to share between threads."""

    def read(self) -> AbstractContextManager[Transaction]:
        """A consistent snapshot, unmoved by later commits; any number at once."""
        ...

    def write(self) -> AbstractContextManager[Transaction]:
        """The one writer: waits its turn, commits on a clean exit, leaves nothing after an exception."""
        ...

    def aside(self) -> Aside | None:
        """Where writes can be put aside; None where there is no such place."""
        ...

    def close(self) -> None:
        """Let go of files and memory; the store cannot be used afterwards."""
        ...


def bad_key(table: str, key: bytes) -> StoreError:
    """The error for a key that no store takes."""
    return StoreError(
        f"a key of table {table!r} has {len(key)} bytes; a key has 1 to {MAX_KEY_BYTES} bytes"
    )


def ended() -> StoreError:
    """The error for a transaction used after its `with`."""
    return StoreError("this transaction has ended: use it inside its `with`")


def spread(txn: Transaction, table: str, asked: Sequence[tuple[bytes, Hashes]]) -> list[Words]:
    """What `words` gives, from what `gather` does."""
    keys = [key for prefix, hashes in asked for key in key_bytes(hashes, prefix)]
    return parted(laid_out(*txn.gather(table, keys)), asked)


def kept_by_items(
    txn: Transaction, table: str, prefix: bytes, hashes: Hashes, words: Ints, ends: Ints
) -> None:
    """Do what `keep` does, by `delete` and `put_many`."""
    there = np.diff(ends, prepend=0) > 0
    if not there.all():
        for key in key_bytes(hashes[~there], prefix):
            txn.delete(table, key)
        hashes, ends = hashes[there], ends[there]
    # An iterator: a tuple for every key, all alive at once, would have the collector of garbage run often.
    txn.put_many(table, zip(key_bytes(hashes, prefix), _apart(words, ends), strict=True))


def _apart(words: Ints, ends: Ints) -> list[bytes]:
    """The bytes of each of n values that end at `ends` (n,)."""
    size = int(ends[0]) if len(ends) else 0
    if size and (np.diff(ends) == size).all():
        # States are often of one length: numpy then makes the bytes of each itself.
        rows: Any = words.view(np.dtype((np.void, 8 * size)))
        values: list[bytes] = rows.tolist()
        return values
    raw = words.tobytes()
    stops = (ends * 8).tolist()
    return [raw[begin:end] for begin, end in zip([0, *stops], stops, strict=False)]


def parted(found: Words, asked: Sequence[tuple[bytes, Hashes]]) -> list[Words]:
    """The values of all that was asked for, by prefix."""
    if len(asked) < 2:
        return [found] * len(asked)
    words, places = found
    ends = np.cumsum([len(hashes) for _, hashes in asked])
    return [(words, part) for part in np.split(places, ends[:-1])]


def laid_out(data: bytes | bytearray | memoryview, lengths: Ints) -> Words:
    """Values that lie one after the other, as words and places.

    Words may be written to, whoever keeps them: for those that may not each kernel would be compiled once more.
    """
    if not isinstance(data, bytearray):
        data = bytearray(data)
    places = np.empty((len(lengths), 2), dtype=np.int64)
    np.cumsum(lengths, out=places[:, 1])
    np.subtract(places[:, 1], lengths, out=places[:, 0])
    return np.frombuffer(data, dtype=np.int64, count=len(data) // 8), places


def joined(values: Sequence[Any]) -> tuple[bytes, Ints]:
    """What `gather` gives of `values`: bytes, memoryviews or None."""
    try:
        lengths = list(map(len, values))
    except TypeError:  # some are None: seldom, and then one more pass
        values = [b"" if value is None else value for value in values]
        lengths = list(map(len, values))
    return b"".join(values), np.array(lengths, dtype=np.int64)
