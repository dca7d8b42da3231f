"""Redis Streams and Kafka topics into the log: offsets in our store, poison named, kills without a trace."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer
from redis import Redis

from sevenfold.clock import ManualClock
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import InputError
from sevenfold.features.plan import compile_plan
from sevenfold.serving.follow import Follower
from sevenfold.serving.ingest import Ingest
from sevenfold.sources.open import open_source
from sevenfold.spec import aggregate as agg
from sevenfold.spec.entity import Entity
from sevenfold.spec.field import Number
from sevenfold.spec.stream import Stream
from sevenfold.stores.dead_letters import exhume
from sevenfold.stores.log import blocks
from sevenfold.stores.memory import MemoryStore
from sevenfold.testing.redis_server import redis_server
from sevenfold.types import US_PER_S

NOW_US = 1_700_000_000 * US_PER_S
CUSTOMER = Entity("customer")
SALES = Stream("sales", time="at", id="line", keys=[CUSTOMER], fields={"price": Number(low=0)})


def row(i: int, **changes: Any) -> dict[str, Any]:
    """Line i."""
    at = NOW_US - 86_400 * US_PER_S + i * US_PER_S
    return {"line": f"l{i}", "at": at, "customer": f"c{i % 3}", "price": i / 4, **changes}


@dataclass
class Broker:
    """Somewhere to send messages to, and the address that they are read at."""

    url: str
    send: Callable[[list[bytes]], None]

    def put(self, rows: list[dict[str, Any]]) -> None:
        """Send rows as JSON."""
        self.send([json.dumps(one).encode() for one in rows])


class Shop:
    """A store that follows a broker."""

    def __init__(self, url: str) -> None:
        self.url, self.store, self.clock = url, MemoryStore(), ManualClock(NOW_US)
        self.engine = OnlineEngine(compile_plan([agg.aggregate(CUSTOMER, SALES, agg.sum("price"))]))
        self.ingest = Ingest(self.store, {"sales": SALES}, self.engine, self.clock)

    def run(self, steps: int = 1_000_000, **how: Any) -> Any:
        """What a follower took, at most so many batches of it."""
        source = open_source(self.url, SALES, self.clock)
        follower = Follower(self.ingest, self.store, SALES, source, **how)
        try:
            while steps and follower.step():
                steps -= 1
        finally:
            follower.close()
        return follower.taken

    def lines(self) -> list[str]:
        """The ids in the log."""
        with self.store.read() as txn:
            return [str(name) for _, batch in blocks(txn) for name in batch.event_ids.to_list()]


@pytest.fixture(scope="session")
def redis_port(redis_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Redis server."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server.port


@pytest.fixture(scope="session")
def cluster() -> Iterator[tuple[Producer, str]]:
    """librdkafka's own brokers, in this process."""
    producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    broker = next(iter(producer.list_topics(timeout=20).brokers.values()))
    yield producer, f"{broker.host}:{broker.port}"
    producer.flush(20)


