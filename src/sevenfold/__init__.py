"""Declare a machine-learning system in seven steps. Run it as one closed loop.

    import sevenfold as sf

The names here are the public interface; they are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

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
