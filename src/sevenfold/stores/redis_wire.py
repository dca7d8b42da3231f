"""Connections to a Redis server: commands sent together, programs by their digest, faults as StoreError."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hiredis
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as NoConnectionError
from redis.exceptions import TimeoutError as NoAnswerError
from redis.retry import Retry

from sevenfold.errors import StoreError
from sevenfold.stores.redis_address import Address
from sevenfold.stores.redis_replies import Room, receive
from sevenfold.stores.redis_scripts import FENCED

__all__ = ["FencedError", "NotAllowedError", "Pool", "Wire"]

_MOST_IDLE = 32


class FencedError(StoreError):
    """A writer whose turn was taken over."""


class NotAllowedError(StoreError):
    """A command that this user, or this replica, may not run."""


class Wire:
    """One connection, used by one transaction at a time."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connection: Any = _connection(address)
        self.client_id = 0
        self.clean = True
        self.room = Room()

    def connect(self) -> None:
        """Reach the server, authenticate and learn the connection's own number."""
        with self._faults():
            self._connection.connect()
        self.client_id = int(self.call(("CLIENT", "ID"))[0])

    def call(self, *commands: tuple[Any, ...]) -> list[Any]:
        """The replies to `commands`, sent together; StoreError for the first that is an error."""
        self.clean = False
        with self._faults():
            self._connection.send_packed_command([self.packed(*commands)], check_health=False)
            return self._replies(len(commands))

    def fetch(self, commands: bytes, counts: Sequence[int]) -> list[Any]:
        """The replies to packed `commands`, which are lists of strings, of so many each or of `ANY` number.

        They are `Lying`, in `room`; all of them are what `call` gives when one is no such list, or when this connection is not one
        whose bytes are taken from its socket.
        """
        self.clean = False
        with self._faults():
            self._connection.send_packed_command([commands], check_health=False)
            # Asked for each time: the client connects anew by itself.
            connected, parser = _socket_and_parser(self._connection)
            if connected is not None:
                try:
                    replies = receive(connected.recv_into, self.room, counts)
                except BaseException:  # what is left of a reply must not be taken for the next one
                    self._connection.disconnect()
                    raise
                if isinstance(replies, list):
                    self.clean = True
                    return replies
                parser.feed(replies)
            return self._replies(len(counts))

    def packed(self, *commands: tuple[Any, ...]) -> bytes:
        """Commands as they are sent: in one piece, for a piece each is a call of the system each, and those take longest of all."""
        return b"".join([part for one in commands for part in self._connection.pack_command(*one)])

    def _replies(self, count: int) -> list[Any]:
        """The next `count` replies; the first that is an error is raised, and the connection is clean then."""
        replies, failure = [], None
        for _ in range(count):
            try:
                replies.append(self._connection.read_response(disable_decoding=True))
            except ResponseError as error:  # the replies to the others must still be taken off
                failure = failure or error
        self.clean = True
        if failure is not None:
            raise failure
        return replies

    def run(self, program: str, keys: Sequence[bytes], *arguments: Any) -> Any:
        """What `program` returns: known to the server by its digest, or given to it once."""
        name = hashlib.sha1(program.encode(), usedforsecurity=False).hexdigest()
        try:
            return self.call(("EVALSHA", name, len(keys), *keys, *arguments))[0]
        except StoreError as error:
            if not isinstance(error.__cause__, NoScriptError):
                raise
        return self.call(("EVAL", program, len(keys), *keys, *arguments))[0]

    def close(self) -> None:
        """Leave the server."""
        self._connection.disconnect()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        at = self._address
        try:
            yield
        except (AuthenticationError, AuthorizationError) as error:
            raise StoreError(
                f"the Redis server at {at.host}:{at.port} does not let us in: {error}; give user and "
                "password in the address, redis://USER:PASSWORD@HOST:PORT/DB"
            ) from error
        except (NoPermissionError, ReadOnlyError) as error:
            raise NotAllowedError(
                f"the store {at} may not be used so: {error}; give the address of the primary and of a user "
                "who may run the commands of hashes, lists, sorted sets and scripts"
            ) from error
        except (NoConnectionError, NoAnswerError, OSError) as error:
            raise StoreError(
                f"the Redis server at {at.host}:{at.port} is away ({error}); start it, or check the address "
                "and the network; what was not acknowledged may or may not have been committed"
            ) from error
        except ResponseError as error:
            raise _refused(at, error) from error
        except RedisError as error:
            raise StoreError(f"the store {at} failed: {error}") from error


