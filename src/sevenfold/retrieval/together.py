"""Items bought together: an item-to-item matrix of shared baskets, rebuilt at regular instants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sevenfold.compiled import kernel
from sevenfold.retrieval.catalogue import Catalogue
from sevenfold.retrieval.history import History
from sevenfold.retrieval.protocol import Candidates, Query, best
from sevenfold.types import EventBatch, Floats, Ints, Texts

__all__ = ["BoughtTogether", "TogetherSettings"]


@dataclass(frozen=True, slots=True)
class TogetherSettings:
    """How baskets become a matrix and how it is asked.

    Every `refresh_us` the counts fade by `half_life_us` and the baskets since then are added: a basket of L
    items (at most `largest_basket`) gives each pair 1 / sqrt(L). A pair's score is its count over
    (count(i) + shrink)^(1 - alpha) * (count(j) + shrink)^alpha; the best `neighbours` of an item are kept. A
    query sums the rows of the customer's latest `recent` items, each fading by `query_half_life_us`.
    """

    refresh_us: int
    half_life_us: int
    query_half_life_us: int
    recent: int = 100
    alpha: float = 0.5
    shrink: float = 1.0
    neighbours: int = 200
    largest_basket: int = 300


class BoughtTogether:
    """Items that share baskets with what the customer took of late."""

    def __init__(
        self,
        name: str,
        basket: str,
        item: str,
        limit: int,
        history: History,
        catalogue: Catalogue,
        settings: TogetherSettings,
    ) -> None:
        self.name = name
        self._basket = basket
        self._item = item
        self._limit = limit
        self._history = history
        self._catalogue = catalogue
        self._settings = settings
        self._next_us: int | None = None
        self._pending: list[tuple[Texts, Ints]] = []
        self._pairs = sparse.csr_matrix((0, 0), dtype=np.float32)
        self._counts = np.zeros(0)
        self._index = sparse.csr_matrix((0, 0), dtype=np.float32)
        self._is_stale = False

    def observe(self, batch: EventBatch) -> None:
        """Keep the baskets, and rebuild the matrix whenever an instant of renewal is passed."""
        if batch.stream != self._history.stream or not len(batch):
            return
        refresh = self._settings.refresh_us
        if self._next_us is None:
            self._next_us = (int(batch.known_us[0]) // refresh + 1) * refresh
        begin = 0
        while begin < len(batch):
            end = int(np.searchsorted(batch.known_us, self._next_us))
            if end > begin:
                rows = np.arange(begin, end)
                baskets = _texts(batch, self._basket).take(rows)
                self._pending.append(
                    (baskets, self._catalogue.codes(batch.keys[self._item].take(rows)))
                )
            if end == len(batch):
                return
            self._rebuild()
            self._next_us += refresh
            begin = end

    def propose(self, query: Query) -> Candidates:
        """The items most often in one basket with the customer's latest."""
        self.settle()
        past = self._history.past(query.keys.get(self._history.customer), query.t_us)
        known = past.codes < self._index.shape[0]
        codes, newest = past.codes[known], past.newest_us[known]
        if not len(codes):
            return Candidates(np.empty(0, np.int64), np.empty(0, np.float32))
        latest = np.lexsort((codes, -newest))[: self._settings.recent]
        ages = query.t_us - newest[latest]
        weights = np.exp2(-ages / self._settings.query_half_life_us)
        scores = np.asarray(self._index[codes[latest]].T @ weights)
        return best(np.arange(len(scores)), scores, self._limit)

    def settle(self) -> None:
        """Make the index ready for queries, so that none has to wait for it.

        A replay of the log passes many renewals; only the last one is asked.
        """
        if self._is_stale:
            self._index = _normalised(self._pairs, self._counts, self._settings)
            self._is_stale = False

    def _rebuild(self) -> None:
        settings = self._settings
        fade = float(np.exp2(-settings.refresh_us / settings.half_life_us))
        # Not the catalogue's size: of a long batch it knows items that came after the renewal.
        newest = max((int(codes.max()) for _, codes in self._pending), default=-1)
        size = max(self._pairs.shape[0], newest + 1)
        baskets = _basket_matrix(self._pending, size, settings.largest_basket)
        self._pending = []
        self._pairs.resize((size, size))
        self._pairs = self._pairs * fade + baskets.T @ baskets
        # A basket's row holds L^-1/4 in each place, so that a pair of it weighs 1 / sqrt(L).
        added = np.asarray(baskets.multiply(baskets).sum(axis=0)).ravel()
        self._counts = np.pad(self._counts, (0, size - len(self._counts))) * fade + added
        self._is_stale = True


