"""Which rows are not as their stream expects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sevenfold.sources.flaws import Bools, Flaws
from sevenfold.spec.expect import Expectation
from sevenfold.spec.units import parse_duration
from sevenfold.types import Column, EventBatch, Texts

__all__ = ["Alert", "alerts_of", "refuse_unexpected"]


@dataclass(frozen=True, slots=True)
class Alert:
    """An expectation that a batch has breached: `rows` of `of` were not as expected; `detail` says it."""

    expectation: str
    rows: int
    of: int
    detail: str


def refuse_unexpected(expectations: Sequence[Expectation], batch: EventBatch, flaws: Flaws) -> None:
    """Refuse in `flaws` the rows that breach an expectation whose breach is a dead letter.

    `batch` has all rows; a row that was refused before is neither judged nor compared with others.
    """
    for one in expectations:
        if one.breach == "dead_letter":
            where = _breaching(one, batch, flaws.free)
            flaws.add(where, one.name, _sentence(one))


def alerts_of(expectations: Sequence[Expectation], batch: EventBatch) -> list[Alert]:
    """The alerts of a batch of good rows; the volume is another's matter."""
    found = []
    n = len(batch)
    for one in expectations:
        if one.breach == "dead_letter" or one.kind == "volume" or not n:
            continue
        count = int(_breaching(one, batch, np.ones(n, dtype=np.bool_)).sum())
        if count > one.share * n:
            detail = (
                f"{batch.stream}: {count:,} of {n:,} rows {_what(one)}; {one.share:g} of them may"
            )
            found.append(Alert(one.name, count, n, detail))
    return found


def _breaching(one: Expectation, batch: EventBatch, among: Bools) -> Bools:
    """Which rows (n,) of those `among` breach the expectation."""
    match one.kind:
        case "lateness":
            return among & (batch.known_us - batch.event_us > parse_duration(one.per))
        case "volume":
            return np.zeros(len(batch), dtype=np.bool_)
    column: Column = {**batch.keys, **batch.fields}[one.field]
    # A vector is null as a whole.
    null = (
        ~column.valid
        if isinstance(column, Texts)
        else np.isnan(column if column.ndim == 1 else column[:, 0])
    )
    if one.kind == "null_share":
        return among & null
    return among & ~null & _KINDS[one.kind](one, batch, column, among & ~null)


def _outside(one: Expectation, _batch: EventBatch, column: Column, _among: Bools) -> Bools:
    low = -np.inf if one.low is None else one.low
    high = np.inf if one.high is None else one.high
    numbers = np.asarray(column)
    outside: Bools = (numbers < low) | (numbers > high)
    return outside


def _unlisted(one: Expectation, _batch: EventBatch, column: Column, _among: Bools) -> Bools:
    if isinstance(column, Texts):
        allowed = frozenset(one.values)
        return np.array([text not in allowed for text in column], dtype=np.bool_)
    return ~np.isin(column, np.array([float(value) for value in one.values]))


def _repeated(_one: Expectation, batch: EventBatch, column: Column, among: Bools) -> Bools:
    """Rows whose value an event of another id before them has; a second delivery is not a repetition."""
    out = np.zeros(len(batch), dtype=np.bool_)
    first: dict[str | float | None, str | None] = {}
    values: list[str | None] | list[float] = (
        column.to_list() if isinstance(column, Texts) else column.tolist()
    )
    ids = batch.event_ids.to_list()
    for row in np.flatnonzero(among).tolist():
        out[row] = first.setdefault(values[row], ids[row]) != ids[row]
    return out


_KINDS: Mapping[str, Callable[[Expectation, EventBatch, Column, Bools], Bools]] = {
    "range": _outside,
    "one_of": _unlisted,
    "unique": _repeated,
}


def _what(one: Expectation) -> str:
    """What a breaching row does, in words."""
    bounds = [f"{bound:g}" for bound in (one.low, one.high) if bound is not None]
    return {
        "range": f"have {one.field} outside of what is expected ({' to '.join(bounds)})",
        "one_of": f"have a {one.field} that is not among the {len(one.values)} expected values",
        "null_share": f"have no {one.field}",
        "unique": f"have a {one.field} that another event of the batch has",
        "lateness": f"became known more than {one.per} after they happened",
        "volume": "",
    }[one.kind]


def _sentence(one: Expectation) -> Callable[[int], str]:
    said = _what(one).replace("became", "the event became", 1).replace("have ", "has ", 1)
    return lambda row: (
        f"$[{row}]: {said.replace('they happened', 'it happened')}; the stream expects it of every row."
    )
