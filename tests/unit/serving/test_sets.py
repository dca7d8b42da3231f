"""Feature sets: a name, a version and what they stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import sevenfold as sf
from sevenfold.registry.manifest import signature
from sevenfold.serving.definition import Definition
from sevenfold.serving.sets import keep_sets, read_sets
from sevenfold.spec.lineage import trace
from sevenfold.stores.memory import MemoryStore

FEATURES = ["item__count_7d", "item__sum_pieces"]


def with_sets(system: sf.System, *sets: sf.FeatureSet) -> sf.System:
    """The stall, its challengers bound to feature sets."""
    models = [sf.LogisticRegression(features=one, name=f"m{i}") for i, one in enumerate(sets)]
    return replace(system, models=[system.models[0], *models])


def test_a_set_is_the_sequence_of_its_features(anew: Callable[[], sf.System]) -> None:
    chosen = sf.FeatureSet("small", 2, FEATURES)
    assert (list(chosen), len(chosen), chosen[1], chosen[:1]) == (
        FEATURES,
        2,
        FEATURES[1],
        FEATURES[:1],
    )
    definition = Definition(with_sets(anew(), chosen))
    assert definition.set_hashes == {"small@2": signature(FEATURES, definition.hashes)}
    plain = Definition(with_sets(anew(), FEATURES))  # type: ignore[arg-type]
    assert definition.features == plain.features
    nodes = trace(definition.system).nodes
    assert "set:small@2" in nodes
    assert definition.system.as_dict()["models"][1]["features"]["version"] == 2


def test_a_version_is_fixed_once_it_was_served(anew: Callable[[], sf.System]) -> None:
    store = MemoryStore()
    keep_sets(store, Definition(with_sets(anew(), sf.FeatureSet("small", 1, FEATURES))))
    for other in (FEATURES[::-1], FEATURES[:1]):
        with pytest.raises(sf.errors.SpecError, match=r"small@1 .* version 2"):
            keep_sets(store, Definition(with_sets(anew(), sf.FeatureSet("small", 1, other))))
    keep_sets(store, Definition(with_sets(anew(), sf.FeatureSet("small", 2, FEATURES[:1]))))
    keep_sets(store, Definition(with_sets(anew(), sf.FeatureSet("small", 1, FEATURES))))
    with store.read() as txn:
        assert sorted(read_sets(txn)) == ["small@1", "small@2"]


def test_another_definition_of_a_feature_needs_another_version(
    anew: Callable[[], sf.System],
) -> None:
    store, system = MemoryStore(), with_sets(anew(), sf.FeatureSet("small", 1, FEATURES))
    keep_sets(store, Definition(system))
    item, sales = system.task.item, system.data[0]
    windowed = sf.count(windows=["7 d"], hop="12 h")
    view = sf.aggregate(item, sales, windowed, sf.sum("pieces"))
    with pytest.raises(sf.errors.SpecError, match="other features or definitions"):
        keep_sets(store, Definition(replace(system, features=[view, *system.features[1:]])))


def test_a_service_refuses_a_version_that_stood_for_something_else(
    make_stall: Callable[..., Any], anew: Callable[[], sf.System]
) -> None:
    make_stall(system=with_sets(anew(), sf.FeatureSet("small", 1, FEATURES)))
    with pytest.raises(sf.errors.SpecError, match="small@1"):
        make_stall(system=with_sets(anew(), sf.FeatureSet("small", 1, FEATURES[::-1])))


def test_one_version_is_one_list(anew: Callable[[], sf.System]) -> None:
    sets = [sf.FeatureSet("small", 1, names) for names in (FEATURES, FEATURES[::-1])]
    with pytest.raises(sf.errors.SpecError, match="small@1 has other features in another model"):
        with_sets(anew(), *sets)
    with_sets(anew(), sets[0], replace(sets[1], version=2))


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (sf.FeatureSet("small", 0, FEATURES), "$.models[1].features.version"),
        (sf.FeatureSet("sm all", 1, FEATURES), "$.models[1].features.name"),
        (sf.FeatureSet("small", 1, "item"), "$.models[1].features.features"),
        (sf.FeatureSet("small", 1, ["item__cuont_7d"]), "$.models[1].features[0]"),
        (sf.FeatureSet("small", 1, []), "$.models[1].features"),
        ("item__count_7d", "$.models[1].features"),
    ],
)
def test_a_set_that_cannot_be_is_refused(
    anew: Callable[[], sf.System], given: Any, path: str
) -> None:
    with pytest.raises(sf.errors.SpecError) as raised:
        with_sets(anew(), given)
    assert path in [problem.path for problem in raised.value.problems]
