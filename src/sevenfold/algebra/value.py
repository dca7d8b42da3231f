"""What a state is worth at an instant."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sevenfold.algebra.cardinality import read_distinct
from sevenfold.algebra.counted import read_quantile, read_top
from sevenfold.algebra.layout import (
    AGE,
    ATTRIBUTE,
    COUNT,
    DECAYED,
    DELETED,
    LAST,
    MAX,
    MEAN,
    MIN,
    NEVER_US,
    SINCE_LAST,
    SUM,
    Tables,
)
from sevenfold.algebra.moments import read_variance
from sevenfold.algebra.reads import FIRST, FOLLOWS, LAST_K, QUANTILE, STD, TOP_K, VAR, VECTOR
from sevenfold.algebra.recent import read_recent
from sevenfold.algebra.spans import merge_at_rest
from sevenfold.algebra.tiles import is_plain
from sevenfold.algebra.vectors import read_vector
from sevenfold.compiled import called, kernel
from sevenfold.types import Floats, Ints

__all__ = ["fixed_words", "read_state", "working_offsets"]

States = npt.NDArray[np.uint8]
_VALUE, _NULL, _MISSING, _STALE, _ESTIMATE = 0, 1, 2, 3, 4
_US_PER_S = 1_000_000.0


@kernel
def fixed_words(tables: Tables) -> int:
    """The words at the front of every state of this layout."""
    return 1 + 2 * len(tables.lasts) + 2 * len(tables.decays)


@kernel
def working_offsets(tables: Tables) -> Ints:
    """Where each level and section of a working state begins."""
    n_levels = tables.levels.shape[0]
    before = n_levels + tables.distincts.shape[0]
    offsets = np.empty(before + tables.sections.shape[0], dtype=np.int64)
    for i in range(n_levels):
        offsets[i] = tables.levels[i, 3]
    for i in range(tables.distincts.shape[0]):
        offsets[n_levels + i] = tables.distincts[i, 4]
    for i in range(tables.sections.shape[0]):
        offsets[before + i] = tables.sections[i, 4]
    return offsets


@kernel
def read_state(
    tables: Tables,
    state: Ints,
    floats: Floats,
    start: int,
    offsets: Ints,
    t_us: int,
    merged: Floats,
    values: Floats,
    states: States,
    row: int,
    at_rest: bool,
) -> None:
    """Write the value and the state of every read of one key at `t_us` to `row` of `values` and `states`.

    The state begins at word `start`, its sections at `offsets`; it is one `at_rest` or one that is worked on.
    `merged` is room for the spans, (s, 4). Every event in it must be visible at `t_us`.
    """
    _merge_spans(tables, state, floats, offsets, t_us, merged, at_rest)
    empty = _MISSING if state[start] == NEVER_US else _NULL
    rest = empty
    for i in range(tables.reads.shape[0]):
        kind, section = tables.reads[i, 0], tables.reads[i, 1]
        window = tables.reads[i, 3]
        value, reason, found = np.nan, empty, _VALUE
        if kind <= MAX:
            value = _merged_value(kind, merged, section)
        elif kind == LAST:
            tail = _tail(window, tables.reads[i, 4], t_us)
            value = _read_last(state, floats, start + tables.lasts[section, 2], tail)
        elif kind in (ATTRIBUTE, AGE):
            at = start + tables.lasts[section, 2]
            value, reason = _read_row(kind, state, floats, at, window, t_us)
        elif kind == SINCE_LAST:
            value = _seconds_since(state[start], t_us)
        elif kind == DECAYED:
            value = _read_decayed(tables, section, state, floats, start, t_us)
        elif VAR <= kind <= FOLLOWS:
            if kind != FOLLOWS:
                rest = _read_rest(tables, i, state, floats, offsets, t_us, empty, values[row, i:])
            value, reason = values[row, i], rest
        else:
            tail = _tail(window, tables.reads[i, 4], t_us)
            value, is_rough = read_distinct(tables, section, state, offsets, tail)
            found = _ESTIMATE if is_rough else _VALUE
        values[row, i] = value
        states[row, i] = reason if np.isnan(value) else found


@kernel
def _tail(window: int, hop: int, t_us: int) -> int:
    """The oldest instant in a window at `t_us`; without a hop the window has none."""
    return (t_us - window) // hop * hop if hop > 0 else NEVER_US


@kernel
def _seconds_since(event_us: int, t_us: int) -> float:
    return np.nan if event_us == NEVER_US else (t_us - event_us) / _US_PER_S


@kernel
def _read_last(state: Ints, floats: Floats, at: int, tail: int) -> float:
    if state[at] == NEVER_US or state[at] < tail:
        return np.nan
    return float(floats[at + 1])


@kernel
def _read_row(
    kind: int, state: Ints, floats: Floats, at: int, ttl_us: int, t_us: int
) -> tuple[float, int]:
    """An attribute of the newest row of a table, or the row's age in seconds, with its state."""
    if state[at] == NEVER_US or state[at + 1] == DELETED:
        return np.nan, _MISSING
    if kind == AGE:
        return (t_us - state[at]) / _US_PER_S, _VALUE
    if ttl_us > 0 and t_us - state[at] >= ttl_us:
        return np.nan, _STALE
    return float(floats[at + 1]), _NULL


