"""An hour at 60 % of what the server can do: memory flat, no answer lost, every outcome joined, every score the offline one.

One server on a core of its own, its capacity first (a closed loop of eight clients), then slices of an open loop at 60 % of it, after each of
which the outcomes of what was answered are posted, and the memory of the server is read. At the end the log is read back:

    lost_rows            answers that a client has and the log has not, and rows of a slate without the vector that was read of them
    doubled_rows         requests with two answers in the log
    join_completeness    the share of the outcomes taken in that find the answer they belong to, with their item in it
    vector_equality      the share of sampled logged values that are, bit for bit, what the offline engine says of their instant
    score_equality       the share of served scores that are, bit for bit, what the training library says of the logged vectors: of 200,000 answers
                         spread over the hour, or all where there are fewer, and of all that clients kept
    memory_growth_mb     anonymous memory in the last quarter of the load less that in the second: medians

`--seconds` says how long the load lasts; less than a minute is for a test of the benchmark.
"""

from __future__ import annotations

import tempfile
import time
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.load import NUMBER, Kind, Load, Outcomes, Phase, capacity, on_core
from benchmarks.load import run as put
from benchmarks.measure import Report, figure
from benchmarks.ranking import SYSTEM, prepare
from benchmarks.ranking_system import system
from sevenfold.clock import SystemClock
from sevenfold.errors import ServingError
from sevenfold.loop.client import Client
from sevenfold.loop.server_process import ServerProcess
from sevenfold.models.protocol import Model
from sevenfold.registry.registry import Registry
from sevenfold.serving.audit import audit_all
from sevenfold.serving.definition import Definition
from sevenfold.serving.prediction_log import (
    Prediction,
    Sealed,
    find_prediction,
    read_predictions,
)
from sevenfold.serving.sealed_answers import PREDICTIONS_FOLDER, SealedAnswers
from sevenfold.stores.kv import Transaction
from sevenfold.stores.log import read_stream
from sevenfold.stores.open import open_store

__all__ = ["PACKAGES", "Kept", "check", "run"]

PACKAGES = ("sevenfold", "numpy", "numba", "lmdb", "duckdb", "uvicorn", "uvloop", "lightgbm")
LOAD = 0.6
_SERVER_CORE, _CLIENT_CORE = 0, 1
_CLIENTS = 8
_SLICE_S = 60.0
_SLICES = 4  # at least, where the whole is short
_POST_ROWS = 500
_PATIENCE_S = 60.0
_ASIDE = 5  # answers of a slice that a client keeps
_SAMPLED = 20_000  # vectors that are computed again
_SCORED = 200_000  # answers that are scored again: that takes as long as to serve them
_UNREAD = ("cached", "nulls", "popular", "empty")  # what was not read cannot be logged


@dataclass
class Kept:
    """What the clients know: the requests that were answered, the outcomes taken in, and some answers whole."""

    answered: set[str] = field(default_factory=set)
    outcomes: dict[str, tuple[str, str]] = field(default_factory=dict)
    whole: dict[str, list[tuple[str, float]]] = field(default_factory=dict)


def run(repeat: int, scale: float, seconds: float = 3600.0) -> Report:
    """Measure one soak of `seconds`; `repeat` has no meaning here, `scale` shortens the history before it."""
    report = Report("soak")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder) / "home"
        home.mkdir()
        prepared = prepare(home, min(1.0, scale))
        server = ServerProcess(str(SYSTEM), home)
        with on_core(_SERVER_CORE):
            stack.enter_context(server)
        kinds = [Kind("rank", "/v1/rank", prepared.rank_bodies())]
        able = capacity(
            server.port, _tagged(kinds, "c"), _CLIENTS, min(6.0, seconds / 4), _CLIENT_CORE
        )
        kept, memory, seen = _soaked(server, home, kinds, able, seconds)
        server.stop()
        found = read_back(home, kept)
    _say(report, found, memory, seen)
    report.results["capacity_per_s"] = figure([able], "/s")
    report.notes.append(f"{seconds:.0f} s at {LOAD * able:.1f} requests a second")
    return report


