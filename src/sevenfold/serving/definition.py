"""One version of a system's definition, as a process serves it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from sevenfold.errors import ServingError
from sevenfold.features.plan import Plan, ViewPlan, compile_plan
from sevenfold.hashing import canonical_json, digest
from sevenfold.registry.manifest import signature
from sevenfold.spec.feature_set import FeatureSet
from sevenfold.spec.outline import outline
from sevenfold.spec.system import System

__all__ = ["FIXED_STEPS", "Definition", "require_changeable", "served_features"]

FIXED_STEPS = ("name", "task", "serving")


def served_features(system: System, plan: Plan) -> tuple[str, ...]:
    """Every feature that a model, a filter or a rerank reads, in the order of the plan: what each answer logs."""
    wanted = {name for model in system.models for name in model.features}
    wanted |= set(system.serving.reads)
    plan.require(wanted)
    return tuple(name for name in plan.names if name in wanted)


@dataclass(frozen=True, eq=False)
class Definition:
    """A system with its plan; two of one `name` compute the same features."""

    system: System

    @cached_property
    def plan(self) -> Plan:
        """The plan of the features."""
        return compile_plan(self.system.features, self.system.data)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """The features of every answer, in the order of its vectors."""
        return served_features(self.system, self.plan)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The definition of each feature that there is."""
        return self.plan.definition_hashes(self.plan.names)

    @cached_property
    def set_hashes(self) -> dict[str, str]:
        """The hash of each feature set by its label: its features in order, with their definitions."""
        sets = [m.features for m in self.system.models if isinstance(m.features, FeatureSet)]
        return {chosen.label: signature(chosen, self.hashes) for chosen in sets}

    @cached_property
    def name(self) -> str:
        """The hash of all features with their definitions, in 16 hexadecimal digits."""
        return digest(canonical_json([list(self.features), self.hashes]), 8)

    def unreadable(self, names: Iterable[str], hashes: Mapping[str, str]) -> list[str]:
        """Which of the features that a model reads are not served here as it knows them."""
        return [
            name
            for name in names
            if name not in self.features or self.hashes[name] != hashes.get(name)
        ]

    def is_same(self, other: Definition) -> bool:
        """Whether both declare the same, features and all else."""
        return self.name == other.name and self.system.as_dict() == other.system.as_dict()

    @cached_property
    def views(self) -> dict[bytes, ViewPlan]:
        """The views by their ids in a store."""
        return {view.view_id: view for view in self.plan.views}


def require_changeable(now: System, new: System) -> None:
    """Raise ServingError when `new` differs from `now` in what cannot change while serving.

    Streams, features and models may change. Another name, task or pipeline needs a server of its own, or a
    restart: the generators learn from the whole log.
    """
    different = [
        step for step in FIXED_STEPS if outline(getattr(now, step)) != outline(getattr(new, step))
    ]
    if different:
        steps = ", ".join(f"$.{step}" for step in different)
        raise ServingError(
            f"{steps}: cannot change while serving; features, streams and models can. "
            "Stop the server and start it with the new declaration"
        )
