"""Taxi trips of three years, replayed: a column that is null until 2019, and months that broke every habit.

The file joins the 36 monthly samples of New York's yellow taxi trip records (NYC open data) of 2018 to 2020. Some of
its meters had their clocks wrong by years; such trips became known when the others of their month did.
"""

from __future__ import annotations

from pathlib import Path

import sevenfold as sf
from benchmarks.measure import Report
from benchmarks.replayed import Replayed, run_file

PACKAGES = ("sevenfold", "numpy", "numba", "duckdb", "lmdb")


def run(repeat: int, scale: float, file: Path | None = None) -> Report:
    """Replay the file once: `repeat` is not used, the spread is that of the batches."""
    return run_file("taxi", declared, scale, file)


def declared() -> Replayed:
    """Fares and surcharges by where a trip began, and by the way it went."""
    begun, ended = sf.Entity("begun"), sf.Entity("ended")
    trips = sf.Stream(
        "trips",
        time="picked_up_at",
        known="known_at",
        id="line",
        keys=[begun, ended],
        fields={
            "fare": sf.Number(unit="USD"),
            "tip": sf.Number(unit="USD"),
            "surcharge": sf.Number(unit="USD"),
            "distance": sf.Number(unit="mi"),
        },
        timezone="UTC",
    )
    money = (
        sf.count(windows=["24 h", "7 d", "30 d"]),
        sf.mean("fare", windows=["7 d", "30 d"]),
        sf.max("fare", windows=["30 d"]),
        sf.sum("tip", windows=["7 d"]),
        sf.count("surcharge", windows=["30 d"]),
        sf.mean("surcharge", windows=["30 d"]),
        sf.last("surcharge"),
        sf.decayed("fare", half_life="7 d"),
        sf.since_last(),
    )
    return Replayed(
        trips,
        [
            sf.aggregate(begun, trips, *money),
            sf.aggregate([begun, ended], trips, *money, name="way"),
        ],
        """
        select row_number() over () as line, pickup_datetime as picked_up_at,
               cast(pickup_location_id as varchar) as begun, cast(dropoff_location_id as varchar) as ended,
               fare_amount as fare, tip_amount as tip, congestion_surcharge as surcharge, trip_distance as distance,
               greatest(pickup_datetime, dropoff_datetime, cast(source_month || '-01' as timestamp)) as known_at
        from file order by known_at, line
        """,
    )