def _soaked(
    server: ServerProcess, home: Path, kinds: list[Kind], able: float, seconds: float
) -> tuple[Kept, list[float], list[Outcomes]]:
    """What the clients know, the server's memory after each slice in MB, and what became of the requests."""
    kept, memory, seen = Kept(), [], []
    slices = max(_SLICES, round(seconds / _SLICE_S))
    client = Client(server.port, (home / "token").read_text().strip())
    try:
        for at in range(slices):
            tag = f"s{at:05d}-"
            phases = [Phase("soak", seconds / slices, rate=LOAD * able)]
            load = Load(server.port, _tagged(kinds, tag), phases, seed=at, timeout_s=30)
            outcomes = put(load, _CLIENT_CORE)
            seen.append(outcomes)
            # Numbers are given in the order in which requests are due, from one.
            names = [f"{tag}{n + 1:012d}" for n in np.flatnonzero(outcomes.ok).tolist()]
            kept.answered.update(names)
            _keep_whole(client, kinds, tag, kept)
            _post_outcomes(client, kinds, names, kept)
            memory.append(anonymous_mb(server.pid))
    finally:
        client.close()
    return kept, memory, seen


def _tagged(kinds: Sequence[Kind], tag: str) -> list[Kind]:
    return [
        Kind(
            kind.name,
            kind.path,
            tuple(body.replace(NUMBER, tag.encode() + NUMBER) for body in kind.bodies),
        )
        for kind in kinds
    ]


def _keep_whole(client: Client, kinds: Sequence[Kind], tag: str, kept: Kept) -> None:
    for n in range(_ASIDE):
        body = _asked(kinds[0].bodies[n % len(kinds[0].bodies)])
        body["request_id"] = f"{tag}aside-{n}"
        answer = _told(client, "/v1/rank", body)
        kept.answered.add(body["request_id"])
        kept.whole[body["request_id"]] = [(i["item"], i["score"]) for i in answer["items"]]