@kernel
def _read_decayed(
    tables: Tables, decay: int, state: Ints, floats: Floats, start: int, t_us: int
) -> float:
    at = start + tables.decays[decay, 2]
    if state[at] == NEVER_US:
        return 0.0
    age = float(t_us - state[at])
    value = float(floats[at + 1] * 2.0 ** (-age / float(tables.decays[decay, 1])))
    return value if np.isfinite(value) else np.nan


@called
def _read_rest(
    tables: Tables,
    read: int,
    state: Ints,
    floats: Floats,
    offsets: Ints,
    t_us: int,
    empty: int,
    values: Floats,
) -> int:
    """Write the outputs of a read beyond sums and newest values; what those that are null are.

    They lie one beside the other in `values`; `empty` is what a null of this key is.
    """
    kind, section = tables.reads[read, 0], tables.reads[read, 1]
    window, hop = tables.reads[read, 3], tables.reads[read, 4]
    tail = _tail(window, hop, t_us)
    if kind in (LAST_K, QUANTILE, TOP_K, VECTOR):
        offset = offsets[tables.levels.shape[0] + tables.distincts.shape[0] + section]
        if kind == VECTOR:
            return read_vector(state, offset, tables.reads[read, 5], window, t_us, values)
        _read_section(tables, read, state, floats, offset, tail, values)
        return empty
    offset, record = offsets[section], tables.levels[section, 5]
    begin, end = offset + 1, offset + 1 + state[offset] * record
    while begin < end and tables.levels[section, 0] > 0 and state[begin] < tail:
        begin += record
    place = 2 + 5 * tables.levels[section, 2] + 2 * tables.reads[read, 2]
    if kind == FIRST:
        place += 2 * tables.levels[section, 6]
        values[0] = _read_first(state, floats, begin + place, end, record)
        return empty
    column = 2 + 5 * tables.moments[section, tables.reads[read, 2]]
    values[0] = read_variance(state, floats, begin, end, record, column, place)
    if kind == STD:
        values[0] = np.sqrt(values[0])
    return empty


