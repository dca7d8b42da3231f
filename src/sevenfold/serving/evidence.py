"""What the answers of a trial say about a canary: each guardrail with the evidence against the canary.

Evidence comes of the log of answers alone, in its order: whoever reads it, in whichever process and after whatever restart,
comes to the same verdict at the same answer.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator

import msgspec
import numpy as np

from sevenfold.evaluation.sequential import Wealth, band
from sevenfold.registry.trial import Guardrails
from sevenfold.serving.champion import Loaded
from sevenfold.serving.prediction_log import Prediction
from sevenfold.types import Floats

__all__ = ["Evidence", "Finding", "discordance"]

_WATCHED = ("errors", "slow", "constant", "empty", "fallback", "disagreement", "outcome", "shift")
_KEEP = 0.98  # of the champion's share of late: fifty answers
_BINS = 64
_FLOOR_US = 1_000  # a stage of less than a millisecond is not slow, however fast the champion is
_PER_OCTAVE = 8
_EVERY = 16


class Finding(msgspec.Struct, frozen=True):
    """A guardrail: its `limit`, None where it is not watched, what was `seen` of how many answers and of the champion's.

    `evidence` is 1 where the canary has broken it; what is on the way there grows with every answer that speaks against
    the canary: as a share of what is needed, of logarithms where evidence multiplies.
    """

    name: str
    limit: float | None
    seen: float
    champion: float | None
    answers: int
    evidence: float

    def told(self) -> str:
        """The finding in words, for a history."""
        beside = "" if self.champion is None else f", the champion's {self.champion:.3g}"
        limit = "off" if self.limit is None else f"{self.limit:g}"
        return f"{self.name} {self.seen:.3g} over {self.answers} answers{beside} (limit {limit})"


class _Reference(msgspec.Struct):
    """The champion's share of something, ever and of late; of nothing seen it is taken to be a half."""

    n: int = 0
    total: float = 0.0
    late: float = 0.0

    def add(self, x: float) -> None:
        self.n += 1
        self.total += x
        self.late += (1 - _KEEP) * (x - self.late)

    @property
    def mean(self) -> float:
        return self.total / self.n if self.n else 0.0

    @property
    def expected(self) -> float:
        return max((self.total + 1) / (self.n + 2), self.late)


class _Times(msgspec.Struct):
    """Times by eighths of a doubling, in microseconds."""

    counts: dict[int, int] = {}
    n: int = 0

    def add(self, taken_us: int) -> None:
        place = math.ceil(math.log2(max(taken_us, 1)) * _PER_OCTAVE)
        self.counts[place] = self.counts.get(place, 0) + 1
        self.n += 1

    def quantile_us(self, share: float) -> float:
        """The least edge that so many lie below; 0 of nothing."""
        below = 0
        for place in sorted(self.counts):
            below += self.counts[place]
            if below >= share * self.n:
                return float(2 ** (place / _PER_OCTAVE))
        return 0.0


class _Spread(msgspec.Struct):
    """The best scores of both sides, counted in bins whose edges come of the champion's first ones.

    What lies between the first and the last item of the champion's usual answer is no shift: best scores are often one
    and the same for many who ask, and a model that was trained again gives another that is nearly the same.
    """

    within: float = 0.0
    points: list[float] = []
    edges: list[float] = []
    first: tuple[list[float], list[float]] = msgspec.field(default_factory=lambda: ([], []))
    ranges: list[float] = []
    counts: tuple[list[int], list[int]] = msgspec.field(default_factory=lambda: ([], []))

    def add(self, side: int, scores: Floats, minimum: int) -> None:
        best = float(scores.max())
        if self.edges:
            self._count(side, best)
            return
        self.first[side].append(best)
        if side == 0:
            self.ranges.append(best - float(scores.min()))
        if len(self.first[0]) >= minimum:
            self._lay_out()

    def _lay_out(self) -> None:
        """Choose the bins, and count what came before."""
        self.within = float(np.median(self.ranges))
        at = np.linspace(0, 1, _BINS + 1)
        points = np.unique(np.quantile(self.first[0], at))
        self.points = points.tolist()
        self.edges = np.unique([points - self.within, points, points + self.within]).tolist()
        self.counts = ([0] * (len(self.edges) + 1), [0] * (len(self.edges) + 1))
        for side in (0, 1):
            for best in self.first[side]:
                self._count(side, best)
        self.first, self.ranges = ([], []), []

    def _count(self, side: int, best: float) -> None:
        self.counts[side][bisect.bisect_left(self.edges, best)] += 1

    @property
    def gap(self) -> float:
        """How much more of the canary's best scores than of the champion's lie below some value, or above it.

        The distance of Kolmogorov and Smirnov, of scores that are moved towards each other by what is no shift.
        """
        n, m = (sum(counts) for counts in self.counts)
        if not n or not m:
            return 0.0
        first, second = (np.cumsum(counts) for counts in self.counts)
        points = np.array(self.points)
        champion = first[np.searchsorted(self.edges, points)] / n
        lower = second[np.searchsorted(self.edges, points - self.within)] / m
        upper = second[np.searchsorted(self.edges, points + self.within)] / m
        return float(max((lower - champion).max(), (champion - upper).max(), 0.0))

    def sure(self, alpha: float, minimum: int) -> float:
        """What the gap is at least."""
        n, m = (sum(counts) for counts in self.counts)
        return self.gap - band(n, alpha / 2, minimum) - band(m, alpha / 2, minimum)


