"""What goes into a read of features and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sevenfold.errors import InputError, NotFoundError
from sevenfold.types import Floats, Ints, Texts

__all__ = ["FeatureFrame", "Spine"]


@dataclass(frozen=True, slots=True, eq=False)
class Spine:
    """The rows to fill with features: an instant, entity keys and request fields each.

    `t_us` is int64 (n,); `keys` maps an entity to its keys, n of them or one for all rows; `fields` maps a
    request or candidate field to an array (n,) or (1,).
    """

    t_us: Ints
    keys: Mapping[str, Texts]
    fields: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse columns of another length than the spine's."""
        n = len(self.t_us)
        for columns in (self.keys, self.fields):
            for name, column in columns.items():
                if len(column) not in (1, n):
                    raise InputError(
                        f"$.{name}: the column has {len(column)} rows, the spine {n}; "
                        "give one value a row, or one for all"
                    )

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.t_us)


@dataclass(frozen=True, slots=True, eq=False)
class FeatureFrame:
    """The features of a spine's rows, in its order.

    `values` is float64 (n, f), null as NaN; `states` uint8 (n, f) says why (see VectorState).
    """

    names: tuple[str, ...]
    values: Floats
    states: npt.NDArray[np.uint8]

    def vectors(self) -> npt.NDArray[np.float32]:
        """The rows as a model reads them: float32 (n, f), null as NaN."""
        return self.values.astype(np.float32, order="C")

    def column(self, name: str) -> Floats:
        """The values of one feature (n,); raises NotFoundError for another name."""
        if name not in self.names:
            raise NotFoundError(
                f"no feature {name!r} in this frame; there are {', '.join(self.names)}"
            )
        return self.values[:, self.names.index(name)]
