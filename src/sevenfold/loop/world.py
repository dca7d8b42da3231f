"""A recorded world to live through again: what happened, row by row, and what was asked, in time order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sevenfold.errors import InputError
from sevenfold.types import Ints, Texts

__all__ = ["RawColumn", "Requests", "World", "disturb"]

RawColumn = npt.NDArray[Any] | Texts


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Requests in order of time: `t_us` (q,), ids, and the fields of each as columns of q texts."""

    t_us: Ints
    ids: Texts
    fields: Mapping[str, Texts]

    def __len__(self) -> int:
        """The number of requests."""
        return len(self.t_us)

    def take(self, index: npt.NDArray[Any]) -> Requests:
        """The requests at `index`, in that order."""
        fields = {name: column.take(index) for name, column in self.fields.items()}
        return Requests(self.t_us[index], self.ids.take(index), fields)


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Raw rows of one stream with the instant each arrives, in order of arrival, and the requests.

    `columns` are the rows as their source gives them, dirt included; `arrival_us` (n,) does not fall.
    """

    stream: str
    columns: Mapping[str, RawColumn]
    arrival_us: Ints
    requests: Requests

    def __post_init__(self) -> None:
        """Refuse rows or requests that are out of order."""
        if (np.diff(self.arrival_us) < 0).any() or (np.diff(self.requests.t_us) < 0).any():
            raise InputError(
                f"the rows of stream {self.stream!r} or its requests are not in order of time; sort them"
            )

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.arrival_us)

    def slice(self, begin: int, end: int) -> dict[str, RawColumn]:
        """The raw columns of rows `begin` to `end`."""
        index = np.arange(begin, end)
        return {
            name: column.take(index) if isinstance(column, Texts) else column[begin:end]
            for name, column in self.columns.items()
        }

    def rows(self, begin: int, end: int) -> list[dict[str, Any]]:
        """Rows `begin` to `end` as dictionaries, null fields left out."""
        columns = self.slice(begin, end)
        names = list(columns)
        lists = [_plain(column) for column in columns.values()]
        return [
            {name: value for name, value in zip(names, row, strict=True) if value is not None}
            for row in zip(*lists, strict=True)
        ]


def disturb(world: World, share: float, delay_us: int, rng: np.random.Generator) -> World:
    """The world with trouble on the way: each of three shares of its rows late, sent twice, or swapped.

    `share` of the rows arrive up to `delay_us` late, `share` are delivered a second time up to `delay_us`
    later, and `share` change places with a neighbour. What happened, and when, stays the same.
    """
    n = len(world)
    late, again, swapped = (rng.random(n) < share for _ in range(3))
    arrival = world.arrival_us + np.where(late, rng.integers(1, delay_us, n), 0)
    twice = np.flatnonzero(again)
    arrival = np.concatenate([arrival, arrival[twice] + rng.integers(1, delay_us, len(twice))])
    source = np.concatenate([np.arange(n), twice])
    order = np.argsort(arrival, kind="stable")
    for place in np.flatnonzero(swapped[: len(order) - 1]):
        order[place], order[place + 1] = order[place + 1], order[place]
    taken = source[order]
    return replace(
        world,
        columns={
            name: column.take(taken) if isinstance(column, Texts) else column[taken]
            for name, column in world.columns.items()
        },
        # A swap changes who comes first, not when something comes.
        arrival_us=np.maximum.accumulate(arrival[order]),
    )


def _plain(column: RawColumn) -> list[Any]:
    if isinstance(column, Texts):
        return column.to_list()
    return [None if value != value else value for value in column.tolist()]
