"""Whether the values of a declaration are of the types that its fields are annotated with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from numbers import Integral, Real
from reprlib import repr as short
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from sevenfold.errors import Problem
from sevenfold.spec.quantity import Quantity, Span

__all__ = ["Shape", "field_hints", "wanted"]

_PLAIN = {
    str: "a text",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    NoneType: "None",
}


@dataclass(slots=True)
class Shape:
    """Walks a value along its annotation and gathers what does not fit.

    `broken` is set when something is of another type than every other rule takes for granted, or a number
    out of its bounds; a duration or a name that is not well written does not break. `seen` holds each object by its id, and whether it is
    broken: met again, it is not looked into again.
    """

    problems: list[Problem] = field(default_factory=list)
    broken: bool = False
    seen: dict[int, tuple[object, bool]] = field(default_factory=dict)

    def visit(self, value: Any, hint: Any, path: str) -> None:
        """Compare `value`, found at `path`, with the annotation `hint`."""
        origin, arguments = get_origin(hint), get_args(hint)
        if origin is Annotated:
            self._quantity(value, arguments, path)
        elif origin in (Union, UnionType):
            self._either(value, arguments, path)
        elif not _fits(value, hint):
            self._refuse(value, hint, path)
        elif origin in (Sequence, tuple):
            for i, item in enumerate(value):
                self.visit(item, arguments[0], f"{path}[{i}]")
        elif origin is Mapping:
            for key, item in value.items():
                self.visit(key, arguments[0], f"{path}.{key}")
                self.visit(item, arguments[1], f"{path}.{key}")
        elif is_dataclass(value) and not isinstance(value, type):
            self._parts(value, path)

    def _parts(self, value: Any, path: str) -> None:
        if id(value) not in self.seen:
            below = Shape(self.problems, seen=self.seen)
            self.seen[id(value)] = (value, False)
            for name, hint in field_hints(type(value)).items():
                below.visit(getattr(value, name), hint, f"{path}.{name}")
            self.seen[id(value)] = (value, below.broken)
        self.broken |= self.seen[id(value)][1]

    def _quantity(self, value: Any, arguments: tuple[Any, ...], path: str) -> None:
        for rule in arguments[1:]:
            if not isinstance(rule, Quantity):
                continue
            fault = rule.fault(value)
            if fault is not None:
                self.problems.append(Problem(path, *fault))
                # Rules read a duration only where it parses, and any text is a name to them; with numbers
                # they compute at once.
                text = arguments[0] is str and isinstance(value, str)
                self.broken |= not (isinstance(rule, Span) or text)
                return

    def _either(self, value: Any, arms: tuple[Any, ...], path: str) -> None:
        fitting = [arm for arm in arms if _fits(value, arm)]
        quantities = [arm for arm in arms if get_origin(arm) is Annotated]
        if fitting:
            self.visit(value, fitting[0], path)
        elif quantities:
            self.visit(value, quantities[0], path)
        else:
            self._refuse(value, Union[arms], path)  # noqa: UP007  of a tuple

    def _refuse(self, value: Any, hint: Any, path: str) -> None:
        good = wanted(hint)
        given = (
            short(value) if type(value) in (*_PLAIN, list, tuple, dict) else type(value).__name__
        )
        self.problems.append(Problem(path, f"{good} is wanted, {given} was given", f"give {good}"))
        self.broken = True


def field_hints(kind: type) -> dict[str, Any]:
    """The annotation of each field of a dataclass, with what it says of quantities."""
    return _field_hints(kind)


@cache
def _field_hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {found.name: hints[found.name] for found in fields(kind)}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the right type itself; what it holds is another matter."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _fits(value, get_args(hint)[0])
    if origin in (Union, UnionType):
        return any(_fits(value, arm) for arm in get_args(hint))
    if origin is Literal:
        return any(type(value) is type(allowed) and value == allowed for allowed in get_args(hint))
    if origin in (Sequence, tuple):
        return isinstance(value, list | tuple)
    if origin is Mapping:
        return isinstance(value, Mapping)
    if origin is Callable or hint is Any:
        return hint is Any or callable(value)
    if hint is float:
        number = isinstance(value, Real) and not isinstance(value, bool)
        return number and (not isinstance(value, float) or math.isfinite(value))
    if hint is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    return isinstance(value, hint)


def wanted(hint: Any) -> str:
    """What a value of an annotation is, in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        rules = [rule for rule in arguments[1:] if isinstance(rule, Quantity)]
        return rules[0].wanted if rules else wanted(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(wanted(arm) for arm in arguments)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin in (Sequence, tuple):
        return f"a list ({wanted(arguments[0])} each)"
    if origin is Mapping:
        return f"a mapping (to {wanted(arguments[1])} each)"
    if origin is Callable:
        return "a function"
    return _PLAIN.get(hint) or f"sf.{hint.__name__}(...)"
