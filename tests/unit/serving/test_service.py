"""An answer is logged before it is given, given once, from what was known then, and by the best rung there is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.engines.offline import read_at
from sevenfold.errors import ServingError
from sevenfold.features.frame import Spine
from sevenfold.models.rule import RuleModel
from sevenfold.serving.prediction_log import feature_names, find_prediction, read_predictions
from sevenfold.stores.log import frontier_us, last_known_us, read_stream
from sevenfold.types import Texts

START_US = 1_700_000_000_000_000


def asked(name: str = "r1", **more: Any) -> dict[str, Any]:
    """A request of ada."""
    return {"request_id": name, "keys": {"customer": "ada"}, **more}


def names(response: Any) -> list[str]:
    """The items of an answer."""
    return [item["item"] for item in response.json()["items"]]


def test_an_answer_is_in_the_log_with_the_vectors_it_was_made_from(stall: Any) -> None:
    answer = stall.post("/v1/recommend", asked(k=2)).json()
    assert [item["item"] for item in answer["items"]] == ["a", "b"]
    assert [item["position"] for item in answer["items"]] == [1, 2]
    assert answer["items"][0]["sources"] == ["popular"]
    with stall.store.read() as txn:
        prediction = find_prediction(txn, "r1")
        assert prediction is not None
        assert prediction.slate() == ["a", "b"]
        wanted = feature_names(txn, prediction.features)
        items = [prediction.items[row] for row in prediction.logged_rows()]
        keys = {"customer": Texts.of(["ada"] * len(items)), "item": Texts.of(items)}
        spine = Spine(np.full(len(items), prediction.t_us), keys)
        events = read_stream(txn, "sales")
        assert events is not None
        then = read_at(stall.service.plan, wanted, spine, {"sales": events}).vectors()
    np.testing.assert_array_equal(then, prediction.logged_vectors())
    assert set(items) == {"a", "b", "c"}  # the slate, and a sample of the others


def test_a_repeated_request_gets_the_answer_it_got(stall: Any, sale: Callable[..., Any]) -> None:
    first = stall.post("/v1/recommend", asked()).json()
    stall.sell(*[sale(f"n{i}", "c") for i in range(20)])
    second = stall.post("/v1/recommend", asked()).json()
    assert second == {**first, "repeated": True, "timing_ms": second["timing_ms"]}
    with stall.store.read() as txn:
        assert len(list(read_predictions(txn))) == 1


def test_the_id_of_another_question_is_refused(stall: Any) -> None:
    stall.post("/v1/recommend", asked())
    other = {"request_id": "r1", "keys": {"customer": "bob"}}
    response = stall.post("/v1/recommend", other)
    assert response.status_code == 409
    assert response.json()["error"]["path"] == "$.request_id"
    stall.post("/v1/rank", asked("r2", items=["a", "b"]))
    assert stall.post("/v1/rank", asked("r2", items=["a", "c"])).status_code == 409


def test_items_given_are_ranked_and_unknown_ones_too(stall: Any) -> None:
    assert names(stall.post("/v1/rank", asked(items=["z", "c", "a"]))) == ["a", "c", "z"]
    assert stall.post("/v1/rank", asked("r2", items=["a", "a"])).status_code == 400


def test_a_customer_nobody_knows_gets_what_is_popular(stall: Any) -> None:
    body = {"request_id": "r1", "keys": {"customer": "nobody"}}
    assert names(stall.post("/v1/recommend", body)) == ["a", "b", "c"]


def test_an_empty_shop_answers_with_nothing(make_stall: Callable[..., Any]) -> None:
    empty = make_stall()
    answer = empty.post("/v1/recommend", asked()).json()
    assert (answer["items"], answer["rung"]) == ([], "empty")
    with empty.store.read() as txn:
        prediction = find_prediction(txn, "r1")
        assert prediction is not None
        assert prediction.logged_vectors().shape == (0, 0)
    assert empty.call("GET", "/readyz").status_code == 200


def test_an_event_is_not_visible_at_the_instant_of_a_read_before_it(
    stall: Any, sale: Callable[..., Any]
) -> None:
    t_us = stall.post("/v1/recommend", asked()).json()["t"]
    stall.sell(sale("n1", "a"))  # the clock has not moved
    with stall.store.read() as txn:
        assert frontier_us(txn) == t_us <= last_known_us(txn)


def test_what_features_were_read_at_an_instant_stays_true(
    stall: Any, sale: Callable[..., Any]
) -> None:
    """Also when the machine's clock is set back between the read and the event."""
    rows = {"rows": [{"item": "a"}], "features": ["item__sum_pieces"]}
    stall.clock.advance(10_000_000)
    first = stall.post("/v1/features", rows).json()
    stall.service._ingest._clock = type("Back", (), {"now_us": lambda _: START_US})()
    stall.sell(sale("n1", "a"))
    with stall.store.read() as txn:
        assert last_known_us(txn) >= first["t"]
    assert first["values"] == [[3.0]]
    assert stall.post("/v1/features", rows).json()["values"] == [[4.0]]