@called
def _read_section(
    tables: Tables, read: int, state: Ints, floats: Floats, offset: int, tail: int, values: Floats
) -> None:
    kind, width = tables.reads[read, 0], tables.reads[read, 5]
    if kind == LAST_K:
        for i in range(width):
            values[i] = read_recent(state, floats, offset, i, tail)
    elif kind == TOP_K:
        read_top(state, floats, offset, tail, width // 2, values)
    else:
        section = tables.reads[read, 1]
        buckets = tables.sections[section, 8], tables.sections[section, 7]
        q, error = tables.numbers[read, 0], tables.numbers[read, 1]
        values[0] = read_quantile(state, offset, tail, q, tables.bounds, buckets, error)


@kernel
def _read_first(state: Ints, floats: Floats, at: int, end: int, record: int) -> float:
    for i in range(at, end, record):
        if state[i] != NEVER_US:
            return float(floats[i + 1])
    return np.nan


@kernel
def _merge_spans(
    tables: Tables,
    state: Ints,
    floats: Floats,
    offsets: Ints,
    t_us: int,
    merged: Floats,
    at_rest: bool,
) -> None:
    for span in range(tables.spans.shape[0]):
        level = tables.spans[span, 0]
        if tables.spans[span, 1] < -1:
            continue  # filled by the walk over a column
        if at_rest and is_plain(tables, level):
            merge_at_rest(tables, span, state, floats, offsets[level], t_us, merged)
        else:
            _merge(tables, span, state, floats, offsets[level], t_us, merged)


@kernel
def _merge(
    tables: Tables, span: int, state: Ints, floats: Floats, offset: int, t_us: int, merged: Floats
) -> None:
    """Write count, sum, least and most over the tiles of a span, merged in time order, to `merged`.

    A span of no column has only a count.
    """
    level, slot, window = tables.spans[span, 0], tables.spans[span, 1], tables.spans[span, 2]
    hop, record, n = tables.levels[level, 0], tables.levels[level, 5], state[offset]
    first = np.int64(0)
    if hop > 0:
        # Starts are multiples of the hop: those from the window's tail on are those that end after its length.
        end_after = t_us - window - hop
        first = n
        while first > 0 and state[offset + 1 + (first - 1) * record] > end_after:
            first -= 1
    begin, end = offset + 1 + first * record, offset + 1 + n * record
    if slot < 0:
        merged[span, 0] = _count(state, begin + 1, end, record)
        return
    events = _add_up(state, floats, begin + 2 + 5 * slot, end, (record, slot), merged, span)
    if tables.spans[span, 3] >= 0:
        merged[tables.spans[span, 3], 0] = events


@kernel
def _merged_value(kind: int, merged: Floats, span: int) -> float:
    count = merged[span, 0]
    if kind <= COUNT:
        return float(count)
    if kind == SUM:
        return float(merged[span, 1])
    if count == 0:
        return np.nan
    if kind == MEAN:
        return float(merged[span, 1] / count)
    return float(merged[span, 2 if kind == MIN else 3])


@kernel
def _count(state: Ints, at: int, end: int, record: int) -> int:
    count = 0
    for i in range(at, end, record):
        count += state[i]
    return count


@kernel
def _add_up(
    state: Ints,
    floats: Floats,
    at: int,
    end: int,
    steps: tuple[int, int],
    merged: Floats,
    span: int,
) -> int:
    """The same of a column, in one pass, and how many events there were: its additions do not wait for one another.

    The sum is as in twice the precision, by Sum2 of Ogita, Rump and Oishi (2005): what each addition rounds
    off is kept beside it and not brought back at once, so that the next need not wait for that either.
    """
    record, slot = steps
    of_tile = 1 + 5 * slot  # from its count of all events to that of the column
    events, count = 0, 0
    high, low = 0.0, 0.0
    least, most = np.inf, -np.inf
    for i in range(at, end, record):
        events += state[i - of_tile]
        count += state[i]
        x = floats[i + 1]
        total = high + x
        part = total - high
        low += (high - (total - part)) + (x - part) + floats[i + 2]
        high = total
        least = min(least, floats[i + 3])
        most = max(most, floats[i + 4])
    merged[span, 0] = count
    merged[span, 1] = high + low
    merged[span, 2] = least
    merged[span, 3] = most
    return events
