"""Every rule that a declaration is held to, run at once: all problems, each with path and remedy."""

from __future__ import annotations

from sevenfold.errors import Problem
from sevenfold.spec.aggregate import FeatureView
from sevenfold.spec.check_data import DATA_RULES
from sevenfold.spec.check_features import FEATURE_RULES
from sevenfold.spec.check_operation import OPERATION_RULES
from sevenfold.spec.declaration import Declaration
from sevenfold.spec.evaluation import Evaluation
from sevenfold.spec.model import LightGBM, LogisticRegression, Rule
from sevenfold.spec.monitoring import Monitoring
from sevenfold.spec.on_demand import OnDemand
from sevenfold.spec.requirements import Requirements
from sevenfold.spec.serving import Pipeline
from sevenfold.spec.stream import Stream
from sevenfold.spec.task import Ranking

__all__ = ["check"]

_RULES = (*DATA_RULES, *FEATURE_RULES, *OPERATION_RULES)


def check(system: Declaration) -> list[Problem]:
    """All problems of a declaration, errors first.

    When a part is of the wrong type altogether, only that is said: the other rules cannot be asked.
    """
    problems = _part_problems(system)
    if not problems:
        problems = [problem for rule in _RULES for problem in rule(system)]
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(problems, key=lambda problem: order[problem.severity])


def _part_problems(system: Declaration) -> list[Problem]:
    single = {
        "requirements": (system.requirements, Requirements),
        "task": (system.task, Ranking),
        "evaluation": (system.evaluation, Evaluation),
        "serving": (system.serving, Pipeline),
        "monitoring": (system.monitoring, Monitoring),
    }
    problems = [
        Problem(
            f"$.{name}",
            f"a {kind.__name__} is wanted, a {type(given).__name__} was given",
            f"give sf.{kind.__name__}(...)",
        )
        for name, (given, kind) in single.items()
        if not isinstance(given, kind)
    ]
    problems += _items("data", system.data, (Stream,))
    problems += _items("features", system.features, (FeatureView, OnDemand))
    problems += _items("models", system.models, (Rule, LogisticRegression, LightGBM))
    return problems


def _items(name: str, given: object, kinds: tuple[type, ...]) -> list[Problem]:
    wanted = " or ".join(kind.__name__ for kind in kinds)
    if not isinstance(given, list | tuple):
        kind = type(given).__name__
        return [
            Problem(f"$.{name}", f"a list of {wanted} is wanted, a {kind} was given", "give a list")
        ]
    if not given:
        return [Problem(f"$.{name}", f"at least one {wanted} is wanted, none was given", "add one")]
    return [
        Problem(
            f"$.{name}[{i}]",
            f"a {wanted} is wanted, a {type(item).__name__} was given",
            "replace it",
        )
        for i, item in enumerate(given)
        if not isinstance(item, kinds)
    ]
