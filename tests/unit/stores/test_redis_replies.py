"""Replies that are read where they lie are those that a parser of all replies reads, however they come."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import hiredis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.errors import StoreError
from sevenfold.hashing import key_bytes
from sevenfold.stores.redis_address import parse_address
from sevenfold.stores.redis_replies import ANY, BEFORE, Lying, Room, asking, listed, receive
from sevenfold.stores.redis_wire import Pool, Wire

TRICKY = [b"", b"\r\n", b"$-1\r\n", b"*1\r\n$1\r\n", b"-ERR\r\n", b":1\r\n", b"\0" * 9, b"x" * 300]
VALUES = st.lists(st.none() | st.sampled_from(TRICKY) | st.binary(max_size=40), max_size=6)
USUAL: list[list[bytes | None]] = [[b"version", b"3"], [b"a\r\nb", None, b""], [None]]
UNUSUAL = [
    b"-ERR no\r\n",
    b"-MOVED 1 127.0.0.1:1\r\n",
    b"+OK\r\n",
    b":3\r\n",
    b"*-1\r\n",
    b"_\r\n",
    b"*3\r\n*1\r\n$1\r\na\r\n$-1\r\n$-1\r\n",
    b"*3\r\n:1\r\n$-1\r\n$-1\r\n",
    b"*3\r\n-ERR in it\r\n$-1\r\n$-1\r\n",
    b"*2\r\n$-1\r\n$-1\r\n",
    b"*4\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n",
]


def sent(replies: list[list[bytes | None]]) -> bytes:
    """Lists as a server sends them."""
    parts = []
    for values in replies:
        parts.append(b"*%d\r\n" % len(values))
        parts += [
            b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)
            for value in values
        ]
    return b"".join(parts)


def coming(data: bytes, cuts: list[int]) -> Callable[[memoryview], int]:
    """What gives `data` in pieces that end at `cuts`, and then nothing."""
    ends = iter(sorted({*cuts, len(data)}))
    rest = [b""]
    at = [0]

    def take(memory: memoryview) -> int:
        if not rest[0]:
            end = next((end for end in ends if end > at[0]), at[0])
            rest[0], at[0] = data[at[0] : end], end
        part, rest[0] = rest[0][: len(memory)], rest[0][len(memory) :]
        memory[: len(part)] = part
        return len(part)

    return take


def stored(version: int, value: bytes | None) -> bytes:
    """A value as a store keeps it; None for a deleted one."""
    return version.to_bytes(8, "big") + (b"" if value is None else b"\1" + value)


def cut_out(found: tuple[np.ndarray, np.ndarray] | None) -> list[bytes]:
    """The bytes of each value that begins at a multiple of 8."""
    assert found is not None
    raw = found[0].tobytes()
    assert not (found[1][:, 0] & 7).any()
    return [raw[begin:end] for begin, end in found[1].tolist()]


@given(replies=st.lists(VALUES, min_size=1, max_size=4), data=st.data())
def test_replies_are_what_the_parser_reads(
    replies: list[list[bytes | None]], data: st.DataObject
) -> None:
    raw = sent(replies)
    parser = hiredis.Reader()
    parser.feed(raw)
    assert [parser.gets() for _ in replies] == replies
    cuts = data.draw(st.lists(st.integers(1, len(raw)), max_size=8))
    counts = [data.draw(st.sampled_from([ANY, len(values)])) for values in replies]
    got = receive(coming(raw, cuts), Room(), counts)
    assert isinstance(got, list)
    assert [listed(reply) for reply in got] == replies


def test_replies_cut_at_every_byte() -> None:
    raw = sent(USUAL)
    for cut in range(1, len(raw)):
        got = receive(coming(raw, [cut]), Room(), [ANY, 3, 1])
        assert isinstance(got, list)
        assert [listed(reply) for reply in got] == USUAL
        ended = receive(coming(raw[:cut], []), Room(), [ANY, 3, 1])
        assert not isinstance(ended, list)
        assert bytes(ended) == raw[:cut]
    every = receive(coming(raw, list(range(len(raw)))), Room(), [ANY, 3, 1])
    assert isinstance(every, list)


@pytest.mark.parametrize("odd", UNUSUAL)
def test_what_is_no_such_reply_is_left_as_it_came(odd: bytes) -> None:
    """Wherever it is cut: no byte is lost or changed before another parser has it."""
    before, after = sent(USUAL[:1]), sent(USUAL[2:])
    raw = before + odd + after
    for cut in range(1, len(raw)):
        take = coming(raw, [cut])
        got = receive(take, Room(), [ANY, 3, 1])
        assert not isinstance(got, list)
        rest = bytearray(len(raw))
        n = take(memoryview(rest))
        assert bytes(got) + bytes(rest[:n]) == raw


@given(st.binary(max_size=60), st.integers(0, 60))
def test_any_bytes(junk: bytes, cut: int) -> None:
    """Random bytes behind a good beginning end in values or are given back, never in a read outside."""
    raw = sent(USUAL[:2])[:cut] + junk
    got = receive(coming(raw, [cut]), Room(), [ANY, 3])
    if isinstance(got, list):
        parser = hiredis.Reader()
        parser.feed(raw)
        assert [listed(reply) for reply in got] == [parser.gets(), parser.gets()]
    else:
        assert raw.startswith(bytes(got))


def test_more_than_was_asked_for_is_no_such_reply() -> None:
    raw = sent(USUAL)
    got = receive(coming(raw + b"+", []), Room(), [ANY, 3, 1])
    assert not isinstance(got, list)
    assert bytes(got) == raw + b"+"


@given(
    values=st.lists(st.none() | st.binary(max_size=80) | st.sampled_from(TRICKY), max_size=8),
    missing=st.sets(st.integers(0, 7)),
)
def test_values_begin_at_a_multiple_of_eight(values: list[bytes | None], missing: set[int]) -> None:
    """What is stored comes out whole, nothing for what is not there or deleted, and no neighbour is touched."""
    there = [None if i in missing else stored(7, value) for i, value in enumerate(values)]
    received = receive(coming(sent([there]), []), Room(), [len(there)])
    assert isinstance(received, list)
    found = cut_out(received[0].settled(8))
    assert found == [
        b"" if i in missing or value is None else value for i, value in enumerate(values)
    ]


@pytest.mark.parametrize("odd", [stored(8, b"x"), stored(1 << 63, b"x"), b"short"])
def test_a_value_of_a_later_commit_is_left_to_be_looked_at(odd: bytes) -> None:
    there = [stored(7, b"first"), odd]
    received = receive(coming(sent([there]), []), Room(), [2])
    assert isinstance(received, list)
    assert received[0].settled(8) is None
    assert received[0].values() == there
    received = receive(coming(sent([there[:1]]), []), Room(), [1])
    assert isinstance(received, list)
    assert received[0].settled(7) is None
    assert cut_out(received[0].settled(8)) == [b"first"]


def test_what_was_received_stays_until_the_room_is_used_again() -> None:
    """Also while it grows; an idle one gives back what is large."""
    room = Room()
    sizes = [10, 100_000, 30_000, 3_000_000, 20]
    held = []
    for size in sizes:
        got = receive(coming(sent([[stored(1, b"v" * size)]]), []), room, [1])
        assert isinstance(got, list)
        held.append(got[0].settled(2))
    assert [cut_out(found) for found in held] == [[b"v" * size] for size in sizes]
    large = len(room.free())
    room.again()
    assert len(room.free()) < large
    room.again()
    assert len(room.free()) * 8 < 1 << 17


@pytest.mark.parametrize("short", range(-9, 10))
def test_a_reply_that_fills_the_room(short: int) -> None:
    """To its last byte, or all but: the next one, which finds no room or little, has its own."""
    room = Room()
    size = len(room.free()) * 8 - len(sent([[b""]])) - 20 - short
    for value in (stored(1, b"a" * size), stored(1, b"next"), stored(1, b"b" * 2 * size)):
        received = receive(coming(sent([[value]]), []), room, [1])
        assert isinstance(received, list)
        assert cut_out(received[0].settled(2)) == [value[BEFORE:]]


def test_keys_are_asked_for_as_the_client_would() -> None:
    hashes = np.arange(14, dtype=np.uint64).reshape(7, 2)
    asked = [(b"prefix-a", hashes), (b"prefix-b", hashes[:3])]
    commands, counts = asking(b"data", asked, 4)
    keys = [key for prefix, some in asked for key in key_bytes(some, prefix)]
    assert counts == [4, 4, 2]
    expected = [hiredis.pack_command((b"HMGET", b"data", *keys[at : at + 4])) for at in (0, 4, 8)]
    assert commands == b"".join(expected)
    assert asking(b"data", [(b"prefix-a", hashes[:0])], 4) == (b"", [])


@contextmanager
def talking(*connections: list[list[bytes]]) -> Iterator[Wire]:
    """A connection to a server that answers each request on its first, its second... by these pieces, then closes that one."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(20)

    def answer() -> None:
        for replies in connections:
            connected, _ = listening.accept()
            with connected:
                connected.settimeout(20)
                for pieces in replies:
                    if not connected.recv(1 << 16):
                        break
                    for piece in pieces:
                        connected.sendall(piece)

    server = threading.Thread(target=answer)
    server.start()
    pool = Pool(
        parse_address(f"redis://127.0.0.1:{listening.getsockname()[1]}/0?home=s&timeout=20s")
    )
    try:
        with pool.wire() as wire:
            yield wire
    finally:
        pool.close()
        server.join(30)
        listening.close()


