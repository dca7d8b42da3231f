"""Whether answers are still as good as they were when the model was new."""

from __future__ import annotations

import numpy as np

from sevenfold.types import Floats

__all__ = ["has_decayed"]

_RESAMPLES = 1000


def has_decayed(
    before: Floats, now: Floats, tolerance: float, rng: np.random.Generator
) -> str | None:
    """Why a metric has decayed, in a sentence; None when that is not shown.

    `before` (n,) and `now` (m,) are its values by request, NaN left out. It has decayed when the upper end of
    the 95 % bootstrap interval of the new mean lies below the old mean less `tolerance` of it.

    >>> rng = np.random.default_rng(0)
    >>> has_decayed(np.full(100, 0.3), np.full(100, 0.29), 0.1, rng) is None
    True
    """
    old, new = before[~np.isnan(before)], now[~np.isnan(now)]
    if len(old) < 2 or len(new) < 2:
        return None
    means = rng.choice(new, (_RESAMPLES, len(new))).mean(axis=1)
    high = float(np.quantile(means, 0.975))
    allowed = float(old.mean()) * (1 - tolerance)
    if high >= allowed:
        return None
    return f"{new.mean():.4f} (at most {high:.4f}) after {old.mean():.4f}, a loss of over {tolerance:.0%}"