class _Taken(msgspec.Struct):
    """Answers that came true, of both sides, and of the champion's since the last one of the canary's."""

    champion: _Reference = msgspec.field(default_factory=_Reference)
    canary: _Reference = msgspec.field(default_factory=_Reference)
    block: _Reference = msgspec.field(default_factory=_Reference)

    def pair(self) -> float | None:
        """The champion's share since it was asked for last; None where it gave no answer since."""
        if not self.block.n:
            return None
        share, self.block = self.block.mean, _Reference()
        return share


class Evidence(msgspec.Struct):
    """All that was seen of the answers of `trial` since `champion` is the champion; `since` counts the champions.

    With every champion the comparison begins anew, with half of the probability of a false alarm that was left.
    """

    trial: str
    version: int
    champion: int = 0
    since: int = 1
    canary_answers: int = 0
    champion_answers: int = 0
    wealths: dict[str, Wealth] = msgspec.field(
        default_factory=lambda: {name: Wealth() for name in _WATCHED[:-1]}
    )
    references: dict[str, _Reference] = msgspec.field(
        default_factory=lambda: {name: _Reference() for name in _WATCHED[1:5]}
    )
    times: _Times = msgspec.field(default_factory=_Times)
    canary_times: _Times = msgspec.field(default_factory=_Times)
    spread: _Spread = msgspec.field(default_factory=_Spread)
    taken: _Taken = msgspec.field(default_factory=_Taken)

    def note_outcome(self, answer: Prediction, took: bool, rails: Guardrails) -> None:
        """Take in whether an answer came true, once its label's time is over.

        Each of the canary's is set against those of the champion since the one before. With a loss of at most r allowed the
        mean of (1 - r) * theirs - its own is at most 0 while it keeps to that, whatever either share is and however it
        moves: no share is estimated.
        """
        by_champion = answer.arm == "champion" and answer.version == self.champion
        if answer.trial != self.trial or not (by_champion or answer.version == self.version):
            return
        if by_champion:
            self.taken.champion.add(float(took))
            self.taken.block.add(float(took))
            return
        self.taken.canary.add(float(took))
        beside = self.taken.pair()
        if beside is not None and rails.outcome is not None:
            kept = 1.0 - rails.outcome
            wealth = self.wealths.setdefault("outcome", Wealth())
            # The same, moved and scaled to lie in [0, 1] as bets do.
            wealth.add((kept * beside - float(took) + 1) / (1 + kept), 1 / (1 + kept))

    def note(
        self,
        answer: Prediction,
        rails: Guardrails,
        models: tuple[Loaded, Loaded] | None,
        timed: bool = True,
    ) -> None:
        """Take one answer of the log in; those of other trials say nothing.

        `models` are the champion and the canary, with which the logged vectors are scored again to see how they agree. Without
        `timed` the time that scoring took says nothing: it is another on every machine.
        """
        if answer.trial != self.trial:
            return
        if answer.arm == "champion":
            self._note_champion(answer, rails, timed)
        else:
            self._note_canary(answer, rails, models, timed)

    def _begin(self, champion: int) -> None:
        """Begin the comparison with another champion; what came before the first one stays."""
        if not self.champion:
            self.champion = champion
            return
        fresh = Evidence(self.trial, self.version, champion, self.since + 1)
        for name in Evidence.__struct_fields__:
            setattr(self, name, getattr(fresh, name))

    def _note_champion(self, answer: Prediction, rails: Guardrails, timed: bool) -> None:
        if answer.rung in _BY_MODEL and answer.version != self.champion:
            self._begin(answer.version)
        self.champion_answers += 1
        self.references["empty"].add(float(not answer.shown))
        self.references["fallback"].add(float(_is_lower(answer)))
        if answer.rung not in _BY_MODEL:
            return
        scores = answer.shown_scores()
        if len(scores) > 1:
            self.references["constant"].add(float(_is_flat(scores)))
        if len(scores):
            self.spread.add(0, scores, rails.minimum)
        taken_us = answer.timing_us.get("score")
        if timed and taken_us is not None:
            if self.times.n >= rails.minimum:
                self.references["slow"].add(float(taken_us > self._slow_us(rails)))
            self.times.add(taken_us)

    def _note_canary(
        self,
        answer: Prediction,
        rails: Guardrails,
        models: tuple[Loaded, Loaded] | None,
        timed: bool,
    ) -> None:
        self.canary_answers += 1
        failed = "canary" in answer.degraded
        if rails.errors is not None:
            self.wealths["errors"].add(float(failed), rails.errors)
        self._bet("empty", float(not answer.shown), rails.empty)
        self._bet("fallback", float(_is_lower(answer)), rails.fallback)
        if failed or answer.version != self.version or answer.rung not in _BY_MODEL:
            return
        scores = answer.shown_scores()
        if len(scores) > 1:
            self._bet("constant", float(_is_flat(scores)), rails.constant)
        if len(scores):
            self.spread.add(1, scores, rails.minimum)
        taken_us = answer.timing_us.get("score")
        if timed and taken_us is not None:
            self.canary_times.add(taken_us)
            if self.times.n >= rails.minimum:
                self._bet("slow", float(taken_us > self._slow_us(rails)), rails.slow)
        if models is not None and rails.disagreement is not None and len(answer.logged) > 4:
            vectors = answer.logged_vectors()
            found = discordance(*(model.scores(vectors) for model in models))
            if found is not None:
                self.wealths["disagreement"].add(found, rails.disagreement)

    def _bet(self, name: str, x: float, beyond: float | None) -> None:
        """Bet that the canary has more of something than the champion, by more than is allowed."""
        if beyond is not None:
            self.wealths[name].add(x, beyond + self.references[name].expected)

    def _slow_us(self, rails: Guardrails) -> float:
        return max(rails.slower * self.times.quantile_us(0.99), _FLOOR_US)

    def findings(self, rails: Guardrails) -> list[Finding]:
        """Every guardrail with what was seen so far."""
        return list(self._findings(rails))

    def breach(self, rails: Guardrails) -> Finding | None:
        """The guardrail that the canary has broken, the one with the most to say; None where it keeps to all.

        The distance of scores is looked at after every sixteenth of the canary's: it takes longer than all the others.
        """
        needed = -math.log(self._alpha(rails))
        is_due = sum(self.spread.counts[1]) % _EVERY == 0
        if not is_due and all(wealth.peak < needed for wealth in self.wealths.values()):
            return None
        broken = [found for found in self._findings(rails) if found.evidence >= 1]
        return max(broken, key=lambda found: found.evidence, default=None)

    def _findings(self, rails: Guardrails) -> Iterator[Finding]:
        alpha = self._alpha(rails)
        for name, wealth in self.wealths.items():
            limit = getattr(rails, name)
            evidence = 0.0 if limit is None else max(0.0, wealth.peak / -math.log(alpha))
            if name == "outcome":
                canary, champion = self.taken.canary, self.taken.champion
                yield Finding(name, limit, canary.mean, champion.mean, canary.n, evidence)
                continue
            reference = self.references.get(name)
            beside = None if reference is None else reference.mean
            yield Finding(name, limit, wealth.mean, beside, wealth.n, evidence)
        sure = self.spread.sure(alpha, rails.minimum)
        evidence = 0.0
        if rails.shift is not None and math.isfinite(sure):
            evidence = max(0.0, sure / rails.shift)
        n = sum(self.spread.counts[1])
        yield Finding("shift", rails.shift, self.spread.gap, None, n, evidence)

    def _alpha(self, rails: Guardrails) -> float:
        """What each guardrail has of the probability of a false alarm."""
        watched = sum(getattr(rails, name) is not None for name in _WATCHED)
        return rails.alpha / max(watched, 1) * 0.5**self.since


def discordance(first: Floats, second: Floats) -> float | None:
    """The share of pairs that two lists of scores (n,) order the other way round; None where no pair has an order in both.

    >>> discordance(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))
    0.3333333333333333
    """
    rows, columns = np.triu_indices(len(first), 1)
    signs = np.sign(first[rows] - first[columns]) * np.sign(second[rows] - second[columns])
    ordered = int(np.count_nonzero(signs))
    return None if not ordered else int(np.count_nonzero(signs < 0)) / ordered


_BY_MODEL = ("full", "fewer")


def _is_flat(scores: Floats) -> bool:
    return bool((scores == scores[0]).all())


def _is_lower(answer: Prediction) -> bool:
    return answer.rung not in ("full", "cached", "batch")
