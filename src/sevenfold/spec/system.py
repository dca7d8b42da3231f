"""The declaration of a whole system: seven steps as seven arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sevenfold.errors import NotFoundError, SpecError
from sevenfold.spec.aggregate import FeatureView
from sevenfold.spec.check import check
from sevenfold.spec.entity import Entity
from sevenfold.spec.evaluation import Evaluation
from sevenfold.spec.model import ModelSpec
from sevenfold.spec.monitoring import Monitoring
from sevenfold.spec.on_demand import OnDemand
from sevenfold.spec.outline import outline
from sevenfold.spec.quantity import Title
from sevenfold.spec.requirements import Requirements
from sevenfold.spec.serving import Pipeline
from sevenfold.spec.stream import Stream
from sevenfold.spec.task import Ranking
from sevenfold.spec.through import Through

__all__ = ["System"]


@dataclass(frozen=True, eq=False)
class System:
    """A machine-learning system, declared in seven steps and refused with every problem at once.

    Raises SpecError with the path, what was given, what is allowed and the remedy of each problem.
    """

    name: Title
    requirements: Requirements
    task: Ranking
    data: Sequence[Stream]
    features: Sequence[FeatureView | Through | OnDemand]
    models: Sequence[ModelSpec]
    evaluation: Evaluation
    serving: Pipeline
    monitoring: Monitoring

    def __post_init__(self) -> None:
        """Refuse a declaration with errors; warnings are left to `sevenfold check`."""
        errors = [problem for problem in check(self) if problem.severity == "error"]
        if errors:
            raise SpecError(errors)

    @property
    def streams(self) -> dict[str, Stream]:
        """The streams by name."""
        return {stream.name: stream for stream in self.data}

    @property
    def entities(self) -> tuple[Entity, ...]:
        """Every entity that a stream touches, in the order of declaration."""
        return tuple({e.name: e for stream in self.data for e in stream.keys}.values())

    def stream(self, name: str) -> Stream:
        """The stream of that name; raises NotFoundError."""
        if name not in self.streams:
            known = ", ".join(self.streams)
            raise NotFoundError(f"no stream {name!r} in system {self.name!r}; there are {known}")
        return self.streams[name]

    def model(self, name: str) -> ModelSpec:
        """The model of that name; raises NotFoundError."""
        for model in self.models:
            if model.name == name:
                return model
        known = ", ".join(model.name for model in self.models)
        raise NotFoundError(f"no model {name!r} in system {self.name!r}; there are {known}")

    def entity(self, name: str) -> Entity:
        """The entity of that name; raises NotFoundError."""
        for entity in self.entities:
            if entity.name == name:
                return entity
        known = ", ".join(entity.name for entity in self.entities)
        raise NotFoundError(f"no entity {name!r} in system {self.name!r}; there are {known}")

    def as_dict(self) -> dict[str, Any]:
        """The whole declaration as JSON has it: functions by name and source, used streams by name."""
        steps = {found.name: getattr(self, found.name) for found in fields(self)}
        return {name: outline(step, whole=name == "data") for name, step in steps.items()}

    @property
    def baseline(self) -> ModelSpec:
        """The model whose role is baseline."""
        return next(model for model in self.models if model.role == "baseline")
