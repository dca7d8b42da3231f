"""How a spine is meant."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypedDict

import numpy as np

from sevenfold.errors import InputError
from sevenfold.sources.times import LocalTime

__all__ = ["Meant", "SpineOptions"]


class SpineOptions(TypedDict, total=False):
    """What can be said of a spine; all of it may be left out.

    `time` is the column of instants, "t" when not given: whole microseconds since 1970-01-01 UTC, timestamps
    with a zone, or RFC 3339 text. `timezone` says where the clock hung that times without an offset were read
    from. `null_keys` is "refuse", or "empty" to read a null key as one that nothing is known of. `dtype` is
    "float32", what models read, or "float64".
    """

    time: str
    timezone: str | None
    null_keys: Literal["refuse", "empty"]
    dtype: Literal["float32", "float64"]


@dataclass(frozen=True, slots=True)
class Meant:
    """The options with their defaults; raises InputError for a value that is none of those allowed."""

    time: str = "t"
    timezone: str | None = None
    null_keys: Literal["refuse", "empty"] = "refuse"
    dtype: Literal["float32", "float64"] = "float32"
    zone: LocalTime | None = field(init=False)

    def __post_init__(self) -> None:
        """Check the words, and that the zone is there."""
        for name, allowed in {
            "null_keys": ("refuse", "empty"),
            "dtype": ("float32", "float64"),
        }.items():
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(
                    f"{name}={value!r}: allowed are {' and '.join(map(repr, allowed))}"
                )
        zone = LocalTime(self.timezone) if self.timezone is not None else None
        object.__setattr__(self, "zone", zone)

    @property
    def numpy_dtype(self) -> np.dtype[np.floating]:
        """The type of the features' columns."""
        return np.dtype(self.dtype)
