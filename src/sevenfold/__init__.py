"""Declare a machine-learning system in seven steps. Run it as one closed loop.

    import sevenfold as sf

The names here are the public interface; they are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what an editor and a type checker see of the names below
    from sevenfold import errors
    from sevenfold.spec import expect
    from sevenfold.spec.aggregate import (
        aggregate,
        attribute,
        count,
        decayed,
        distinct,
        first,
        last,
        last_k,
        max,
        mean,
        min,
        quantile,
        since_last,
        std,
        sum,
        top_k,
        var,
    )
    from sevenfold.spec.check import (
        check,
    )
    from sevenfold.spec.entity import (
        Entity,
    )
    from sevenfold.spec.evaluation import (
        Evaluation,
        GateSpec,
        Split,
    )
    from sevenfold.spec.feature_set import (
        FeatureSet,
    )
    from sevenfold.spec.field import (
        CONTENT,
        Category,
        Flag,
        Id,
        Integer,
        Number,
        Text,
        Vector,
    )
    from sevenfold.spec.model import (
        LightGBM,
        LogisticRegression,
        Rule,
    )
    from sevenfold.spec.monitoring import (
        Audit,
        Drift,
        Monitoring,
        Performance,
        Retrain,
    )
    from sevenfold.spec.on_demand import (
        on_demand,
        rate,
    )
    from sevenfold.spec.requirements import (
        Guardrail,
        Latency,
        Privacy,
        Requirements,
        Scale,
    )
    from sevenfold.spec.retrieve import (
        BoughtBefore,
        BoughtTogether,
        Popular,
    )
    from sevenfold.spec.serving import (
        Pipeline,
        PredictionLog,
    )
    from sevenfold.spec.stream import (
        Lookup,
        Stream,
    )
    from sevenfold.spec.system import (
        System,
    )
    from sevenfold.spec.table import (
        Table,
    )
    from sevenfold.spec.task import (
        Label,
        Ranking,
    )
    from sevenfold.spec.through import (
        through,
    )

__version__ = "0.1.0"

_HOME = {
    "sevenfold.spec.aggregate": (
        "aggregate",
        "attribute",
        "count",
        "decayed",
        "distinct",
        "first",
        "last",
        "last_k",
        "max",
        "mean",
        "min",
        "quantile",
        "since_last",
        "std",
        "sum",
        "top_k",
        "var",
    ),
    "sevenfold.spec.check": ("check",),
    "sevenfold.spec.entity": ("Entity",),
    "sevenfold.spec.evaluation": ("Evaluation", "GateSpec", "Split"),
    "sevenfold.spec.feature_set": ("FeatureSet",),
    "sevenfold.spec.field": (
        "CONTENT",
        "Category",
        "Flag",
        "Id",
        "Integer",
        "Number",
        "Text",
        "Vector",
    ),
    "sevenfold.spec.model": ("LightGBM", "LogisticRegression", "Rule"),
    "sevenfold.spec.monitoring": ("Audit", "Drift", "Monitoring", "Performance", "Retrain"),
    "sevenfold.spec.on_demand": ("on_demand", "rate"),
    "sevenfold.spec.requirements": ("Guardrail", "Latency", "Privacy", "Requirements", "Scale"),
    "sevenfold.spec.retrieve": ("BoughtBefore", "BoughtTogether", "Popular"),
    "sevenfold.spec.serving": ("Pipeline", "PredictionLog"),
    "sevenfold.spec.stream": ("Lookup", "Stream"),
    "sevenfold.spec.system": ("System",),
    "sevenfold.spec.table": ("Table",),
    "sevenfold.spec.task": ("Label", "Ranking"),
    "sevenfold.spec.through": ("Through", "through"),
}
_MODULES = {"errors": "sevenfold.errors", "expect": "sevenfold.spec.expect"}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [  # noqa: RUF022  in the order in which a reader looks a name up
    "aggregate",
    "attribute",
    "Audit",
    "BoughtBefore",
    "BoughtTogether",
    "Category",
    "check",
    "CONTENT",
    "count",
    "decayed",
    "distinct",
    "Drift",
    "Entity",
    "errors",
    "Evaluation",
    "expect",
    "FeatureSet",
    "first",
    "Flag",
    "GateSpec",
    "Guardrail",
    "Id",
    "Integer",
    "Label",
    "last",
    "last_k",
    "Latency",
    "LightGBM",
    "LogisticRegression",
    "Lookup",
    "max",
    "mean",
    "min",
    "Monitoring",
    "Number",
    "on_demand",
    "Performance",
    "Pipeline",
    "Popular",
    "PredictionLog",
    "Privacy",
    "quantile",
    "Ranking",
    "rate",
    "Requirements",
    "Retrain",
    "Rule",
    "Scale",
    "since_last",
    "Split",
    "std",
    "Stream",
    "sum",
    "System",
    "Table",
    "Text",
    "through",
    "top_k",
    "var",
    "Vector",
]


def __getattr__(name: str) -> Any:
    """The public name, loaded on first use."""
    if name in _MODULES:
        return import_module(_MODULES[name])
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
