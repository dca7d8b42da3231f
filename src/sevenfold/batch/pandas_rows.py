"""A pandas DataFrame."""

from __future__ import annotations

from typing import Any

import numpy as np

from sevenfold.batch.arrow_rows import arrow_cells
from sevenfold.batch.rows import Computed, refuse_type, require_column
from sevenfold.sources.raw import Raw

__all__ = ["PandasRows"]


class PandasRows:
    """A frame; its index is no column, and stays as it is."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, in order."""
        return tuple(self._frame.columns)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._frame)

    def column(self, name: str) -> Raw:
        """The cells of a column; NaN, None, NaT and NA are null."""
        require_column(name, self.names)
        return _cells(name, self._frame[name])

    def filled(self, computed: Computed) -> Any:
        """A frame of the same columns, index and features, null as NaN; the one given is not changed."""
        return self._frame.assign(**computed)


def _cells(name: str, series: Any) -> Raw:
    kind = series.dtype
    if type(kind).__name__ == "ArrowDtype":
        return arrow_cells(name, series.array.__arrow_array__())
    missing = series.isna().to_numpy()
    match kind.kind:
        case "M":
            zoned = type(kind).__name__ == "DatetimeTZDtype"
            local = series.dt.tz_convert("UTC").dt.tz_localize(None) if zoned else series
            cells = local.to_numpy().astype("datetime64[us]")
            return np.ma.array(cells.astype(np.int64), mask=missing) if zoned else cells
        case "i" | "u" | "f" | "b" if missing.any():
            present = series.astype(object).where(~missing, 0).to_numpy()
            return np.ma.array(
                present.astype(kind.name.lower().replace("boolean", "bool")), mask=missing
            )
        case "i" | "u" | "f" | "b":
            return np.asarray(series.to_numpy(dtype=kind.name.lower().replace("boolean", "bool")))
        case "O":
            # Texts of any kind, categories and columns of mixed values.
            cells = np.array(series.astype(object), dtype=object)
            cells[missing] = None
            texts: list[Any] = cells.tolist()
            return texts
        case _:
            raise refuse_type(name, kind, "pandas")