GREETING = [[b"+OK\r\n"], [b"+OK\r\n"], [b"+OK\r\n"], [b":7\r\n"]]


@pytest.mark.parametrize("odd", UNUSUAL)
def test_a_connection_keeps_in_step(odd: bytes) -> None:
    """After replies of any kind the next question has its own answer, not a part of the one before."""
    raw = sent(USUAL[:1]) + odd + sent(USUAL[2:])
    pieces = [raw[at : at + 7] for at in range(0, len(raw), 7)]
    with talking([*GREETING, pieces, [sent(USUAL)]]) as wire:
        try:
            wire.fetch(b"ask", [ANY, 3, 1])
        except StoreError:
            assert odd.startswith(b"-")
        if wire.clean:
            got = wire.fetch(b"ask", [ANY, 3, 1])
            assert [listed(reply) for reply in got] == USUAL
            assert isinstance(got[0], Lying)


@pytest.mark.parametrize("cut", [0, 1, 9, 30, 50])
def test_a_reply_that_ends_too_early_is_a_lost_connection(cut: int) -> None:
    with (
        talking([*GREETING, [sent(USUAL)[:cut]]]) as wire,
        pytest.raises(StoreError, match="is away"),
    ):
        wire.fetch(b"ask", [ANY, 3, 1])
    assert not wire.clean


def test_what_is_left_of_a_reply_is_no_answer_to_the_next_question() -> None:
    """A read that was broken off, here by an argument that is no count, ends its connection; the next one has its own."""
    with talking([*GREETING, [sent(USUAL[::-1])]], [*GREETING[:3], [sent(USUAL)]]) as wire:
        with pytest.raises(TypeError):
            wire.fetch(b"ask", [None])  # type: ignore[list-item]
        assert not wire.clean
        assert [listed(reply) for reply in wire.fetch(b"ask", [ANY, 3, 1])] == USUAL
