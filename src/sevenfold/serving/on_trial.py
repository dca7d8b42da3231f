"""The model on trial beside the champion: loaded, and offered to those who are in."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sevenfold.errors import SevenfoldError
from sevenfold.registry.registry import Registry
from sevenfold.registry.trial import Kind, Trial, read_trial, trial_path
from sevenfold.serving.champion import Champion, Loaded

__all__ = ["Arm", "OnTrial"]

_LOG = logging.getLogger(__name__)
_Stamp = tuple[int, int] | None


class Arm(NamedTuple):
    """On which side of a trial a request is: its id, and the model on trial; None on the champion's side."""

    trial: str
    model: Loaded | None

    @property
    def name(self) -> str:
        """`canary` or `champion`, as answers are logged."""
        return "champion" if self.model is None else "canary"


class OnTrial:
    """Follows the trial of a kind in the registry; `refused` says why its version cannot score here.

    A look at the registry tells that nothing has changed.
    """

    def __init__(
        self, registry: Registry, features: Sequence[str], hashes: Mapping[str, str], kind: Kind
    ) -> None:
        self.registry = registry
        self.kind: Kind = kind
        self._features, self._hashes = features, hashes
        self._paths = str(trial_path(registry, kind)), str(registry.alias_path(kind))
        self._changes = -1
        self._stamps: tuple[_Stamp, _Stamp] | None = None
        self._model: Champion | None = None
        self.trial: Trial | None = None
        self.loaded: Loaded | None = None
        self.refused: str | None = None

    def follow(self) -> Trial | None:
        """The trial under way, None where there is none; looks whether it has changed."""
        changes = self.registry.watch.look()
        if changes != self._changes:
            self._changes = changes
            stamps = _stamp(self._paths[0]), _stamp(self._paths[1])
            if stamps != self._stamps:
                self._stamps = stamps
                self._reload()
        return self.trial

    def arm(self, request_id: str, keys: Mapping[str, str]) -> Arm | None:
        """The side of a request; None where no trial is under way, or its version cannot score."""
        trial = self.follow()
        if trial is None or self.loaded is None:
            return None
        key = keys.get(trial.on, request_id)
        return Arm(trial.id, self.loaded if trial.takes(key) else None)

    def _reload(self) -> None:
        self.refused = None
        try:
            self.trial = read_trial(self.registry, self.kind)
        except SevenfoldError as error:
            self.trial, self.loaded = None, None
            _LOG.error("no trial kind=%s error=%s", self.kind, error)
            return
        if self.trial is None:
            self.loaded = self._model = None
            return
        if self._model is None:
            self._model = Champion(self.registry, self._features, self._hashes, self.kind)
        self.loaded = self._model.follow()
        if self.loaded is None or self.loaded.version != self.trial.version:
            self.refused, self.loaded = self._model.refused or "the alias has moved", None


def _stamp(path: str) -> _Stamp:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_ino
