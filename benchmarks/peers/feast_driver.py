"""Feast's side of the benchmarks: run by the interpreter that has Feast, it knows nothing of this project.

Reads one request as a line of JSON, `[NAME, {ARGUMENT: VALUE}]`, and answers with a line of JSON, until its input ends. Rows come
and go as Parquet files. What is timed is timed here, so neither a pipe nor a file of the exchange is in a figure.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import feast
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast.data_source import PushMode

Answer = dict[str, Any]
FOREVER = timedelta(0)
KEY, AT, MADE = "user_id", "event_timestamp", "created"


class Driver:
    """Feature stores of Feast and what is asked of them."""

    def __init__(self) -> None:
        self.reads: dict[str, Callable[[int], Any]] = {}

    def hello(self) -> Answer:
        """What this process has installed."""
        return {
            "feast": feast.__version__,
            "pandas": pd.__version__,
            "pyarrow": pa.__version__,
            "python": sys.version.split()[0],
        }

    def join(self, folder: str, store: str, views: dict[str, list[str]], repeat: int) -> Answer:
        """Join `labels.parquet` with the views' files as of then; leaves `STORE_answer.parquet`.

        Labels are in memory and the views are files. Ten rows are joined first, so no import is in a figure.
        """
        place = Path(folder)
        opened = _store(
            place, {"type": store}, {"type": "sqlite", "path": str(place / "online.db")}
        )
        user = feast.Entity(name="user", join_keys=[KEY], value_type=feast.ValueType.INT64)
        opened.apply(
            [user, *(_view(place, user, name, columns) for name, columns in views.items())]
        )
        wanted = [f"{name}:{column}" for name, columns in views.items() for column in columns]
        labels = pq.read_table(place / "labels.parquet").to_pandas()

        def work(rows: pd.DataFrame) -> pa.Table:
            return opened.get_historical_features(entity_df=rows, features=wanted).to_arrow()

        work(labels.iloc[:10])
        cpu_s, wall_s = [], []
        for _ in range(repeat):
            cpu, wall = time.process_time(), time.perf_counter()
            found = work(labels)
            cpu_s.append(time.process_time() - cpu)
            wall_s.append(time.perf_counter() - wall)
        columns = ["row", *(column for names in views.values() for column in names)]
        pq.write_table(found.select(columns), place / f"{store}_answer.parquet")
        return {"cpu_s": cpu_s, "wall_s": wall_s, "peak_mib": _peak_mib()}

    def keep(
        self, folder: str, name: str, online: dict[str, Any], wanted: list[list[str]]
    ) -> Answer:
        """Write the rows of `values.parquet` into an online store, to be read under `name`."""
        place = Path(folder)
        values = pq.read_table(place / "values.parquet").to_pandas()
        columns = [column for column in values.columns if column not in {KEY, AT}]
        opened = _store(place / name, {"type": "dask"}, online)
        user = feast.Entity(name="user", join_keys=[KEY], value_type=feast.ValueType.STRING)
        view = _view(place, user, "values", columns, feast.types.Float32)
        service = feast.FeatureService(name="all", features=[view])
        opened.apply([user, view, service])
        opened.write_to_online_store("values", values)
        rows = [[{KEY: key} for key in keys] for keys in wanted]
        self.reads[name] = lambda at: opened.get_online_features(service, rows[at]).to_dict()
        return {"columns": columns}

    def read(self, name: str, at: int, values: bool = False) -> Answer:
        """One read of the list of keys number `at`: its seconds, and what it found where that is asked for."""
        cpu, wall = time.process_time(), time.perf_counter()
        found = self.reads[name](at)
        taken = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        return taken | ({"values": found} if values else {})

    def probe(self, folder: str, name: str, online: dict[str, Any], keys: list[str]) -> Answer:
        """Push `events.parquet` in its pushes, then read every key online and as of now.

        What is pushed goes to both stores, as Feast offers: online at once, offline into the view's own file, which
        its default store and its DuckDB store then join.
        """
        place = Path(folder)
        table = pq.read_table(place / "events.parquet")
        events = table.to_pandas()
        kept = place / name
        kept.mkdir()
        pq.write_table(table.drop_columns("push").slice(0, 0), kept / "trips.parquet")
        opened = _store(kept, {"type": "dask"}, online)
        user = feast.Entity(name="user", join_keys=[KEY], value_type=feast.ValueType.STRING)
        file = feast.FileSource(
            path=str(kept / "trips.parquet"), timestamp_field=AT, created_timestamp_column=MADE
        )
        pushed = feast.PushSource(name="pushed", batch_source=file)
        kinds = {"fare": feast.types.Float64, "number": feast.types.Int64}
        schema = [feast.Field(name=field, dtype=kind) for field, kind in kinds.items()]
        view = feast.FeatureView(
            name="trips", entities=[user], ttl=FOREVER, schema=schema, source=pushed
        )
        opened.apply([user, view])
        for _, rows in events.groupby("push", sort=True):
            row = rows.drop(columns="push").reset_index(drop=True)
            opened.push("pushed", row, to=PushMode.ONLINE_AND_OFFLINE)
        wanted = [f"trips:{field}" for field in kinds]
        found = opened.get_online_features(wanted, [{KEY: key} for key in keys]).to_dict()
        now = (events[MADE].max() + timedelta(seconds=1)).to_pydatetime()
        spine = pd.DataFrame({KEY: keys, AT: pd.to_datetime([now] * len(keys), utc=True)})
        answer = {
            "online": {
                key: _pair(found["fare"][i], found["number"][i]) for i, key in enumerate(keys)
            }
        }
        other = _store(kept, {"type": "duckdb"}, online)
        other.apply([user, view])
        for joined, by in (("default", opened), ("duckdb", other)):
            past = by.get_historical_features(entity_df=spine, features=wanted).to_df()
            rows = zip(past[KEY], past["fare"], past["number"], strict=True)
            answer[joined] = {key: _pair(fare, number) for key, fare, number in rows}
        return answer


def _store(folder: Path, offline: dict[str, Any], online: dict[str, Any]) -> feast.FeatureStore:
    folder.mkdir(exist_ok=True)
    config = feast.RepoConfig(
        project="peers",
        provider="local",
        registry=str(folder / f"registry_{offline['type']}_{online['type']}.db"),
        offline_store=offline,
        online_store=online,
        entity_key_serialization_version=3,
    )
    return feast.FeatureStore(config=config)


def _view(
    folder: Path, user: feast.Entity, name: str, columns: list[str], kind: Any = feast.types.Float64
) -> feast.FeatureView:
    """A view of `NAME.parquet` without an end to how old a value may be."""
    return feast.FeatureView(
        name=name,
        entities=[user],
        ttl=FOREVER,
        schema=[feast.Field(name=column, dtype=kind) for column in columns],
        source=feast.FileSource(path=str(folder / f"{name}.parquet"), timestamp_field=AT),
    )


def _pair(fare: Any, number: Any) -> list[float | int] | None:
    """What was read of one key, or None where nothing was."""
    if fare is None or (isinstance(fare, float) and math.isnan(fare)):
        return None
    return [float(fare), int(number)]


def _peak_mib() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        return math.nan
    return int(status.read_text("utf-8").split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Answer until the input ends."""
    # What Feast prints goes to stderr: the first stdout is for answers alone.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    driver = Driver()
    for line in sys.stdin:
        name, arguments = json.loads(line)
        answers.write(json.dumps(getattr(driver, name)(**arguments)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
