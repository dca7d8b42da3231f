"""LightGBM's trees, scored by kernels of our own to the same bits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from sevenfold.errors import ArtifactError
from sevenfold.models.dataset import Matrix
from sevenfold.models.tree_kernels import (
    BITS,
    Int32s,
    Words,
    add_up,
    has_infinite,
    number_leaves,
    to_share,
)
from sevenfold.types import Floats, Ints

__all__ = ["Nodes", "Trees", "rehearse_trees"]

_IDENTITIES = frozenset(
    (
        "lambdarank",
        "rank_xendcg",
        "regression",
        "regression_l1",
        "huber",
        "fair",
        "quantile",
        "mape",
    )
)  # objectives whose sum is the score
_CATEGORICAL, _DEFAULT_LEFT = 1, 2  # bits of a decision type
_MISSING_ZERO, _MISSING_NAN = 1, 2  # the number in its next two bits; 0 is none
_LOWEST, _HIGHEST = np.iinfo(np.int32).min, np.iinfo(np.int32).max
_MOST_LEAVES = 1 << 20
_FLOATS = msgspec.json.Decoder(list[float])
_INTEGERS = msgspec.json.Decoder(list[int])
_PLAIN = re.compile(r"[-0-9 ]*")


@dataclass(frozen=True, slots=True, eq=False)
class Nodes:
    """The trees of LightGBM's text, one after the other: `leaves` float64, `sizes` how many each tree has.

    A tree has one node fewer: `feature`, `decision`, `left`, `right` int64 and `threshold` float64.
    """

    n_features: int
    objective: tuple[str, ...]
    averaged: bool
    sizes: Ints
    leaves: Floats
    feature: Ints
    threshold: Floats
    decision: Ints
    left: Ints
    right: Ints

    @classmethod
    def of_text(cls, text: str) -> Nodes:
        """The trees of a text, whole and within their arrays.

        LightGBM believes what a text says: a child that is not there ends the process, a circle never ends. Raises
        ArtifactError for such, for categorical splits, linear leaves and several classes, and for a text that is no
        model.
        """
        body, end, _ = text.partition("\nend of trees\n")
        head, *blocks = body.split("\nTree=")
        if not end or not head.startswith("tree\n"):
            raise ArtifactError("the trees are not a whole LightGBM model in text form")
        known, trees = _lines(head), [_lines(block) for block in blocks]
        if known.get("num_class") != "1" or known.get("num_tree_per_iteration") != "1":
            raise ArtifactError(f"the trees tell {known.get('num_class')} classes apart")
        if any(tree.get("is_linear", "0") != "0" for tree in trees):
            raise ArtifactError("the leaves are linear models")
        if any(tree.get("num_cat", "0") != "0" for tree in trees):
            raise ArtifactError("a node splits by category")
        try:
            nodes = cls(
                int(known["max_feature_idx"]) + 1,
                tuple(known.get("objective", "").split()),
                "\naverage_output\n" in f"{head}\n",
                np.array([int(_digits(tree["num_leaves"])) for tree in trees], np.int64),
                _numbers(trees, "leaf_value"),
                _integers(trees, "split_feature"),
                _numbers(trees, "threshold"),
                _integers(trees, "decision_type"),
                _integers(trees, "left_child"),
                _integers(trees, "right_child"),
            )
        except (KeyError, ValueError, OverflowError) as error:
            raise ArtifactError(f"the text of the trees is damaged: {error}") from error
        nodes._check()
        return nodes

    def _check(self) -> None:
        """Raise ArtifactError for what does not fit together."""
        n = len(self.feature)
        if self.sizes.size and not 1 <= self.sizes.min() <= self.sizes.max() <= _MOST_LEAVES:
            raise ArtifactError("a tree has no leaves, or too many")
        parts = (self.threshold, self.decision, self.left, self.right)
        if (self.sizes - 1).sum() != n or any(len(part) != n for part in parts):
            raise ArtifactError("a tree does not have one node fewer than leaves")
        if self.sizes.sum() != len(self.leaves):
            raise ArtifactError("a tree does not have the leaves it counts")
        if n and not 0 <= self.feature.min() <= self.feature.max() < self.n_features:
            raise ArtifactError("a node reads a feature that is not there")
        if (self.decision & _CATEGORICAL).any():
            raise ArtifactError("a node splits by category")
        if np.isnan(self.threshold).any() or not np.isfinite(self.leaves).all():
            raise ArtifactError("a threshold or a leaf is not a number")
        self.numbered()

    def numbered(self) -> tuple[Ints, Ints, Ints]:
        """The leaves left of each node, from and to, and the number of each leaf from the left, in its tree.

        Raises ArtifactError when these are not trees.
        """
        roots = np.concatenate([[0], np.cumsum(self.sizes - 1)])
        first, last = np.zeros_like(self.left), np.zeros_like(self.left)
        place = np.full(len(self.leaves), -1, np.int64)
        if not number_leaves(roots, self.left, self.right, first, last, place):
            raise ArtifactError("the children of a tree do not reach each of its leaves once")
        return first, last, place

    def slope(self) -> float:
        """Of an objective that makes a share of the sum, the slope of its logistic curve; 0 for the sum itself."""
        if self.averaged:
            raise ArtifactError("the trees are averaged, not added")
        if self.objective[:1] == ("binary",) and self.objective[1:2]:
            return float(self.objective[1].removeprefix("sigmoid:"))
        if self.objective and (self.objective[0] not in _IDENTITIES or "sqrt" in self.objective):
            raise ArtifactError(f"the objective {' '.join(self.objective)!r} changes the sums")
        return 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """The trees of a LightGBM model as arrays: the same scores, bit for bit, in a fraction of the time.

    Comparing float32 values needs no float64: `x <= t` is `x <= f` for f the largest float32 that is not above
    t. (Rounded to the nearest, as exports to float32 do, a row on a threshold takes the other branch.) Values
    then become integers in the same order, null the lowest or the highest of them as a node would send it. A
    sum begins at 0 and takes tree after tree, in float64, as LightGBM's does.
    """

    n_features: int
    words: Words
    slope: float

    @classmethod
    def of_text(cls, text: str) -> Trees:
        """The trees of LightGBM's own text.

        Raises ArtifactError for what is not done here (categorical splits, linear leaves, several classes, averaged
        trees, objectives other than ranking, regression and binary), and for a text that is no model.
        """
        return cls.of_nodes(Nodes.of_text(text))

    @classmethod
    def of_nodes(cls, nodes: Nodes) -> Trees:
        """The same of nodes; ArtifactError for averaged trees and objectives that are not done here."""
        return cls(nodes.n_features, _words(nodes), nodes.slope())

    def takes(self, x: Matrix) -> bool:
        """Whether `x` is float32 (n, f) of so many features, none of them infinite."""
        is_one = x.dtype == np.float32 and x.ndim == 2 and x.shape[1] == self.n_features
        return is_one and not has_infinite(_bits(x))

    def sums(self, x: Matrix) -> Floats:
        """The sums of leaves of rows float32 (n, f), null as NaN, as float64 (n,): LightGBM's raw scores."""
        bits = _bits(x)
        if bits.ndim != 2 or bits.shape[1] != self.n_features:
            raise ArtifactError(f"the trees read {self.n_features} features, not {x.shape}")
        out = np.empty(len(bits))
        add_up(bits, self.words, out)
        return out

    def scores(self, x: Matrix) -> Floats:
        """The scores of rows float32 (n, f), null as NaN, as float64 (n,): those that LightGBM predicts."""
        out = self.sums(x)
        if self.slope:
            to_share(out, self.slope)
        return out