def test_a_replay_names_its_instants_but_cannot_go_back(
    make_stall: Callable[..., Any], sale: Callable[..., Any]
) -> None:
    stall = make_stall(replay=True)
    known = START_US + 5_000_000
    body = {"stream": "sales", "events": [sale("x", "a")], "known_us": known}
    assert stall.post("/v1/events", body).json()["events"] == 1
    assert stall.post("/v1/recommend", asked(t=known)).status_code == 409
    answer = stall.post("/v1/recommend", asked(t=known + 1)).json()
    assert (answer["t"], len(answer["items"])) == (known + 1, 1)


def test_a_new_process_over_the_log_answers_the_same(
    stall: Any, make_stall: Callable[..., Any]
) -> None:
    first = stall.post("/v1/recommend", asked()).json()
    again = make_stall().post("/v1/recommend", asked("r2", k=3)).json()
    assert again["items"] == first["items"]


def test_the_alias_swaps_the_model_between_two_answers(stall: Any, rule: RuleModel) -> None:
    assert stall.post("/v1/recommend", asked("r1")).json()["rung"] == "baseline"
    version = stall.promote(rule, ["item__sum_pieces"])
    answer = stall.post("/v1/recommend", asked("r2")).json()
    assert (answer["rung"], answer["model"], answer["version"]) == ("full", "test", version)
    assert stall.post("/v1/reload", {}).json() == {"changed": False, "version": version}
    lines = stall.call("GET", "/metrics").text.splitlines()
    assert f"sevenfold_model_version {version}.0" in lines


def test_a_model_of_other_features_is_refused_and_the_old_one_serves_on(
    stall: Any, rule: RuleModel
) -> None:
    good = stall.promote(rule, ["item__sum_pieces"])
    stall.post("/v1/reload", {})
    stall.promote(rule, ["item__sum_pieces"], {"item__sum_pieces": "another definition"})
    response = stall.post("/v1/reload", {})
    assert response.status_code == 409
    assert response.json()["error"]["code"] == "model_refused"
    assert stall.post("/v1/recommend", asked()).json()["version"] == good
    assert stall.call("GET", "/readyz").status_code == 200
    stall.registry.set_alias("champion", good, "back", START_US)
    assert stall.post("/v1/reload", {}).json() == {"changed": False, "version": good}


def test_a_server_whose_first_model_is_refused_is_not_ready(stall: Any, rule: RuleModel) -> None:
    stall.promote(rule, ["item__sum_pieces"], {"item__sum_pieces": "another definition"})
    response = stall.call("GET", "/readyz")
    assert response.status_code == 503
    assert "item__sum_pieces" not in response.text
    assert stall.post("/v1/recommend", asked()).json()["rung"] == "baseline"


def test_a_damaged_model_is_refused(stall: Any, rule: RuleModel) -> None:
    version = stall.promote(rule, ["item__sum_pieces"])
    folder: Path = stall.registry.get(version).model_folder
    file = next(path for path in folder.rglob("*") if path.is_file())
    file.chmod(0o600)
    file.write_bytes(file.read_bytes().replace(b"item", b"itex"))
    assert stall.post("/v1/reload", {}).status_code == 409


def test_a_model_that_fails_makes_way_for_the_rule(
    stall: Any, rule: RuleModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    stall.promote(rule, ["item__sum_pieces"])
    stall.post("/v1/reload", {})

    def fail(self: RuleModel, x: Any) -> Any:
        if self.by == "item__sum_pieces":
            raise ServingError("broken")
        return np.arange(len(x), dtype=np.float64)

    monkeypatch.setattr(RuleModel, "scores", fail)
    answer = stall.post("/v1/recommend", asked()).json()
    assert (answer["rung"], answer["model"], answer["version"]) == ("baseline", "rule", 0)


def test_a_request_without_time_gets_the_popular_items(stall: Any) -> None:
    response = stall.post("/v1/recommend", asked(timeout_ms=1e-6))
    assert response.json()["rung"] == "popular"
    assert names(response) == ["a", "b", "c"]
    with stall.store.read() as txn:
        prediction = find_prediction(txn, "r1")
        assert prediction is not None
        assert prediction.logged_vectors().shape == (0, 0)


def test_where_popular_is_not_declared_a_late_answer_is_empty(
    make_stall: Callable[..., Any], anew: Callable[[], sf.System], sale: Callable[..., Any]
) -> None:
    system = anew()
    pipeline = replace(system.serving, degrade=("baseline", "empty"))
    stall = make_stall(system=replace(system, serving=pipeline))
    stall.sell(sale("x", "a"))
    answer = stall.post("/v1/recommend", asked(timeout_ms=1e-6)).json()
    assert (answer["rung"], answer["items"]) == ("empty", [])


def test_the_states_of_values_say_why_there_is_none(stall: Any) -> None:
    rows = [{"customer": "ada", "item": "a"}, {"customer": "ada", "item": "z"}]
    wanted = ["item__count_7d", "customer_x_item__since_last"]
    answer = stall.post("/v1/features", {"rows": rows, "features": wanted}).json()
    assert answer["values"] == [[3.0, 1.0], [0.0, None]]
    assert answer["states"] == [["VALUE", "VALUE"], ["VALUE", "MISSING"]]
    assert answer["position"] == 6


def test_a_live_server_takes_no_instant_though_it_knows_the_request(stall: Any) -> None:
    assert stall.post("/v1/recommend", asked()).status_code == 200
    assert stall.post("/v1/recommend", asked(t=START_US)).status_code == 400
