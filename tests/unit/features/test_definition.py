"""A definition's hash changes with its meaning, and with nothing else."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.features.definition import function_identity
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.spec.aggregate import FeatureView

user, item = sf.Entity("user"), sf.Entity("item")
FIELDS = {"price": sf.Number(), "pieces": sf.Number(), "kind": sf.Category(["a", "b"])}


def stream(fields: dict[str, Any] = FIELDS, **options: Any) -> sf.Stream:
    return sf.Stream("sales", time="at", keys=[user, item], fields=fields, **options)


def plan_of(*aggregates: Any, data: sf.Stream | None = None, **options: Any) -> Plan:
    return compile_plan([sf.aggregate(user, data or stream(), *aggregates, **options)])


def hashes(*aggregates: Any, **options: Any) -> list[str]:
    plan = plan_of(*aggregates, **options)
    return list(plan.definition_hashes(plan.names).values())


def one(*features: Any) -> str:
    """The hash of the last of the features."""
    plan = compile_plan(features)
    return plan.definition_hashes([plan.names[-1]])[plan.names[-1]]


def identity(module: ModuleType, name: str = "f") -> list[Any]:
    return function_identity(getattr(module, name))


@pytest.fixture
def module(tmp_path: Path) -> Callable[[str], ModuleType]:
    """Makes a module of a text."""
    made: list[ModuleType] = []

    def make(text: str) -> ModuleType:
        path = tmp_path / f"written_{len(made)}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("written", path)
        assert spec is not None
        assert spec.loader is not None
        made.append(importlib.util.module_from_spec(spec))
        spec.loader.exec_module(made[-1])
        return made[-1]

    return make


def test_spelling_and_order_do_not_matter() -> None:
    windows = [sf.sum("price", windows=[w]) for w in ("1 h", "60 min", "3600s", "1.0 h")]
    assert len({hashes(w)[0] for w in windows}) == 1
    assert hashes(sf.count(windows=["7 d"])) == hashes(sf.count(windows=["7 d"], hop="60 min"))
    reversed_fields = dict(reversed(FIELDS.items()))
    assert hashes(sf.sum("price")) == hashes(sf.sum("price"), data=stream(reversed_fields))
    both = hashes(sf.sum("price"), sf.count())
    assert both[::-1] == hashes(sf.count(), sf.sum("price"))
    assert hashes(sf.count(), description="told", name="other") == hashes(sf.count())


@pytest.mark.parametrize(
    "other",
    [
        sf.sum("pieces", windows=["1 h"]),
        sf.mean("price", windows=["1 h"]),
        sf.sum("price", windows=["61 min"]),
        sf.sum("price", windows=["1 h"], hop="5 min"),
        sf.sum("price"),
        sf.last("price", windows=["1 h"]),
        sf.last("price", windows=["1 h"], nulls=True),
        sf.decayed("price", half_life="1 h"),
        sf.distinct("price", windows=["1 h"]),
        sf.distinct("price", windows=["1 h"], cap=9),
    ],
)
def test_every_part_of_an_aggregate_matters(other: sf.Aggregate) -> None:
    assert hashes(other) != hashes(sf.sum("price", windows=["1 h"]))


def test_entities_stream_and_where_matter() -> None:
    base = sf.aggregate(user, stream(), sf.count())
    elsewhere = sf.Stream("returns", time="at", keys=[user], fields=FIELDS)
    others = [
        sf.aggregate(item, stream(), sf.count()),
        sf.aggregate([user, item], stream(), sf.count()),
        sf.aggregate(user, elsewhere, sf.count()),
        sf.aggregate(user, stream(), sf.count(), where=lambda price: price > 0),
    ]
    assert len({one(view) for view in [base, *others]}) == 5


def test_the_values_of_a_category_matter_where_it_is_read() -> None:
    swapped = stream({**FIELDS, "kind": sf.Category(["b", "a"])})
    for aggregate, is_same in ((sf.last("kind"), False), (sf.last("price"), True)):
        assert (hashes(aggregate) == hashes(aggregate, data=swapped)) == is_same
    of_kind = {"where": lambda kind: kind == 0}
    assert hashes(sf.count(), **of_kind) != hashes(sf.count(), data=swapped, **of_kind)


def test_two_views_of_one_definition_keep_their_states_apart() -> None:
    first, second = plan_of(sf.count(), name="a").views[0], plan_of(sf.count(), name="b").views[0]
    assert first.hashes == second.hashes
    assert first.view_id != second.view_id


def test_lambdas_on_one_line_are_not_one() -> None:
    # fmt: off
    dear, cheap = lambda price: price > 3, lambda price: price < 3
    nested = lambda price: (lambda x: x + 1)(price)  # noqa: E731
    # fmt: on
    assert function_identity(dear)[0] == "lambda price: price > 3"
    assert function_identity(cheap)[0] == "lambda price: price < 3"
    assert function_identity(nested)[0] == "lambda price: (lambda x: x + 1)(price)"


def test_what_stands_around_a_lambda_does_not_matter() -> None:
    view = sf.aggregate(
        user,
        stream(),
        sf.count(),
        where=lambda price: price > 3,
    )
    plain = lambda price: price > 3  # noqa: E731
    assert view.where is not None
    assert function_identity(view.where) == function_identity(plain)


@pytest.mark.parametrize(
    "text",
    [
        "def f(x):\n    # told\n    return x + 1\n",
        'def f(x):\n    """Told."""\n    return (x   + 1)\n',
        "import functools\n\n\n@functools.cache\ndef g(): ...\n\n\ndef f(x):\n\n    return x + 1 # so\n",
    ],
)
def test_comments_layout_and_docstrings_do_not_matter(
    module: Callable[[str], ModuleType], text: str
) -> None:
    assert identity(module(text)) == identity(module("def f(x):\n    return x + 1\n"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(x):\n    return x + 1\n", "def f(x):\n    return x + 2\n"),
        ("def f(x, y=1):\n    return x + y\n", "def f(x, y=2):\n    return x + y\n"),
        ("L = 1\ndef f(x):\n    return x + L\n", "L = 2\ndef f(x):\n    return x + L\n"),
        (
            "def g(x):\n    return x\ndef f(x):\n    return g(x)\n",
            "def g(x):\n    return -x\ndef f(x):\n    return g(x)\n",
        ),
        ("L = 1\nf = lambda x: [L for _ in x]\n", "L = 2\nf = lambda x: [L for _ in x]\n"),
    ],
    ids=[
        "body",
        "default",
        "constant",
        "function of the module",
        "constant inside a comprehension",
    ],
)
def test_what_a_function_computes_matters(
    module: Callable[[str], ModuleType], one: str, other: str
) -> None:
    assert identity(module(one)) != identity(module(other))
    assert identity(module(one)) == identity(module(one))


def test_what_a_function_closes_over_matters() -> None:
    def above(limit: Any) -> Callable[..., Any]:
        return lambda price: price > limit

    table = np.arange(5_000.0)
    moved = table.copy()
    moved[2_500] = 0
    kinds = [
        1,
        1.0,
        "1",
        (1, 2),
        (2, 1),
        table,
        moved,
        above(1),
        above(2),
        partial(above, 1),
        {"b", "a"},
    ]
    found = [str(function_identity(above(kind))) for kind in kinds]
    assert len(set(found)) == len(kinds)
    assert found == [str(function_identity(above(kind))) for kind in kinds]


def test_a_function_that_calls_itself_has_an_identity() -> None:
    def down(x: int) -> int:
        return down(x - 1) if x else 0

    assert function_identity(down) == function_identity(down)


def test_a_function_without_source_is_told_apart_by_its_code() -> None:
    made: list[Any] = [
        eval(text) for text in ("lambda x: x + 1", "lambda x: x + 2", "lambda x: x - 1")
    ]
    assert len({str(function_identity(f)) for f in made}) == 3
    assert function_identity(made[0]) == function_identity(eval("lambda x: x + 1"))
    assert function_identity(np.log) != function_identity(np.exp)


@pytest.mark.parametrize("changed", [{"prior": 0.2}, {"weight": 3.0}, {"a": "user__sum_price"}])
def test_a_rate_is_its_parts_and_its_prior(changed: dict[str, Any]) -> None:
    view = sf.aggregate(user, stream(), sf.count(), sf.sum("price"))
    given = {"a": "user__count", "b": "user__sum_price", "prior": 0.1, "weight": 2.0}
    assert one(view, sf.rate("r", **given)) == one(view, sf.rate("r", **given))
    assert one(view, sf.rate("r", **given)) != one(view, sf.rate("r", **{**given, **changed}))


def test_a_function_of_features_changes_with_them() -> None:
    @sf.on_demand
    def twice(user__sum_price_1h: Any) -> Any:
        return user__sum_price_1h * 2

    def view(hop: str | None) -> FeatureView:
        return sf.aggregate(user, stream(), sf.sum("price", windows=["1 h"], hop=hop))

    assert one(view(None), twice) == one(view("1 min"), twice)
    assert one(view(None), twice) != one(view("5 min"), twice)


def test_hashes_are_the_same_in_every_process(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sevenfold as sf\n"
        "from sevenfold.features.plan import compile_plan\n"
        "user = sf.Entity('user')\n"
        "KINDS = frozenset({'a', 'b', 'c', 'd'})\n"
        "s = sf.Stream('s', time='at', keys=[user], fields={'x': sf.Number()})\n"
        "f = lambda x: [k in KINDS for k in x]\n"
        "plan = compile_plan([sf.aggregate(user, s, sf.sum('x', windows=['1 h']), where=f)])\n"
        "print(plan.definition_hashes(plan.names), plan.views[0].view_id.hex())\n"
    )
    said = {
        subprocess.run(
            [sys.executable, str(program)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(_path())},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def _path() -> Sequence[str]:
    return [str(Path(sf.__file__).parent.parent)]
