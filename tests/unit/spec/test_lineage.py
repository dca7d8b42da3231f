"""What is made from what, and that personal data do not pass unseen."""

from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

import sevenfold as sf
from sevenfold.errors import InputError, NotFoundError, SpecError
from sevenfold.features.plan import compile_plan
from sevenfold.spec.lineage import KINDS, Lineage, trace
from sevenfold.spec.search import search
from sevenfold.web.lineage import picture

customer, item, maker = sf.Entity("customer"), sf.Entity("item"), sf.Entity("maker")
sales = sf.Stream(
    "sales",
    time="at",
    keys=[customer, item],
    fields={
        "pieces": sf.Integer(description="how many were taken"),
        "price": sf.Number(),
        "age": sf.Number(pii="demographic"),
        "street": sf.Text(pii="contact"),
        "basket": sf.Id(),
    },
    owner="shop",
    description="every line of every receipt",
)
items = sf.Table("items", item, {"maker": sf.Id()}, time="at", owner="catalogue")
made = sf.Stream("made", time="at", keys=[maker], fields={"n": sf.Integer(pii="trade")})


def older(age):
    """A filter."""
    return age > 30


@sf.on_demand
def fit(item__mean_age, popular_share, request_time):
    """How well it fits."""
    return item__mean_age * popular_share + request_time


@sf.on_demand
def fit_twice(fit, far__sum_n__state):
    """A function of a function, and of a state."""
    return 2 * fit + far__sum_n__state


def declare(**more: Any) -> sf.System:
    """A system with features of every sort."""
    given: dict[str, Any] = {
        "name": "shop",
        "requirements": sf.Requirements(
            goal="they find it",
            metric="recall@3",
            latency=sf.Latency(p99="1 s"),
            scale=sf.Scale(daily_users=10, requests_per_user=2, items=50),
            guardrails=[sf.Guardrail("hit_rate@10", max_loss=0.02)],
            privacy=sf.Privacy(retention="730 d"),
        ),
        "task": sf.Ranking(
            item=item,
            query=[customer],
            label=sf.Label("taken", outcome=sales, request="basket", within="2 h"),
            k=3,
            baseline="what sold most",
        ),
        "data": [sales, items, made],
        "features": [
            sf.aggregate(
                item,
                sales,
                sf.count(windows=["7 d"]),
                sf.mean("age"),
                sf.last_k("price", 2),
                owner="ranking",
            ),
            sf.aggregate(
                customer, sales, sf.count(), where=older, name="grown", description="adults"
            ),
            sf.through(items, "maker", sf.aggregate(maker, made, sf.sum("n")), name="far"),
            fit,
            fit_twice,
        ],
        "models": [
            sf.Rule(by="item__count_7d"),
            sf.LogisticRegression(features=["item__count_7d", "fit_twice", "item__last_2_price_2"]),
            sf.LightGBM(features=["item__count_7d", "fit_twice", "item__last_2_price_2"]),
        ],
        "evaluation": sf.Evaluation(
            primary="ndcg@3",
            split=sf.Split(train="56 d", gap="1 d", valid="14 d"),
            slices=["customer"],
        ),
        "serving": sf.Pipeline(
            retrieve=[sf.Popular(sales, item, half_life="14 d", n=50)], limit=60
        ),
        "monitoring": sf.Monitoring(),
    }
    return sf.System(**{**given, **more})


@pytest.fixture(scope="module")
def lineage() -> Lineage:
    """The lineage of the system."""
    return trace(declare())


def above(lineage: Lineage, name: str) -> set[str]:
    """What a thing is made from, by name."""
    return {node.id for node in lineage.upstream(lineage.find(name))}


def test_a_function_of_a_function_is_made_from_all_that_is_below(lineage: Lineage) -> None:
    assert above(lineage, "fit_twice") == {
        "feature:fit", "feature:item__mean_age", "field:sales.age", "view:item", "stream:sales", "entity:item",
        "generator:popular", "request:request_time",
        "feature:far__sum_n", "field:made.n", "field:items.maker", "view:far", "stream:made", "stream:items",
        "entity:maker",
    }  # fmt: skip