def _bits(x: Matrix) -> Int32s:
    # A kernel is compiled for each kind of array it meets: it meets one.
    rows = np.ascontiguousarray(x, dtype=np.float32)
    return (rows if rows.flags.writeable else rows.copy()).view(np.int32)


def rehearse_trees() -> None:
    """Compile what scores trees, on a model of one leaf."""
    text = (
        "tree\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=0\nobjective=binary sigmoid:1\n"
        "\nTree=0\nnum_leaves=1\nleaf_value=0\n\nend of trees\n"
    )
    trees, row = Trees.of_text(text), np.zeros((1, 1), np.float32)
    if trees.takes(row):
        trees.scores(row)


def _lines(block: str) -> Mapping[str, str]:
    named = [line.partition("=") for line in block.split("\n") if "=" in line]
    found = {name: value for name, _, value in named}
    if len(found) != len(named):  # LightGBM may read the other one
        raise ArtifactError("the text of the trees says something twice")
    return found


def _digits(text: str) -> str:
    """The text, when it is of plain whole numbers; Python reads more as a number than LightGBM does."""
    if not _PLAIN.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not whole numbers")
    return text


def _joined(trees: Sequence[Mapping[str, str]], name: str) -> str:
    return " ".join(values for tree in trees if (values := tree.get(name)))


