"""What is expected of the rows of a stream beyond the types of its fields, and what happens when it is not so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from sevenfold.spec.quantity import Duration, Share

__all__ = [
    "Breach",
    "Expectation",
    "lateness",
    "null_share",
    "one_of",
    "range",
    "unique",
    "volume",
]

Breach: TypeAlias = Literal["dead_letter", "alert"]
Kind: TypeAlias = Literal["range", "one_of", "null_share", "unique", "volume", "lateness"]


@dataclass(frozen=True, slots=True)
class Expectation:
    """One thing expected of a stream: made by `sf.expect.range` and its neighbours.

    With `breach="dead_letter"` a row that is not as expected is refused, the others are not touched. With
    `"alert"` every row is kept, and a batch counts as a breach when more than `share` of its rows are not as
    expected.
    """

    kind: Kind
    breach: Breach
    field: str = ""
    low: float | None = None
    high: float | None = None
    values: Sequence[str | float] = ()
    share: Share = 0.0
    per: Duration = "1 h"

    @property
    def name(self) -> str:
        """The name of the expectation in counts and reasons: its kind and its field."""
        return f"expect_{self.kind}" + (f"_{self.field}" if self.field else "")


def range(
    field: str,
    low: float | None = None,
    high: float | None = None,
    breach: Breach = "dead_letter",
    share: float = 0.0,
) -> Expectation:
    """The numbers of `field` are from `low` to `high`, both allowed; nulls are not looked at.

    A bound in the field itself (`sf.Number(low=0)`) is always a dead letter; this one may be an alert.
    """
    return Expectation("range", breach, field, low, high, share=share)


def one_of(
    field: str,
    values: Sequence[str | float],
    breach: Breach = "dead_letter",
    share: float = 0.0,
) -> Expectation:
    """The texts or numbers of `field` are among `values`; nulls are not looked at."""
    return Expectation("one_of", breach, field, values=values, share=share)


def null_share(field: str, at_most: float, breach: Breach = "alert") -> Expectation:
    """At most the share `at_most` of the rows of a batch have no `field`; as a dead letter, 0: none may be null."""
    return Expectation("null_share", breach, field, share=at_most)


def unique(field: str, breach: Breach = "alert", share: float = 0.0) -> Expectation:
    """No two events of a batch have the same `field`; the second is the one that breaches, nulls never do."""
    return Expectation("unique", breach, field, share=share)


def volume(
    at_least: int | None = None, at_most: int | None = None, per: str = "1 h"
) -> Expectation:
    """From `at_least` to `at_most` events arrive in every stretch of `per`, live; always an alert.

    Too many are seen at once, too few when the first event of a later stretch arrives.
    """
    return Expectation("volume", "alert", low=at_least, high=at_most, per=per)


def lateness(at_most: str, share: float = 0.0, breach: Breach = "alert") -> Expectation:
    """An event becomes known at most `at_most` after it happened, but for `share` of a batch."""
    return Expectation("lateness", breach, share=share, per=at_most)
