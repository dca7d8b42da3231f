"""From the values of views to the features asked for: the same code behind both engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sevenfold.errors import InputError
from sevenfold.features.frame import FeatureFrame, Spine
from sevenfold.features.plan import Plan
from sevenfold.types import Floats, VectorState

__all__ = ["Frame", "Room", "ViewValues", "assemble"]

ViewValues = tuple[Floats, npt.NDArray[np.uint8]]


class Room(NamedTuple):
    """Where the values and states of one view go: float64 (f, n) and uint8 (f, n), a column together."""

    values: Floats
    states: npt.NDArray[np.uint8]


class Frame:
    """A frame in the making: n rows of `names`; views write to it where it will be read."""

    def __init__(self, names: Sequence[str], n: int) -> None:
        self._names = tuple(names)
        self._room = _room(len(names), n)
        self._filled: set[int] = set()

    def room(self, names: Sequence[str], width: int) -> Room:
        """The place of a view's `width` columns, to be written; room beside the frame where it does not ask for all."""
        at = self._names.index(names[0]) if names and names[0] in self._names else 0
        if width != len(names) or self._names[at : at + width] != tuple(names):
            return _room(width, self._room.values.shape[1])
        self._filled |= set(range(at, at + width))
        return Room(self._room.values[at : at + width], self._room.states[at : at + width])

    def finished(
        self, columns: Mapping[str, Any], states: Mapping[str, npt.NDArray[np.uint8]]
    ) -> FeatureFrame:
        """The frame, what is not in it yet taken from `columns`."""
        for i, name in enumerate(self._names):
            if i not in self._filled:
                self._room.values[i] = columns[name]
                self._room.states[i] = states[name]
        return FeatureFrame(self._names, self._room.values.T, self._room.states.T)


def _room(width: int, n: int) -> Room:
    return Room(np.empty((width, n), dtype=np.float64), np.empty((width, n), dtype=np.uint8))


def assemble(
    plan: Plan,
    names: Sequence[str],
    spine: Spine,
    found: Mapping[str, ViewValues],
    frame: Frame | None = None,
) -> FeatureFrame:
    """The frame of `names` from each reading's values and states, (n, f) or (1, f) for one key for all rows.

    `frame` may hold some of them already. Request-time functions see float64 columns of n rows. Raises
    InputError when a request field that one needs is not in the spine.
    """
    n = len(spine)
    first = plan.reading_by_feature.get(names[0]) if names else None
    if first is not None and first.names == tuple(names) and len(found[first.name][0]) == n:
        return FeatureFrame(first.names, *found[first.name])  # all of one view, as it is
    blocks = _blocks(plan, tuple(names)) if frame is None else None
    if blocks is not None:
        return _joined(tuple(names), n, found, blocks)
    columns: dict[str, Any] = {"request_time": spine.t_us}
    columns |= spine.fields
    states: dict[str, npt.NDArray[np.uint8]] = {}
    for name in plan.inputs(names):
        reading = plan.reading_by_feature.get(name)
        if reading is not None:
            values, kinds = found[reading.name]
            place = reading.names.index(name)
            # A value for all rows stays one value: writing it into the frame spreads it.
            columns[name] = values[:, place]
            states[name] = kinds[:, place]
        elif name in plan.on_demand_by_name:
            columns[name] = _compute(plan, name, columns, n)
            states[name] = np.where(
                np.isnan(columns[name]), VectorState.NULL, VectorState.VALUE
            ).astype(np.uint8)
        elif name in plan.feature_by_state:
            columns[name] = states[plan.feature_by_state[name]].astype(np.float64)
        elif name not in columns:
            given = ", ".join(sorted(columns)) or "none"
            raise InputError(
                f"$.{name}: a feature reads this request field and it was not given; given are {given}"
            )
    return (frame or Frame(names, n)).finished(columns, states)


class _Block(NamedTuple):
    """`n` features of a reading, from `place` on, that stand together in a frame too."""

    reading: str
    place: int
    n: int


@lru_cache(maxsize=256)
def _blocks(plan: Plan, names: tuple[str, ...]) -> tuple[_Block, ...] | None:
    """Where features that are all read of state stand in their readings; None where one is computed, or is none."""
    if not all(name in plan.reading_by_feature for name in names):
        return None
    blocks: list[_Block] = []
    for name in names:
        reading = plan.reading_by_feature[name]
        place = reading.names.index(name)
        last = blocks[-1] if blocks else None
        if last is not None and (last.reading, last.place + last.n) == (reading.name, place):
            blocks[-1] = last._replace(n=last.n + 1)
        else:
            blocks.append(_Block(reading.name, place, 1))
    return tuple(blocks)


def _joined(
    names: tuple[str, ...], n: int, found: Mapping[str, ViewValues], blocks: Sequence[_Block]
) -> FeatureFrame:
    """The frame of features that are all read of state: a copy for each of `blocks`, and not for each feature."""
    values = np.empty((n, len(names)))
    states = np.empty((n, len(names)), dtype=np.uint8)
    at = 0
    for block in blocks:
        there = slice(block.place, block.place + block.n)
        here, at = slice(at, at + block.n), at + block.n
        values[:, here] = found[block.reading][0][:, there]
        states[:, here] = found[block.reading][1][:, there]
    return FeatureFrame(names, values, states)


def _compute(plan: Plan, name: str, columns: Mapping[str, Any], n: int) -> Floats:
    feature = plan.on_demand_by_name[name]
    inputs = [columns[needed] for needed in feature.inputs]
    full = [column if len(column) == n else np.broadcast_to(column, n) for column in inputs]
    result = np.asarray(feature.function(*full), dtype=np.float64)
    if result.shape not in ((), (n,)):
        raise InputError(
            f"$.{name}: the function gave an array of shape {result.shape} for {n} rows; "
            "a request-time function gives one value a row"
        )
    return np.broadcast_to(result, n)
