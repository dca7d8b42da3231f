"""Step 4, develop models: which ones, on which features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["LightGBM", "LogisticRegression", "ModelSpec", "Rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """The baseline: rank by one feature, ties by another."""

    by: str
    then: str | None = None
    role: str = "baseline"
    name: str = "rule"

    @property
    def features(self) -> tuple[str, ...]:
        """The features the rule reads."""
        return (self.by, self.then) if self.then else (self.by,)


@dataclass(frozen=True, slots=True)
class LogisticRegression:
    """A linear model of the probability that an item comes true."""

    features: Sequence[str]
    l2: float = 1e-3
    role: str = "challenger"
    name: str = "logistic"


@dataclass(frozen=True, slots=True)
class LightGBM:
    """Boosted trees by LambdaMART, one list a request."""

    features: Sequence[str]
    n_trees: int = 200
    learning_rate: float = 0.05
    n_leaves: int = 31
    min_rows_in_leaf: int = 50
    l2: float = 1.0
    feature_share: float = 0.8
    row_share: float = 1.0
    truncation: int = 30
    role: str = "strong"
    name: str = "lightgbm"


ModelSpec: TypeAlias = Rule | LogisticRegression | LightGBM
