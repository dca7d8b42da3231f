"""What a server counts and times, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.registry import Collector

from sevenfold.models.paths import Choice
from sevenfold.serving.request_counts import RequestCounts
from sevenfold.serving.times import Times
from sevenfold.stores.history import Kept

__all__ = ["Metrics"]

_STAGE_BUCKETS_S = (
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    1.0,
)  # a stage may take a share of the budget: from the cheapest lookup to all of a long one


class Metrics:
    """The counters, gauges and histograms of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._counts = RequestCounts()
        self._registry.register(self._counts)
        self._stages = Times(
            "sevenfold_stage_seconds", "Time of a stage of an answer", "stage", _STAGE_BUCKETS_S
        )
        self._registry.register(self._stages)
        self._rows = Counter(
            "sevenfold_rows",
            "Rows taken in, by what became of them",
            ["outcome"],
            registry=self._registry,
        )
        self._dead = Counter(
            "sevenfold_dead_letters", "Rows refused, by reason", ["reason"], registry=self._registry
        )
        self._unlogged = Counter(
            "sevenfold_unlogged",
            "Requests refused because the log cannot be written, by code",
            ["code"],
            registry=self._registry,
        )
        self._alerts = Counter(
            "sevenfold_expectation_breaches",
            "Batches that were not as their stream expects",
            ["stream", "expectation"],
            registry=self._registry,
        )
        self._answers: dict[str, Counter] = {}  # by rung: to look one up takes longer than to count
        self._rungs = Counter(
            "sevenfold_answers",
            "Answers, by the rung that served",
            ["rung"],
            registry=self._registry,
        )
        self._degraded = Counter(
            "sevenfold_degraded",
            "Answers that had to do without something, by the stage that lacked it",
            ["stage"],
            registry=self._registry,
        )
        self._position = Gauge(
            "sevenfold_log_position", "Events in the log", registry=self._registry
        )
        self._version = Gauge(
            "sevenfold_model_version",
            "The version that serves; 0 for none",
            registry=self._registry,
        )

        self._jobs = Counter(
            "sevenfold_job_seconds",
            "Time of the work beside the answers",
            ["job"],
            registry=self._registry,
        )
        self._job_failures = Counter(
            "sevenfold_job_failures", "Steps of a job that raised", ["job"], registry=self._registry
        )
        self._change = Gauge(
            "sevenfold_change_events",
            "Events in the states of a change that is under way, and in the log",
            ["what"],
            registry=self._registry,
        )

        self._history = Gauge(
            "sevenfold_history",
            "Of the histories by key: their segments, bytes and events, and the log's events not in them",
            ["what"],
            registry=self._registry,
        )

        self._audited = Gauge(
            "sevenfold_audit_vectors",
            "Logged vectors compared with the log by the definition that serves, and those that differ",
            ["result"],
            registry=self._registry,
        )
        self._audit_rate = Gauge(
            "sevenfold_audit_mismatch_rate",
            "The share of compared values of a feature that differ",
            ["feature"],
            registry=self._registry,
        )

        self._paths = Gauge(
            "sevenfold_scoring_path",
            "The ways to score the model behind an alias: the one that serves, those right but slower, those refused",
            ["alias", "path", "state"],
            registry=self._registry,
        )
        self._path_seconds = Gauge(
            "sevenfold_scoring_path_seconds",
            "Time of 100 rows as measured when the model was loaded",
            ["alias", "path"],
            registry=self._registry,
        )

    def watch(self, collector: Collector) -> None:
        """Have `/metrics` show what another part of the server knows."""
        self._registry.register(collector)

    def choices(self, choices: Mapping[str, Choice]) -> None:
        """Note, by alias, how the models are scored; why a path is refused is in the log."""
        self._paths.clear()
        self._path_seconds.clear()
        for alias, choice in choices.items():
            states = dict.fromkeys(choice.seconds, "slower") | dict.fromkeys(
                choice.refused, "refused"
            )
            states[choice.path.name] = "serves"
            for path, state in states.items():
                self._paths.labels(alias, path, state).set(1)
            for path, seconds in choice.seconds.items():
                self._path_seconds.labels(alias, path).set(seconds)

    def audit(self, compared: int, different: int, rates: Mapping[str, float]) -> None:
        """Note what the audit has found."""
        self._audited.labels("compared").set(compared)
        self._audited.labels("different").set(different)
        self._audit_rate.clear()
        for name, rate in rates.items():
            self._audit_rate.labels(name).set(rate)

    def history(self, kept: Kept) -> None:
        """Note what the histories by key hold."""
        self._history.labels("segments").set(kept.segments)
        self._history.labels("bytes").set(kept.bytes)
        self._history.labels("events").set(kept.events)
        self._history.labels("events_behind").set(kept.behind)

    def job(self, name: str, seconds: float, failed: bool) -> None:
        """Note a step of a background job."""
        self._jobs.labels(name).inc(seconds)
        if failed:
            self._job_failures.labels(name).inc()

    def change(self, done: int, total: int) -> None:
        """Note how far a change is."""
        self._change.labels("done").set(done)
        self._change.labels("total").set(total)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Note a request."""
        self._counts.note(route, status, seconds)

    def answer(
        self,
        rung: str,
        timing_us: Mapping[str, int],
        degraded: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Note an answer, the time of its stages, and the stages that lacked something."""
        count = self._answers.get(rung)
        if count is None:
            count = self._answers[rung] = self._rungs.labels(rung)
        count.inc()
        for stage, taken in timing_us.items():
            self._stages.note(stage, taken / 1e6)
        for stage in degraded:
            self._degraded.labels(stage).inc()

    def unlogged(self, code: str) -> None:
        """Note a request that was refused because the log cannot be written."""
        self._unlogged.labels(code).inc()

    def rows(self, events: int, duplicates: int, reasons: list[str]) -> None:
        """Note what became of rows."""
        self._rows.labels("event").inc(events)
        self._rows.labels("duplicate").inc(duplicates)
        self._rows.labels("dead_letter").inc(len(reasons))
        for reason in reasons:
            self._dead.labels(reason).inc()

    def alert(self, stream: str, expectation: str) -> None:
        """Note a breach of what a stream expects."""
        self._alerts.labels(stream, expectation).inc()

    def text(self, position: int, version: int) -> bytes:
        """All of it as /metrics answers, with the log's end and the model's version now."""
        self._position.set(position)
        self._version.set(version)
        return generate_latest(self._registry)
