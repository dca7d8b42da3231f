"""A store in a real Redis server keeps the laws of every store, and its own."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis import Redis

from sevenfold.errors import StoreError
from sevenfold.hashing import key_bytes
from sevenfold.stores import redis_write
from sevenfold.stores.kv import Hashes, Store, Transaction, Words
from sevenfold.stores.open import open_store
from sevenfold.stores.redis import RedisStore
from sevenfold.stores.redis_scripts import APPLY
from sevenfold.stores.redis_wire import Wire
from sevenfold.stores.tables import META, STATE, TABLES
from sevenfold.testing.redis_server import RedisServer, redis_server
from sevenfold.testing.store_suite import ITEMS, DurableSuite, in_thread, put, told

pytestmark = pytest.mark.usefixtures("redis_program")


def home_of(folder: Path) -> str:
    return str(folder).replace("/", "_")[-60:]


class TestRedis(DurableSuite):
    program = (
        "import os\nfrom sevenfold.stores.redis import RedisStore\n"
        "store = RedisStore(os.environ['REDIS_URL'] + sys.argv[1].replace('/', '_')[-60:])"
    )

    @pytest.fixture(autouse=True)
    def _server(self, redis, monkeypatch) -> None:
        self.redis = redis
        monkeypatch.setenv("REDIS_URL", redis.url(""))

    def open(self, folder: Path) -> Store:
        return RedisStore(self.redis.url(home_of(folder)))


def test_a_cluster_takes_every_command(tmp_path: Path) -> None:
    """A node of a cluster refuses keys of two slots in one command or program."""
    with redis_server(tmp_path, "--cluster-enabled", "yes") as server:
        raw = client(server)
        raw.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until(lambda: "cluster_state:ok" in str(raw.execute_command("CLUSTER", "INFO")))
        store = RedisStore(server.url("in_a_cluster"))
        with store.write() as txn:
            txn.put_many(STATE, ITEMS)
            txn.put(META, b"n", b"1")
        with store.read() as txn:
            put(store, ITEMS[0][0], b"new")
            assert list(txn.scan(STATE)) == ITEMS
        slots = {raw.execute_command("CLUSTER", "KEYSLOT", key) for key in raw.keys("*")}
        assert len(slots) == 1
        store.close()
        raw.close()


def test_password_and_tls(tmp_path: Path) -> None:
    """Both through the URL; without them a sentence that says what to give, and no password in any message."""
    certificate(tmp_path)
    tls = ("--tls-port", "0", "--tls-ca-cert-file", str(tmp_path / "cert.pem"))
    tls += (
        "--tls-cert-file",
        str(tmp_path / "cert.pem"),
        "--tls-key-file",
        str(tmp_path / "key.pem"),
    )
    with redis_server(tmp_path, "--requirepass", "hidden-word", *tls) as server:
        told(lambda: RedisStore(server.url("s")), "does not let us in")
        wrong = server.url("s").replace("//", "//:other-word@")
        told(lambda: RedisStore(wrong), "does not let us in")
        assert "other-word" not in refusal(lambda: RedisStore(wrong))
        given = server.url("s").replace("//", "//:hidden-word@")
        store = RedisStore(given)
        put(store, b"k", b"v")
        store.close()
        raw = client(server, password="hidden-word")
        port = free_port()
        raw.execute_command("CONFIG", "SET", "tls-auth-clients", "no", "tls-port", port)
        raw.close()
        safe = f"rediss://:hidden-word@localhost:{port}/0?home=s"
        told(lambda: RedisStore(safe), "is away")  # nobody vouches for the certificate
        store = RedisStore(f"{safe}&ca={tmp_path / 'cert.pem'}", readonly=True)
        with store.read() as txn:
            assert txn.get(STATE, b"k") == b"v"
            asked = [(b"prefix-a", np.zeros((1, 2), dtype=np.uint64))]
            assert words_of(txn, asked) == [b""]  # its bytes are the client's to decipher
        store.close()


def test_a_server_that_promises_less_is_refused(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--appendfsync", "everysec") as server:
        told(lambda: RedisStore(server.url("s")), "would lose commits that it acknowledged")
        RedisStore(server.url("s", durable="everysec")).close()
        raw = client(server)
        raw.config_set("maxmemory", "100mb")
        raw.config_set("maxmemory-policy", "allkeys-lru")
        told(lambda: RedisStore(server.url("s", durable="everysec")), "throws keys away")
        raw.config_set("appendonly", "no")
        told(lambda: RedisStore(server.url("s", durable="everysec")), "appendonly no")
        RedisStore(server.url("s", durable="any")).close()
        raw.close()


def test_a_server_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    """What was acknowledged is there again; meanwhile a sentence, not a hang; nothing half done is seen."""
    with redis_server(tmp_path) as server:
        store = RedisStore(server.url("s", timeout="2s"))
        put(store, b"k", b"1")
        server.stop(kill=True)
        told(lambda: put(store, b"k", b"2"), "is away")
        told(lambda: RedisStore(server.url("s")), "is away")
        server.start()
        put(store, b"l", b"2")
        with store.read() as txn:
            assert list(txn.scan(STATE)) == [(b"k", b"1"), (b"l", b"2")]
            server.stop(kill=True)
            told(lambda: txn.get(STATE, b"k"), "is away")
        server.start()
        store.close()


def test_a_store_to_read_must_exist(redis) -> None:
    told(lambda: RedisStore(redis.url("nowhere"), readonly=True), "must exist")
    RedisStore(redis.url("somewhere")).close()
    reader = RedisStore(redis.url("somewhere"), readonly=True)
    told(lambda: put(reader, b"k", b"v"), "open to read")
    reader.close()
    raw = client(redis)
    raw.hset("{sevenfold:somewhere}:head", "format", "99")
    raw.close()
    told(lambda: RedisStore(redis.url("somewhere")), "written by a later release")


def test_a_writer_that_was_overtaken_can_change_nothing(redis) -> None:
    """Its turn ends when it is silent for longer than `lock`; the token of the next one fences it off."""
    slow, quick = (RedisStore(redis.url("fenced", lock="100ms")) for _ in range(2))
    put(slow, b"k", b"0")

    def overtaken() -> None:
        with slow.write() as txn:
            assert txn.get(STATE, b"k") == b"0"
            txn.put(STATE, b"k", b"slow")
            in_thread(lambda: put(quick, b"k", b"quick"))

    told(overtaken, "has lost its turn")
    with slow.read() as txn:
        assert txn.get(STATE, b"k") == b"quick"
    put(slow, b"k", b"again")
    slow.close()
    quick.close()


def test_a_commit_cut_off_between_its_steps_is_taken_back(redis, monkeypatch) -> None:
    """Readers never see it, the next writer undoes it, and counts, order and deletes are as before."""
    monkeypatch.setattr(redis_write, "_STEP_KEYS", 7)
    store = RedisStore(redis.url("cut_off", lock="200ms"))
    with store.write() as txn:
        txn.put_many(STATE, ITEMS)
    run, left = Wire.run, [4]

    def cut(self, program, keys, *arguments):
        if program is APPLY:
            left[0] -= 1
            if left[0] < 0:
                self.close()
                raise StoreError("cut off")
        return run(self, program, keys, *arguments)

    monkeypatch.setattr(Wire, "run", cut)

    def doomed() -> None:
        with store.write() as txn:
            for key, _ in ITEMS[:20]:
                txn.delete(STATE, key)
            txn.put_many(STATE, [(key, b"changed") for key, _ in ITEMS[20:]])
            txn.put_many(STATE, [(key + b"new", b"new") for key, _ in ITEMS])

    told(doomed, "cut off")
    left[0] = 1 << 30
    for _ in range(2):
        with store.read() as txn:
            assert list(txn.scan(STATE)) == ITEMS
            assert txn.get_many(STATE, [ITEMS[0][0] + b"new", ITEMS[0][0]]) == [None, ITEMS[0][1]]
            assert txn.count(STATE) == len(ITEMS)
        with store.write() as txn:  # the second round: after it was taken back
            assert list(txn.scan(STATE)) == ITEMS
            assert txn.count(STATE) == len(ITEMS)
    put(store, b"\xff" * 4, b"")
    with store.read() as txn:
        assert list(txn.scan(STATE)) == [*ITEMS, (b"\xff" * 4, b"")]
    raw = client(redis)
    assert not raw.hexists("{sevenfold:cut_off}:head", "open")
    raw.close()
    store.close()


def test_a_table_has_one_digit() -> None:
    assert len(TABLES) <= 10, "the programs of redis_scripts read it so"


def test_every_table_is_counted_and_what_it_replaced_forgotten(redis) -> None:
    """Also those that came later: their keys lie before those that a commit forgets."""
    store = RedisStore(redis.url("tables", keep="20ms"))
    for n in range(6):
        time.sleep(0.03)
        with store.write() as txn:
            for table in TABLES:
                txn.put(table, b"k", b"%d" % n)
                txn.put(table, b"other%d" % n, b"")
    with store.read() as txn:
        assert [txn.count(table) for table in TABLES] == [7] * len(TABLES)
        assert {txn.get(table, b"k") for table in TABLES} == {b"5"}
    raw = client(redis)
    assert len(raw.keys("{sevenfold:tables}:undo:*")) <= 3
    raw.close()
    store.close()


def test_what_was_replaced_is_kept_while_it_is_read_and_then_forgotten(redis) -> None:
    store = RedisStore(redis.url("kept", keep="20ms"))
    with store.write() as txn:
        txn.put_many(STATE, ITEMS)
    with store.read() as held, store.read() as silent:
        pages = held.scan(STATE)  # a scan takes a lease
        first = next(pages)
        assert silent.get(STATE, ITEMS[0][0]) == ITEMS[0][1]
        for n in range(12):
            time.sleep(0.03)
            with store.write() as txn:
                txn.delete(STATE, ITEMS[n + 1][0])
                txn.put(STATE, ITEMS[20][0], b"%d" % n)
                txn.put(META, b"n", b"%d" % n)
        assert [first, *pages] == ITEMS
    with store.read() as silent:
        for n in range(12):
            time.sleep(0.03)
            put(store, b"other", b"%d" % n)
        told(lambda: silent.get(STATE, ITEMS[0][0]), "for too long")
    raw = client(redis)
    assert len(raw.keys("{sevenfold:kept}:undo:*")) <= 3
    assert raw.zcard("{sevenfold:kept}:leases") == 0
    left = {key for key, _ in ITEMS[:1] + ITEMS[13:]} | {b"other"}
    assert set(raw.hkeys("{sevenfold:kept}:table:state")) == left
    assert set(raw.zrange("{sevenfold:kept}:keys:state", 0, -1)) == left
    raw.close()
    store.close()


def test_a_value_is_followed_back_through_many_commits(redis) -> None:
    """Changed, deleted, put again: a snapshot held along the way sees each as it was."""
    store = RedisStore(redis.url("chain"))
    values = [b"a", None, b"", b"b" * 3000, None, None, b"c"]
    with ExitStack() as stack:
        snapshots = [stack.enter_context(store.read())]
        for value in values:
            with store.write() as txn:
                if value is None:
                    txn.delete(STATE, b"k")
                else:
                    txn.put(STATE, b"k", value)
            snapshots.append(stack.enter_context(store.read()))
        for txn, value in zip(snapshots, [None, *values], strict=True):
            assert txn.get(STATE, b"k") == value
            assert txn.count(STATE) == (value is not None)
            assert list(txn.scan(STATE)) == ([] if value is None else [(b"k", value)])
    store.close()


def test_words_of_a_snapshot_are_those_of_its_version(redis) -> None:
    """Read where they were received, or followed back: what was committed, changed or deleted later is not seen."""
    store = RedisStore(redis.url("snapshot_words"))
    hashes = np.arange(12_000, dtype=np.uint64).reshape(6_000, 2)
    asked = [(b"prefix-a", hashes[:5_000]), (b"prefix-b", hashes)]
    keys = [key for prefix, some in asked for key in key_bytes(some, prefix)]
    sizes = np.random.default_rng(1).integers(1, 40, len(keys))
    values = [bytes([n]) * (8 * n) for n in sizes.tolist()]
    with store.write() as txn:
        txn.put_many(STATE, list(zip(keys, values, strict=True))[::2])
    with store.read() as before, store.read() as later:
        in_order = [value if i % 2 == 0 else b"" for i, value in enumerate(values)]
        assert words_of(before, asked) == in_order
        with store.write() as txn:
            txn.put(STATE, keys[4], b"changed!")
            txn.put(STATE, keys[5], b"new one!")
            txn.delete(STATE, keys[6])
        assert words_of(before, asked) == in_order  # which has looked before
        assert words_of(later, asked) == in_order  # and which has not
    with store.read() as after:
        in_order[4:7] = b"changed!", b"new one!", b""
        first = after.words(STATE, asked[:1])
        assert words_of(after, asked) == in_order
        assert cut(first) == in_order[:5_000]  # still there after the next question
    store.close()


def test_a_refused_read_leaves_the_connection_in_step(redis) -> None:
    """The server's error comes in the middle of the replies; the next question has its own answer."""
    store, raw = RedisStore(redis.url("refused")), client(redis)
    asked = [(b"prefix-a", np.arange(2, dtype=np.uint64).reshape(1, 2))]
    (key,) = key_bytes(asked[0][1], b"prefix-a")
    put(store, key, b"8 bytes!")
    with store.read() as txn:
        assert words_of(txn, asked) == [b"8 bytes!"]
        raw.rename("{sevenfold:refused}:table:state", "{sevenfold:refused}:away")
        raw.set("{sevenfold:refused}:table:state", "a string")
        told(lambda: txn.words(STATE, asked), "WRONGTYPE")
        raw.rename("{sevenfold:refused}:away", "{sevenfold:refused}:table:state")
        assert words_of(txn, asked) == [b"8 bytes!"]
        assert txn.get(STATE, key) == b"8 bytes!"
    raw.close()
    store.close()


