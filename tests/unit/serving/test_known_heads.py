"""Heads that came before are known by their bytes, those of late and those that say all."""

from collections.abc import Callable
from typing import Any

import pytest

from sevenfold.serving.known_heads import KnownHeads
from sevenfold.serving.route import Asked, Head, Reply, Route
from sevenfold.serving.site import Site
from tests.unit.serving.wire import MENU, wired

MakeStall = Callable[..., Any]


def unasked(site: Site, asked: Asked) -> Reply:
    raise NotImplementedError


def head_of_path(path: str) -> Head:
    route = Route("GET", path, None, "", unasked)
    return Head("GET", path, route, {}, {}, 0, 0, 0.0)


def test_only_heads_of_late_are_known() -> None:
    known = KnownHeads(most=3, most_bytes=10)
    heads = {b"%d" % n: head_of_path(f"/{n}") for n in range(10)}
    for raw, head in heads.items():
        known.keep(raw, head)
        assert known.find(b"0") is heads[b"0"]  # asked for again and again, it stays
        assert known.find(raw) is head
    assert known.find(b"1") is None
    assert known.find(b"9") is heads[b"9"]
    known.keep(b"x" * 11, heads[b"0"])
    assert known.find(b"x" * 11) is None


def test_a_head_that_there_was_no_time_for_is_known(make_stall: MakeStall) -> None:
    """Under a great load it is most that come."""
    late = MENU["no time"]
    with wired(make_stall().app) as wire:
        wire.ask(MENU["answer"])  # what an answer takes is known
        heads = wire.config.http_protocol_class.keywords["heads"]  # type: ignore[union-attr]

        async def ask(*parts: bytes) -> bytes:
            (ahead, one), (connection, theirs) = await wire.connect(), await wire.connect()
            with one, theirs:
                ahead.data_received(MENU["answer"][:-1])  # it is waited for
                for part in parts:
                    connection.data_received(part)
                raw = await wire.sent(theirs)
                for used in (ahead, connection):
                    used.transport.abort()
                await wire.settle()
            return raw

        first = wire.loop.run_until_complete(ask(late))
        assert first.startswith(b"HTTP/1.1 503 ")
        assert len(heads._new) == 2
        assert b'"code":"overloaded"' in first
        again = wire.loop.run_until_complete(ask(late[:-5], late[-5:] + MENU["health"]))
        assert [again.count(b"HTTP/1.1 503 "), again.count(b"HTTP/1.1 200 ")] == [1, 1]
        assert not wire.state.connections


@pytest.mark.parametrize(
    "name", ["last", "old", "old that keeps", "waits", "upgrade", "features in chunks", "no token"]
)
def test_what_is_more_than_its_bytes_is_not_known(make_stall: MakeStall, name: str) -> None:
    app = make_stall().app
    with wired(app) as wire:
        for _ in range(3):
            wire.ask(MENU[name])
        heads = wire.config.http_protocol_class.keywords["heads"]  # type: ignore[union-attr]
        assert not heads._new
        wire.ask(MENU["health"])
        assert len(heads._new) == 1
