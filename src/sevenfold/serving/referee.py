"""Judges the canary by the log of answers, and takes it back when it breaks a guardrail."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sevenfold.clock import elapsed_s
from sevenfold.registry.trial import Trial, end_trial
from sevenfold.serving.alerts import count_alerts
from sevenfold.serving.champion import Champion, Loaded
from sevenfold.serving.evidence import Evidence, Finding
from sevenfold.serving.on_trial import OnTrial
from sevenfold.serving.outcomes import Outcomes
from sevenfold.serving.prediction_log import Prediction, read_predictions
from sevenfold.serving.sealed_answers import SealedAnswers
from sevenfold.sources.expectations import Alert
from sevenfold.spec.task import Ranking
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.log import frontier_us
from sevenfold.stores.tables import META
from sevenfold.types import Instant

__all__ = ["Referee", "RefereeMetrics", "read_evidence"]

_LOG = logging.getLogger(__name__)
_KEY = b"canary"
_LOOK = 64  # answers in a step of the job
_STEP_S = 0.005  # of a step: a canary on trial for being slow scores again here, and answers wait meanwhile
_KEEP_S = 2.0
_LAG_US = 1_000_000  # an answer is on disk so long after its instant at the latest, whichever process gave it


class _Kept(msgspec.Struct):
    """The evidence of the answers before `until_us`, and of what came of those before `told_us`, as it is kept from one process to the next."""

    until_us: int
    evidence: Evidence
    told_us: int = -1


class Referee:
    """A background job over the answers of the canary's trial, in the order of the log.

    Of several processes over one store each comes to the same verdict, and the first one carries it out. A canary that
    cannot be loaded or cannot be judged is taken back too. In a replay it is asked before each answer (`before`), reads
    what came before that, and leaves out what scoring took.
    """

    name = "canary"

    def __init__(self, store: Store, now_us: Callable[[], Instant], replay: bool) -> None:
        self._store = store
        self._now_us = now_us
        self._replay = replay
        self._kept: _Kept | None = None
        self._kept_s = 0.0
        self._changed = False
        self.rollbacks: Counter[str] = Counter()
        self.sealed: SealedAnswers | None = None

    def use(self, canary: OnTrial, champion: Champion, task: Ranking) -> None:
        """Judge these from now on, by the outcomes of a task."""
        self.canary, self.champion = canary, champion
        self._outcomes = Outcomes(task)

    @property
    def evidence(self) -> Evidence | None:
        """What is known of the canary; None without one, or before anything is."""
        trial = self.canary.follow()
        if trial is None or self._kept is None or self._kept.evidence.trial != trial.id:
            return None
        return self._kept.evidence

    def step(self) -> bool:
        """Read some answers of the log and judge; whether there were any."""
        if self._replay:
            return False
        stop_us = self._now_us() - _LAG_US
        return self._judge(stop_us) or self._judge_outcomes(stop_us)

    def before(self, t_us: Instant) -> None:
        """Judge by all answers before an instant: what a replay does before each answer."""
        while self._replay and (self._judge(t_us) or self._judge_outcomes(t_us)):
            pass

    def failed(self, error: Exception) -> None:
        """Take back a canary that cannot be judged."""
        trial = self.canary.trial
        if trial is not None:
            self._roll_back(trial, "judge", f"it cannot be judged: {type(error).__name__}: {error}")

    def _judge(self, stop_us: Instant) -> bool:
        trial = self.canary.follow()
        if trial is None:
            self._kept = None
            return False
        if self.canary.loaded is None:
            self._roll_back(trial, "load", f"it cannot be loaded: {self.canary.refused}")
            return False
        kept = self._of(trial)
        begun_us = kept.until_us
        with self._store.read() as txn:
            for answer in self._some(txn, begun_us, stop_us):
                kept.until_us = answer.t_us + 1
                if self._is_broken(trial, kept.evidence, answer):
                    return True
        return self._noted(kept, kept.until_us > begun_us)

    def _judge_outcomes(self, stop_us: Instant) -> bool:
        """Take in what came of answers whose label's time is over by then; whether there were any."""
        trial, kept, outcomes = self.canary.trial, self._kept, self._outcomes
        if trial is None or kept is None or trial.guardrails.outcome is None:
            return False
        begun_us = kept.told_us
        with self._store.read() as txn:
            if not outcomes.follow(txn, begun_us):
                return True
            for answer in self._some(txn, begun_us, stop_us - outcomes.within_us):
                kept.told_us = answer.t_us + 1
                kept.evidence.note_outcome(answer, outcomes.took(answer), trial.guardrails)
                if self._is_over(trial, kept.evidence, answer):
                    return True
        return self._noted(kept, kept.told_us > begun_us)

    def _some(self, txn: Transaction, start_us: Instant, stop_us: Instant) -> Iterator[Prediction]:
        """The answers of a step; those of one instant are all of the same one."""
        n, last_us, begun_s = 0, None, elapsed_s()
        for answer in read_predictions(txn, start_us, stop_us, self.sealed):
            is_enough = n >= _LOOK or (n > 0 and elapsed_s() - begun_s > _STEP_S)
            if is_enough and answer.t_us != last_us:
                return
            last_us, n = answer.t_us, n + 1
            yield answer

    def _noted(self, kept: _Kept, moved: bool) -> bool:
        self._changed |= moved
        if self._changed and elapsed_s() - self._kept_s > _KEEP_S:
            self._keep(kept)
        return moved

    def _is_broken(self, trial: Trial, evidence: Evidence, answer: Prediction) -> bool:
        """Take an answer in; whether the canary is taken back for it."""
        models = self._models(evidence)
        evidence.note(answer, trial.guardrails, models, not self._replay)
        return self._is_over(trial, evidence, answer)

    def _is_over(self, trial: Trial, evidence: Evidence, answer: Prediction) -> bool:
        broken = evidence.breach(trial.guardrails) if answer.arm == "canary" else None
        if broken is None:
            return False
        self._roll_back(trial, broken.name, f"guardrail {broken.told()}")
        return True

    def _models(self, evidence: Evidence) -> tuple[Loaded, Loaded] | None:
        champion, canary = self.champion.follow(), self.canary.loaded
        if champion is None or canary is None or evidence.champion not in (0, champion.version):
            return None
        return champion, canary

    def _of(self, trial: Trial) -> _Kept:
        """The evidence of a trial: as this process knows it, as another has kept it, or none yet."""
        if self._kept is not None and self._kept.evidence.trial == trial.id:
            return self._kept
        with self._store.read() as txn:
            kept = _read(txn)
            frontier = max(frontier_us(txn), 0)
        if kept is None or kept.evidence.trial != trial.id:
            # A trial begins by the clock of the machine, which says nothing of the instants of a replay.
            since_us = frontier if self._replay else max(trial.started_us - _LAG_US, 0)
            kept = _Kept(since_us, Evidence(trial.id, trial.version), since_us)
            self._keep(kept)
        if kept.told_us < 0:  # of before there were outcomes
            kept.told_us = kept.until_us
        self._kept = kept
        return kept

    def _keep(self, kept: _Kept) -> None:
        with self._store.write() as txn:
            txn.put(META, _KEY, msgspec.json.encode(kept))
        self._kept_s, self._changed = elapsed_s(), False

    def _roll_back(self, trial: Trial, name: str, reason: str) -> None:
        ended = end_trial(
            self.canary.registry,
            "canary",
            f"rolled back: {reason}",
            self._now_us(),
            trial.version,
        )
        if self._kept is not None:
            self._keep(self._kept)
        if ended is not None:
            self.rollbacks[name] += 1
            with self._store.write() as txn:
                count_alerts(txn, "canary", [Alert(name, 1, 1, reason)])
            _LOG.error("canary rolled back version=%d reason=%s", trial.version, reason)
        self.canary.follow()