def test_a_filter_is_read_too_and_models_share_their_set(lineage: Lineage) -> None:
    assert above(lineage, "grown__count") == {
        "field:sales.age", "view:grown", "stream:sales", "entity:customer",
    }  # fmt: skip
    used = [node.id for node in lineage.downstream(lineage.find("sales.price"))]
    assert used == [
        "feature:item__last_2_price_1", "feature:item__last_2_price_2",
        "set:features of logistic", "model:logistic", "model:lightgbm",
    ]  # fmt: skip
    assert "label:taken" in above(lineage, "lightgbm")
    assert "label:taken" not in above(lineage, "rule")


def test_it_agrees_with_the_plan(lineage: Lineage) -> None:
    plan = compile_plan(declare().features)
    for reading in plan.readings_for(plan.names):
        streams = {reading.view.stream, *(link.view.stream for link in reading.links.values())}
        for name in reading.names:
            found = {i.split(":")[1] for i in above(lineage, name) if i.startswith("stream:")}
            assert found == streams, name
    assert {n.name for n in lineage.nodes.values() if n.kind == "feature"} == set(plan.names)


def test_up_and_down_are_one_another(lineage: Lineage) -> None:
    for node in lineage.nodes.values():
        for below in lineage.upstream(node):
            assert node in lineage.downstream(below)
            assert KINDS.index(below.kind) <= KINDS.index(node.kind)


def test_the_part_around_a_thing_is_whole(lineage: Lineage) -> None:
    part = lineage.around(lineage.find("item__mean_age"))
    assert set(part.nodes) > {"stream:sales", "feature:fit", "model:lightgbm"}
    assert "stream:made" not in part.nodes
    assert all(name in part.nodes for edge in part.edges for name in edge)


def test_personal_data_is_followed_by_field_not_by_stream(lineage: Lineage) -> None:
    pii = {node.id: node.pii for node in lineage.nodes.values()}
    assert pii["stream:sales"] == ("demographic", "contact")
    assert pii["feature:item__count_7d"] == ()
    assert pii["feature:grown__count"] == ("demographic",)
    assert pii["feature:fit_twice"] == ("demographic", "trade")
    assert pii["model:lightgbm"] == ("demographic", "trade")
    assert pii["model:rule"] == ()


def test_an_entity_is_found_and_its_class_goes_with_its_key_alone() -> None:
    """What reads the key is made from it; what is kept under the key is not, though the stream holds it."""
    who = sf.Entity("who", description="by their address", owner="accounts", pii="contact")
    mails = sf.Stream(
        "mails",
        time="at",
        keys=[who, item],
        fields={"n": sf.Integer()},
        key_fields={"who": "address"},
    )
    features = [
        *declare().features,
        sf.aggregate(who, mails, sf.sum("n"), name="senders"),
        sf.aggregate(item, mails, sf.distinct("who", windows=["7 d"]), name="read"),
    ]
    task = replace(declare().task, query=[customer, who])
    both = trace(declare(data=[sales, items, made, mails], features=features, task=task))
    assert search(both, ["accounts", "address"])[0] == both.nodes["entity:who"]
    assert [node.id for node in search(both, ["pii:contact", "kind:feature"])] == [
        "feature:read__distinct_who_7d"
    ]
    assert both.nodes["stream:mails"].pii == ("contact",)
    used = [node.id for node in both.downstream(both.find("who"))]
    assert used == ["view:senders", "feature:senders__sum_n", "feature:read__distinct_who_7d"]
    names = ["item__count_7d", "read__distinct_who_7d"]
    models = [sf.Rule(by=names[0]), sf.LightGBM(features=names, forbid_pii=["contact"])]
    with pytest.raises(
        SpecError, match="is computed from the key of who, personal data of class 'contact'"
    ):
        declare(data=[sales, items, made, mails], features=features, models=models, task=task)


def test_a_model_may_forbid_a_class() -> None:
    names = ["item__count_7d", "fit_twice"]
    models = [sf.Rule(by="item__count_7d"), sf.LightGBM(features=names, forbid_pii=["demographic"])]
    with pytest.raises(SpecError) as caught:
        declare(models=models)
    (problem,) = caught.value.problems
    assert problem.path == "$.models[1].features[1]"
    assert (
        "'fit_twice' is computed from sales.age, personal data of class 'demographic'"
        in problem.message
    )
    declare(models=[models[0], replace(models[1], forbid_pii=["contact"])])


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["sales"], "stream:sales"),
        (["price"], "field:sales.price"),
        (["twice"], "feature:fit_twice"),
        (["adults", "kind:feature"], "feature:grown__count"),
        (["taken", "pieces"], "field:sales.pieces"),
        (["owner:catalogue", "kind:stream"], "stream:items"),
        (["pii:contact", "kind:field"], "field:sales.street"),
        (["RANKING", "kind:view"], "view:item"),
    ],
)
def test_words_find(lineage: Lineage, words: list[str], first: str) -> None:
    assert search(lineage, words)[0].id == first


