"""Every rule finds its planted fault, says where, and finds nothing in a good system."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.blueprints.shop.spec import system as shop
from sevenfold.evaluation.metrics import METRICS
from sevenfold.retrieval.fusion import candidate_fields
from sevenfold.spec.check_data import DATA_RULES
from sevenfold.spec.check_features import FEATURE_RULES
from sevenfold.spec.check_operation import OPERATION_RULES, RANKING_METRICS, drift_noise

Spoiled = Callable[..., list[sf.errors.Problem]]

customer, item = sf.Entity("customer"), sf.Entity("item")
other = sf.Stream("other", time="t", keys=[item], fields={"x": sf.Number()})


@sf.on_demand
def circle(freshness: Any) -> Any:
    """Spoils by name."""
    return freshness


def of_pieces_and_more(pieces: Any, *more: Any) -> Any:
    """No row-level function: what does it read?"""
    return pieces


# (path of the change, new value, check, path of the problem, severity)
FAULTS: list[tuple[tuple[str | int, ...], Any, str, str, str]] = [
    (("name",), "a/b", "C-00", "$.name", "error"),
    (("requirements", "goal"), "", "C-01", "$.requirements.goal", "error"),
    (("requirements", "metric"), "", "C-01", "$.requirements.metric", "error"),
    (("requirements", "guardrails"), (), "C-01", "$.requirements.guardrails", "warning"),
    (("requirements", "latency", "p99"), "100", "C-00", "$.requirements.latency.p99", "error"),
    (("requirements", "latency", "p99"), 100, "C-00", "$.requirements.latency.p99", "error"),
    (("requirements", "latency", "p99"), "10 ms", "C-11", "$.requirements.latency.p50", "error"),
    (("requirements", "scale", "peak"), 0.5, "C-00", "$.requirements.scale.peak", "error"),
    (("requirements", "scale", "items"), 0, "C-00", "$.requirements.scale.items", "error"),
    (("requirements", "direction"), "left", "C-00", "$.requirements.direction", "error"),
    (
        ("requirements", "privacy", "personal"),
        ["custmer"],
        "C-20",
        "$.requirements.privacy.personal[0]",
        "error",
    ),
    (
        ("requirements", "privacy", "forbidden"),
        ["pieces"],
        "C-20",
        "$.features[0].aggregates[1].source",
        "error",
    ),
    (
        ("requirements", "privacy", "forbidden"),
        ["customer"],
        "C-20",
        "$.features[1].entities[0]",
        "error",
    ),
    (
        ("requirements", "privacy", "retention"),
        None,
        "C-20",
        "$.requirements.privacy.retention",
        "warning",
    ),
    (
        ("requirements", "privacy", "retention"),
        "90 d",
        "C-20",
        "$.requirements.privacy.retention",
        "error",
    ),
    (("task", "k"), 301, "C-04", "$.serving.limit", "error"),
    (("task", "k"), 0, "C-00", "$.task.k", "error"),
    (("task", "query"), (), "C-00", "$.features[1].entities[0]", "error"),
    (("task", "query"), [item], "C-00", "$.task.query[0]", "error"),
    (("task", "query"), [customer, sf.Entity("ghost")], "C-00", "$.task.query[1]", "error"),
    (("task", "item"), sf.Entity("ghost"), "C-05", "$.task.item", "error"),
    (("task", "label", "within"), "0 s", "C-00", "$.task.label.within", "error"),
    (("task", "label", "within"), "2 h", "C-06", "$.evaluation.split.gap", "error"),
    (("task", "label", "request"), "invoce", "C-05", "$.task.label.request", "error"),
    (("task", "label", "request"), "pieces", "C-05", "$.task.label.request", "error"),
    (("task", "label", "outcome"), other, "C-05", "$.task.label.outcome", "error"),
    (("data",), [], "C-00", "$.data", "error"),
    (("data", 1, "name"), "lines", "C-00", "$.data[1].name", "error"),
    (("data", 0, "keys"), (), "C-00", "$.data[0].keys", "error"),
    (("data", 0, "keys"), (item, item, customer), "C-00", "$.data[0].keys[1]", "error"),
    (("data", 0, "optional_keys"), [sf.Entity("x")], "C-00", "$.data[0].optional_keys[0]", "error"),
    (("data", 0, "key_fields"), {"x": "y"}, "C-00", "$.data[0].key_fields.x", "error"),
    (("data", 0, "id"), "sold_at", "C-00", "$.data[0].id", "error"),
    (("data", 0, "time"), "", "C-00", "$.data[0].time", "error"),
    (("data", 0, "delay"), "5", "C-00", "$.data[0].delay", "error"),
    (("data", 0, "horizon"), "0 s", "C-00", "$.data[0].horizon", "error"),
    (("data", 0, "fields", "pieces"), int, "C-00", "$.data[0].fields.pieces", "error"),
    (("data", 0, "fields", "price", "high"), -1.0, "C-00", "$.data[0].fields.price.low", "error"),
    (
        ("data", 0, "fields", "land"),
        sf.Category([]),
        "C-00",
        "$.data[0].fields.land.values",
        "error",
    ),
    (
        ("data", 0, "fields", "land"),
        sf.Category(["a", "a"]),
        "C-00",
        "$.data[0].fields.land.values[1]",
        "error",
    ),
    (("features", 0, "stream"), other, "C-00", "$.features[0].stream", "error"),
    (
        ("features", 0, "entities"),
        (sf.Entity("basket"),),
        "C-00",
        "$.features[0].entities[0]",
        "error",
    ),
    (("features", 0, "entities"), (), "C-00", "$.features[0]", "error"),
    (("features", 0, "aggregates"), (), "C-00", "$.features[0]", "error"),
    (("features", 0, "name"), "customer_x_item", "C-00", "$.features[1].name", "error"),
    (
        ("features", 0, "aggregates", 0, "windows"),
        ("1 d", "24 h"),
        "C-00",
        "$.features[0]",
        "error",
    ),
    (
        ("features", 0, "aggregates", 0, "windows"),
        ("1 d", 7),
        "C-00",
        "$.features[0].aggregates[0].windows[1]",
        "error",
    ),
    (
        ("features", 0, "aggregates", 0, "windows"),
        ("1 d", "0 d"),
        "C-00",
        "$.features[0].aggregates[0].windows[1]",
        "error",
    ),
    (
        ("features", 0, "aggregates", 0, "windows"),
        ("10 ms",),
        "C-00",
        "$.features[0].aggregates[0].windows[0]",
        "error",
    ),
    (
        ("features", 0, "aggregates", 0, "hop"),
        "2 d",
        "C-00",
        "$.features[0].aggregates[0].hop",
        "error",
    ),
    (
        ("features", 0, "aggregates", 0, "hop"),
        "-1 d",
        "C-00",
        "$.features[0].aggregates[0].hop",
        "error",
    ),
    (
        ("features", 0, "aggregates", 0, "hop"),
        "1 ms",
        "C-00",
        "$.features[0].aggregates[0].windows[0]",
        "error",
    ),
    (
        ("features", 0, "aggregates", 0, "kind"),
        "median",
        "C-00",
        "$.features[0].aggregates[0].kind",
        "error",
    ),
    (
        ("features", 0, "aggregates", 1, "source"),
        None,
        "C-00",
        "$.features[0].aggregates[1].source",
        "error",
    ),
    (
        ("features", 0, "aggregates", 1, "source"),
        "peices",
        "C-00",
        "$.features[0].aggregates[1].source",
        "error",
    ),
    (
        ("features", 0, "aggregates", 1, "source"),
        "invoice",
        "C-00",
        "$.features[0].aggregates[1].source",
        "error",
    ),
    (
        ("features", 0, "aggregates", 1, "source"),
        lambda peices: peices,
        "C-00",
        "$.features[0].aggregates[1].source.peices",
        "error",
    ),
    (
        ("features", 0, "aggregates", 1, "source"),
        of_pieces_and_more,
        "C-00",
        "$.features[0].aggregates[1].source",
        "error",
    ),
    (
        ("features", 0, "aggregates", 1, "source"),
        print,
        "C-00",
        "$.features[0].aggregates[1].source",
        "error",
    ),
    (
        ("features", 0, "aggregates", 2, "cap"),
        0,
        "C-00",
        "$.features[0].aggregates[2].cap",
        "error",
    ),
    (
        ("features", 0, "aggregates", 3, "half_life"),
        None,
        "C-00",
        "$.features[0].aggregates[3].half_life",
        "error",
    ),
    (
        ("features", 1, "where"),
        lambda invoice: invoice,
        "C-00",
        "$.features[1].where.invoice",
        "error",
    ),
    (
        ("features", 2, "aggregates", 0, "windows"),
        ("0 d",),
        "C-00",
        "$.features[2].aggregates[0].windows[0]",
        "error",
    ),
    (
        ("features", 2, "aggregates", 0, "source"),
        "price",
        "C-00",
        "$.features[2].aggregates[0].source",
        "error",
    ),
    (
        ("features", 3, "inputs"),
        ("item__count_1_d",),
        "C-00",
        "$.features[3].inputs.item__count_1_d",
        "error",
    ),
    (("features", 3, "inputs"), ("freshness",), "C-00", "$.features[3]", "error"),
    (("features", 3, "inputs"), ("days_between",), "C-00", "$.features[3]", "error"),
    (("features", 3, "inputs"), ("pieces",), "C-08", "$.features[3].inputs.pieces", "error"),
    (("features", 3, "inputs"), ("bought",), "C-08", "$.features[3].inputs.bought", "error"),
    (("features", 3, "inputs"), ("sold_at",), "C-08", "$.features[3].inputs.sold_at", "error"),
    (("features", 4, "name"), "item__count_1d", "C-00", "$.features[4]", "error"),
    (("models",), [], "C-03", "$.models", "error"),
    (("models", 0, "role"), "challenger", "C-03", "$.models", "error"),
    (("models", 1, "role"), "baseline", "C-03", "$.models", "error"),
    (("models", 2, "name"), "rule", "C-03", "$.models[2].name", "error"),
    (("models", 0, "by"), "item__count_2d", "C-24", "$.models[0]", "error"),
    (("models", 1, "features"), (), "C-24", "$.models[1].features", "error"),
    (
        ("models", 1, "features"),
        ["freshness", "freshness"],
        "C-24",
        "$.models[1].features[1]",
        "error",
    ),
    (("models", 1, "features"), ["feshness"], "C-24", "$.models[1].features[0]", "error"),
    (("models", 1, "features"), "freshness", "C-00", "$.models[1].features", "error"),
    (("models", 2, "n_trees"), 0, "C-00", "$.models[2].n_trees", "error"),
    (("models", 2, "learning_rate"), float("nan"), "C-00", "$.models[2].learning_rate", "error"),
    (("models", 2, "feature_share"), 0.0, "C-00", "$.models[2].feature_share", "error"),
    (("evaluation", "primary"), "accuracy", "C-02", "$.evaluation.primary", "error"),
    (("evaluation", "primary"), "ndcg", "C-02", "$.evaluation.primary", "error"),
    (("evaluation", "primary"), "ndcg@0", "C-02", "$.evaluation.primary", "error"),
    (("evaluation", "also"), ["ndcg@20"], "C-02", "$.evaluation.also[0]", "error"),
    (("evaluation", "split", "gap"), "59 min", "C-06", "$.evaluation.split.gap", "error"),
    (("evaluation", "slices"), (), "C-21", "$.evaluation.slices", "warning"),
    (("evaluation", "slices"), ["lnd"], "C-21", "$.evaluation.slices[0]", "error"),
    (("evaluation", "leakage_auc_max"), 1.5, "C-00", "$.evaluation.leakage_auc_max", "error"),
    (("evaluation", "gate", "max_loss"), 2, "C-00", "$.evaluation.gate.max_loss", "error"),
    (("serving", "retrieve"), (), "C-04", "$.serving.retrieve", "error"),
    (("serving", "retrieve", 0, "name"), "popular", "C-04", "$.serving.retrieve[2].name", "error"),
    (("serving", "retrieve", 0, "n"), 0, "C-00", "$.serving.retrieve[0].n", "error"),
    (
        ("serving", "retrieve", 0, "half_life"),
        "soon",
        "C-00",
        "$.serving.retrieve[0].half_life",
        "error",
    ),
    (("serving", "retrieve", 0, "item"), customer, "C-04", "$.serving.retrieve[0].item", "error"),
    (
        ("serving", "retrieve", 0, "customer"),
        sf.Entity("x"),
        "C-04",
        "$.serving.retrieve[0].customer",
        "error",
    ),
    (
        ("serving", "retrieve", 1, "basket"),
        "pieces",
        "C-04",
        "$.serving.retrieve[1].basket",
        "error",
    ),
    (("serving", "retrieve", 2, "stream"), other, "C-04", "$.serving.retrieve[2].stream", "error"),
    (
        ("serving", "retrieve", 2, "by"),
        sf.Entity("land"),
        "C-04",
        "$.serving.retrieve[2].by",
        "error",
    ),
    (("serving", "retrieve", 2, "n"), 10, "C-04", "$.serving.limit", "info"),
    (("serving", "log"), None, "C-10", "$.serving.log", "error"),
    (("serving", "log", "sample"), 0, "C-10", "$.serving.log.sample", "warning"),
    (("serving", "degrade"), (), "C-22", "$.serving.degrade", "error"),
    (("serving", "degrade"), ["popluar"], "C-22", "$.serving.degrade[0]", "error"),
    (("serving", "degrade"), ["empty", "popular"], "C-22", "$.serving.degrade", "error"),
    (("serving", "degrade"), ["empty", "empty"], "C-22", "$.serving.degrade[1]", "error"),
    (("monitoring", "drift", "min_rows"), 100, "C-23", "$.monitoring.drift.min_rows", "error"),
    (("monitoring", "drift", "alert"), 0.05, "C-23", "$.monitoring.drift.alert", "error"),
    (("monitoring", "retrain", "every"), "30 min", "C-17", "$.monitoring.retrain.every", "error"),
    (
        ("monitoring", "retrain", "cooldown"),
        "29 d",
        "C-17",
        "$.monitoring.retrain.cooldown",
        "error",
    ),
    (
        ("monitoring", "retrain", "first_after"),
        "14 d",
        "C-17",
        "$.monitoring.retrain.first_after",
        "error",
    ),
    (
        ("monitoring", "performance", "tolerance"),
        -0.1,
        "C-00",
        "$.monitoring.performance.tolerance",
        "error",
    ),
]


def test_a_good_system_has_no_errors_and_no_warnings(parts: dict[str, Any]) -> None:
    assert [str(p) for p in sf.check(sf.System(**parts)) if p.severity != "info"] == []
    assert [str(p) for p in sf.check(shop) if p.severity == "error"] == []


@pytest.mark.parametrize(
    ("path", "to", "check", "where", "severity"), FAULTS, ids=lambda value: str(value)[:50]
)
def test_a_planted_fault_is_found(
    spoiled: Spoiled, path: tuple[str | int, ...], to: Any, check: str, where: str, severity: str
) -> None:
    found = spoiled(*path, to=to)
    assert (check, where, severity) in [(p.check, p.path, p.severity) for p in found], "\n".join(
        map(str, found)
    )
    assert all(problem.message for problem in found)


def test_every_rule_has_a_planted_fault(parts: dict[str, Any]) -> None:
    found = {(p.check, p.path) for p in sf.check(sf.System(**parts))}
    found |= {(check, where) for _, _, check, where, _ in FAULTS}
    checks = {check for check, _ in found}
    for rule in (*DATA_RULES, *FEATURE_RULES, *OPERATION_RULES):
        code = (rule.__doc__ or "").partition(":")[0]
        assert code in checks or not code.startswith("C-") or code == "C-07", rule.__name__


def test_windows_within_the_delay_are_refused(parts: dict[str, Any]) -> None:
    lines = replace(parts["data"][0], delay="1 d")
    view = replace(parts["features"][0], stream=lines)
    with pytest.raises(sf.errors.SpecError) as raised:
        sf.System(**{**parts, "data": [lines, parts["data"][1]], "features": [view]})
    late = [p for p in raised.value.problems if p.check == "C-07"]
    assert [p.path for p in late] == ["$.features[0].aggregates[0].windows[0]"]


def test_all_problems_come_at_once(parts: dict[str, Any]) -> None:
    parts["name"] = "a b"
    parts["data"][0] = replace(parts["data"][0], delay="soon")
    parts["task"] = replace(parts["task"], k=0)
    parts["evaluation"] = replace(parts["evaluation"], primary="auc")
    parts["monitoring"] = "daily"
    with pytest.raises(sf.errors.SpecError) as raised:
        sf.System(**parts)
    paths = [problem.path for problem in raised.value.problems]
    assert {"$.name", "$.data[0].delay", "$.task.k", "$.evaluation.primary", "$.monitoring"} <= set(
        paths
    )
    assert str(raised.value).count("\n") == len(paths)


def test_a_step_of_the_wrong_type_does_not_hide_the_others(spoiled: Spoiled) -> None:
    found = spoiled("task", to={"k": 20})
    assert [p.path for p in found if p.severity == "error"] == ["$.task"]
    assert "sf.Ranking(...) is wanted" in found[0].message


def test_a_fault_in_a_stream_is_said_once_and_where_it_is_declared(parts: dict[str, Any]) -> None:
    parts["data"][0].fields["pieces"] = 7
    with pytest.raises(sf.errors.SpecError) as raised:
        sf.System(**parts)
    assert [p.path for p in raised.value.problems] == ["$.data[0].fields.pieces"]


def test_a_near_name_is_suggested_and_the_rest_are_listed(spoiled: Spoiled) -> None:
    problem = next(p for p in spoiled("models", 0, "by", to="item__cuont_28d") if p.check == "C-24")
    assert problem.remedy == "did you mean 'item__count_28d'?"
    assert "item__decayed_pieces_14d" in problem.message


def test_it_is_sorted_by_severity(spoiled: Spoiled) -> None:
    found = [p.severity for p in sf.check(shop)]
    assert found == sorted(found, key=["error", "warning", "info"].index)


def test_the_metrics_are_those_that_evaluation_has() -> None:
    assert set(RANKING_METRICS) == set(METRICS)


def test_the_fields_of_a_candidate_are_those_that_retrieval_gives(spoiled: Spoiled) -> None:
    for field in candidate_fields(np.ones((1, 1), np.float32), ["popular"]):
        assert [
            p for p in spoiled("features", 3, "inputs", to=(field,)) if p.severity == "error"
        ] == []


@pytest.mark.parametrize("rows", [1000, 5000])
def test_the_noise_of_the_drift_index_is_that_of_a_simulation(rows: int) -> None:
    rng = np.random.default_rng(7)
    p, q = (rng.multinomial(rows, [0.1] * 10, size=20_000) / rows for _ in range(2))
    index = ((p - q) * np.log(p / q)).sum(axis=1)
    assert drift_noise(rows, rows) == pytest.approx(np.quantile(index, 0.99), rel=0.05)
