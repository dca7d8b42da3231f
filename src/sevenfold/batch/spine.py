"""From a table that was given to the spine of a read: instants, keys and request fields, each checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sevenfold.batch.options import Meant
from sevenfold.batch.rows import Rows, require_column
from sevenfold.errors import InputError
from sevenfold.features.frame import Spine
from sevenfold.features.plan import Plan
from sevenfold.sources.cells import parse_names
from sevenfold.sources.flaws import Flaws
from sevenfold.sources.raw import BIG, BOOL, NULL, NUMBER, RawColumn
from sevenfold.sources.times import parse_times
from sevenfold.types import Floats, Instant

__all__ = ["latest_us", "readable", "refuse_collisions", "request_fields", "spine_of"]

_OF_THE_READ = "request_time"


def readable(
    plan: Plan, columns: Sequence[str], wanted: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The features to read, and for each that is left out the column that the spine lacks for it.

    Raises NotFoundError for a wanted name that is no feature, InputError when a wanted one lacks a column.
    """
    plan.require(wanted)
    twice = [name for i, name in enumerate(wanted) if name in wanted[:i]]
    if twice:
        raise InputError(f"$.features: {twice[0]!r} is asked for twice; name each feature once")
    left_out: dict[str, str] = {}
    for name in wanted or plan.names:
        missing = _missing(plan, columns, name)
        if missing is not None:
            left_out[name] = missing
    given = ", ".join(map(str, columns)) or "none"
    if wanted and left_out:
        name, missing = next(iter(left_out.items()))
        raise InputError(
            f"$.{missing}: feature {name!r} needs a column {missing!r} in the spine; there are {given}"
        )
    names = tuple(name for name in wanted or plan.names if name not in left_out)
    if not names:
        lacking = ", ".join(dict.fromkeys(left_out.values()))
        raise InputError(
            f"the spine has the columns of no feature; it lacks {lacking}; there are {given}"
        )
    return names, left_out


def refuse_collisions(columns: Sequence[str], names: Sequence[str]) -> None:
    """Raise InputError when a column of the spine is named as a feature that is read."""
    # In SQL names that differ in their case alone are one.
    read = {name.casefold() for name in names}
    both = [
        name for name in columns if str(name).casefold() in read
    ]  # pandas has columns of any name
    if both:
        raise InputError(
            f"$.{both[0]}: the spine has a column {both[0]!r} already, as a feature is named; rename the "
            "column, or leave that feature out"
        )


def spine_of(plan: Plan, names: Sequence[str], rows: Rows, meant: Meant, first: int = 0) -> Spine:
    """The spine of `rows`, with what the features `names` read; `first` is the number of its first row.

    Raises InputError for a column that is not there and for the first cell that cannot be used, naming it.
    """
    require_column(meant.time, rows.names)
    flaws = Flaws(len(rows))
    t_us = parse_times(RawColumn.of(rows.column(meant.time)), meant.time, meant.zone, flaws)
    keys = {}
    for entity in _entities(plan, names):
        texts = parse_names(entity, RawColumn.of(rows.column(entity)), flaws)
        if meant.null_keys == "refuse":
            flaws.add(~texts.valid, "null_key", _null_key(entity))
        keys[entity] = texts
    fields = {
        name: _numbers(name, rows.column(name), flaws) for name in request_fields(plan, names)
    }
    told = flaws.told()
    if told:
        row, _, sentence = told[0]
        shown = sentence.replace(f"$[{row}].", f"$[{row + first}].", 1)
        rest = f" ({len(told)} rows cannot be read)" if len(told) > 1 else ""
        raise InputError(f"row {row + first} of the spine: {shown}{rest}")
    return Spine(t_us, keys, fields)


def latest_us(rows: Rows, meant: Meant) -> Instant:
    """The latest instant of `rows`, of those that can be read; 0 when none is."""
    flaws = Flaws(len(rows))
    cells = RawColumn.of(rows.column(meant.time))
    return int(parse_times(cells, meant.time, meant.zone, flaws).max(initial=0))


def request_fields(plan: Plan, names: Sequence[str]) -> tuple[str, ...]:
    """The fields of a request that the features `names` are computed from."""
    return tuple(name for name in plan.inputs(names) if _is_request_field(plan, name))


def _is_request_field(plan: Plan, name: str) -> bool:
    known = name in plan.reading_by_feature or name in plan.feature_by_state
    return not known and name not in plan.on_demand_by_name and name != _OF_THE_READ


def _entities(plan: Plan, names: Sequence[str]) -> tuple[str, ...]:
    """The entities whose keys are to be given for `names`."""
    return tuple(dict.fromkeys(e for reading in plan.readings_for(names) for e in reading.entities))


def _missing(plan: Plan, columns: Sequence[str], name: str) -> str | None:
    """A column that a feature needs and the spine has not."""
    needed = (*_entities(plan, [name]), *request_fields(plan, [name]))
    return next((column for column in needed if column not in columns), None)


def _null_key(entity: str) -> Any:
    return lambda row: (
        f"$[{row}].{entity}: the key is null; leave such rows out, or give null_keys='empty' to read them as "
        "a key that nothing is known of."
    )


def _numbers(name: str, cells: Any, flaws: Flaws) -> npt.NDArray[Any]:
    """A request field as numbers, null as NaN."""
    column = RawColumn.of(cells)
    wrong = ~column.is_kind(NUMBER, BIG, BOOL, NULL)
    flaws.add(
        wrong,
        "wrong_type",
        lambda row: (
            f"$[{row}].{name}: {column.spelled(row)} is no number, and a feature reads this request field; "
            "give a number, true or false, or null."
        ),
    )
    numbers: Floats = np.where(column.is_kind(NULL) | wrong, np.nan, column.numbers)
    return numbers
