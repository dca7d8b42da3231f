"""What a model learns from: the rows of requests, checked once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sevenfold.errors import InputError
from sevenfold.hashing import canonical_json, digest
from sevenfold.types import Ints

__all__ = ["Dataset", "Matrix", "Vector"]

Matrix: TypeAlias = npt.NDArray[np.float32]
Vector: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Labelled rows, request by request.

    `x` float32 (n, f), null as NaN, never infinite; `y` float32 (n,), finite and not negative; `groups`
    int64 (q,): the number of consecutive rows of each request; `feature_names` (f,) in the order of the
    columns; `request_ids` (q,), each once; `t_us` int64 (n,): the instant of the row, the same for every
    row of a request; `weights` float32 (n,) or None for all equal.

    Raises InputError with every problem at once when the parts do not fit.

    >>> data = Dataset.of([[1.0], [0.0], [3.0]], [1, 0, 1], groups=[2, 1], feature_names=["price"])
    >>> len(data), data.n_requests, data.feature_names
    (3, 2, ('price',))
    """

    x: Matrix
    y: Vector
    groups: Ints
    feature_names: tuple[str, ...]
    request_ids: tuple[str, ...]
    t_us: Ints
    weights: Vector | None = None

    def __post_init__(self) -> None:
        """Refuse parts that do not fit together."""
        problems = [*_shape_problems(self)] or [*_value_problems(self)]
        if problems:
            raise InputError("the dataset cannot be used:\n  " + "\n  ".join(problems))

    @classmethod
    def of(
        cls,
        x: Any,
        y: Any,
        *,
        groups: Any = None,
        feature_names: Sequence[str],
        request_ids: Sequence[str] | None = None,
        t_us: Any = None,
    ) -> Dataset:
        """The dataset of lists or arrays, for tests and notebooks.

        Without `groups` all rows are one request; requests are numbered and timed 0 unless given.
        """
        matrix = np.atleast_2d(np.asarray(x, dtype=np.float32))
        sizes = np.asarray([len(matrix)] if groups is None else groups, dtype=np.int64)
        ids = [f"request-{i}" for i in range(len(sizes))] if request_ids is None else request_ids
        times = np.zeros(len(matrix)) if t_us is None else t_us
        return cls(
            matrix,
            np.asarray(y, dtype=np.float32),
            sizes,
            tuple(feature_names),
            tuple(ids),
            np.asarray(times, dtype=np.int64),
        )

    @classmethod
    def concat(cls, parts: Sequence[Dataset]) -> Dataset:
        """The datasets one after the other; their features must be the same, in the same order."""
        if not parts:
            raise InputError("no datasets to put together: give at least one")
        names = parts[0].feature_names
        if any(part.feature_names != names for part in parts):
            raise InputError(
                "datasets with other features, or in another order, cannot be put together"
            )
        weighted = any(part.weights is not None for part in parts)
        return cls(
            np.concatenate([part.x for part in parts]),
            np.concatenate([part.y for part in parts]),
            np.concatenate([part.groups for part in parts]),
            names,
            tuple(name for part in parts for name in part.request_ids),
            np.concatenate([part.t_us for part in parts]),
            np.concatenate([part.row_weights() for part in parts]) if weighted else None,
        )

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.y)

    @property
    def n_requests(self) -> int:
        """The number of requests."""
        return len(self.groups)

    @property
    def starts(self) -> Ints:
        """The first row of each request, int64 (q,)."""
        return np.cumsum(self.groups) - self.groups

    def request_of_row(self) -> Ints:
        """The index of each row's request, int64 (n,).

        >>> data = Dataset.of([[1], [2], [3]], [0, 1, 0], groups=[1, 2], feature_names=["a"])
        >>> data.request_of_row().tolist()
        [0, 1, 1]
        """
        return np.repeat(np.arange(self.n_requests, dtype=np.int64), self.groups)

    def row_weights(self) -> Vector:
        """The weight of each row, float32 (n,); ones when none were given."""
        return np.ones(len(self), dtype=np.float32) if self.weights is None else self.weights

    def take(self, requests: npt.NDArray[Any]) -> Dataset:
        """The given requests with all their rows; `requests` are positions or a boolean mask (q,)."""
        chosen = np.flatnonzero(requests) if requests.dtype == np.bool_ else requests
        sizes = self.groups[chosen]
        ends = np.cumsum(sizes)
        within = np.arange(sizes.sum(), dtype=np.int64) - np.repeat(ends - sizes, sizes)
        rows = np.repeat(self.starts[chosen], sizes) + within
        return Dataset(
            self.x[rows],
            self.y[rows],
            sizes,
            self.feature_names,
            tuple(self.request_ids[i] for i in chosen.tolist()),
            self.t_us[rows],
            None if self.weights is None else self.weights[rows],
        )

    def select(self, feature_names: Sequence[str]) -> Dataset:
        """The same rows with the named features, in the order given; InputError for an unknown one."""
        at = {name: i for i, name in enumerate(self.feature_names)}
        unknown = [name for name in feature_names if name not in at]
        if unknown:
            raise InputError(f"features {unknown} are not in the dataset, which has {[*at]}")
        return Dataset(
            np.ascontiguousarray(self.x[:, [at[name] for name in feature_names]]),
            self.y,
            self.groups,
            tuple(feature_names),
            self.request_ids,
            self.t_us,
            self.weights,
        )

    def fingerprint(self) -> str:
        """The digest of every byte that a model could learn from: the name of this training set."""
        names = canonical_json([self.feature_names, self.request_ids, self.weights is None])
        arrays = (self.x, self.y, self.groups, self.t_us, self.row_weights())
        return digest(
            "".join(digest(part) for part in (names, *(_raw(array) for array in arrays))).encode()
        )


