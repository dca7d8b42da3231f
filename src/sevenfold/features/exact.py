"""Whole numbers that a float64 cannot hold any more: an error and not a rounded number."""

from __future__ import annotations

import numpy as np

from sevenfold.errors import InputError
from sevenfold.features.plan import Reading
from sevenfold.types import Floats

__all__ = ["LARGEST_EXACT", "require_exact"]

LARGEST_EXACT = 1 << 53


def require_exact(reading: Reading, values: Floats) -> None:
    """Raise InputError when a sum of whole numbers among `values` (n, f) is beyond 2^53.

    A count is not looked at: it would take 285 years at a million events a second.
    """
    places = reading.view.whole
    if not places:
        return
    beyond = np.abs(values[:, places]) > LARGEST_EXACT
    if beyond.any():
        row, place = (int(index[0]) for index in np.nonzero(beyond))
        names = reading.names or reading.view.names
        raise InputError(
            f"$.{names[places[place]]}: the sum of row {row} is beyond 2^53, where whole numbers are no longer "
            "exact; declare the field a Number, whose sums are rounded, or give a shorter window"
        )