def words_of(txn: Transaction, asked: list[tuple[bytes, Hashes]]) -> list[bytes]:
    return cut(txn.words(STATE, asked))


def cut(found: list[Words]) -> list[bytes]:
    """The bytes of each value of `words`."""
    return [
        memoryview(words).cast("B")[begin:end].tobytes()
        for words, places in found
        for begin, end in places.tolist()
    ]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://", "names no host"),
        ("redis://h:0x1/0", "port"),
        ("redis://h/one", "number of the database"),
        ("redis://:hidden-word@h/0?home=a b", "home"),
        ("redis://h/0?homes=a", "no option 'homes'"),
        ("redis://h/0?durable=yes", "durable"),
        ("redis://h/0?keep=5", "keep"),
        ("redis://h/0?lock=1us", "millisecond"),
        ("redis://h/0?ca=file", "rediss://"),
        ("redis://h/0?home", "cannot be read"),
    ],
)
def test_a_bad_address_is_told(url: str, words: str) -> None:
    message = refusal(lambda: open_store(url))
    assert words in message
    assert "hidden-word" not in message


def test_another_home_is_another_store(redis) -> None:
    one, other = RedisStore(redis.url("one")), RedisStore(redis.url("other"))
    put(one, b"k", b"1")
    with other.read() as txn:
        assert txn.count(STATE) == 0
    one.close()
    other.close()


def client(server: RedisServer, password: str | None = None) -> Any:
    return Redis("127.0.0.1", server.port, password=password)


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as caught:
        act()
    return str(caught.value)


def until(act: Callable[[], bool]) -> None:
    for _ in range(400):
        if act():
            return
        time.sleep(0.02)
    raise AssertionError("it does not come")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def certificate(folder: Path) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