def _numbers(trees: Sequence[Mapping[str, str]], name: str) -> Floats:
    text = _joined(trees, name)
    if "-0 " in f"{text} ":  # to JSON a whole number, which has no sign
        return np.array(list(map(float, text.split())), np.float64)
    try:
        found = _FLOATS.decode(f"[{text.replace(' ', ',')}]")  # seven times as fast as float()
    except msgspec.DecodeError:  # JSON has no infinity; what is no number at all is told by float()
        found = list(map(float, text.split()))
    return np.array(found, np.float64)


def _integers(trees: Sequence[Mapping[str, str]], name: str) -> Ints:
    text = _digits(_joined(trees, name))
    try:
        return np.array(_INTEGERS.decode(f"[{text.replace(' ', ',')}]"), np.int64)
    except msgspec.DecodeError as error:
        raise ValueError(f"{name}: {error}") from error


def _words(nodes: Nodes) -> Words:
    n = len(nodes.feature)
    first, last, place = nodes.numbered()
    # Word 0 of a tree has its first leaves and is stored last: what it finds stands over what later ones found.
    counts = -(-nodes.sizes // BITS)
    final = np.cumsum(counts) - 1
    leaves = np.zeros(int(counts.sum()) * BITS)
    leaves[np.repeat(final, nodes.sizes) * BITS - place // BITS * BITS + place % BITS] = (
        nodes.leaves
    )
    low = first // BITS
    spans = (last - 1) // BITS - low + 1
    node = np.repeat(np.arange(n), spans)
    nth = low[node] + np.arange(len(node)) - np.repeat(np.cumsum(spans) - spans, spans)
    word = np.repeat(final, nodes.sizes - 1)[node] - nth
    kills = _below(last[node] - nth * BITS) & ~_below(first[node] - nth * BITS)
    columns, of_node = _columns(nodes)
    order = np.argsort(word, kind="stable")
    ends = np.zeros(int(counts.sum()), np.bool_)
    ends[final] = True
    return Words(
        *columns,
        np.searchsorted(word[order], np.arange(len(ends) + 1)).astype(np.int32),
        ends,
        of_node[node][order].astype(np.int32),
        _keys(nodes.threshold)[node][order],
        kills[order],
        leaves,
    )


def _below(count: Ints) -> np.ndarray[tuple[int, ...], np.dtype[np.uint32]]:
    """Words whose lowest bits are set, as many as counted, none or all where the count is beyond the word."""
    return ((np.int64(1) << np.clip(count, 0, BITS)) - 1).astype(np.uint32)


def _columns(nodes: Nodes) -> tuple[tuple[Int32s, Int32s, Int32s], Ints]:
    """What features are read in which way, and the column that each node reads.

    A null is 0 to a node that knows of none missing; to others it is missing, and so is 0 where zeros are: then it
    goes to the node's default side.
    """
    missing = nodes.decision >> 2 & 3
    right = (nodes.decision & _DEFAULT_LEFT) == 0
    known, column = np.unique(nodes.feature * 8 + missing * 2 + right, return_inverse=True)
    side = np.where(known % 2, _HIGHEST, _LOWEST)
    missing = known % 8 // 2
    null = np.where((missing == _MISSING_ZERO) | (missing == _MISSING_NAN), side, 0)
    zero = np.where(missing == _MISSING_ZERO, side, 0)
    features, nulls, zeros = (part.astype(np.int32) for part in (known // 8, null, zero))
    return (features, nulls, zeros), column.astype(np.int64)


def _keys(thresholds: Floats) -> Int32s:
    """Those of the largest float32 that are not above the thresholds."""
    with np.errstate(over="ignore", under="ignore"):
        rounded = thresholds.astype(np.float32)
    above = rounded.astype(np.float64) > thresholds
    rounded[above] = np.nextafter(rounded[above], np.float32(-np.inf))
    bits = (rounded + np.float32(0)).view(np.int32)  # -0 becomes 0
    return np.where(bits < 0, bits ^ np.int32(_HIGHEST), bits).astype(np.int32)
