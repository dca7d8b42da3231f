"""A change of the definition under a process that serves: filled beside it, then switched at once.

    none -> filling -> waiting -> (switched) none
               |          |
               +--failed--+

While it fills, the old definition answers and nothing of the new one is read. What is filled is brought up to
date by every ingest, and the switch is one step of the process that answers: no request sees parts of both.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sevenfold.clock import Clock, elapsed_s
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.plan import Plan
from sevenfold.registry.registry import Registry
from sevenfold.serving.backfill import Filled, expire, fill, free, leave_out
from sevenfold.serving.definition import Definition, require_changeable
from sevenfold.serving.ingest import Ingest
from sevenfold.serving.schema import keep_schemas
from sevenfold.serving.sets import keep_sets
from sevenfold.stores.kv import Store

__all__ = ["ChangeStatus", "Changing", "obstacle"]

_LOG = logging.getLogger(__name__)
_SLICE_S = 0.010  # the longest a request should wait for a slice
_FEWEST, _MOST = 64, 32_768

State = Literal["none", "filling", "waiting", "failed"]


@dataclass(frozen=True, slots=True)
class ChangeStatus:
    """How far a change is: `reason` says what it waits for or why it failed."""

    state: State = "none"
    target: str | None = None
    views: tuple[str, ...] = ()
    done: int = 0
    total: int = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Target:
    definition: Definition
    force: bool
    ended: Callable[[], None]


class Changing:
    """Takes a process from one definition to the next; a background job.

    `obstacle` says why a definition cannot serve yet, `adopt` makes it the one that answers. A view that no
    definition names any more is left as it was for `grace_us`, so that going back within it costs only the
    events since; then its states are freed. Nothing is filled while `hold` says so.
    """

    name = "change"

    def __init__(
        self,
        store: Store,
        ingest: Ingest,
        clock: Clock,
        current: Definition,
        obstacle: Callable[[Definition], str | None],
        adopt: Callable[[Definition], None],
        grace_us: int,
    ) -> None:
        self._store = store
        self._ingest = ingest
        self._clock = clock
        self._current = current
        self._obstacle = obstacle
        self._adopt = adopt
        self._grace_us = grace_us
        self.hold: Callable[[], bool] = lambda: False
        self._target: _Target | None = None
        self._size = 1_024
        self.status = ChangeStatus()

    def begin(
        self, definition: Definition, force: bool = False, ended: Callable[[], None] = lambda: None
    ) -> ChangeStatus:
        """Start towards `definition`; towards the one that serves, give up what was started.

        With `force` it is switched to as soon as it is filled, though the model cannot read it. `ended` is
        called when the change is done, given up or failed. Raises ServingError for what cannot change while
        serving and SpecError where events would change meaning.
        """
        if self._target is not None and definition.is_same(self._target.definition):
            self._target = _Target(definition, force, ended)
            return self.status
        require_changeable(self._current.system, definition.system)
        keep_schemas(self._store, definition.system.streams)
        keep_sets(self._store, definition)
        self._maintain()
        if definition.is_same(self._current):
            self.status = ChangeStatus()
            ended()
            return self.status
        self._target = _Target(definition, force, ended)
        missing = [
            view.name for name, view in definition.views.items() if name not in self._current.views
        ]
        self.status = ChangeStatus("filling", definition.name, tuple(missing))
        _LOG.info("change begins target=%s views=%s", definition.name, ",".join(missing))
        return self.status

    def step(self) -> bool:
        """One bounded piece of work; whether there was any."""
        if self.status.state == "filling":
            if self.hold():
                return False
            self._fill()
            return True
        self.settle()
        wanted = self._current.views
        if expire(self._store, wanted, self._clock.now_us(), self._grace_us):
            return free(self._store, self._size)
        return False

    def failed(self, error: Exception) -> None:
        """Give up a change whose filling raised: the old definition serves on."""
        if self._target is None:
            return
        ended = self._target.ended
        self._maintain()
        self.status = self._with("failed", f"{type(error).__name__}: {error}")
        ended()

    def settle(self) -> None:
        """Switch if what was waited for has come; costs a look at the alias while waiting, else nothing."""
        target = self._target
        if target is None or self.status.state != "waiting":
            return
        obstacle = None if target.force else self._obstacle(target.definition)
        if obstacle is not None:
            self.status = self._with("waiting", obstacle)
            return
        self._adopt(target.definition)
        self._current = target.definition
        self._maintain()
        _LOG.info("change done serving=%s", self._current.name)
        self.status = ChangeStatus()
        target.ended()

    def _fill(self) -> None:
        assert self._target is not None
        definition = self._target.definition
        begin_s = elapsed_s()
        filled = fill(self._store, definition.plan.views, self._size)
        self._adapt(elapsed_s() - begin_s)
        self.status = self._with("filling", None, filled)
        if filled.complete:
            self._maintain(definition)
            self.status = self._with("waiting", None)
            self.settle()

    def _maintain(self, more: Definition | None = None) -> None:
        """Have the ingest keep the views that serve and those of `more`; without it there is no target."""
        if more is None:
            self._target = None
        views = (more.views if more else {}) | self._current.views
        with self._store.write() as txn:
            leave_out(txn, views.keys())
        engine = OnlineEngine(Plan(tuple(views.values()), ()))
        self._ingest.use(self._current.system.streams, engine)

    def _adapt(self, took_s: float) -> None:
        if took_s > _SLICE_S:
            self._size = max(_FEWEST, self._size // 2)
        elif took_s < _SLICE_S / 2:
            self._size = min(_MOST, self._size * 2)

    def _with(self, state: State, reason: str | None, filled: Filled | None = None) -> ChangeStatus:
        now = self.status
        done, total = (filled.done, filled.total) if filled else (now.done, now.total)
        return ChangeStatus(state, now.target, now.views, done, total, reason)


def obstacle(registry: Registry, definition: Definition) -> str | None:
    """Why the model that is to serve cannot read `definition`; None when it can, or there is none."""
    version = registry.alias("champion")
    if version is None:
        return None
    manifest = registry.get(version).manifest
    changed = definition.unreadable(manifest.feature_names, manifest.feature_hashes)
    if not changed:
        return None
    return (
        f"version {version} reads {', '.join(changed)} as declared before: train a version with the new "
        "declaration and promote it, or switch without a model"
    )
