"""Features computed at the request from other features and the request's own fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sevenfold.errors import Problem, SpecError
from sevenfold.spec.quantity import Name

__all__ = ["OnDemand", "on_demand", "parameters", "rate"]


@dataclass(frozen=True, slots=True, eq=False)
class OnDemand:
    """A pure function of numpy columns: `inputs` names features, request fields or `request_time`."""

    name: Name
    function: Callable[..., Any]
    inputs: tuple[str, ...]
    description: str = ""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function itself, so that a unit test is a call."""
        return self.function(*args, **kwargs)


def on_demand(function: Callable[..., Any]) -> OnDemand:
    """Declare a numpy function as a feature; its parameter names are its inputs.

    An input is a feature's name, a field of the request or of a candidate, or `request_time` (int64
    microseconds). All are arrays with one value a candidate; so is the result.
    """
    name = getattr(function, "__name__", type(function).__name__)
    inputs = parameters(function)
    if inputs is None:
        message = f"{name} has no plain parameters by name, so nothing says what it reads"
        raise SpecError([Problem(f"$.features.{name}", message, "write def name(input, ...)")])
    return OnDemand(name, function, inputs, inspect.getdoc(function) or "")


def parameters(function: Callable[..., Any]) -> tuple[str, ...] | None:
    """The names of a function's parameters; None when it takes others than plain ones, or cannot say.

    >>> parameters(lambda pieces, price: pieces * price)
    ('pieces', 'price')
    """
    try:
        found = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None
    plain = all(p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for p in found.values())
    return tuple(found) if plain else None


def rate(name: str, a: str, b: str, *, prior: float, weight: float) -> OnDemand:
    """The smoothed ratio of two features: (a + prior * weight) / (b + weight); no events give the prior."""

    def ratio(numerator: Any, denominator: Any) -> Any:
        a_, b_ = np.nan_to_num(numerator), np.nan_to_num(denominator)
        return (a_ + prior * weight) / (b_ + weight)

    return OnDemand(name, ratio, (a, b), f"rate of {a} per {b}, prior {prior}, weight {weight}")
