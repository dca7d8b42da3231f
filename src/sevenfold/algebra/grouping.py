"""Which rows belong to one key: grouping by 128-bit hashes without sorting."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sevenfold.algebra.layout import Groups
from sevenfold.compiled import kernel
from sevenfold.types import Ints

__all__ = ["bucket", "byte_order", "gather", "group", "match"]

Hashes = npt.NDArray[np.uint64]


def group(hashes: Hashes) -> tuple[Ints, Ints]:
    """The group of each row and the first row of each group, groups numbered as they first appear.

    `hashes` is uint64 (n, 2); returns int64 (n,) and (g,).
    """
    table = np.full(_table_size(len(hashes)), -1, dtype=np.int64)
    ids = np.empty(len(hashes), dtype=np.int64)
    firsts = np.empty(len(hashes), dtype=np.int64)
    n_groups = _group(hashes, table, ids, firsts)
    return ids, firsts[:n_groups].copy()


def match(wanted: Hashes, hashes: Hashes) -> Ints:
    """For each row of `hashes` (n, 2) its position in `wanted` (g, 2), all different; -1 when absent.

    The null key (0, 0) matches nothing.
    """
    table = np.full(_table_size(len(wanted)), -1, dtype=np.int64)
    ids = np.empty(len(hashes), dtype=np.int64)
    _match(wanted, hashes, table, ids)
    return ids


def bucket(ids: Ints, n_groups: int, order: Ints | None = None) -> Groups:
    """Rows sorted by group, keeping their order inside it: a counting sort.

    `ids` (n,) are groups, -1 for none; rows are taken in `order` when given. Returns `starts` (g + 1,)
    and `rows`.
    """
    if order is None:
        order = np.arange(len(ids), dtype=np.int64)
    starts = np.zeros(n_groups + 1, dtype=np.int64)
    rows = np.empty(len(ids), dtype=np.int64)
    _bucket(ids, order, starts, rows)
    return Groups(starts, rows[: starts[-1]])


def gather(hashes: Hashes) -> tuple[Ints, Groups]:
    """The first row of each group, and the rows of each, the groups in the order of their hashes as bytes."""
    if len(hashes) == 1:  # an event that comes alone has one key of each kind
        return np.zeros(1, dtype=np.int64), Groups(
            np.arange(2, dtype=np.int64), np.zeros(1, dtype=np.int64)
        )
    ids, firsts = group(hashes)
    order = byte_order(hashes[firsts])
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return firsts[order], bucket(place[ids], len(firsts))


def byte_order(hashes: Hashes) -> Ints:
    """The order of different hashes, uint64 (n, 2), as bytes: that of a store."""
    first = hashes[:, 0].byteswap()
    order = np.argsort(first)
    # The second words matter only where two first ones meet, which is next to never.
    ordered = first[order]
    if np.count_nonzero(ordered[1:] == ordered[:-1]):
        order = np.lexsort((hashes[:, 1].byteswap(), first))
    return order


def _table_size(n: int) -> int:
    return 1 << max(4, (2 * n - 1).bit_length() if n else 0)


@kernel
def _group(hashes: Hashes, table: Ints, ids: Ints, firsts: Ints) -> int:
    mask = np.uint64(len(table) - 1)
    groups = 0
    for i in range(hashes.shape[0]):
        slot = np.int64(hashes[i, 0] & mask)
        while True:
            found = table[slot]
            if found < 0:
                table[slot] = groups
                firsts[groups] = i
                ids[i] = groups
                groups += 1
                break
            first = firsts[found]
            if hashes[first, 0] == hashes[i, 0] and hashes[first, 1] == hashes[i, 1]:
                ids[i] = found
                break
            slot = (slot + 1) & (len(table) - 1)
    return groups


@kernel
def _match(wanted: Hashes, hashes: Hashes, table: Ints, ids: Ints) -> None:
    mask = np.uint64(len(table) - 1)
    for i in range(wanted.shape[0]):
        slot = np.int64(wanted[i, 0] & mask)
        while table[slot] >= 0:
            slot = (slot + 1) & (len(table) - 1)
        table[slot] = i
    for i in range(hashes.shape[0]):
        ids[i] = -1
        if hashes[i, 0] == 0 and hashes[i, 1] == 0:
            continue
        slot = np.int64(hashes[i, 0] & mask)
        while table[slot] >= 0:
            found = table[slot]
            if wanted[found, 0] == hashes[i, 0] and wanted[found, 1] == hashes[i, 1]:
                ids[i] = found
                break
            slot = (slot + 1) & (len(table) - 1)


@kernel
def _bucket(ids: Ints, order: Ints, starts: Ints, rows: Ints) -> None:
    groups = len(starts) - 1
    for i in range(len(ids)):
        if ids[i] >= 0:
            starts[ids[i] + 1] += 1
    for g in range(groups):
        starts[g + 1] += starts[g]
    ends = starts.copy()
    for i in range(len(order)):
        g = ids[order[i]]
        if g >= 0:
            rows[ends[g]] = order[i]
            ends[g] += 1
