"""Declare a machine-learning system in seven steps. Run it as one closed loop.

    import sevenfold as sf

The names here are the public interface; they are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sevenfold.errors import (
        ArtifactError as ArtifactError,
    )
    from sevenfold.errors import (
        GateError as GateError,
    )
    from sevenfold.errors import (
        InputError as InputError,
    )
    from sevenfold.errors import (
        LeakageError as LeakageError,
    )
    from sevenfold.errors import (
        NotFoundError as NotFoundError,
    )
    from sevenfold.errors import (
        Problem as Problem,
    )
    from sevenfold.errors import (
        RegistryError as RegistryError,
    )
    from sevenfold.errors import (
        RunError as RunError,
    )
    from sevenfold.errors import (
        ServingError as ServingError,
    )
    from sevenfold.errors import (
        SevenfoldError as SevenfoldError,
    )
    from sevenfold.errors import (
        SpecError as SpecError,
    )
    from sevenfold.errors import (
        StoreError as StoreError,
    )
    from sevenfold.errors import (
        TimeError as TimeError,
    )
    from sevenfold.spec.aggregate import (
        FeatureView as FeatureView,
    )
    from sevenfold.spec.aggregate import (
        aggregate as aggregate,
    )
    from sevenfold.spec.aggregate import (
        attribute as attribute,
    )
    from sevenfold.spec.aggregate import (
        count as count,
    )
    from sevenfold.spec.aggregate import (
        decayed as decayed,
    )
    from sevenfold.spec.aggregate import (
        distinct as distinct,
    )
    from sevenfold.spec.aggregate import (
        last as last,
    )
    from sevenfold.spec.aggregate import (
        max as max,
    )
    from sevenfold.spec.aggregate import (
        mean as mean,
    )
    from sevenfold.spec.aggregate import (
        min as min,
    )
    from sevenfold.spec.aggregate import (
        since_last as since_last,
    )
    from sevenfold.spec.aggregate import (
        sum as sum,
    )
    from sevenfold.spec.entity import (
        Entity as Entity,
    )
    from sevenfold.spec.evaluation import (
        Evaluation as Evaluation,
    )
    from sevenfold.spec.evaluation import (
        GateSpec as GateSpec,
    )
    from sevenfold.spec.evaluation import (
        Split as Split,
    )
    from sevenfold.spec.field import (
        CONTENT as CONTENT,
    )
    from sevenfold.spec.field import (
        Category as Category,
    )
    from sevenfold.spec.field import (
        Id as Id,
    )
    from sevenfold.spec.field import (
        Integer as Integer,
    )
    from sevenfold.spec.field import (
        Number as Number,
    )
    from sevenfold.spec.field import (
        Text as Text,
    )
    from sevenfold.spec.model import (
        LightGBM as LightGBM,
    )
    from sevenfold.spec.model import (
        LogisticRegression as LogisticRegression,
    )
    from sevenfold.spec.model import (
        Rule as Rule,
    )
    from sevenfold.spec.monitoring import (
        Drift as Drift,
    )
    from sevenfold.spec.monitoring import (
        Monitoring as Monitoring,
    )
    from sevenfold.spec.monitoring import (
        Performance as Performance,
    )
    from sevenfold.spec.monitoring import (
        Retrain as Retrain,
    )
    from sevenfold.spec.on_demand import (
        on_demand as on_demand,
    )
    from sevenfold.spec.on_demand import (
        rate as rate,
    )
    from sevenfold.spec.requirements import (
        Guardrail as Guardrail,
    )
    from sevenfold.spec.requirements import (
        Latency as Latency,
    )
    from sevenfold.spec.requirements import (
        Privacy as Privacy,
    )
    from sevenfold.spec.requirements import (
        Requirements as Requirements,
    )
    from sevenfold.spec.requirements import (
        Scale as Scale,
    )
    from sevenfold.spec.retrieve import (
        BoughtBefore as BoughtBefore,
    )
    from sevenfold.spec.retrieve import (
        BoughtTogether as BoughtTogether,
    )
    from sevenfold.spec.retrieve import (
        Popular as Popular,
    )
    from sevenfold.spec.serving import (
        Pipeline as Pipeline,
    )
    from sevenfold.spec.serving import (
        PredictionLog as PredictionLog,
    )
    from sevenfold.spec.stream import (
        Stream as Stream,
    )
    from sevenfold.spec.system import (
        System as System,
    )
    from sevenfold.spec.task import (
        Label as Label,
    )
    from sevenfold.spec.task import (
        Ranking as Ranking,
    )

__version__ = "0.1.0"

_HOME = {
    "sevenfold.errors": (
        "ArtifactError",
        "GateError",
        "InputError",
        "LeakageError",
        "NotFoundError",
        "Problem",
        "RegistryError",
        "RunError",
        "ServingError",
        "SevenfoldError",
        "SpecError",
        "StoreError",
        "TimeError",
    ),
    "sevenfold.spec.aggregate": (
        "FeatureView",
        "aggregate",
        "attribute",
        "count",
        "decayed",
        "distinct",
        "last",
        "max",
        "mean",
        "min",
        "since_last",
        "sum",
    ),
    "sevenfold.spec.entity": ("Entity",),
    "sevenfold.spec.evaluation": ("Evaluation", "GateSpec", "Split"),
    "sevenfold.spec.field": ("CONTENT", "Category", "Id", "Integer", "Number", "Text"),
    "sevenfold.spec.model": ("LightGBM", "LogisticRegression", "Rule"),
    "sevenfold.spec.monitoring": ("Drift", "Monitoring", "Performance", "Retrain"),
    "sevenfold.spec.on_demand": ("on_demand", "rate"),
    "sevenfold.spec.requirements": ("Guardrail", "Latency", "Privacy", "Requirements", "Scale"),
    "sevenfold.spec.retrieve": ("BoughtBefore", "BoughtTogether", "Popular"),
    "sevenfold.spec.serving": ("Pipeline", "PredictionLog"),
    "sevenfold.spec.stream": ("Stream",),
    "sevenfold.spec.system": ("System",),
    "sevenfold.spec.task": ("Label", "Ranking"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE_OF, key=str.casefold)


def __getattr__(name: str) -> Any:
    """The public name, loaded on first use."""
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(
            f"module 'sevenfold' has no name {name!r}; it has {', '.join(__all__)}"
        )
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return [*__all__, "__version__"]
