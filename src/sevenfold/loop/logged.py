"""What a home has logged, read back beside a running server: answers, events, digests of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from sevenfold.errors import RunError
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.loop.digest import Digest, Digester
from sevenfold.models.protocol import Model
from sevenfold.serving.definition import served_features
from sevenfold.serving.prediction_log import read_predictions
from sevenfold.serving.sealed_answers import PREDICTIONS_FOLDER, SealedAnswers
from sevenfold.sources.validate import no_events
from sevenfold.spec.system import System
from sevenfold.spec.units import parse_duration
from sevenfold.stores.kv import Transaction
from sevenfold.stores.log import last_known_us, read_stream
from sevenfold.stores.open import open_store
from sevenfold.types import EventBatch, Instant

__all__ = ["Logged"]


@dataclass(frozen=True, eq=False)
class Logged:
    """The log of one system in `home`, never written to.

    `known` and `repeat` name the features that tell returning customers and repeated items, if any.
    """

    system: System
    home: Path
    known: str | None = None
    repeat: str | None = None
    negatives: int = 40
    seed: int = 7

    @cached_property
    def plan(self) -> Plan:
        """The plan of the system's features."""
        return compile_plan(self.system.features, self.system.data)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """The features of every answer, in the order of its vectors."""
        return served_features(self.system, self.plan)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The definitions of those features."""
        return self.plan.definition_hashes(self.features)

    def matured_us(self) -> Instant:
        """The instant before which every request's outcome is known."""
        with self._reading() as txn:
            return last_known_us(txn) - parse_duration(self.system.task.label.within)

    def digest(self, begin_us: Instant, end_us: Instant, models: Mapping[str, Model]) -> Digest:
        """The digest of the answers in [begin_us, end_us), with the rankings of `models` judged too.

        Raises RunError when the log holds no outcome. Of other streams it may hold no event yet.
        """
        events: dict[str, EventBatch] = {}
        with self._reading() as txn:
            sealed = SealedAnswers(self.home / PREDICTIONS_FOLDER)
            predictions = list(read_predictions(txn, max(begin_us, 0), end_us, sealed))
            outcome = self.system.task.label.outcome.name
            for stream in dict.fromkeys((outcome, *self.plan.streams)):
                batch = read_stream(txn, stream)
                if batch is None and stream == outcome:
                    raise RunError(f"the log of {self.home} holds no event of stream {stream!r}")
                events[stream] = batch or no_events(self.system.streams[stream])
        evaluation = self.system.evaluation
        digester = Digester(
            self.plan,
            self.features,
            self.system.task,
            [evaluation.primary, *evaluation.also],
            self.known,
            self.repeat,
            self.negatives,
        )
        rng = np.random.default_rng([self.seed, max(begin_us, 0) // 1_000_000])
        return digester.digest(predictions, events, models, rng)

    @contextmanager
    def _reading(self) -> Iterator[Transaction]:
        store = open_store(f"lmdb:{self.home / 'store'}", readonly=True)
        try:
            with store.read() as txn:
                yield txn
        finally:
            store.close()
