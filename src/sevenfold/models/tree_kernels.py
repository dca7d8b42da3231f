"""What scores rows with trees as flat arrays: no branch a node, no pointer a leaf, many rows side by side.

A tree of up to 32 leaves is a word of 32 bits, one a leaf from left to right; a larger tree is several words. A node
that sends a row to the right kills the leaves on its left; when all nodes have judged, the first leaf alive
is the row's, in whatever order they did. Lucchese et al., *QuickScorer*, SIGIR 2015, and *V-QuickScorer*, 2016; here trees
stay in their order, so that sums are added as LightGBM adds them, and no node is skipped: on 32 rows together none is idle.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import config, types
from numba.extending import intrinsic

from sevenfold.compiled import kernel
from sevenfold.types import Floats, Ints

__all__ = ["BITS", "Int32s", "Words", "add_up", "has_infinite", "number_leaves", "to_share"]

BITS = 32
_TINY = int(np.float32(1e-35).view(np.int32))  # LightGBM takes what is not larger than this for 0
_INFINITE = 0x7F800000
_WITHOUT_SIGN = 0x7FFFFFFF
_FEW = 4  # rows that are scored one by one: a block of so few lanes takes longer
_MOST = 128  # rows of a block: their columns fit into the nearest cache
_STEP = 16  # a block is a multiple of what a processor compares in two steps

Int32s = npt.NDArray[np.int32]
UInt32s = npt.NDArray[np.uint32]


class Words(NamedTuple):
    """The trees of a model, for the kernels.

    A column is a feature read in one way: `features`, and the keys that a null and a zero have in it, all
    int32 (c,). `starts` int32 (w + 1,) are the nodes of each word, and `ends` bool (w,) whether a tree ends with
    it: the word of its first leaves comes last. A node sends a row to the right when the key in its column is
    larger than its own: `columns`, `keys` int32 (n,), `kills` uint32 (n,). `leaves` float64 (32 w,).
    """

    features: Int32s
    nulls: Int32s
    zeros: Int32s
    starts: Int32s
    ends: npt.NDArray[np.bool_]
    columns: Int32s
    keys: Int32s
    kills: UInt32s
    leaves: Floats


def _count_zeros(typing_context: Any, word: Any) -> Any:
    """The place of the lowest bit that is set; 32 when none is."""

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(types.boolean, 0))

    return word(word), lower


def _first_bit(word: Any) -> int:
    found = int(word)
    return (found & -found).bit_length() - 1 if found else BITS


first_bit: Any = _first_bit if getattr(config, "DISABLE_JIT", False) else intrinsic(_count_zeros)


@kernel
def _key(bits: np.int32, null: np.int32, zero: np.int32) -> np.int32:
    """The integer that orders a float32 among all others, given its bits; of null and zero, what is said."""
    size = bits & np.int32(_WITHOUT_SIGN)
    if size > np.int32(_INFINITE):
        return null
    if size <= np.int32(_TINY):
        return zero
    return bits ^ (np.int32(_WITHOUT_SIGN) & (bits >> np.int32(31)))


@kernel
def _add_few(bits: Int32s, words: Words, out: Floats) -> None:
    """One row after the other."""
    features, nulls, zeros, starts, ends, columns, keys, kills, leaves = words
    row = np.empty(len(features), np.int32)
    for i in range(len(bits)):
        for c in range(len(features)):
            row[c] = _key(bits[i, features[c]], nulls[c], zeros[c])
        total, value = 0.0, 0.0
        for w in range(len(ends)):
            dead = np.uint32(0)
            # Unsigned, or the compiler gathers for eight nodes at once, which is four times as slow.
            for n in range(np.uint32(starts[w]), np.uint32(starts[w + 1])):
                dead |= kills[n] if row[columns[n]] > keys[n] else np.uint32(0)
            alive = np.uint32(~dead)
            if alive != np.uint32(0):
                value = leaves[w * BITS + first_bit(alive)]
            if ends[w]:
                total += value
        out[i] = total


@kernel
def _take(dead: UInt32s, leaves: Floats, first: int, value: Floats) -> None:
    """Write the first leaf alive into `value`, where there is one; `first` is the word's first leaf."""
    for lane in range(len(dead)):
        alive = np.uint32(~dead[lane])
        if alive != np.uint32(0):
            value[lane] = leaves[first + first_bit(alive)]


