"""The keys that a request names: whether it may name them, and the values of their features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sevenfold.algebra.layout import NEVER_US
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import InputError, NotFoundError
from sevenfold.features.frame import Spine
from sevenfold.features.plan import Plan
from sevenfold.serving.request import FeaturesAnswer, FeaturesRequest
from sevenfold.stores.kv import Transaction
from sevenfold.stores.log import position
from sevenfold.types import US_PER_S, Instant, Texts

__all__ = ["AskedRows", "asked_rows", "check_keys"]

_STATES = ("VALUE", "NULL", "MISSING", "STALE", "ESTIMATE")


def check_keys(keys: Mapping[str, str], query: Sequence[str], path: str) -> None:
    """Raise InputError unless the keys are those of the entities of `query`; `path` is where they stand."""
    for entity in query:
        if entity not in keys:
            raise InputError(f"{path}: the key of {entity!r} is missing; a request names it")
    for name in keys:
        if name not in query:
            raise InputError(f"{path}.{name}: no such entity; a request names {', '.join(query)}")


@dataclass(frozen=True, slots=True, eq=False)
class AskedRows:
    """Rows of keys by entity (n each, null where a row lacks one), and the features that are asked of them."""

    names: tuple[str, ...]
    keys: Mapping[str, Texts]
    n: int

    def read(
        self, txn: Transaction, engine: OnlineEngine, t_us: Instant, serving: str
    ) -> FeaturesAnswer:
        """Their values and states at an instant, by the definition named `serving`."""
        spine = Spine(np.full(self.n, t_us, dtype=np.int64), dict(self.keys))
        frame, newest = engine.read_dated(txn, self.names, spine)
        end = position(txn)
        values = [[None if v != v else v for v in row] for row in frame.values.tolist()]
        states = [[_STATES[s] for s in row] for row in frame.states.tolist()]
        ages_s = {
            view: [None if us == NEVER_US else (t_us - us) / US_PER_S for us in at.tolist()]
            for view, at in newest.items()
        }
        return FeaturesAnswer(list(self.names), values, states, t_us, end, serving, ages_s)


def asked_rows(request: FeaturesRequest, plan: Plan) -> AskedRows:
    """What a request asks for, all stored features where it names none; NotFoundError for an entity that is not there."""
    names = tuple(request.features or plan.stored)
    entities = sorted({name for row in request.rows for name in row})
    for name in entities:
        if name not in plan.entities:
            known = ", ".join(plan.entities)
            raise NotFoundError(f"$.rows: no entity {name!r}; there are {known}")
    keys = {name: Texts.of([row.get(name) for row in request.rows]) for name in entities}
    return AskedRows(names, keys, len(request.rows))
