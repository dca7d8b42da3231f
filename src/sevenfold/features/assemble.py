"""From the values of views to the features asked for: the same code behind both engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sevenfold.errors import InputError
from sevenfold.features.frame import FeatureFrame, Spine
from sevenfold.features.plan import Plan
from sevenfold.types import Floats, VectorState

__all__ = ["ViewValues", "assemble"]

ViewValues = tuple[Floats, npt.NDArray[np.uint8]]


def assemble(
    plan: Plan, names: Sequence[str], spine: Spine, found: Mapping[str, ViewValues]
) -> FeatureFrame:
    """The frame of `names` from each reading's values and states, (n, f) or (1, f) for one key for all rows.

    Request-time functions see float64 columns of n rows. Raises InputError when a request field that one
    needs is not in the spine.
    """
    n = len(spine)
    first = plan.reading_by_feature.get(names[0]) if names else None
    if first is not None and first.names == tuple(names) and len(found[first.name][0]) == n:
        return FeatureFrame(first.names, *found[first.name])  # all of one view, as it is
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
    # A column at a time: each lies together.
    frame = np.empty((len(names), n), dtype=np.float64).T
    kinds = np.empty((len(names), n), dtype=np.uint8).T
    for i, name in enumerate(names):
        frame[:, i] = columns[name]
        kinds[:, i] = states[name]
    return FeatureFrame(tuple(names), frame, kinds)


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
