"""Whatever is put anywhere into a declaration, the answer is a system or SpecError, never another error."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sevenfold as sf
from sevenfold.features.plan import compile_plan

Path = tuple[str | int, ...]


class Odd:
    """An object that nothing can be done with: it has no hash, no text, no truth."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise ValueError("incomparable")

    def __bool__(self) -> bool:
        raise ValueError("no truth")


def places(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every place in a declaration that a user could have filled otherwise."""
    if path:
        yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from places(item, (*path, i))
    elif is_dataclass(value) and not isinstance(value, type):
        for found in fields(value):
            yield from places(getattr(value, found.name), (*path, found.name))


@cache
def garbage(anew: Callable[[], dict[str, Any]]) -> st.SearchStrategy[Any]:
    """Values of every kind: plain ones, parts of a declaration in the wrong place, and oddities."""
    parts = [value for _, value in places(anew())]
    plain = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.binary(max_size=3),
        st.sampled_from(
            [
                "7 d",
                "0 s",
                "1.5 h",
                "-1 d",
                "9e99 d",
                "99999999999999999 d",
                "1 fortnight",
                "ndcg@5",
            ]
        ),
        st.sampled_from(
            [10**400, Fraction(1, 3), 1j, np.int64(3), np.float32(0.5), np.nan, np.arange(3)]
        ),
        st.sampled_from(
            [print, len, int, Odd, Odd(), sf.System, sf.count, np.add, lambda: 0, lambda *a, **k: 0]
        ),
        st.sampled_from(parts),
    )
    return st.one_of(
        plain,
        st.lists(plain, max_size=3),
        st.lists(plain, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=4) | st.integers(), plain, max_size=2),
    )


@settings(max_examples=400)
@given(data=st.data())
def test_a_system_or_a_spec_error(
    anew: Callable[[], dict[str, Any]], change: Callable[..., Any], data: st.DataObject
) -> None:
    parts = anew()
    for _ in range(data.draw(st.integers(1, 3))):
        path, _old = data.draw(st.sampled_from(list(places(parts))))
        new = data.draw(garbage(anew))
        try:
            parts = change(parts, path, new)
        except (TypeError, ValueError):  # a field that is made from another cannot be replaced
            continue
    try:
        system = sf.System(**parts)
    except sf.errors.SpecError as error:
        refused = error
    else:
        # What is accepted can be written down and computed.
        assert system.as_dict()["name"] == parts["name"]
        assert compile_plan(system.features).names
        return
    assert all(problem.severity == "error" and str(problem) for problem in refused.problems)


@pytest.mark.parametrize(
    "name",
    ["requirements", "task", "data", "features", "models", "evaluation", "serving", "monitoring"],
)
@pytest.mark.parametrize("value", [None, 7, "text", [], [None], {}, Odd(), object, print])
def test_a_whole_step_of_anything(
    anew: Callable[[], dict[str, Any]], name: str, value: Any
) -> None:
    with pytest.raises(sf.errors.SpecError) as raised:
        sf.System(**{**anew(), name: value})
    assert any(
        p.path.startswith(f"$.{name}") or name in ("data", "features")
        for p in raised.value.problems
    )


def test_a_list_that_holds_itself(anew: Callable[[], dict[str, Any]]) -> None:
    parts = anew()
    parts["features"].append(parts["features"])
    with pytest.raises(sf.errors.SpecError):
        sf.System(**parts)


@pytest.mark.parametrize("make", [sf.count, sf.decayed, sf.aggregate, sf.attribute, sf.Category])
def test_makers_take_anything_and_leave_it_to_the_checks(make: Callable[..., Any]) -> None:
    for value in (7, None, "text", ["a", 7], Odd()):
        arguments: dict[Any, tuple[tuple[Any, ...], dict[str, Any]]] = {
            sf.count: ((value,), {"windows": value}),
            sf.decayed: ((value,), {"half_life": value}),
            sf.aggregate: ((value, value), {}),
            sf.attribute: ((value, value, value), {}),
            sf.Category: ((value,), {}),
        }
        positional, named = arguments[make]
        make(*positional, **named)


@pytest.mark.parametrize("function", [print, 7, None, lambda *a: a, lambda *, a: a])
def test_a_function_without_plain_parameters_is_refused_at_once(function: Any) -> None:
    with pytest.raises(sf.errors.SpecError, match="no plain parameters"):
        sf.on_demand(function)


@pytest.mark.parametrize("odd", [Odd(), np.arange(3)], ids=["odd", "array"])
def test_an_oddity_at_any_place_is_a_spec_error_or_taken(
    anew: Callable[[], dict[str, Any]], change: Callable[..., Any], odd: Any
) -> None:
    for path, _ in places(anew()):
        try:
            parts = change(anew(), path, odd)
        except (TypeError, ValueError):  # a field that is made from another cannot be replaced
            continue
        with suppress(sf.errors.SpecError):
            sf.System(**parts)
