"""Newest values as of many past instants: a search in each key's events, with no state to build."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sevenfold.algebra.layout import (
    AGE,
    ATTRIBUTE,
    DELETED,
    LAST,
    SINCE_LAST,
    Groups,
    Layout,
    Slices,
)
from sevenfold.compiled import borrowed, kernel, released
from sevenfold.types import Floats, Ints

__all__ = ["Numbers", "is_lookup", "lookup"]

States = npt.NDArray[np.uint8]
_VALUE, _NULL, _MISSING, _STALE = 0, 1, 2, 3
_US_PER_S = 1_000_000.0
_ALL = np.empty(0, dtype=np.int64)
_NO_VALUES = np.empty(0, dtype=np.float64)


def is_lookup(layout: Layout) -> bool:
    """Whether every output is a value, or the age, of one event."""
    return bool(np.isin(layout.tables.reads[:, 0], (LAST, ATTRIBUTE, AGE, SINCE_LAST)).all())


class Numbers(NamedTuple):
    """A column of numbers: event i has `x[places[i]]`, or `x[i]` when `places` is empty."""

    x: Floats
    places: Ints
    has_nulls: bool


def lookup(
    layout: Layout,
    keys: Slices,
    times: tuple[Ints, Ints],
    column: Callable[[int], Numbers],
    reads: Groups,
    t_us: Ints,
    out: tuple[Floats, States],
) -> None:
    """Write the values and states of reads, as `replay` does, to `out`, each (f, n).

    `times` are `event_us` and `known_us` in the order of `keys`, each key's events in log order; `column`
    gives a number column. `reads` are grouped by the same keys, each key's in order of time.
    """
    values, states = out
    event_us, known_us = times
    instants = t_us[reads.rows]
    visible = np.empty(len(reads.rows), dtype=np.int64)
    _visible(keys, known_us, reads.starts, instants, visible)
    in_order = event_us is known_us or _in_order(keys, event_us)
    for i, (kind, section, _, window, hop) in enumerate(layout.tables.reads[:, :5].tolist()):
        x, places, skips = _NO_VALUES, _ALL, False
        if kind != SINCE_LAST:
            number, nulls, _ = layout.tables.lasts[section].tolist()
            x, places, has_nulls = column(number)
            skips = has_nulls and not nulls
        newest = _ALL
        if skips or not in_order:
            newest = np.empty(len(known_us), dtype=np.int64)
            _newest(keys, event_us, x, places, skips, newest)
        steps = (np.int64(kind), np.int64(window), np.int64(hop))
        wanted = (instants, reads.rows)
        _fill(steps, visible, newest, event_us, x, places, wanted, values[i], states[i])


@released
def _visible(keys: Slices, known_us: Ints, starts: Ints, t_us: Ints, out: Ints) -> None:
    """The newest event known before each instant, -1 for none; a key's instants do not fall."""
    begins, ends = keys
    for key in range(len(starts) - 1):
        begin, end = begins[key], ends[key]
        after = begin  # the first event that is not visible
        for i in range(starts[key], starts[key + 1]):
            step = 1
            while after + step <= end and known_us[after + step - 1] < t_us[i]:
                after += step
                step *= 2
            # What is wanted lies within one step: halve it.
            last = min(after + step - 1, end)
            while after < last:
                middle = (after + last) // 2
                if known_us[middle] < t_us[i]:
                    after = middle + 1
                else:
                    last = middle
            out[i] = after - 1 if after > begin else -1


@released
def _in_order(keys: Slices, event_us: Ints) -> bool:
    """Whether of each key no event happened before one that was known earlier."""
    begins, ends = keys
    for key in range(len(begins)):
        for i in range(begins[key] + 1, ends[key]):
            if event_us[i] < event_us[i - 1]:
                return False
    return True


@released
def _newest(
    keys: Slices, event_us: Ints, x: Floats, places: Ints, skips_null: bool, out: Ints
) -> None:
    """For each event the newest of its key up to it in the log, -1 for none; of equals the later known."""
    begins, ends = keys
    for key in range(len(begins)):
        best = begins[key] - 1  # none yet
        for i in range(begins[key], ends[key]):
            if best < begins[key] or event_us[i] >= event_us[best]:
                place = places[i] if len(places) else i
                if not (skips_null and np.isnan(x[place])):
                    best = i
            out[i] = best if best >= begins[key] else -1


@released
def _fill(
    steps: tuple[np.int64, np.int64, np.int64],
    visible: Ints,
    newest: Ints,
    event_us: Ints,
    x: Floats,
    places: Ints,
    reads: tuple[Ints, Ints],
    values: Floats,
    states: States,
) -> None:
    t_us, rows = borrowed(reads[0]), borrowed(reads[1])
    visible, newest, places = borrowed(visible), borrowed(newest), borrowed(places)
    event_us, x, bits = borrowed(event_us), borrowed(x), borrowed(x.view(np.int64))
    values, states = borrowed(values), borrowed(states)
    for i in range(len(visible)):
        event = visible[i]
        value, reason = np.nan, _MISSING
        if event >= 0:
            reason = _NULL
            if len(newest):
                event = newest[event]
        if event >= 0:
            place = places[event] if len(places) else event
            value, reason = _answer(steps, t_us[i], event_us, event, x, bits, place)
        row = rows[i]
        values[row] = value
        states[row] = reason if np.isnan(value) else _VALUE


@kernel
def _answer(
    steps: tuple[np.int64, np.int64, np.int64],
    t_us: int,
    event_us: Ints,
    event: int,
    x: Floats,
    bits: Ints,
    place: int,
) -> tuple[float, int]:
    """The value that the newest event gives, and the state if it gives none."""
    kind, window, hop = steps
    if kind == LAST:
        inside = hop == 0 or event_us[event] >= ((t_us - window) // hop) * hop
        return (x[place] if inside else np.nan), _NULL
    if kind == SINCE_LAST:
        return (t_us - event_us[event]) / _US_PER_S, _VALUE
    if bits[place] == DELETED:
        return np.nan, _MISSING
    if kind == AGE:
        return (t_us - event_us[event]) / _US_PER_S, _VALUE
    if window > 0 and t_us - event_us[event] >= window:
        return np.nan, _STALE
    return x[place], _NULL
