"""Another definition takes over beside the answers: nothing between, nothing half."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.engines.offline import read_at
from sevenfold.errors import ServingError, SpecError
from sevenfold.features.frame import Spine
from sevenfold.models.rule import RuleModel
from sevenfold.serving.backfill import kept_views
from sevenfold.serving.definition import Definition
from sevenfold.stores.log import read_stream
from sevenfold.types import Texts

ASKED = {"rows": [{"customer": "ada", "item": "a"}, {"customer": "bob", "item": "c"}]}


@pytest.fixture
def changed(anew: Callable[[], sf.System]) -> Callable[..., sf.System]:
    """A function that gives the stall with its item view changed: a window altered, a feature added."""

    def make(*aggregates: Any, **more: Any) -> sf.System:
        system = anew()
        item, stream = system.task.item, system.data[0]
        wanted = aggregates or (sf.count(windows=["7 d"]), sf.sum("pieces"), sf.max("pieces"))
        view = sf.aggregate(item, stream, *wanted)
        return replace(system, features=[view, *system.features[1:]], **more)

    return make


def work(stall: Any, steps: int = 10_000) -> int:
    """Let the job work until nothing is left; how many steps that took."""
    for step in range(steps):
        if not stall.service.changing.step():
            return step
    return steps


def check(stall: Any) -> str:
    """Compare what is served now with the offline engine; the definition that served."""
    answer = stall.post("/v1/features", ASKED).json()
    definition = stall.service.definition
    assert answer["definition"] == definition.name
    with stall.store.read() as txn:
        events = {"sales": read_stream(txn, "sales")}
    keys = {name: Texts.of([row[name] for row in ASKED["rows"]]) for name in ("customer", "item")}
    spine = Spine(np.full(2, answer["t"]), keys)
    frame = read_at(definition.plan, answer["features"], spine, events)
    values = [[np.nan if v is None else v for v in row] for row in answer["values"]]
    np.testing.assert_array_equal(frame.values, np.array(values))
    return str(answer["definition"])


def test_the_old_definition_answers_until_all_is_filled(
    stall: Any, changed: Callable[..., sf.System], sale: Callable[..., Any]
) -> None:
    stall.service.changing._size = 1
    before, target = check(stall), Definition(changed()).name
    status = stall.service.change(changed())
    assert (status.state, status.views) == ("filling", ("item",))
    seen = []
    for n in range(40):
        stall.service.changing._size = 1
        stall.service.changing.step()
        seen.append(check(stall))
        if n % 2 and n < 20:
            stall.sell(sale(f"n{n}", "ac"[n % 4 // 2], customer="ada" if n % 3 else "bob"))
            seen.append(check(stall))
    assert set(seen) == {before, target}
    assert seen == sorted(seen, key=[before, target].index), "it never goes back"
    assert seen.count(before) > 10
    assert stall.service.changing.status.state == "none"


def test_a_dropped_view_is_freed_after_the_grace_and_going_back_before_is_cheap(
    stall: Any, changed: Callable[..., sf.System], anew: Callable[[], sf.System]
) -> None:
    def states() -> int:
        with stall.store.read() as txn:
            return txn.count("state")

    before = states()
    stall.service.change(changed())
    work(stall)
    assert states() == before + 3, "both definitions of the item view"
    assert stall.service.change(anew()).total == 0
    stall.service.changing._size = 1
    assert work(stall) <= 2, "no event has to be seen again"
    check(stall)
    stall.service.change(changed())
    work(stall)
    stall.clock.advance(3_600_000_001)
    work(stall)
    assert states() == before
    check(stall)


def by_month(changed: Callable[..., sf.System]) -> sf.System:
    """The stall with what a model reads replaced."""
    models = [sf.Rule(by="item__sum_pieces_30d")]
    return changed(sf.count(windows=["7 d"]), sf.sum("pieces", windows=["30 d"]), models=models)


def test_a_model_on_the_old_definition_serves_until_one_on_the_new_is_promoted(
    stall: Any, changed: Callable[..., sf.System], rule: RuleModel
) -> None:
    old = stall.promote(rule, ["item__sum_pieces"])
    target = Definition(by_month(changed))
    stall.service.change(target.system)
    work(stall)
    status = stall.service.changing.status
    assert status.state == "waiting"
    assert "version 1 reads item__sum_pieces as declared before" in status.reason
    ask = {"request_id": "r1", "keys": {"customer": "ada"}}
    assert stall.post("/v1/recommend", ask).json()["version"] == old
    new = RuleModel("item__sum_pieces_30d", None, ("item__sum_pieces_30d",))
    version = stall.promote(new, ["item__sum_pieces_30d"], target.hashes)
    answer = stall.post("/v1/recommend", {**ask, "request_id": "r2"}).json()
    assert (answer["version"], answer["rung"]) == (version, "full"), "no answer in between"
    assert check(stall) == target.name


def test_without_the_model_it_is_switched_at_once_and_the_model_is_refused_clearly(
    stall: Any, changed: Callable[..., sf.System], rule: RuleModel
) -> None:
    stall.promote(rule, ["item__sum_pieces"])
    target = by_month(changed)
    stall.service.change(target, force=True)
    work(stall)
    assert check(stall) == Definition(target).name
    answer = stall.post("/v1/recommend", {"request_id": "r", "keys": {"customer": "ada"}}).json()
    assert answer["rung"] == "baseline"
    assert "item__sum_pieces" in (stall.service.champion.refused or "")


def test_a_model_that_reads_nothing_altered_is_no_obstacle(
    stall: Any, changed: Callable[..., sf.System], rule: RuleModel
) -> None:
    version = stall.promote(rule, ["item__sum_pieces"])
    target = changed()
    stall.service.change(target)
    work(stall)
    assert check(stall) == Definition(target).name
    answer = stall.post("/v1/recommend", {"request_id": "r", "keys": {"customer": "ada"}}).json()
    assert (answer["version"], answer["rung"]) == (version, "full")


def test_a_process_killed_at_it_goes_on_where_it_was(
    stall: Any, make_stall: Callable[..., Any], changed: Callable[..., sf.System]
) -> None:
    stall.service.change(changed())
    for _ in range(3):
        stall.service.changing._size = 2
        stall.service.changing.step()
        if stall.service.changing.status.done == 2:
            break
    again = make_stall()
    check(again)
    again.service.change(changed())
    again.service.changing._size = 1
    again.service.changing.step()
    assert again.service.changing.status.done == 3
    work(again)
    assert check(again) == Definition(changed()).name


def test_a_definition_whose_function_raises_leaves_the_old_one_at_work(
    stall: Any, changed: Callable[..., sf.System]
) -> None:
    def broken(pieces):
        raise ZeroDivisionError("no pieces")

    before = check(stall)
    stall.service.change(changed(sf.count(windows=["7 d"]), sf.sum("pieces"), sf.max(broken)))
    assert not stall.app.background.step(stall.service.changing)
    status = stall.service.changing.status
    assert (status.state, status.reason) == ("failed", "ZeroDivisionError: no pieces")
    assert check(stall) == before
    assert (
        b'sevenfold_job_failures_total{job="change"} 1.0' in stall.call("GET", "/metrics").content
    )


def test_changing_to_what_serves_gives_up_what_was_started(
    stall: Any, changed: Callable[..., sf.System], anew: Callable[[], sf.System]
) -> None:
    ended = []
    before = check(stall)
    stall.service.change(changed(), ended=lambda: ended.append("there"))
    stall.service.change(anew(), ended=lambda: ended.append("back"))
    assert stall.service.changing.status.state == "none"
    assert check(stall) == before
    assert ended == ["back"]


def test_what_cannot_change_while_serving_is_named(
    stall: Any, changed: Callable[..., sf.System]
) -> None:
    system = changed()
    with pytest.raises(ServingError, match=r"\$.task: cannot change while serving"):
        stall.service.change(replace(system, task=replace(system.task, k=7)))
    field = {"pieces": sf.Number(), "basket": sf.Id()}
    object.__setattr__(system.data[0], "fields", field)
    with pytest.raises(SpecError, match="the log holds it as Integer, now it is Number"):
        stall.service.change(system)
    assert stall.service.changing.status.state == "none"


def test_a_field_declared_later_is_null_in_older_events(
    stall: Any, anew: Callable[[], sf.System], sale: Callable[..., Any]
) -> None:
    system = anew()
    item, stream = system.task.item, system.data[0]
    fields = {**stream.fields, "price": sf.Number()}
    object.__setattr__(stream, "fields", fields)
    view = sf.aggregate(item, stream, sf.sum("price"), sf.count("price"), name="priced")
    stall.service.change(replace(system, features=[*system.features, view]))
    work(stall)
    stall.sell(sale("p1", "a", price=2.5))
    stall.clock.advance(1)
    check(stall)
    asked = {**ASKED, "features": ["priced__sum_price", "priced__count_price", "item__sum_pieces"]}
    assert stall.post("/v1/features", asked).json()["values"][0] == [2.5, 1.0, 4.0]


def test_a_writer_of_another_definition_is_refused_once_it_was_taken_over(
    stall: Any,
    make_stall: Callable[..., Any],
    changed: Callable[..., sf.System],
    sale: Callable[..., Any],
) -> None:
    make_stall(system=changed())
    response = stall.post("/v1/events", {"stream": "sales", "events": [sale("n1", "a")]})
    assert response.status_code == 409
    assert "keeps the views of another definition" in response.json()["error"]["message"]
    with stall.store.read() as txn:
        assert len(kept_views(txn)) == 2


def test_how_far_it_is_can_be_asked(stall: Any, changed: Callable[..., sf.System]) -> None:
    stall.service.change(changed())
    stall.service.changing._size = 2
    stall.service.changing.step()
    status = stall.get("/v1/change").json()
    assert (status["state"], status["done"], status["total"]) == ("filling", 2, 6)
    assert status["views"] == ["item"]
    assert b'sevenfold_change_events{what="done"} 2.0' in stall.call("GET", "/metrics").content
