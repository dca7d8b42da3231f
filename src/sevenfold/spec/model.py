"""Step 4, develop models: which ones, on which features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from sevenfold.spec.feature_set import FeatureSet
from sevenfold.spec.quantity import Bounds, Count, Name, Positive

__all__ = ["LightGBM", "LogisticRegression", "ModelSpec", "Rule"]

Role: TypeAlias = Literal["baseline", "challenger", "strong"]
Leaves: TypeAlias = Annotated[int, Bounds(2, 131_072, whole=True)]
Part: TypeAlias = Annotated[float, Bounds(0, 1, above=True)]
Weight: TypeAlias = Annotated[float, Bounds(0)]


@dataclass(frozen=True, slots=True)
class Rule:
    """The baseline: rank by one feature, ties by another."""

    by: str
    then: str | None = None
    role: Role = "baseline"
    name: Name = "rule"

    @property
    def features(self) -> tuple[str, ...]:
        """The features the rule reads."""
        return (self.by, self.then) if self.then else (self.by,)


@dataclass(frozen=True, slots=True)
class LogisticRegression:
    """A linear model of the probability that an item comes true.

    No feature may be computed from a field of a class of personal data in `forbid_pii`.
    """

    features: Sequence[str] | FeatureSet
    l2: Weight = 1e-3
    role: Role = "challenger"
    name: Name = "logistic"
    forbid_pii: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class LightGBM:
    """Boosted trees by LambdaMART, one list a request.

    No feature may be computed from a field of a class of personal data in `forbid_pii`.
    """

    features: Sequence[str] | FeatureSet
    n_trees: Count = 200
    learning_rate: Positive = 0.05
    n_leaves: Leaves = 31
    min_rows_in_leaf: Count = 50
    l2: Weight = 1.0
    feature_share: Part = 0.8
    row_share: Part = 1.0
    truncation: Count = 30
    threads: Count = 1
    role: Role = "strong"
    name: Name = "lightgbm"
    forbid_pii: Sequence[str] = ()


ModelSpec: TypeAlias = Rule | LogisticRegression | LightGBM