def _told(client: Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a post, which comes back while it is refused for want of time, for a minute at most."""
    until_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return client.post(path, body)
        except ServingError as error:
            if "(503)" not in str(error) or time.monotonic() > until_s:
                raise
            time.sleep(1)


def _asked(body: bytes) -> dict[str, Any]:
    asked: dict[str, Any] = msgspec.json.decode(body)
    return asked


def _post_outcomes(client: Client, kinds: Sequence[Kind], names: Sequence[str], kept: Kept) -> None:
    """Of each answer, the customer takes an item that was asked about."""
    asked = [_asked(body) for body in kinds[0].bodies]
    at = str(np.datetime64(SystemClock().now_us(), "us"))
    rows = []
    for name in names:
        body = asked[int(name.rpartition("-")[2]) % len(asked)]
        line, item = f"o-{name}", body["items"][0]
        row = {"line": line, "at": at, "customer": body["keys"]["customer"], "item": item}
        rows.append(row | {"price": 1.0, "basket": name})
        kept.outcomes[line] = (name, item)
    for first in range(0, len(rows), _POST_ROWS):
        batch = {"stream": "sales", "events": rows[first:][:_POST_ROWS]}
        told = _told(client, "/v1/events", batch)
        assert told["dead_letters"] == 0, told


def read_back(home: Path, kept: Kept) -> dict[str, float]:
    """What the log of a home says of what the clients know."""
    registry = Registry(home / "registry")
    version = registry.alias("champion")
    assert version is not None
    store = open_store(f"lmdb:{home / 'store'}", readonly=True)
    try:
        with store.read() as txn:
            sealed = SealedAnswers(home / PREDICTIONS_FOLDER)
            return check(txn, kept, registry.load(version), sealed)
    finally:
        store.close()


def check(
    txn: Transaction, kept: Kept, model: Model, sealed: Sealed | None = None
) -> dict[str, float]:
    """The figures of the log against what the clients know, all answers scored by `model`."""
    definition = Definition(system)
    columns = np.array([definition.features.index(name) for name in model.feature_names])
    seen: dict[str, int] = {}
    lost = scores = equal = rows = 0
    share = min(1.0, _SCORED / max(1, len(kept.answered)))
    for answer in read_predictions(txn, sealed=sealed):
        name = answer.request_id
        seen[name] = seen.get(name, 0) + 1
        shown = answer.shown_rows()
        rows += len(shown)
        if answer.rung not in _UNREAD:
            lost += int((~np.isin(shown, answer.logged_rows())).sum())
        if name in kept.whole or share * 2.0**32 > zlib.crc32(name.encode()):
            n, same = _scores(answer, model, columns, kept.whole.get(name))
            scores, equal = scores + n, equal + same
    lost += sum(name not in seen for name in kept.answered)
    vectors, different = _vectors(txn, definition, min(1.0, _SAMPLED / max(1, rows)), sealed)
    return {
        "answers": float(len(seen)),
        "lost_rows": float(lost),
        "doubled_rows": float(sum(n - 1 for n in seen.values())),
        "outcomes": float(len(kept.outcomes)),
        "join_completeness": _joined(txn, kept, sealed) / max(1, len(kept.outcomes)),
        "vectors_compared": float(vectors),
        "vector_equality": 1 - different / max(1, vectors * len(definition.features)),
        "scores_compared": float(scores),
        "score_equality": equal / max(1, scores),
    }


def _scores(
    answer: Prediction, model: Model, columns: Any, told: list[tuple[str, float]] | None
) -> tuple[int, int]:
    """How many scores of an answer by the model there are, and how many are the model's for its vectors, and were told so."""
    if answer.rung not in ("full", "fewer"):
        return 0, 0
    again = model.scores(np.ascontiguousarray(answer.logged_vectors()[:, columns]))
    wanted = dict(zip(answer.logged_rows().tolist(), again.tolist(), strict=True))
    shown = list(zip(answer.shown_rows().tolist(), answer.shown_scores().tolist(), strict=True))
    n, same = len(shown), sum(wanted.get(row) == score for row, score in shown)
    if told is not None:
        logged = [(answer.items[row], score) for row, score in shown]
        n += len(told)
        same += sum(one == other for one, other in zip(told, logged, strict=True))
    return n, same


def _vectors(
    txn: Transaction, definition: Definition, share: float, sealed: Sealed | None
) -> tuple[int, int]:
    """How many logged vectors the offline engine has made again, and how many of their values differ."""
    compared = different = 0
    for totals in audit_all(txn, definition, share, sealed=sealed):
        compared, different = totals.compared, totals.different
        assert not totals.skipped
    return compared, different


def _joined(txn: Transaction, kept: Kept, sealed: Sealed | None) -> int:
    """How many outcomes of the log find the answer that they name, with their item in it."""
    sales = read_stream(txn, "sales")
    if sales is None:
        return 0
    joined = 0
    baskets, items = sales.fields["basket"], sales.keys["item"]
    where = {name: row for row, name in enumerate(sales.event_ids.to_list())}
    names, taken = baskets.to_list(), items.to_list()
    for line, outcome in kept.outcomes.items():
        row = where.get(line)
        if row is None or (names[row], taken[row]) != outcome:
            continue
        answer = find_prediction(txn, outcome[0], sealed)
        joined += answer is not None and taken[row] in answer.items
    return joined


def anonymous_mb(pid: int) -> float:
    """The memory of a process that is not a file's, in MB; NaN where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return float("nan")
    line = next(row for row in status.read_text().splitlines() if row.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def growth_mb(memory: Sequence[float]) -> float:
    """The median of the last quarter less that of the second: the first one fills pools and caches."""
    quarter = max(1, len(memory) // 4)
    return float(np.median(memory[-quarter:]) - np.median(memory[quarter : 2 * quarter]))


def _say(
    report: Report, found: dict[str, float], memory: list[float], seen: Sequence[Outcomes]
) -> None:
    latency = np.concatenate([one.latency_ms[one.ok] for one in seen])
    found = found | {
        "memory_mb": memory[-1],
        "memory_growth_mb": growth_mb(memory),
        "p99_ms": float(np.quantile(latency, 0.99)) if len(latency) else float("nan"),
        "answered_share": float(np.mean(np.concatenate([one.ok for one in seen]))),
    }
    for key, value in found.items():
        unit = "MB" if key.endswith("_mb") else "ms" if key.endswith("_ms") else ""
        report.results[key] = figure([value], unit)
    for key in ("join_completeness", "vector_equality", "score_equality", "lost_rows"):
        report.ratios[key] = found[key]
    report.ratios["memory_growth_mb"] = found["memory_growth_mb"]
    counts: dict[str, int] = {}
    for one in seen:
        for name, n in one.counts().items():
            counts[name] = counts.get(name, 0) + n
    report.notes.append(f"requests by status: {counts}; memory by slice in MB: {_short(memory)}")


def _short(memory: Sequence[float]) -> str:
    step = max(1, len(memory) // 12)
    return ", ".join(f"{value:.1f}" for value in memory[::step])
