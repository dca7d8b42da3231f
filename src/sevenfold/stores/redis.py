"""The store that many machines share: one Redis server, one writer at a time, snapshots for every reader.

Redis itself has no snapshots. Here every value carries the version of the commit that wrote it, and a commit
keeps what it replaced, so a reader at an older version follows a value back to what it was then. The states
and the position of the log become visible at once, by one step of the server that raises the version; a
commit that was cut off before it is invisible, and the next writer takes it back. A writer has a token: one
whose turn was taken over can change nothing any more.

What was replaced is kept for `keep` (5 s), and for longer while a scan or a read of more than a second
needs it and says so at least every 30 s. A read that was silent for longer is told that its snapshot is gone.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from sevenfold.errors import StoreError
from sevenfold.hashing import key_bytes
from sevenfold.stores.kv import Hashes, Transaction, Words, ended, joined, laid_out, parted
from sevenfold.stores.redis_address import Address, parse_address
from sevenfold.stores.redis_replies import ANY, BEFORE, Lying, asking, listed
from sevenfold.stores.redis_scripts import ACQUIRE, LEASE, RECOVERED, RELEASE, RESTORE, STEAL
from sevenfold.stores.redis_wire import NotAllowedError, Pool, Wire
from sevenfold.stores.redis_write import PLACES, Keys, Writing, Written, commit
from sevenfold.stores.tables import unknown_table
from sevenfold.types import Ints

__all__ = ["RedisStore"]

_FORMAT = b"1"
_LEASE_MS = 30_000
_LEASE_AFTER_S = 1.0
_RENEW_AFTER_S = 5.0
_MANY = 4_096  # keys in one command
_TRIES = 5
_WAIT_S = 0.002
_LONGEST_WAIT_S = 0.05


class _Unasked:
    """The reads of this process that have begun and have not asked the server which version they see."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reads: set[_Reading] = set()

    def add(self, reading: _Reading) -> None:
        """A read has begun."""
        with self._lock:
            self._reads.add(reading)

    def leave(self, reading: _Reading) -> None:
        """A read asks now, or has ended."""
        with self._lock:
            self._reads.discard(reading)

    def ask_all(self) -> None:
        """Have all of them asked: what is committed next is later than their beginning."""
        with self._lock:
            while self._reads:
                self._reads.pop().begin()