@pytest.fixture(params=["redis", "kafka"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """An empty stream or topic."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    if request.param == "redis":
        port = request.getfixturevalue("redis_port")
        server: Redis = Redis(port=port)
        server.delete(name)

        def add(messages: list[bytes]) -> None:
            for message in messages:
                server.xadd(name, {"json": message})

        return Broker(f"redis+stream://127.0.0.1:{port}/0?stream={name}", add)
    producer, place = request.getfixturevalue("cluster")
    producer.list_topics(name, timeout=20)  # the mock makes a topic that is asked for

    def produce(messages: list[bytes]) -> None:
        for i, message in enumerate(messages):
            producer.produce(name, message, key=str(i).encode())
        assert producer.flush(20) == 0

    return Broker(f"kafka:{place}?topic={name}", produce)


def test_messages_are_taken_once_and_gone_on_with(broker: Broker) -> None:
    shop = Shop(broker.url)
    broker.put([row(i) for i in range(50)])
    assert shop.run().events == 50
    assert shop.run().rows == 0
    broker.put([row(i) for i in range(50, 60)])
    taken = shop.run()
    assert (taken.rows, taken.events) == (10, 10)
    assert sorted(shop.lines()) == sorted(f"l{i}" for i in range(60))


def test_a_killed_follower_goes_on_where_its_store_is(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sevenfold.sources.kafka._ROWS", 7)
    monkeypatch.setattr("sevenfold.sources.redis_stream._ROWS", 7)
    shop = Shop(broker.url)
    broker.put([row(i) for i in range(40)])
    passes = 0
    while shop.run(steps=1).rows:
        passes += 1
    assert passes >= 5
    assert sorted(shop.lines()) == sorted(f"l{i}" for i in range(40))


def test_poison_is_a_dead_letter_that_says_where_it_was(broker: Broker) -> None:
    shop = Shop(broker.url)
    good = json.dumps(row(1)).encode()
    wrong = json.dumps(row(2, price=-1)).encode()
    broker.send([b"{no json", good, b"\xff\xfe", b"[1]", b"", wrong, json.dumps(row(3)).encode()])
    taken = shop.run()
    assert (taken.rows, taken.events, taken.dead) == (7, 2, {"not_json": 4, "out_of_range": 1})
    with shop.store.read() as txn:
        letters = exhume(txn, 9)
    for letter in letters:
        if broker.url.startswith("kafka"):
            assert letter.origin.keys() == {"topic", "partition", "offset"}
            assert letter.origin["topic"] in broker.url
        else:
            assert letter.origin.keys() == {"stream", "id"}
    assert len({str(letter.origin) for letter in letters}) == 5


def test_what_comes_after_catching_up_is_known_when_it_comes(broker: Broker) -> None:
    shop = Shop(broker.url)
    broker.put([row(0)])
    shop.run(onward=True)
    shop.clock.advance(60 * US_PER_S)
    broker.put([row(1)])
    shop.run(onward=True)
    with shop.store.read() as txn:
        known = np.concatenate([batch.known_us for _, batch in blocks(txn)])
    assert known.tolist() == [row(0)["at"], NOW_US + 60 * US_PER_S]


def test_redis_entries_may_be_fields(redis_port: int) -> None:
    server: Redis = Redis(port=redis_port)
    server.delete("plain")
    server.xadd("plain", {"line": "7", "at": str(NOW_US), "customer": "12", "price": "2.5"})
    server.xadd("plain", {"line": "8", "at": str(NOW_US), "customer": "12", "price": "much"})
    shop = Shop(f"redis+stream://127.0.0.1:{redis_port}/0?stream=plain")
    taken = shop.run()
    assert (taken.events, taken.dead, shop.lines()) == (1, {"wrong_type": 1}, ["7"])


def test_entries_trimmed_before_they_were_read_are_told_of(redis_port: int) -> None:
    server: Redis = Redis(port=redis_port)
    server.delete("short")
    shop = Shop(f"redis+stream://127.0.0.1:{redis_port}/0?stream=short")
    server.xadd("short", {"json": json.dumps(row(0))})
    assert shop.run().notes == []
    for i in range(1, 10):
        server.xadd("short", {"json": json.dumps(row(i))})
    server.xtrim("short", maxlen=4, approximate=False)
    taken = shop.run()
    assert taken.events == 4
    assert taken.notes == [f"{shop.url}: 5 entries were deleted before they were read"]
    assert shop.run().notes == []
    server.xtrim("short", maxlen=0, approximate=False)
    server.xadd("short", {"json": json.dumps(row(10))})
    assert (taken := shop.run()).events == 1
    assert taken.notes == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis+stream://127.0.0.1:1/0?stream=x", "cannot be read"),
        ("redis+stream://127.0.0.1:1/0", "give stream"),
        ("redis+stream://127.0.0.1:x/0?stream=x", "redis"),
        ("kafka:127.0.0.1:1", "give topic"),
    ],
)
def test_a_broker_that_is_not_there_is_refused(url: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Shop(url).run()


def test_a_topic_that_is_not_there_is_refused(
    cluster: tuple[Producer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sevenfold.sources.kafka._PATIENCE_S", 1.0)
    with pytest.raises(InputError, match="cannot be read"):
        Shop("kafka:127.0.0.1:1?topic=x").run()


def test_a_stream_of_another_kind_is_refused(redis_port: int) -> None:
    server: Redis = Redis(port=redis_port)
    server.set("word", "x")
    with pytest.raises(InputError, match="cannot be read"):
        Shop(f"redis+stream://127.0.0.1:{redis_port}/0?stream=word").run()
