"""A Polars DataFrame or LazyFrame."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from sevenfold.batch.rows import Computed, library_of, refuse_type, require_column
from sevenfold.sources.raw import Raw

__all__ = ["PolarsRows"]

_TEXTS = ("String", "Categorical", "Enum")


class PolarsRows:
    """A frame; a lazy one is collected once, so that its rows are the same ones throughout."""

    def __init__(self, frame: Any) -> None:
        self._polars: Any = sys.modules["polars"]  # loaded by whoever made the frame
        self._is_lazy = library_of(frame)[1] == "LazyFrame"
        self._frame = frame.collect() if self._is_lazy else frame

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, in order."""
        return tuple(self._frame.columns)

    def __len__(self) -> int:
        """The number of rows."""
        return int(self._frame.height)

    def column(self, name: str) -> Raw:
        """The cells of a column."""
        require_column(name, self.names)
        return self._cells(name, self._frame[name])

    def filled(self, computed: Computed) -> Any:
        """A frame of the same columns and features, null where there is no value."""
        columns = [
            self._polars.Series(name, values).fill_nan(None) for name, values in computed.items()
        ]
        frame = self._frame.with_columns(columns)
        return frame.lazy() if self._is_lazy else frame

    def _cells(self, name: str, series: Any) -> Raw:
        kind = type(series.dtype).__name__
        if kind in _TEXTS:
            texts: list[Any] = series.cast(self._polars.String).to_list()
            return texts
        if kind == "Null":
            return np.full(len(series), np.nan)
        if kind in ("Object", "Int128", "UInt128"):
            cells: list[Any] = series.to_list()
            return cells
        if kind == "Date":
            series = series.cast(self._polars.Datetime("us"))
        elif kind == "Decimal":
            series = series.cast(self._polars.Float64)
        if not (
            series.dtype.is_numeric() or type(series.dtype).__name__ in ("Boolean", "Datetime")
        ):
            raise refuse_type(name, series.dtype, "Polars")
        missing = series.is_null().to_numpy()
        if type(series.dtype).__name__ != "Datetime":
            return np.ma.array(series.fill_null(strategy="zero").to_numpy(), mask=missing)
        return _instants(series, missing)


def _instants(series: Any, missing: Any) -> Raw:
    """Microseconds, cut and not rounded; of a local time as datetime64."""
    unit = series.dtype.time_unit
    counts = series.to_physical().fill_null(0).to_numpy()
    micros = counts // 1_000 if unit == "ns" else counts * (1_000 if unit == "ms" else 1)
    if series.dtype.time_zone is not None:
        return np.ma.array(micros, mask=missing)
    return np.ma.array(micros.astype("datetime64[us]"), mask=missing)
