"""What answers take from the table of slates that were made ahead, and how old that is."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sevenfold.errors import StoreError
from sevenfold.serving.slate_table import Slate, SlateTable, find_slate, served_table
from sevenfold.spec.serving import Mode, Pipeline
from sevenfold.spec.units import parse_duration
from sevenfold.stores.kv import Transaction
from sevenfold.types import US_PER_S, Instant

__all__ = ["Ahead", "AheadMetrics", "ahead_of"]

_LOG = logging.getLogger(__name__)


def ahead_of(
    pipeline: Pipeline, generators: Sequence[str], reads: bool, outcomes: Counter[str]
) -> Ahead | None:
    """What gives the slates that a pipeline has made ahead; None where answers are made when they are asked for."""
    if pipeline.mode == "online" or pipeline.max_age is None:
        return None
    max_age_us = parse_duration(pipeline.max_age)
    same = list(generators) if reads or pipeline.mode == "hybrid" else None
    is_shown = pipeline.mode == "batch" and bool(pipeline.rerank)
    return Ahead(pipeline.mode, max_age_us, pipeline.otherwise, same, is_shown, outcomes)


class Ahead:
    """Finds the slate of a request in the table that is served.

    A slate is used up to `max_age_us` after it was made. With `generators` it is only where those have proposed its items:
    features may be read of what they say. With `is_shown` only where it was reranked. `outcomes` counts what was found:
    `used`, `no_table`, `absent`, `stale`, `short` (fewer items than are asked for), `other` (made by another declaration)
    and `failed`.
    """

    def __init__(
        self,
        mode: Mode,
        max_age_us: int,
        otherwise: str,
        generators: Sequence[str] | None,
        is_shown: bool,
        outcomes: Counter[str],
    ) -> None:
        self.mode, self.otherwise = mode, otherwise
        self._max_age_us = max_age_us
        self._generators = generators
        self._is_shown = is_shown
        self.outcomes = outcomes

    def find(
        self, txn: Transaction, keys: Mapping[str, str], k: int, t_us: Instant
    ) -> tuple[Slate | None, str]:
        """The slate for a request of `k` items at `t_us`; or None, and why there is none that can be used."""
        try:
            table = served_table(txn)
            slate = None if table is None else find_slate(txn, table.number, keys)
        except StoreError as error:
            _LOG.error("table of slates failed error=%s", error)
            self.outcomes["failed"] += 1
            return None, "failed"
        outcome, reason = self._judged(table, slate, k, t_us)
        self.outcomes[outcome] += 1
        return (slate, "") if outcome == "used" else (None, reason)

    def _judged(
        self, table: SlateTable | None, slate: Slate | None, k: int, t_us: Instant
    ) -> tuple[str, str]:
        if table is None:
            return "no_table", "there is no table"
        if slate is None:
            return "absent", "no slate of these keys"
        age_us = t_us - slate.as_of_us
        if not 0 <= age_us <= self._max_age_us:
            when = f"{abs(age_us) / US_PER_S:.3f} s {'before' if age_us > 0 else 'after'}"
            return "stale", f"made {when}"
        if self._generators is not None and slate.generators != self._generators:
            return "other", "made by other generators"
        if self._is_shown and not table.reranked:
            return "other", "made of candidates, not to be shown"
        if self.mode == "batch" and k > table.k <= len(slate.items):
            return "short", f"made of {table.k} items"
        return "used", ""


class AheadMetrics(Collector):
    """The table that is served and what answers found in it, for Prometheus; nothing where there is no table and none is used."""

    def __init__(
        self, outcomes: Counter[str], table: Callable[[], tuple[SlateTable | None, Instant]]
    ) -> None:
        self._outcomes = outcomes
        self._table = table

    def collect(self) -> Iterator[Metric]:
        """Everything as it is now."""
        lookups = CounterMetricFamily(
            "sevenfold_table_lookups",
            "Answers that looked for a slate made ahead, by outcome",
            labels=["outcome"],
        )
        for outcome, times in self._outcomes.items():
            lookups.add_metric([outcome], times)
        yield lookups
        table, now_us = self._table()
        if table is None:
            return
        age_s = (now_us - table.as_of_us) / US_PER_S
        for name, told, value in (
            ("age_seconds", "How long ago the slates of the table that is served were made", age_s),
            ("slates", "Slates of the table that is served, as it was made", table.slates),
            ("number", "The number of the table that is served", table.number),
            ("model_version", "The version that made it; 0 for the rule", table.version),
        ):
            yield GaugeMetricFamily(f"sevenfold_table_{name}", told, value=value)
