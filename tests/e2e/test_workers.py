"""Several processes on one port over one store: what they answer is what the log says, through a swap, kills and the end.

One server lives through all of it; the tests are in the order of its life.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from sevenfold.cli.load import load_system
from sevenfold.engines.offline import read_at
from sevenfold.errors import RunError, ServingError
from sevenfold.features.frame import Spine
from sevenfold.loop.client import Client, admin_client
from sevenfold.loop.server_process import ServerProcess
from sevenfold.registry.registry import Registry
from sevenfold.serving.audit import audit_all
from sevenfold.serving.definition import Definition
from sevenfold.serving.order import ChangeOrder, write_order
from sevenfold.serving.prediction_log import read_predictions
from sevenfold.serving.sealed_answers import PREDICTIONS_FOLDER, SealedAnswers
from sevenfold.stores.log import blocks, read_stream
from sevenfold.stores.open import open_store
from sevenfold.stores.tables import PREDICTIONS
from sevenfold.types import Texts
from tests.e2e.several import (
    ITEMS,
    PATIENCE_S,
    WORKERS,
    Asker,
    Door,
    Life,
    Plain,
    Sender,
    connections_of,
    is_gone,
    promote,
    sales,
    wait_for,
)

pytestmark = [pytest.mark.timeout(600), pytest.mark.in_order]
HEAD = 40  # answers left in the store: all others move to files while it lives


@pytest.fixture(scope="module")
def life(stall: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """A server of three processes that has sold something."""
    home = tmp_path_factory.mktemp("workers")
    system = home / "stall.py"
    system.write_text(stall.read_text("utf-8"), "utf-8")
    arguments = ["--workers", str(WORKERS), "--no-admission", "--log-head", str(HEAD)]
    with ServerProcess(str(system), home, arguments, timeout_s=240) as server:
        made = Life(server, home, str(system))
        names = [f"first{i}" for i in range(100)]
        made.port().post("/v1/events", sales(np.random.default_rng(0), names))
        made.events.update(names)
        yield made
        for client in made.clients:
            client.close()


def test_every_process_is_ready_and_one_page_has_the_counters_of_all(life: Life) -> None:
    described = msgspec.json.decode((life.home / "server.json").read_bytes())
    assert (described["pid"], described["workers"]) == (life.server.pid, WORKERS)
    assert sorted(life.pids()) == [0, 1, 2]
    for number in range(WORKERS):
        assert life.member(number).get("/readyz") == {"status": "ready"}
    counters = life.metrics()
    for number in range(WORKERS):
        assert counters[f'sevenfold_worker_up{{worker="{number}"}}'] == 1
        assert counters[f'sevenfold_log_position{{worker="{number}"}}'] == 100


def test_events_by_any_process_are_in_the_next_answer_of_every_other(life: Life) -> None:
    rng = np.random.default_rng(1)
    for number in range(WORKERS):
        name = f"by{number}"
        answer = life.member(number).post("/v1/events", sales(rng, [name]))
        life.events.add(name)
        again = life.member(0).post("/v1/events", sales(rng, [name]))
        assert (answer["events"], again["duplicates"]) == (1, 1)
        for other in range(WORKERS):
            key = {"customer": "c1", "item": "i1"}
            read = life.member(other).post("/v1/features", {"rows": [key]})
            assert read["position"] == answer["position"]
            life.read.append((key, read))
    stranger = Client(0, "another", connection=Door(life.home, 1))
    life.clients.append(stranger)
    with pytest.raises(ServingError, match="401"):
        stranger.post("/v1/events", sales(rng, ["x"]))
    with pytest.raises(ServingError, match=r"404.*no stream 'x'"):
        life.member(2).post("/v1/events", {"stream": "x", "events": []})


def test_one_request_to_all_at_once_has_one_answer(life: Life) -> None:
    body = {"request_id": "same", "keys": {"customer": "c1"}, "items": ITEMS}
    answers: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(life.member(n).post("/v1/rank", body)))
        for n in range(WORKERS)
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == len(threads)
    assert len({msgspec.json.encode(answer["items"]) for answer in answers}) == 1
    assert len({answer["t"] for answer in answers}) == 1
    life.given["same"] = answers[0]


def test_who_has_the_lock_writes_what_the_others_have_made_also_of_one_that_is_killed(
    life: Life,
) -> None:
    def ask(number: int, name: str) -> None:
        with suppress(RunError):  # of one that is killed there is no answer
            body = {"request_id": name, "keys": {"customer": "c1"}, "items": ITEMS}
            life.given[name] = life.member(number).post("/v1/rank", body)

    threads = [threading.Thread(target=ask, args=(n, f"waits{n}")) for n in (1, 2)]
    pid = life.pids()[1]
    os.kill(life.server.pid, signal.SIGSTOP)  # nothing is started again meanwhile
    store = open_store(f"lmdb:{life.home / 'store'}")
    try:
        with store.write():  # as any process that commits just now
            for thread in threads:
                thread.start()
            wait_for(lambda: life.shows(1) and life.shows(2), "both have made their answers")
            os.kill(pid, signal.SIGKILL)
        for thread in threads:
            thread.join(PATIENCE_S)
        with store.read() as txn:
            logged = {one.request_id: one.t_us for one in read_predictions(txn)}
    finally:
        store.close()
        os.kill(life.server.pid, signal.SIGCONT)
    assert "waits1" not in life.given
    ask(2, "waits1")
    assert life.given["waits1"]["repeated"]
    assert [life.given[name]["t"] for name in ("waits1", "waits2")] == [
        logged["waits1"],
        logged["waits2"],
    ]
    wait_for(lambda: life.is_back(1, pid), "the worker is back")


def test_a_model_is_swapped_in_all_of_them_under_load_with_no_request_lost_or_mixed(
    life: Life,
) -> None:
    first = promote(life, "item__count_7d")
    senders = [Sender(life, number, 400) for number in range(2)]
    askers = [Asker(life, f"swap{i}", i % WORKERS, 4_000) for i in range(WORKERS)]
    for thread in (*senders, *askers):
        thread.start()
    try:
        wait_for(lambda: all(asker.n >= 10 for asker in askers), "ten answers of each process")
        second = promote(life, "item__sum_price_7d")
        at = [asker.n for asker in askers]
        wait_for(
            lambda: all(asker.n >= n + 10 for asker, n in zip(askers, at, strict=True)),
            "ten answers of each process after the swap",
        )
    finally:
        for sender in senders:
            sender.stopped.set()
            sender.join()
            life.events.update(sender.sent)
        for asker in askers:
            asker.ended()
    assert [thread.failures for thread in (*senders, *askers)] == [[]] * (2 + WORKERS)
    for asker in askers:  # each process serves the one, then the other, and never goes back
        versions = [answer["version"] for answer in asker.given.values()]
        assert set(versions) == {first, second}
        assert versions == sorted(versions)


ALTERED = (
    "sf.aggregate([customer, item], sales, sf.count()",
    'sf.aggregate(customer, sales, sf.count(windows=["30 d"])),'
    "sf.aggregate([customer, item], sales, sf.count()",
)


def test_another_declaration_is_taken_over_by_all_with_no_request_lost(
    life: Life, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = Path(life.system).read_text("utf-8")
    assert text.count(ALTERED[0]) == 1
    new = tmp_path_factory.mktemp("altered") / "stall.py"
    new.write_text(text.replace(*ALTERED), "utf-8")
    log = life.home / "server.log"
    askers = [Asker(life, f"change{number}", number, 4_000) for number in range(WORKERS)]
    for asker in askers:
        asker.start()
    try:
        wait_for(lambda: all(asker.read for asker in askers), "an answer of each process")
        write_order(life.home, ChangeOrder(str(new)))
        client = admin_client(life.home)
        life.clients.append(client)
        client.post("/v1/change", {})
        wait_for(lambda: client.get("/v1/change")["state"] == "none", "the change is done")
        for number in range(WORKERS):  # from now on no answer is by the old one
            read = life.member(number).post("/v1/features", {"rows": [{**askers[0].read[0][0]}]})
            assert read["definition"] == Definition(load_system(str(new))).name
        wait_for(
            lambda: log.read_text().count("change followed") == WORKERS - 1, "all have followed"
        )
    finally:
        for asker in askers:
            asker.ended()
    life.system = str(new)
    assert [asker.failures for asker in askers] == [[]] * WORKERS


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the system has no /proc/net/tcp")
def test_a_worker_killed_under_load_takes_only_its_own_connections_with_it(life: Life) -> None:
    pid = life.pids()[1]
    askers = [Plain(life, f"kill{i}") for i in range(9)]
    for asker in askers:
        asker.start()
    wait_for(lambda: all(asker.statuses for asker in askers), "an answer on each connection")
    os.kill(pid, signal.SIGSTOP)
    theirs = connections_of(pid)
    os.kill(pid, signal.SIGKILL)
    late = [Plain(life, f"late{i}") for i in range(3)]  # by whoever is left
    for asker in late:
        asker.start()
    try:
        wait_for(lambda: life.is_back(1, pid), "the worker is back")
        at = [len(asker.statuses) for asker in askers]
        wait_for(
            lambda: all(
                asker.lost or len(asker.statuses) > n for asker, n in zip(askers, at, strict=True)
            ),
            "the others go on",
        )
    finally:
        for asker in (*askers, *late):
            asker.stopped.set()
            asker.join()
    for asker in (*askers, *late):
        assert set(asker.statuses) <= {200}
        assert asker.lost is None or asker.local in theirs, asker.lost
    body = {"request_id": "back", "keys": {"customer": "c3"}, "items": ITEMS}
    life.given["back"] = life.member(1).post("/v1/rank", body)
    assert life.given["back"]["version"] == 2  # what was swapped while another was in its place


def test_while_the_owner_is_away_answers_go_on_and_events_are_told_to_come_back(
    life: Life,
) -> None:
    pid = life.pids()[0]
    askers = [Asker(life, f"orphan{number}", number, 4_000) for number in (1, 2)]
    for asker in askers:
        asker.start()
    os.kill(pid, signal.SIGKILL)
    refused: list[tuple[int, bytes | None, str | None]] = []
    rng = np.random.default_rng(5)
    door = Door(life.home, 1)
    try:
        headers = {"Authorization": f"Bearer {life.token}"}
        n = 0
        while True:
            raw = msgspec.json.encode(sales(rng, [f"orphan{n}"]))
            door.request("POST", "/v1/events", raw, headers)
            response = door.getresponse()
            body = response.read()
            if response.status == 200:
                break
            code = msgspec.json.decode(body)["error"]["code"]
            refused.append((response.status, code, response.getheader("retry-after")))
            n += 1
            assert n < PATIENCE_S * 20
            time.sleep(0.05)
        life.events.add(f"orphan{n}")
    finally:
        for asker in askers:
            asker.ended()
        door.close()
    assert set(refused) == {(503, "owner_away", "1")}
    assert [asker.failures for asker in askers] == [[], []]
    assert all(asker.given for asker in askers)
    assert life.pids()[0] != pid
    key = {"customer": "c1", "item": "i1"}  # started again, it serves what was changed to
    read = life.member(0).post("/v1/features", {"rows": [key]})
    assert read["definition"] == Definition(load_system(life.system)).name


def test_answers_that_have_moved_to_files_are_given_again_by_every_process(life: Life) -> None:
    """The owner has moved them, most while all were answering; whoever gave them, and whoever is asked."""
    store = open_store(f"lmdb:{life.home / 'store'}", readonly=True)

    def left() -> int:
        with store.read() as txn:
            return txn.count(PREDICTIONS)

    wait_for(lambda: left() <= 2 * HEAD, "all but the newest have moved")
    store.close()
    assert list((life.home / PREDICTIONS_FOLDER).glob("*.parquet"))
    oldest = [name for name in life.given if name.startswith("swap")][:12]
    for at, name in enumerate(oldest):
        before, customer = life.given[name], f"c{int(name.rpartition('-')[2]) % 5}"
        body = {"request_id": name, "keys": {"customer": customer}, "items": ITEMS}
        again = life.member(at % WORKERS).post("/v1/rank", body)
        assert again["repeated"]
        assert (again["items"], again["t"]) == (before["items"], before["t"])


def test_asked_to_end_it_finishes_what_it_has_begun_and_leaves_nobody_behind(life: Life) -> None:
    pids = list(life.pids().values())
    body = msgspec.json.encode({"request_id": "last", "keys": {"customer": "c4"}, "items": ITEMS})
    raw = socket.create_connection(("127.0.0.1", life.server.port), timeout=60)
    raw.sendall(
        b"POST /v1/rank HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n"
        b"content-length: %d\r\n\r\n" % len(body)
    )
    with raw, raw.makefile("rb") as file:
        assert file.readline().startswith(b"HTTP/1.1 100 ")  # it has begun
        assert file.readline() == b"\r\n"
        os.kill(life.server.pid, signal.SIGTERM)
        wait_for(lambda: any(map(is_gone, pids)), "a process that has nothing to finish ends")
        raw.sendall(body)
        answer = file.read()
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    life.given["last"] = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])
    life.server.stop(60)
    assert all(map(is_gone, pids))
    assert not list(life.home.glob("*.sock"))


def test_all_that_was_answered_is_what_the_log_says(life: Life) -> None:
    definition = Definition(load_system(life.system))
    store = open_store(f"lmdb:{life.home / 'store'}", readonly=True)
    registry = Registry(life.home / "registry")
    with store.read() as txn:
        sealed = SealedAnswers(life.home / PREDICTIONS_FOLDER)
        every = list(read_predictions(txn, sealed=sealed))
        logged = {one.request_id: one for one in every}
        assert len(logged) == len(every), "each is in the store or in one file"
        assert txn.count(PREDICTIONS) < len(every)
        events = read_stream(txn, "sales")
        ids = [name for _, batch in blocks(txn) for name in batch.event_ids.to_list()]
        *_, audited = audit_all(txn, definition, 1.0, sealed=sealed)
    store.close()
    assert events is not None
    assert life.events <= set(ids)
    assert len(ids) == len(set(ids))
    assert audited.compared == sum(len(one.logged_rows()) for one in logged.values())
    assert audited.different == 0
    assert audited.skipped == 0
    models = {version: registry.load(version) for version in (1, 2)}
    for name, answer in life.given.items():
        one = logged[name]
        assert (one.slate(), one.t_us) == ([item["item"] for item in answer["items"]], answer["t"])
        assert one.shown_scores().tolist() == [item["score"] for item in answer["items"]]
        assert one.version == answer["version"]
        if one.version:
            model = models[one.version]
            columns = [definition.features.index(feature) for feature in model.feature_names]
            scores = model.scores(np.ascontiguousarray(one.logged_vectors()[:, columns]))
            of_row = dict(zip(one.logged_rows().tolist(), scores.tolist(), strict=True))
            assert [of_row[row] for row in one.shown_rows().tolist()] == one.shown_scores().tolist()
    for names in {tuple(answer["features"]) for _, answer in life.read}:
        mine = [(key, answer) for key, answer in life.read if tuple(answer["features"]) == names]
        keys = {name: Texts.of([key[name] for key, _ in mine]) for name in ("customer", "item")}
        spine = Spine(np.array([answer["t"] for _, answer in mine]), keys)
        expected = read_at(definition.plan, names, spine, {"sales": events}).values
        found = [[np.nan if v is None else v for v in answer["values"][0]] for _, answer in mine]
        np.testing.assert_array_equal(expected, np.array(found))
    assert len(life.given) > 100