@kernel
def _add_many(bits: Int32s, words: Words, lanes: int, out: Floats) -> None:
    """`lanes` rows at a time."""
    features, nulls, zeros, starts, ends, columns, keys, kills, leaves = words
    rows = np.zeros((len(features), lanes), np.int32)
    dead = np.zeros(lanes, np.uint32)
    total = np.zeros(lanes)
    value = np.zeros(lanes)
    for begin in range(0, len(bits), lanes):
        size = min(lanes, len(bits) - begin)
        for i in range(size):
            for c in range(len(features)):
                rows[c, i] = _key(bits[begin + i, features[c]], nulls[c], zeros[c])
        total[:] = 0.0
        for w in range(len(ends)):
            dead[:] = np.uint32(0)
            for n in range(starts[w], starts[w + 1]):
                column, key, kill = columns[n], keys[n], kills[n]
                for lane in range(lanes):
                    dead[lane] |= kill if rows[column, lane] > key else np.uint32(0)
            _take(dead, leaves, w * BITS, value)
            if ends[w]:
                for lane in range(lanes):
                    total[lane] += value[lane]
        out[begin : begin + size] = total[:size]


@kernel
def has_infinite(bits: Int32s) -> bool:
    """Whether one of float32 (n, f), given as their bits, is infinite."""
    found, flat = False, bits.reshape(-1)
    for i in range(flat.shape[0]):
        found |= (flat[i] & np.int32(_WITHOUT_SIGN)) == np.int32(_INFINITE)
    return found


@kernel
def add_up(bits: Int32s, words: Words, out: Floats) -> None:
    """Write the sum over all trees of each row into `out`; `bits` are those of float32 (n, f)."""
    n = len(bits)
    if n <= _FEW:
        _add_few(bits, words, out)
        return
    blocks = (n + _MOST - 1) // _MOST
    lanes = (n + blocks - 1) // blocks
    _add_many(bits, words, (lanes + _STEP - 1) // _STEP * _STEP, out)


@kernel
def to_share(sums: Floats, slope: float) -> None:
    """Write 1 / (1 + exp(-slope * sum)) over each sum."""
    for i in range(len(sums)):
        sums[i] = 1.0 / (1.0 + math.exp(-slope * sums[i]))


@kernel
def number_leaves(
    roots: Ints, left: Ints, right: Ints, first: Ints, last: Ints, place: Ints
) -> bool:
    """Number the leaves of each tree from left to right, and say which of them lie left of each node.

    Tree k has the nodes `roots[k]` to `roots[k + 1]` and one leaf more than nodes; children are numbered within the
    tree, leaf j as ~j. Writes the numbers (in the tree) of the leaves left of node i into `first[i]` to `last[i]`, and those of
    leaves into `place`. False when this is not one tree that reaches each of its nodes and leaves once.
    """
    above = np.empty(len(left) + 1, np.int64)
    for k in range(len(roots) - 1):
        base, n = roots[k], roots[k + 1] - roots[k]
        depth, steps, count = 0, 0, 0
        at = np.int64(0) if n else np.int64(-1)
        while True:
            while at >= 0:
                if at >= n or steps == n:
                    return False
                steps += 1
                first[base + at] = count
                above[depth] = at
                depth += 1
                at = left[base + at]
            leaf = base + k + ~at
            if ~at > n or place[leaf] >= 0:
                return False
            place[leaf] = count
            count += 1
            if not depth:
                break
            depth -= 1
            at = above[depth]
            last[base + at] = count
            at = right[base + at]
        if steps != n or count != n + 1:
            return False
    return True
