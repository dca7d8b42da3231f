"""Three million flights of 2001, replayed: what is known of a flight is known when it has landed.

The file is `data/flights-3m.parquet` of the npm package vega-datasets 3.2.1 (US Bureau of Transportation Statistics).
A flight takes off at its time; its delay is known after the flight, whose length is taken from its distance.
"""

from __future__ import annotations

from pathlib import Path

import sevenfold as sf
from benchmarks.measure import Report
from benchmarks.replayed import Replayed, run_file

PACKAGES = ("sevenfold", "numpy", "numba", "duckdb", "lmdb")


def run(repeat: int, scale: float, file: Path | None = None) -> Report:
    """Replay the file once: `repeat` is not used, the spread is that of the batches."""
    return run_file("flights", declared, scale, file)


def declared() -> Replayed:
    """Delays by airport, by route and by hour of the day."""
    origin, destination = sf.Entity("origin"), sf.Entity("destination")
    hour = sf.Entity("hour")
    flights = sf.Stream(
        "flights",
        time="departed_at",
        known="landed_at",
        id="line",
        keys=[origin, destination, hour],
        fields={"delay": sf.Integer(unit="min"), "distance": sf.Integer(unit="mi")},
        timezone="UTC",
    )
    delays = (
        sf.count(windows=["1 h", "24 h", "7 d"]),
        sf.mean("delay", windows=["1 h", "24 h", "7 d"]),
        sf.max("delay", windows=["24 h"]),
        sf.sum("distance", windows=["24 h"]),
        sf.last("delay"),
        sf.since_last(),
    )
    features = [
        sf.aggregate(origin, flights, *delays),
        sf.aggregate(destination, flights, *delays),
        sf.aggregate([origin, destination], flights, *delays, name="route"),
        sf.aggregate(hour, flights, sf.mean("delay", windows=["30 d"]), sf.count(windows=["30 d"])),
    ]
    return Replayed(
        flights,
        features,
        """
        select row_number() over () as line, date as departed_at, delay, distance, origin, destination,
               cast(hour(date) as varchar) as hour,
               date + to_minutes(30 + distance * 60 // 480 + greatest(delay, 0)) as landed_at
        from file order by landed_at, line
        """,
    )