class Pool:
    """Idle connections of one process, the one used last first."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._idle: list[Wire] = []
        self._lock = threading.Lock()
        self.closed = False

    @contextmanager
    def wire(self) -> Iterator[Wire]:
        """A connection for one transaction, kept for the next unless a reply may still be on its way."""
        wire = self.take()
        try:
            yield wire
        finally:
            self.give(wire)

    def give(self, wire: Wire) -> None:
        """Keep a connection that was taken for the next transaction, unless a reply may still be on its way."""
        wire.room.again()
        if not self._keep(wire):
            wire.close()

    def close(self) -> None:
        """Leave the server with every connection; none can be had afterwards."""
        with self._lock:
            idle, self._idle, self.closed = self._idle, [], True
        for wire in idle:
            wire.close()

    def drop(self) -> None:
        """Leave the server with every idle connection, as after it went away."""
        with self._lock:
            idle, self._idle = self._idle, []
        for wire in idle:
            wire.close()

    def _keep(self, wire: Wire) -> bool:
        with self._lock:
            kept = wire.clean and not self.closed and len(self._idle) < _MOST_IDLE
            if kept:
                self._idle.append(wire)
        return kept

    def take(self) -> Wire:
        """A connection, to be given back."""
        with self._lock:
            if self.closed:
                raise StoreError("this store is closed: open another")
            if self._idle:
                return self._idle.pop()
        wire = Wire(self._address)
        wire.connect()
        return wire


def _socket_and_parser(connection: Any) -> tuple[Any, Any]:
    """Where the bytes of a connection come from and where those go that nobody else reads; None, None where that is not known.

    Neither is a promise of the client's: where one is missing or another, as over TLS, the client does all of it itself. So it
    does where its parser holds bytes already: those come before what is in the socket.
    """
    connected = getattr(connection, "_sock", None)
    reader = getattr(getattr(connection, "_parser", None), "_reader", None)
    if type(connected) is socket.socket and isinstance(reader, hiredis.Reader):
        return (None, None) if reader.has_data() else (connected, reader)
    return None, None


def _connection(address: Address) -> Any:
    seconds = address.timeout_ms / 1000
    options: dict[str, Any] = {
        "host": address.host,
        "port": address.port,
        "db": address.db,
        "username": address.username,
        "password": address.password,
        "socket_timeout": seconds,
        "socket_connect_timeout": min(seconds, 5.0),
        "socket_keepalive": True,
        "socket_read_size": 1 << 20,  # a read of many states is some megabytes
        # A command that was sent may have been carried out: sending it again is not ours to decide.
        "retry": Retry(NoBackoff(), 0),
        "client_name": "sevenfold",
    }
    kind: Any = Connection
    if address.tls:
        kind = SSLConnection
        options["ssl_ca_certs"] = address.ca
        options["ssl_certfile"], options["ssl_keyfile"] = address.cert, address.key
    return kind(**options)


def _refused(at: Address, error: ResponseError) -> StoreError:
    text = str(error)
    word = text.partition(" ")[0]
    if FENCED in text:
        return FencedError(
            f"this writer has lost its turn to another ({text}): nothing of its transaction is committed; "
            "open the store with a longer `lock` if it works for longer without writing"
        )
    advice = {
        "MOVED": "the cluster keeps this home on another server: give that server's address",
        "OOM": "the server is out of memory: raise its maxmemory",
        "MISCONF": "the server cannot write to its disk and takes nothing more",
        "LOADING": "the server is still reading its data: try again soon",
        "BUSY": "the server is running a long program of somebody: try again soon",
    }.get(word, "the server refused a command")
    return StoreError(f"the store {at} failed: {advice} ({text})")
