"""Digests kept on disk, one file a step, so that an interrupted run goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sevenfold.engines.parity import Mismatch, Parity
from sevenfold.loop.digest import Digest
from sevenfold.models.dataset import Dataset
from sevenfold.types import Floats

__all__ = ["Steps", "concatenated"]


class _Facts(msgspec.Struct):
    """What of a digest is not an array."""

    request_ids: list[str]
    keys: dict[str, list[str]]
    shown: list[list[str]]
    compared: int
    mismatched: int
    by_feature: dict[str, int]
    examples: list[tuple[int, str, float, float]]
    metrics: list[tuple[str, str]]
    recall: list[str]
    features: list[str]
    training_ids: list[str]


@dataclass(frozen=True, slots=True)
class Steps:
    """The digests of a run, by number, under `folder`."""

    folder: Path
    known: dict[int, Digest] = field(default_factory=dict)

    def has(self, number: int) -> bool:
        """Whether the step is done."""
        return self._path(number).exists()

    def save(self, number: int, digest: Digest) -> None:
        """Keep a digest: whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {
            "t_us": digest.t_us,
            "earlier": digest.earlier,
            "retrieved": digest.retrieved,
            "sample": digest.sample,
        }
        pairs = [(model, metric) for model, found in digest.metrics.items() for metric in found]
        for i, (model, metric) in enumerate(pairs):
            arrays[f"metric_{i}"] = digest.metrics[model][metric]
        for i, name in enumerate(digest.recall):
            arrays[f"recall_{i}"] = digest.recall[name]
        training = digest.training
        if training is not None:
            arrays |= {"x": training.x, "y": training.y, "groups": training.groups}
            arrays["row_t_us"] = training.t_us
        facts = _Facts(
            digest.request_ids,
            dict(digest.keys),
            digest.shown,
            digest.parity.compared,
            digest.parity.mismatched,
            digest.parity.by_feature,
            [(m.row, m.feature, m.logged, m.recomputed) for m in digest.parity.examples],
            pairs,
            list(digest.recall),
            list(training.feature_names) if training is not None else [],
            list(training.request_ids) if training is not None else [],
        )
        arrays["facts"] = np.frombuffer(msgspec.json.encode(facts), dtype=np.uint8)
        partial = self.folder / f".{number:04d}.part"
        with partial.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path(number))
        self.known[number] = digest

    def load(self, number: int) -> Digest:
        """A digest that was kept."""
        if number not in self.known:
            self.known[number] = self._load(number)
        return self.known[number]

    def _load(self, number: int) -> Digest:
        with np.load(self._path(number), allow_pickle=False) as arrays:
            facts = msgspec.json.decode(arrays["facts"].tobytes(), type=_Facts)
            metrics: dict[str, dict[str, Floats]] = {}
            for i, (model, metric) in enumerate(facts.metrics):
                metrics.setdefault(model, {})[metric] = arrays[f"metric_{i}"]
            training = None
            if facts.training_ids:
                training = Dataset.of(
                    arrays["x"],
                    arrays["y"],
                    groups=arrays["groups"],
                    feature_names=facts.features,
                    request_ids=facts.training_ids,
                    t_us=arrays["row_t_us"],
                )
            return Digest(
                facts.request_ids,
                arrays["t_us"],
                facts.keys,
                arrays["earlier"],
                metrics,
                {name: arrays[f"recall_{i}"] for i, name in enumerate(facts.recall)},
                arrays["retrieved"],
                facts.shown,
                Parity(
                    facts.compared,
                    facts.mismatched,
                    facts.by_feature,
                    tuple(Mismatch(*example) for example in facts.examples),
                ),
                training,
                arrays["sample"],
            )

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:04d}.npz"


def concatenated(digests: Sequence[Digest], model: str, metric: str) -> Floats:
    """One metric of one model over all requests of the digests; NaN where the model was not judged."""
    parts = [
        digest.metrics[model][metric]
        if model in digest.metrics
        else np.full(len(digest.request_ids), np.nan)
        for digest in digests
    ]
    return np.concatenate(parts) if parts else np.empty(0)
