import json
from dataclasses import replace
from typing import Any

import pytest

import sevenfold as sf
from sevenfold.blueprints.shop.spec import system as shop
from sevenfold.features.plan import compile_plan
from sevenfold.spec.aggregate import FeatureView
from sevenfold.spec.naming import feature_names
from sevenfold.spec.outline import source_text
from sevenfold.spec.through import Through


def test_streams_entities_and_models_are_found_by_name(parts: dict[str, Any]) -> None:
    system = sf.System(**parts)
    assert system.stream("prices") is parts["data"][1]
    assert system.entity("item") == sf.Entity("item")
    assert system.model("lightgbm") is parts["models"][2]
    assert system.baseline is parts["models"][0]


@pytest.mark.parametrize("kind", ["stream", "entity", "model"])
def test_a_name_that_nothing_has_says_what_there_is(parts: dict[str, Any], kind: str) -> None:
    with pytest.raises(
        sf.errors.NotFoundError, match=f"no {kind} 'ghost' in system 'corner-shop'; there are"
    ):
        getattr(sf.System(**parts), kind)("ghost")


def test_names_are_those_of_the_plan(parts: dict[str, Any]) -> None:
    for features in (parts["features"], shop.features):
        views = [f for f in features if isinstance(f, FeatureView | Through)]
        named = [name for view in views for name in feature_names(view)]
        assert tuple(named) == compile_plan(features).stored


def test_a_declaration_is_json(parts: dict[str, Any]) -> None:
    outline = json.loads(json.dumps(sf.System(**parts).as_dict()))
    assert outline["data"][0]["fields"]["pieces"] == {
        "kind": "Integer",
        "unit": "",
        "low": 1,
        "high": 10_000,
        "pii": "",
        "description": "",
    }
    assert outline["task"]["label"]["outcome"] == "lines"
    assert outline["features"][0]["aggregates"][1]["source"] == {
        "function": "spent",
        "source": "def spent(pieces: Any, price: Any) -> Any:\n    return pieces * price",
    }
    assert outline["models"][0]["kind"] == "Rule"
    assert json.dumps(shop.as_dict())


def test_a_function_without_a_source_is_named() -> None:
    made = eval("lambda x: x", {"__name__": "made"})
    assert source_text(made) == "made.<lambda>"


def test_a_system_is_a_value(parts: dict[str, Any]) -> None:
    system = sf.System(**parts)
    with pytest.raises(AttributeError):
        system.name = "other"  # type: ignore[misc]
    assert replace(system, name="other").name == "other"