class _Reading:
    """A snapshot: what was committed up to one version.

    Which one, the server is asked together with the first question, so that one key is read in the time of one answer; or before
    this process commits the next, which what began before it must not see.
    """

    def __init__(self, pool: Pool, keys: Keys, unasked: _Unasked) -> None:
        self._pool = pool
        self._keys = keys
        self._unasked = unasked
        self._since = self._heard = time.monotonic()
        self._lease = b""
        self._live = True
        self._begun: dict[bytes, bytes] | None = None
        self._wire = pool.take()
        unasked.add(self)

    def begin(self) -> None:
        """Ask which version it is; where the server does not say, the first question finds that out."""
        with suppress(StoreError):
            self._see(self._wire.call(("HGETALL", self._keys.head))[0])

    def get(self, table: str, key: bytes) -> bytes | None:
        return self.get_many(table, (key,))[0]

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        stored = self._stored(table, keys)
        return [raw[9:] if raw is not None and len(raw) > 8 else None for raw in stored]

    def gather(self, table: str, keys: Sequence[bytes]) -> tuple[bytes, Ints]:
        return joined(self.get_many(table, keys))

    def words(self, table: str, asked: Sequence[tuple[bytes, Hashes]]) -> list[Words]:
        place = self._place(table)
        self._hold_if_long()
        commands, counts = asking(self._keys.data[place], asked, _MANY)
        if not counts:
            return parted(laid_out(b"", np.zeros(0, dtype=np.int64)), asked)
        *parts, last = self._fetch(commands, counts)
        (oldest,) = listed(last)  # before anything is moved
        if isinstance(parts[0], Lying):
            found = Lying.all_of(parts).settled(self._version + 1)
            if found is not None:
                self._require_kept(oldest)
                return parted(found, asked)
        stored = [value for part in parts for value in listed(part)]
        keys = [key for prefix, hashes in asked for key in key_bytes(hashes, prefix)]
        self._go_back_to_bound(place, keys, stored)
        self._require_kept(oldest)
        return parted(_aligned(stored), asked)

    def _stored(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """What is kept under `keys` at this version, with the version that wrote it."""
        place = self._place(table)
        if not keys:
            return []
        self._hold_if_long()
        data = self._keys.data[place]
        commands = [("HMGET", data, *keys[at : at + _MANY]) for at in range(0, len(keys), _MANY)]
        *parts, (oldest,) = self._call(*commands, ("HMGET", self._keys.head, "oldest"))
        stored: list[bytes | None] = (
            parts[0] if len(parts) == 1 else [value for part in parts for value in part]
        )
        self._go_back_to_bound(place, keys, stored)
        self._require_kept(oldest)
        return stored

    def _call(self, *commands: tuple[Any, ...]) -> list[Any]:
        """The replies to `commands`."""
        which = ("HGETALL", self._keys.head)
        return self._ask(lambda first: self._wire.call(*([which] if first else []), *commands))

    def _fetch(self, commands: bytes, counts: list[int]) -> list[Any]:
        """The replies to packed `commands` and then to how old the oldest is that is kept, as `Wire.fetch` gives them."""

        def ask(first: bool) -> list[Any]:
            which = self._keys.ask_head if first else b""
            pieces = b"".join([which, commands, self._keys.ask_oldest])
            return self._wire.fetch(pieces, [*[ANY] * first, *counts, 1])

        return self._ask(ask)

    def _ask(self, ask: Callable[[bool], list[Any]]) -> list[Any]:
        """The replies to what `ask` asks, where it is told to together with which version it is.

        A connection that the server has left is replaced once, before anything was read.
        """
        if self._begun is None:
            self._unasked.leave(self)
        if self._begun is not None:  # it may be since a moment ago
            return ask(False)
        try:
            head, *replies = ask(True)
        except StoreError:
            self._wire.close()
            self._pool.drop()
            self._wire = self._pool.take()
            head, *replies = ask(True)
        self._see(listed(head))
        return replies

    def _hold_if_long(self) -> None:
        if time.monotonic() - self._since > _LEASE_AFTER_S:
            self._head()
            self._hold()

    def _see(self, head: list[bytes]) -> None:
        begun = dict(zip(head[::2], head[1::2], strict=True))
        self._version = int(begun.get(b"version", b"0"))
        self._bound = (self._version + 1).to_bytes(8, "big")
        self._begun = begun

    def _head(self) -> dict[bytes, bytes]:
        """What the server said of the store when the snapshot began."""
        if self._begun is None:
            self._call()
        return self._begun or {}

    def put(self, table: str, key: bytes, value: bytes) -> None:
        raise _read_only()

    def put_many(self, table: str, items: Iterable[tuple[bytes, bytes]]) -> None:
        raise _read_only()

    def keep(self, table: str, prefix: bytes, hashes: Hashes, words: Ints, ends: Ints) -> None:
        raise _read_only()

    def delete(self, table: str, key: bytes) -> bool:
        raise _read_only()

    def scan(
        self, table: str, start: bytes = b"", stop: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        index = self._keys.index[self._place(table)]
        self._head()
        self._hold()
        pages = self._keys.pages(self._wire, index, start, stop, reverse)
        for page in pages:
            values = self.get_many(table, page)
            pages.weigh(values)
            for key, value in zip(page, values, strict=True):
                if value is not None:
                    yield key, value

    def count(self, table: str) -> int:
        place = self._place(table)
        return int(self._head().get(b"n%d" % place, b"0"))

    def end(self) -> None:
        """Make any further use an error and let the snapshot and the connection go."""
        self._live = False
        try:
            self._unasked.leave(self)
            if self._lease and self._wire.clean:
                self._wire.call(("ZREM", self._keys.leases, self._lease))
        finally:
            self._pool.give(self._wire)

    def _place(self, table: str) -> int:
        if not self._live:
            raise ended()
        place = PLACES.get(table)
        if place is None:
            raise unknown_table(table)
        return place

    def _go_back_to_bound(
        self, place: int, keys: Sequence[bytes], stored: list[bytes | None]
    ) -> None:
        """Replace those of the stored values that are newer than this snapshot."""
        bound = self._bound
        # A newer one is seldom there, and the largest value is found at once.
        if max(filter(None, stored), default=b"") >= bound:
            later = [i for i, raw in enumerate(stored) if raw is not None and raw >= bound]
            self._go_back(place, keys, stored, later)

    def _go_back(
        self, place: int, keys: Sequence[bytes], stored: list[bytes | None], later: list[int]
    ) -> None:
        """Replace the stored values at `later` by what they were at this snapshot's version."""
        for _ in range(_TRIES):
            again: list[int] = []
            while later:
                commands: list[tuple[Any, ...]] = []
                for i in later:
                    version = int.from_bytes((stored[i] or b"")[:8], "big")
                    commands.append(("HGET", self._keys.undo(version), b"%d%s" % (place, keys[i])))
                before = self._wire.call(*commands)
                again += [i for i, raw in zip(later, before, strict=True) if raw is None]
                for i, raw in zip(later, before, strict=True):
                    stored[i] = raw or None
                later = [i for i in later if (stored[i] or b"") >= self._bound]
            if not again:
                return
            # Not what it replaced but the value itself may be there again: its commit was taken back.
            asked = [keys[i] for i in again]
            fresh, (oldest,) = self._wire.call(
                ("HMGET", self._keys.data[place], *asked), ("HMGET", self._keys.head, "oldest")
            )
            self._require_kept(oldest)
            for i, raw in zip(again, fresh, strict=True):
                stored[i] = raw
            later = [i for i in again if (stored[i] or b"") >= self._bound]
            if not later:
                return
        raise StoreError("the store in Redis is damaged: what a commit replaced is not there")

    def _hold(self) -> None:
        """Have the snapshot kept for as long as it is read."""
        now = time.monotonic()
        if self._lease and now - self._heard < _RENEW_AFTER_S:
            return
        self._heard = now
        self._lease = self._lease or b"%d:%s" % (self._version, secrets.token_hex(8).encode())
        try:
            keys = self._keys.all(self._version)
            self._require_kept(self._wire.run(LEASE, keys, self._lease, _LEASE_MS))
        except NotAllowedError:
            self._lease = b""  # a replica, or a user who only reads: what is kept must do

    def _require_kept(self, oldest: bytes | None) -> None:
        if int(oldest or b"0") > self._version + 1:
            raise StoreError(
                "this read has been going on for too long: what later commits replaced is gone; read in "
                "smaller pieces, or open the store with a longer `keep`"
            )


class RedisStore:
    """The store `home` of a Redis server, by its URL: see `redis_address`.

    To write, the server must be as durable as `durable` says: with `always`, the default, a commit is on disk
    before `write()` returns. `readonly` opens what another process writes. Raises StoreError when the server
    is away, lets nobody in, or promises less.
    """

    def __init__(self, url: str, readonly: bool = False) -> None:
        self.address: Address = parse_address(url)
        self._readonly = readonly
        self._keys = Keys(self.address.home)
        self._pool = Pool(self.address)
        self._unasked = _Unasked()
        self._turn = threading.Lock()
        self._writer: int | None = None
        self._due: list[int] = []  # commits that the next one may forget
        try:
            with self._pool.wire() as wire:
                self._open(wire)
        except BaseException:
            self._pool.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A snapshot of what is committed now, by any process."""
        reading = _Reading(self._pool, self._keys, self._unasked)
        try:
            yield reading
        finally:
            reading.end()

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """The one writer of all processes; as durable as declared when the `with` is left."""
        if self._readonly:
            raise StoreError(
                f"the store {self.address} is open to read: open it with readonly=False to write"
            )
        if self._writer == threading.get_ident():
            raise StoreError("this thread is already inside `store.write()`: use that transaction")
        with self._turn, self._begun() as wire:
            self._writer = threading.get_ident()
            token = b"%d:%s" % (wire.client_id, secrets.token_hex(8).encode())
            held = True
            try:
                version = self._acquire(wire, token) + 1
                writing = Writing(wire, self._keys)
                try:
                    yield writing
                    written = writing.written()
                finally:
                    writing.end()
                if written:
                    self._unasked.ask_all()
                    self._commit(wire, token, version, written)
                    held = False
            finally:
                self._writer = None
                if held and wire.clean:
                    wire.run(RELEASE, self._keys.all(0), token)

    def aside(self) -> None:
        """Nothing is put aside: a commit waits for no disk of this process."""

    def close(self) -> None:
        """Leave the server; the store cannot be used afterwards."""
        self._pool.close()

    def _commit(self, wire: Wire, token: bytes, version: int, written: Written) -> None:
        due, self._due = self._due, []
        times = (self.address.lock_ms, self.address.keep_ms)
        self._due = commit(wire, self._keys, (token, version, *times), written, due)

    @contextmanager
    def _begun(self) -> Iterator[Wire]:
        """A connection to write by; one that the server has left is replaced."""
        wired = self._pool.wire()
        wire = wired.__enter__()
        try:
            self._head(wire)
        except StoreError:
            wired.__exit__(None, None, None)
            self._pool.drop()
            wired = self._pool.wire()
            wire = wired.__enter__()
            self._head(wire)
        try:
            yield wire
        finally:
            wired.__exit__(None, None, None)

    def _head(self, wire: Wire) -> dict[bytes, bytes]:
        flat = wire.call(("HGETALL", self._keys.head))[0]
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def _acquire(self, wire: Wire, token: bytes) -> int:
        """The version of the last commit, once it is this writer's turn."""
        wait = _WAIT_S
        while True:
            keys = self._keys.all(0)
            mine, *told = wire.run(ACQUIRE, keys, token, self.address.lock_ms)
            if mine:
                version, unfinished = int(told[0]), told[1]
                if unfinished:
                    self._take_back(wire, token, int(unfinished))
                return version
            holder = told[0].partition(b":")[0]
            if holder.isdigit() and not self._is_connected(wire, holder):
                wire.run(STEAL, keys, told[0])
                continue
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_S)

    def _is_connected(self, wire: Wire, client: bytes) -> bool:
        """Whether the writer's connection is still there; one that was killed need not be waited for."""
        try:
            return bool(wire.call(("CLIENT", "LIST", "ID", client))[0])
        except StoreError:
            if not wire.clean:
                raise
            return True  # this server or user cannot ask: the turn ends by itself

    def _take_back(self, wire: Wire, token: bytes, version: int) -> None:
        """Undo the writes of a commit that was cut off."""
        keys = self._keys.all(version)
        cursor = b"0"
        while True:
            cursor, flat = wire.call(("HSCAN", self._keys.undo(version), cursor, "COUNT", 500))[0]
            if flat:
                wire.run(RESTORE, keys, token, self.address.lock_ms, *flat)
            if cursor == b"0":
                break
        wire.run(RECOVERED, keys, token, self.address.lock_ms)

    def _open(self, wire: Wire) -> None:
        head = self._head(wire)
        found = head.get(b"format")
        if found is None and self._readonly:
            raise StoreError(f"no store at {self.address}: a store opened to read must exist")
        if found not in (None, _FORMAT):
            raise StoreError(
                f"the store {self.address} has format {found!r}, this release reads {_FORMAT!r}: it was "
                "written by a later release"
            )
        if not self._readonly:
            _require_safe(wire, self.address)
            wire.call(("HSETNX", self._keys.head, "format", _FORMAT))


def _aligned(stored: list[bytes | None]) -> Words:
    """The values as words: what is before each, nine bytes, is filled up to two words."""
    there: list[Any] = stored
    if None in there or min(map(len, there), default=BEFORE) < BEFORE:
        nothing = bytes(BEFORE)  # of no value, or of a deleted one
        there = [raw if raw is not None and len(raw) > BEFORE else nothing for raw in there]
    fill = bytearray(16 - BEFORE)  # so that what is joined may be written to, as `laid_out` has it
    lengths = np.array(list(map(len, there)), dtype=np.int64)
    data = fill.join([b"", *there])
    places = np.empty((len(there), 2), dtype=np.int64)
    np.cumsum(lengths + len(fill), out=places[:, 1])
    np.subtract(places[:, 1] + BEFORE, lengths, out=places[:, 0])
    return np.frombuffer(data, dtype=np.int64, count=len(data) // 8), places


def _require_safe(wire: Wire, address: Address) -> None:
    """Refuse a server that promises less than declared, or that throws keys away when memory is short."""
    if address.durable == "any":
        return
    try:
        flat = wire.call(("CONFIG", "GET", "append*"), ("CONFIG", "GET", "maxmemory*"))
    except StoreError as error:
        if not wire.clean:
            raise
        raise StoreError(
            f"the server of {address} does not say how durable it is ({error}); find out, and open the store "
            "with durable=any"
        ) from error
    told = {reply[i]: reply[i + 1] for reply in flat for i in range(0, len(reply), 2)}
    enough = (b"always",) if address.durable == "always" else (b"always", b"everysec")
    if told.get(b"appendonly") != b"yes" or told.get(b"appendfsync") not in enough:
        raise StoreError(
            f"the server of {address} would lose commits that it acknowledged: it has appendonly "
            f"{_text(told.get(b'appendonly'))} and appendfsync {_text(told.get(b'appendfsync'))}; set appendonly "
            f"yes and appendfsync {address.durable}, or open the store with durable=everysec (the last second "
            "may be lost) or durable=any"
        )
    if told.get(b"maxmemory", b"0") != b"0" and told.get(b"maxmemory-policy") != b"noeviction":
        raise StoreError(
            f"the server of {address} throws keys away when memory is short (maxmemory-policy "
            f"{_text(told.get(b'maxmemory-policy'))}): set maxmemory-policy noeviction"
        )


def _text(value: bytes | None) -> str:
    return "unknown" if value is None else value.decode("ascii", "replace")


def _read_only() -> StoreError:
    return StoreError("this is a read transaction: write inside `with store.write() as txn`")
