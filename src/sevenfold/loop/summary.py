"""What a run has to say, as plain data: printed, kept as JSON, drawn as a report."""

from __future__ import annotations

import msgspec

__all__ = [
    "ComparisonLine",
    "DriftLine",
    "Figure",
    "Gain",
    "IngestLine",
    "Latency",
    "ParityLine",
    "PromotionLine",
    "RunSummary",
    "SliceLine",
    "WeekLine",
]


class Figure(msgspec.Struct, frozen=True):
    """A mean over n requests with its interval."""

    estimate: float
    low: float
    high: float
    n: int


class IngestLine(msgspec.Struct, frozen=True):
    """What came in: rows_in = events + duplicates + dead_letters."""

    rows_in: int
    events: int
    duplicates: int
    dead_letters: int
    by_reason: dict[str, int]


class ParityLine(msgspec.Struct, frozen=True):
    """Logged feature vectors against the offline engine, bit for bit."""

    compared: int
    mismatched: int
    by_feature: dict[str, int]


class ComparisonLine(msgspec.Struct, frozen=True):
    """The mean difference a - b of a metric on the same requests, with its interval."""

    a: str
    b: str
    metric: str
    difference: Figure


class WeekLine(msgspec.Struct, frozen=True):
    """One model's metric in one step of time."""

    start_us: int
    model: str
    metric: str
    figure: Figure


class SliceLine(msgspec.Struct, frozen=True):
    """One model's metric where a dimension has a value; no figure where there are too few requests."""

    dimension: str
    value: str
    model: str
    metric: str
    n: int
    figure: Figure | None


class Gain(msgspec.Struct, frozen=True):
    """What a feature contributed to the model that serves, as a share of all."""

    feature: str
    share: float


class DriftLine(msgspec.Struct, frozen=True):
    """How far a feature has moved from what the model was trained on."""

    at_us: int
    feature: str
    psi: float
    threshold: float
    verdict: str


class PromotionLine(msgspec.Struct, frozen=True):
    """A challenger and what became of it: why it was trained, and what the gate said."""

    at_us: int
    model: str
    version: int
    promoted: bool
    trigger: str
    reasons: list[str]


class Latency(msgspec.Struct, frozen=True):
    """The time of one stage in milliseconds over n requests."""

    p50: float
    p95: float
    p99: float
    n: int


class RunSummary(msgspec.Struct, frozen=True):
    """A whole run."""

    system: str
    mode: str
    report: str
    started_us: int
    took_s: float
    world_start_us: int
    world_end_us: int
    judge_us: int
    primary: str
    requests: int
    judged: int
    ingest: IngestLine
    parity: ParityLine
    metrics: dict[str, dict[str, Figure]]
    coverage: dict[str, float]
    comparisons: list[ComparisonLine]
    weeks: list[WeekLine]
    slices: list[SliceLine]
    importances: list[Gain]
    drift: list[DriftLine]
    promotions: list[PromotionLine]
    latency_ms: dict[str, Latency]
    notes: list[str]
    meta: dict[str, str]