def test_all_words_have_to_fit(lineage: Lineage) -> None:
    assert search(lineage, ["price", "nowhere"]) == []
    assert {n.kind for n in search(lineage, ["pii:any"])} == {
        "stream",
        "field",
        "feature",
        "set",
        "model",
    }
    with pytest.raises(InputError, match="no filter; there are kind, owner, pii"):
        search(lineage, ["colour:red"])
    with pytest.raises(InputError, match="no kind 'table'"):
        search(lineage, ["kind:table"])


def test_a_name_of_several_has_to_be_told_apart(lineage: Lineage) -> None:
    with pytest.raises(NotFoundError, match=r"did you mean feature:fit_twice"):
        lineage.find("fit_twic")
    again = sf.Popular(sales, item, half_life="1 d", n=9, name="sales")
    pipeline = declare().serving
    both = trace(declare(serving=replace(pipeline, retrieve=[*pipeline.retrieve, again])))
    with pytest.raises(NotFoundError, match="say which, of stream:sales, generator:sales"):
        both.find("sales")
    assert both.find("generator:sales").kind == "generator"


@pytest.mark.parametrize("hidden", [(), ("field",), ("field", "view")])
def test_the_picture_is_whole_and_stands_alone(lineage: Lineage, hidden: tuple[str, ...]) -> None:
    text = picture(lineage, "shop & <co>", hidden)
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    titles = [found.text or "" for found in root.iter(f"{space}title")]
    for node in lineage.nodes.values():
        assert any(title.split("\n")[0] == node.id for title in titles) == (node.kind not in hidden)
    assert titles[0] == "shop & <co>"
    assert "script" not in text
    assert text.count("http") == 1
    boxes = [
        (float(b.get("x", 0)), float(b.get("y", 0)))
        for b in root.iter(f"{space}rect")
        if b.get("x")
    ]
    assert len(set(boxes)) == len(boxes)
    for x, y in boxes:
        assert not [1 for u, v in boxes if u == x and 0 < abs(v - y) < 26], "boxes do not overlap"
    width, height = (float(n) for n in str(root.get("viewBox")).split()[2:])
    assert all(0 <= x < width - 190 and 0 <= y < height - 20 for x, y in boxes)


def test_a_system_without_features_to_draw_is_drawn() -> None:
    ElementTree.fromstring(picture(Lineage(), "nothing"))


def test_what_is_looked_up_carries_the_class_of_the_table() -> None:
    people = sf.Table("people", customer, {"age": sf.Number(pii="demographic")}, time="at")
    calls = sf.Stream(
        "calls", time="at", keys=[customer], fields={}, enrich={"years": sf.Lookup(people, "age")}
    )
    view = sf.aggregate(customer, calls, sf.mean("years"), name="callers")
    given = declare()
    found = trace(
        replace(given, data=[*given.data, people, calls], features=[*given.features, view])
    )
    assert found.nodes["feature:callers__mean_years"].pii == ("demographic",)
    assert "stream:people" in above(found, "callers__mean_years")


def test_what_filters_and_reranks_read_is_known() -> None:
    pipeline = declare().serving
    feature = trace(declare()).nodes
    name = next(node.name for node in feature.values() if node.kind == "feature")
    keep = sf.Pipeline.Keep(name, low=1)
    with_stages = replace(pipeline, filter=[keep], rerank=[sf.Pipeline.Pin(1, keep)])
    found = trace(declare(serving=with_stages))
    users = [node.id for node in found.downstream(found.find(f"feature:{name}"))]
    assert {"stage:filter", "stage:rerank"} <= set(users)
    assert not [node for node in feature.values() if node.kind == "stage"]


def test_a_set_is_found_by_what_is_said_of_it() -> None:
    told = sf.FeatureSet("near", 2, ["item__mean_age"], description="what neighbours liked")
    model = sf.LogisticRegression(features=told)
    lineage = trace(declare(models=[sf.Rule(by="item__mean_age"), model]))
    (found,) = search(lineage, ["neighbours", "kind:set"])
    assert (found.name, found.description) == ("near@2", "what neighbours liked; 1 in order")