def _raw(array: npt.NDArray[Any]) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def _shape_problems(data: Dataset) -> Iterable[str]:
    n, q = len(data.y), len(data.groups)
    if data.x.ndim != 2 or data.x.dtype != np.float32:
        yield f"$.x is {data.x.dtype} {data.x.shape}: give float32 (rows, features)"
    elif data.x.shape != (n, len(data.feature_names)):
        yield f"$.x is {data.x.shape} but there are {n} labels and {len(data.feature_names)} names"
    for name, array, kind, size in (
        ("y", data.y, np.float32, n),
        ("groups", data.groups, np.int64, q),
        ("t_us", data.t_us, np.int64, n),
        ("weights", data.row_weights(), np.float32, n),
    ):
        if array.shape != (size,) or array.dtype != kind:
            yield f"$.{name} is {array.dtype} {array.shape}: give {np.dtype(kind)} ({size},)"
    if len(data.request_ids) != q:
        yield f"$.request_ids has {len(data.request_ids)} names for {q} requests"
    if data.groups.sum() != n or (q and data.groups.min() < 1):
        yield f"$.groups must be at least 1 each and add up to the {n} rows, not {data.groups.sum()}"


def _value_problems(data: Dataset) -> Iterable[str]:
    if len(set(data.feature_names)) != len(data.feature_names):
        yield "$.feature_names has a name twice"
    if len(set(data.request_ids)) != len(data.request_ids):
        yield "$.request_ids has a request twice: its rows would count twice"
    infinite = np.flatnonzero(np.isinf(data.x).any(axis=0))
    if len(infinite):
        named = [data.feature_names[i] for i in infinite.tolist()]
        yield f"$.x is infinite in {named}: null is NaN, anything else must be finite"
    if not np.isfinite(data.y).all() or (data.y < 0).any():
        yield "$.y must be finite and not negative: leave out rows without a label"
    weights = data.row_weights()
    if len(data) and not (np.isfinite(weights).all() and weights.min() >= 0 and weights.max() > 0):
        yield "$.weights must be finite, not negative, and not all zero"
    if data.n_requests and (data.t_us != np.repeat(data.t_us[data.starts], data.groups)).any():
        yield "$.t_us differs inside a request: a request has one instant"
