"""Every rule that a declaration is held to, run at once: all problems, each with path and remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from sevenfold.errors import Problem
from sevenfold.spec.check_data import DATA_RULES
from sevenfold.spec.check_expect import EXPECT_RULES
from sevenfold.spec.check_features import FEATURE_RULES
from sevenfold.spec.check_operation import OPERATION_RULES
from sevenfold.spec.check_serving import SERVING_RULES
from sevenfold.spec.check_tables import TABLE_RULES
from sevenfold.spec.declaration import Declaration
from sevenfold.spec.shape import Shape, field_hints

__all__ = ["check"]

Rule = Callable[[Declaration], Iterator[Problem]]

_RULES: tuple[Rule, ...] = (
    *DATA_RULES,
    *EXPECT_RULES,
    *FEATURE_RULES,
    *TABLE_RULES,
    *OPERATION_RULES,
    *SERVING_RULES,
)
_SEVERITIES = ("error", "warning", "info")


def check(system: Declaration) -> list[Problem]:
    """All problems of a declaration: errors, then warnings, then what is worth knowing.

    First every value is compared with the type of its field. A step that holds something of another type
    is then closed to the other rules, which would stumble over it; they go on with the steps that are whole.
    """
    problems, broken = _shapes(system)
    whole = cast(Declaration, _Whole(system, broken))
    for rule in _RULES:
        try:
            for problem in rule(whole):
                problems.append(problem)
        except _ClosedError:
            continue
    unique = list(dict.fromkeys(problems))
    return sorted(unique, key=lambda problem: _SEVERITIES.index(problem.severity))


class _ClosedError(Exception):
    """A rule asked for a step that holds something of the wrong type."""


@dataclass(frozen=True, slots=True)
class _Whole:
    """A declaration of which the broken steps cannot be read."""

    declared: Any
    broken: frozenset[str]

    def __getattr__(self, name: str) -> Any:
        if name in self.broken:
            raise _ClosedError
        return getattr(self.declared, name)


def _shapes(system: Any) -> tuple[list[Problem], frozenset[str]]:
    """What is of the wrong type or out of bounds, and the steps in which something is of the wrong type."""
    problems: list[Problem] = []
    broken = set()
    seen: dict[int, tuple[object, bool]] = {}
    hints = field_hints(type(system))
    # The streams first: what is wrong with one is said where it is declared, not where it is used.
    for name in sorted(hints, key=lambda name: name != "data"):
        shape = Shape(seen=seen)
        shape.visit(getattr(system, name), hints[name], f"$.{name}")
        problems += shape.problems
        if shape.broken:
            broken.add(name)
    return problems, frozenset(broken)
