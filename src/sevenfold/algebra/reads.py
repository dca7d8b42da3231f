"""What a view gives: kinds of aggregates by number, and each of them over one column and window."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "AGE",
    "ATTRIBUTE",
    "COUNT",
    "COUNT_ALL",
    "DECAYED",
    "DELETED",
    "DISTINCT",
    "FIRST",
    "FOLLOWS",
    "KINDS",
    "LAST",
    "LAST_K",
    "MAX",
    "MEAN",
    "MIN",
    "NEVER_US",
    "QUANTILE",
    "SINCE_LAST",
    "SKETCH",
    "STD",
    "SUM",
    "TOP_K",
    "VAR",
    "VECTOR",
    "Read",
]

COUNT_ALL, COUNT, SUM, MEAN, MIN, MAX, LAST, SINCE_LAST, DECAYED, DISTINCT, ATTRIBUTE = range(11)
VAR, STD, FIRST, LAST_K, QUANTILE, TOP_K, VECTOR, FOLLOWS = range(11, 19)
SKETCH = 19
AGE = 64  # far from the others, so that those have room to grow
KINDS = {
    "count": COUNT,
    "sum": SUM,
    "mean": MEAN,
    "min": MIN,
    "max": MAX,
    "last": LAST,
    "since_last": SINCE_LAST,
    "decayed": DECAYED,
    "distinct": DISTINCT,
    "attribute": ATTRIBUTE,
    "var": VAR,
    "std": STD,
    "first": FIRST,
    "last_k": LAST_K,
    "quantile": QUANTILE,
    "top_k": TOP_K,
    "age": AGE,
}
NEVER_US = -(1 << 63)
DELETED = 0x7FF8 << 48 | 0xDE1
"""The bits in place of an attribute's value where its row is a delete: a NaN that no null is written as."""


@dataclass(frozen=True, slots=True)
class Read:
    """One aggregate of one column over one window: an output of a view, or `width` of them.

    `column` indexes the number columns (or the mark columns, for distinct); -1 is no column.
    `window_us` 0 is the lifetime; for an attribute it is the ttl and 0 is none. `error` is that of a
    quantile or, beyond its cap, of a distinct count; `smallest` and `largest` are the magnitudes that a
    quantile tells apart; `tracked` is how many values are counted for the `k` most frequent.
    """

    kind: int
    column: int = -1
    window_us: int = 0
    hop_us: int = 0
    half_life_us: int = 0
    cap: int = 0
    nulls: bool = False
    k: int = 1
    q: float = 0.0
    error: float = 0.05
    smallest: float = 0.0
    largest: float = 0.0
    tracked: int = 0

    @property
    def width(self) -> int:
        """The number of outputs, one beside the other."""
        return 2 * self.k if self.kind == TOP_K else self.k

    @property
    def buckets(self) -> tuple[float, float, float]:
        """What the buckets of a quantile depend on."""
        return self.error, self.smallest, self.largest

    @property
    def level_hop_us(self) -> int:
        """The hop of the tiles that it is computed from; 0 for the lifetime."""
        return self.hop_us if self.window_us else 0