def _texts(batch: EventBatch, name: str) -> Texts:
    column = batch.fields[name]
    if not isinstance(column, Texts):
        raise TypeError(f"field {name!r} of stream {batch.stream!r} is not an id")
    return column


def _basket_matrix(pending: list[tuple[Texts, Ints]], size: int, largest: int) -> sparse.csr_matrix:
    """One row a basket: L^-1/4 at each of its L different items; baskets over `largest` are left out."""
    number: dict[str, int] = {}
    pairs: set[tuple[int, int]] = set()
    for baskets, codes in pending:
        for basket, code in zip(baskets.to_list(), codes.tolist(), strict=True):
            if basket is not None and code >= 0:
                pairs.add((number.setdefault(basket, len(number)), code))
    rows = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
    sizes = np.bincount(rows[:, 0], minlength=len(number))
    rows = rows[sizes[rows[:, 0]] <= largest]
    weights = sizes[rows[:, 0]].astype(np.float32) ** -0.25
    return sparse.csr_matrix((weights, (rows[:, 0], rows[:, 1])), shape=(len(number), size))


def _normalised(
    pairs: sparse.csr_matrix, counts: Floats, settings: TogetherSettings
) -> sparse.csr_matrix:
    scaled = pairs.tocsr(copy=True)
    own = (counts + settings.shrink) ** (1 - settings.alpha)
    other = (counts + settings.shrink) ** settings.alpha
    row_of = np.repeat(np.arange(scaled.shape[0]), np.diff(scaled.indptr))
    scaled.data = (scaled.data / (own[row_of] * other[scaled.indices])).astype(np.float32)
    scaled.data[row_of == scaled.indices] = 0.0
    return _strongest(scaled, settings.neighbours)


def _strongest(matrix: sparse.csr_matrix, keep: int) -> sparse.csr_matrix:
    """The `keep` largest entries of each row; ties: the lower column."""
    matrix.sort_indices()
    rows = matrix.shape[0]
    columns = np.empty(rows * keep, dtype=np.int64)
    data = np.empty(rows * keep, dtype=np.float32)
    ends = np.zeros(rows + 1, dtype=np.int64)
    starts, indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
    _keep_strongest(starts, indices, matrix.data, (columns, data, ends))
    size = int(ends[-1])
    return sparse.csr_matrix((data[:size], columns[:size], ends), shape=matrix.shape)


@kernel
def _keep_strongest(
    starts: Ints,
    indices: Ints,
    data: npt.NDArray[np.float32],
    out: tuple[Ints, npt.NDArray[np.float32], Ints],
) -> None:
    kept_columns, kept_data, ends = out
    keep = len(kept_columns) // max(len(starts) - 1, 1)
    at = 0
    for row in range(len(starts) - 1):
        begin, end = starts[row], starts[row + 1]
        least = np.float32(-np.inf)
        above = 0
        if end - begin > keep:
            least = np.partition(data[begin:end], end - begin - keep)[end - begin - keep]
            for i in range(begin, end):
                if data[i] > least:
                    above += 1
        tied = keep - above
        for i in range(begin, end):
            if data[i] > least or (data[i] == least and tied > 0):
                if data[i] == least:
                    tied -= 1
                kept_columns[at] = indices[i]
                kept_data[at] = data[i]
                at += 1
        ends[row + 1] = at
