"""Whether a challenger may replace the champion: rules with numbers, all of which must pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from sevenfold.errors import GateError, InputError
from sevenfold.evaluation.intervals import Interval, Resampling, paired_difference
from sevenfold.evaluation.slices import Labels, slices_of
from sevenfold.types import Floats

__all__ = ["Comparison", "Evidence", "Gate", "Rule", "Verdict"]


class Rule(msgspec.Struct, frozen=True):
    """One thing that was asked: passes when `given` lies on the right side of `allowed`.

    `comparison` is `>=`, `>` or `<=`, read as given - comparison - allowed; `reason` is the sentence.
    """

    name: str
    given: float
    comparison: str
    allowed: float
    passed: bool
    reason: str


class Comparison(msgspec.Struct, frozen=True):
    """The challenger minus another model on one metric: `reference` is that model's mean."""

    against: str
    reference: float
    difference: Interval


class Verdict(msgspec.Struct, frozen=True):
    """Whether to promote, every rule with its numbers, and the comparisons they rest on."""

    promote: bool
    metric: str
    rules: tuple[Rule, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """The sentences of the rules that failed; of all rules when none did."""
        failed = tuple(rule.reason for rule in self.rules if not rule.passed)
        return failed or tuple(rule.reason for rule in self.rules)

    def require(self) -> None:
        """Raise GateError with the reasons unless the challenger may be promoted."""
        if not self.promote:
            raise GateError("the challenger may not be promoted:\n  " + "\n  ".join(self.reasons))


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """One metric of the models on the same requests, float64 (q,) each, NaN without truth.

    `champion` is None the first time. `clusters` (q,) names the customer of each request; `slices`
    gives labels (q,) by dimension; `auc` is that of the challenger's scores where it was measured.
    """

    challenger: Floats
    baseline: Floats
    champion: Floats | None = None
    clusters: Sequence[Any] | npt.NDArray[Any] | None = None
    slices: Labels = field(default_factory=dict)
    auc: float | None = None


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules of promotion for one metric, larger being better.

    - enough_requests: at least `minimum_requests` requests have a value.
    - beats_baseline: the paired interval of challenger - baseline lies above `minimum_gain`.
    - holds_against_champion: the paired interval of challenger - champion lies above -`maximum_loss`
      of the champion's mean. 0 asks for proof that the challenger is better; a little more than 0
      asks for proof that it is not worse by more than that share.
    - no_loss_on_slice: on no slice of `minimum_slice` requests or more is the challenger proven to be
      below the champion (the baseline, where there is none) and by more than `maximum_slice_loss` of
      its mean there. Both are asked, or among many slices one would fail by chance.
    - no_leakage: the AUC of the challenger's scores is at most `maximum_auc`.
    """

    metric: str
    minimum_requests: int = 200
    minimum_gain: float = 0.0
    maximum_loss: float = 0.02
    maximum_slice_loss: float = 0.1
    minimum_slice: int = 50
    maximum_auc: float = 0.99
    how: Resampling = Resampling()

    def judge(self, evidence: Evidence, rng: np.random.Generator) -> Verdict:
        """The verdict on the evidence; InputError when the models were not judged on the same requests."""
        n = int((~np.isnan(evidence.challenger)).sum())
        rules = [_enough(n, self.minimum_requests)]
        comparisons = []
        # Without requests there is nothing to resample; the rule above has failed already.
        if n >= 2 and _n_clusters(evidence) >= 2:
            against = self._compare("baseline", evidence.baseline, evidence, rng)
            comparisons.append(against)
            rules.append(self._beats(against))
            if evidence.champion is not None:
                against = self._compare("champion", evidence.champion, evidence, rng)
                comparisons.append(against)
                rules.append(self._holds(against))
            rules += self._slices(evidence, rng)
        else:
            rules.append(_no_comparison())
        if evidence.auc is not None:
            rules.append(self._leakage(evidence.auc))
        promote = all(rule.passed for rule in rules)
        return Verdict(promote, self.metric, tuple(rules), tuple(comparisons))

    def _compare(
        self, against: str, values: Floats, evidence: Evidence, rng: np.random.Generator
    ) -> Comparison:
        difference = paired_difference(
            evidence.challenger, values, rng, clusters=evidence.clusters, how=self.how
        )
        return Comparison(against, float(np.nanmean(values)), difference)

    def _beats(self, against: Comparison) -> Rule:
        low = against.difference.low
        return Rule(
            "beats_baseline",
            low,
            ">",
            self.minimum_gain,
            low > self.minimum_gain,
            f"{self.metric}: challenger minus baseline is {against.difference}; its lower end must be "
            f"above {self.minimum_gain:.4g}.",
        )

    def _holds(self, against: Comparison) -> Rule:
        low, allowed = against.difference.low, -self.maximum_loss * abs(against.reference)
        passed = low > allowed if self.maximum_loss == 0 else low >= allowed
        return Rule(
            "holds_against_champion",
            low,
            ">" if self.maximum_loss == 0 else ">=",
            allowed,
            passed,
            f"{self.metric}: challenger minus champion is {against.difference}; its lower end must not "
            f"be below {allowed:.4g}, {self.maximum_loss:.1%} of the champion's {against.reference:.4g}.",
        )

    def _slices(self, evidence: Evidence, rng: np.random.Generator) -> Iterator[Rule]:
        first = evidence.champion is None
        reference = evidence.baseline if evidence.champion is None else evidence.champion
        against = "baseline" if first else "champion"
        groups = _clusters(evidence)
        known = ~np.isnan(evidence.challenger)
        for dimension, value, mask in slices_of(evidence.slices, len(evidence.challenger)):
            chosen = mask & known
            if len(np.unique(groups[chosen])) < max(2, self.minimum_slice):
                continue
            difference = paired_difference(
                evidence.challenger[chosen],
                reference[chosen],
                rng,
                clusters=groups[chosen],
                how=self.how,
            )
            allowed = -self.maximum_slice_loss * abs(float(reference[chosen].mean()))
            proven = difference.high < 0
            yield Rule(
                f"no_loss_on_slice:{dimension}={value}",
                difference.estimate,
                ">=",
                allowed,
                not proven or difference.estimate >= allowed,
                f"{self.metric} where {dimension} is {value}: challenger minus {against} is "
                f"{difference}; a proven loss may not be below {allowed:.4g}.",
            )

    def _leakage(self, found: float) -> Rule:
        return Rule(
            "no_leakage",
            found,
            "<=",
            self.maximum_auc,
            found <= self.maximum_auc,
            f"the AUC of the challenger's scores is {found:.4f}; above {self.maximum_auc} it knows the "
            "outcome.",
        )


def _enough(n: int, minimum: int) -> Rule:
    return Rule(
        "enough_requests",
        float(n),
        ">=",
        float(minimum),
        n >= minimum,
        f"{n} requests have a relevant item; at least {minimum} are needed.",
    )


def _no_comparison() -> Rule:
    sentence = (
        "there are fewer than two clusters of requests with a value: nothing can be compared."
    )
    return Rule("comparable", 0.0, ">=", 2.0, passed=False, reason=sentence)


def _clusters(evidence: Evidence) -> npt.NDArray[Any]:
    n = len(evidence.challenger)
    groups = np.arange(n) if evidence.clusters is None else np.asarray(evidence.clusters)
    if len(groups) != n:
        raise InputError(f"{len(groups)} clusters for {n} requests: give one for each")
    return groups


def _n_clusters(evidence: Evidence) -> int:
    return len(np.unique(_clusters(evidence)[~np.isnan(evidence.challenger)]))
