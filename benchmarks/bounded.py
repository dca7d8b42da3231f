"""Reads kept histories with a bound on memory; prints the peak of its own process in MiB.

`python -m benchmarks.bounded FOLDER BOUND_MIB SCALE`: FOLDER holds the segments of the offline benchmark. A
hundred thousand labels, all features of both plans; of the bound, a fifth is for the events of one part.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.workload import DAY_US, digits, plans
from sevenfold.engines.offline import read_at
from sevenfold.features.frame import Spine
from sevenfold.stores.history import StreamHistory
from sevenfold.stores.segment import Segment


def main(folder: Path, bound_mib: int, scale: float) -> None:
    """Read, then print the peak."""
    user = ("user",)
    kept, keys = {}, 1
    for place in sorted(folder.iterdir()):
        segment = Segment.open(next(place.iterdir()))
        keys = len(segment.hashes)
        kept[place.name] = StreamHistory(place.name, {user: (segment,)}, {user: None})
    rng = np.random.default_rng(1)
    n = int(100_000 * scale)
    instants = rng.integers(30 * DAY_US, 90 * DAY_US, n)
    spine = Spine(instants, {"user": digits(rng.integers(0, keys, n))})
    for plan in plans():
        read_at(plan, plan.names, spine, kept, memory_bytes=(bound_mib << 20) // 5)
    # Not getrusage: its peak counts what the process that started this one held.
    status = Path("/proc/self/status").read_text("utf-8")
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
