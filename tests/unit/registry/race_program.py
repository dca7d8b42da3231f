"""Register and promote a number of times, as one of several writers."""

from __future__ import annotations

import sys
from pathlib import Path

from sevenfold.registry.registry import Registry

NAMES = ("signal", "noise", "holes", "constant", "never_known")


def main() -> None:
    registry = Registry(Path(sys.argv[1]))
    for i in range(int(sys.argv[4])):
        version = registry.register(
            Path(sys.argv[2]),
            name=sys.argv[3],
            feature_names=NAMES,
            feature_hashes=dict.fromkeys(NAMES, "hash"),
            metrics={},
            lineage={},
            created_us=i,
        )
        registry.set_alias("champion", version.version, f"{sys.argv[3]} {i}", i)


if __name__ == "__main__":
    main()