def read_evidence(txn: Transaction, trial: str) -> Evidence | None:
    """What was kept of a trial last; None where nothing was."""
    kept = _read(txn)
    return kept.evidence if kept is not None and kept.evidence.trial == trial else None


def _read(txn: Transaction) -> _Kept | None:
    raw = txn.get(META, _KEY)
    try:
        return None if raw is None else msgspec.json.decode(raw, type=_Kept)
    except msgspec.DecodeError:  # of another version of this library: it is gathered anew
        return None


class RefereeMetrics(Collector):
    """The canary and what is known of it, for Prometheus."""

    def __init__(self, referee: Referee) -> None:
        self._referee = referee

    def collect(self) -> Iterator[Metric]:
        """Everything as it is now."""
        referee = self._referee
        trial, evidence = referee.canary.follow(), referee.evidence
        yield GaugeMetricFamily(
            "sevenfold_canary_version",
            "The version that is the canary; 0 for none",
            value=0 if trial is None else trial.version,
        )
        yield GaugeMetricFamily(
            "sevenfold_canary_share",
            "The share of those who ask that the canary answers",
            value=0 if trial is None else trial.share,
        )
        answers = GaugeMetricFamily(
            "sevenfold_canary_answers", "Answers judged of the trial, by side", labels=["arm"]
        )
        seen = GaugeMetricFamily(
            "sevenfold_canary_seen", "What a guardrail has seen", labels=["guardrail"]
        )
        against = GaugeMetricFamily(
            "sevenfold_canary_evidence",
            "The evidence against the canary; from 1 on it is taken back",
            labels=["guardrail"],
        )
        if trial is not None and evidence is not None:
            answers.add_metric(["canary"], evidence.canary_answers)
            answers.add_metric(["champion"], evidence.champion_answers)
            found: Finding
            for found in evidence.findings(trial.guardrails):
                seen.add_metric([found.name], found.seen)
                against.add_metric([found.name], found.evidence)
        yield answers
        yield seen
        yield against
        back = CounterMetricFamily(
            "sevenfold_canary_rollbacks",
            "Canaries that were taken back, by the guardrail that they broke",
            labels=["guardrail"],
        )
        for name, n in referee.rollbacks.items():
            back.add_metric([name], n)
        yield back
