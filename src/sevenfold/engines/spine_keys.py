"""The rows of a spine by key and time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from sevenfold.algebra.grouping import bucket, group
from sevenfold.algebra.layout import Groups
from sevenfold.engines.histories import in_key_order
from sevenfold.features.assemble import ViewValues
from sevenfold.features.frame import Spine
from sevenfold.features.plan import Reading
from sevenfold.features.reach import reading_hashes
from sevenfold.types import Ints

__all__ = ["SpineKeys"]

Hashes = npt.NDArray[np.uint64]


class SpineKeys:
    """The rows of a spine by key and time, worked out once for all that is read under the same keys."""

    def __init__(self, spine: Spine) -> None:
        self._spine = spine
        self._by_time = _time_order(spine.t_us)
        self._known: dict[tuple[str, ...], tuple[Hashes, Groups]] = {}
        self._in_order: set[tuple[str, ...]] = set()

    def of(
        self, reading: Reading, found: Mapping[str, ViewValues], in_order: bool
    ) -> tuple[Hashes, Groups]:
        """The different keys, uint64 (g, 2), and the rows of each in order of time.

        With `in_order` the keys are in the order of segments, else in any. `found` holds the links that lead
        to it.
        """
        links = reading.links
        ways = tuple(links[e].name if e in links else e for e in reading.view.entities)
        if ways not in self._known:
            hashes = reading_hashes(reading, self._spine, found)
            each = np.ascontiguousarray(np.broadcast_to(hashes, (len(self._spine), 2)))
            ids, firsts = group(each)
            self._known[ways] = each[firsts], bucket(ids, len(firsts), self._by_time)
        if in_order and ways not in self._in_order:
            self._known[ways] = in_key_order(*self._known[ways])
            self._in_order.add(ways)
        return self._known[ways]


def _time_order(t_us: Ints) -> Ints:
    if len(t_us) < 2 or bool(np.all(t_us[1:] >= t_us[:-1])):
        return np.arange(len(t_us), dtype=np.int64)
    return np.argsort(t_us, kind="stable").astype(np.int64)
