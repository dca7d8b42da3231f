"""A canary answers its share and nobody else; one that breaks a guardrail is taken back, a good one is not."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.errors import RegistryError
from sevenfold.models.logistic import LogisticModel
from sevenfold.registry.trial import (
    Guardrails,
    begin_trial,
    end_trial,
    ended_trials,
    read_trial,
)
from sevenfold.serving.app import App
from sevenfold.serving.evidence import discordance
from sevenfold.serving.guard import Guard
from sevenfold.serving.limits import Limits
from sevenfold.serving.prediction_log import read_predictions
from sevenfold.serving.request import RecommendRequest
from sevenfold.serving.routes.table import ADMIN_ROUTES
from sevenfold.serving.tokens import Tokens
from sevenfold.serving.trials import TrialRequest, told
from sevenfold.serving.trials import begin as begin_asked
from tests.unit.serving.conftest import TOKEN

NAMES = ("item__count_7d", "item__sum_pieces")
ITEMS = list("abcdefgh")


def linear(weights: tuple[float, float], intercept: float = 0.0) -> LogisticModel:
    """A linear model of the two features of items."""
    n = len(NAMES)
    given = np.concatenate([np.array(weights), np.zeros(n)])
    zeros, ones = np.zeros(n), np.ones(n)
    return LogisticModel(1.0, 1, NAMES, zeros, ones, given, np.array([intercept]))


GOOD = linear((1.0, 0.1))
BAD = {
    "nan": (linear((1e308, 1e308)), "errors"),
    "constant": (linear((0.0, 0.0)), "constant"),
    "inverted": (linear((-1.0, -0.1)), "disagreement"),
    "shifted": (linear((1.0, 0.1), 50.0), "shift"),
}
Begin = Callable[..., Any]


@pytest.fixture
def shop(make_stall: Any, sale: Callable[..., Any], anew: Callable[[], sf.System]) -> Any:
    """A stall with eight items that sell differently, and a linear champion; its answers may take a minute."""
    system = anew()
    patient = replace(system.requirements, latency=sf.Latency(p99="60 s"))
    stall = make_stall(system=replace(system, requirements=patient))
    stall.sell(*[sale(f"{i} {n}", i) for at, i in enumerate(ITEMS) for n in range(2 * at)])
    stall.clock.advance(1_000_000)
    stall.promote(GOOD, list(NAMES))
    return stall


def begin(stall: Any, model: Any, share: float = 0.5, **rails: Any) -> int:
    """The version of a model that is the canary from now on."""
    version = stall.register(model, list(NAMES))
    # How long a machine that is busy takes is no matter here: the evidence has tests of its own.
    guardrails = Guardrails(**{"minimum": 50, "slow": None, **rails})
    begin_trial(
        stall.registry, "canary", version, share, "customer", guardrails, stall.clock.now_us()
    )
    return version


def ask(stall: Any, name: str, customer: str) -> dict[str, Any]:
    """An answer."""
    body = {"request_id": name, "keys": {"customer": customer}}
    answer: dict[str, Any] = stall.post("/v1/recommend", body).json()
    return answer


def serve(stall: Any, n: int, first: int = 0) -> list[int]:
    """The versions that answered so many customers; the referee has judged them."""
    versions = []
    for i in range(first, first + n):
        stall.clock.advance(10_000)
        answer = stall.service.recommend(request(f"r{i}", f"c{i}"))[0]
        versions.append(answer.version)
    judge(stall)
    return versions


def request(name: str, customer: str) -> RecommendRequest:
    """A request of a customer."""
    return RecommendRequest(name, {"customer": customer})


def judge(stall: Any) -> None:
    """Have all that was answered judged."""
    stall.clock.advance(2_000_000)
    while stall.service.referee.step():
        pass


def last_reason(stall: Any) -> str:
    """Why the last canary ended."""
    return ended_trials(stall.registry, "canary")[-1].reason


def test_the_same_customers_always_meet_the_canary_and_the_log_says_so(shop: Any) -> None:
    version = begin(shop, linear((1.0, 0.2)), 0.3)
    trial = read_trial(shop.registry, "canary")
    assert trial is not None
    for turn in range(2):
        for i in range(40):
            shop.clock.advance(1_000)
            answer = ask(shop, f"{turn} {i}", f"c{i}")
            assert (answer["version"] == version) == trial.takes(f"c{i}"), "by the key alone"
            assert answer["rung"] == "full"
    with shop.store.read() as txn:
        logged = list(read_predictions(txn))
    models = {v: shop.registry.load(v) for v in (1, version)}
    names = shop.service.features
    columns = [names.index(name) for name in NAMES]
    for each in logged:
        assert each.trial == trial.id
        assert (each.arm == "canary") == (each.version == version)
        again = models[each.version].scores(each.logged_vectors()[: each.k, columns])
        np.testing.assert_array_equal(again, each.shown_scores())
    assert {each.arm for each in logged} == {"canary", "champion"}


def test_without_a_canary_nothing_is_said_of_one(shop: Any) -> None:
    assert set(serve(shop, 5)) == {1}
    with shop.store.read() as txn:
        assert {(each.trial, each.arm) for each in read_predictions(txn)} == {("", "")}
    assert told(shop.registry, "canary", shop.service.referee.evidence).state == "none"


def test_a_good_canary_stays_and_is_told_of(shop: Any) -> None:
    begin(shop, linear((1.01, 0.1)))
    serve(shop, 400)
    answer = told(shop.registry, "canary", shop.service.referee.evidence)
    assert answer.state == "running", last_reason(shop)
    assert sum(answer.answers.values()) == 400
    assert all(found.evidence < 1 for found in answer.guardrails)
    text = shop.get("/metrics").text
    assert "sevenfold_canary_share 0.5" in text
    assert 'sevenfold_canary_evidence{guardrail="errors"}' in text


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_bad_canary_is_taken_back_for_what_is_wrong_with_it(shop: Any, kind: str) -> None:
    model, guardrail = BAD[kind]
    begin(shop, model)
    for first in range(0, 600, 50):
        serve(shop, 50, first)
        if read_trial(shop.registry, "canary") is None:
            break
    assert last_reason(shop).startswith(f"rolled back: guardrail {guardrail} "), last_reason(shop)
    assert shop.registry.alias("canary") is None
    assert set(serve(shop, 20, 1000)) == {1}, "the champion answers all"
    text = shop.get("/metrics").text
    assert f'sevenfold_canary_rollbacks_total{{guardrail="{guardrail}"}} 1.0' in text


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_where_the_canary_fails_the_champion_answers(shop: Any) -> None:
    begin(shop, BAD["nan"][0], 1.0)
    answer = ask(shop, "r", "ada")
    assert (answer["version"], answer["rung"]) == (1, "full")
    assert answer["degraded"] == {"canary": "failed"}
    assert len(answer["items"]) == 3


def test_a_canary_that_raises_anything_harms_nobody(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = begin(shop, linear((1.0, 0.1)), 1.0)
    shop.service.canary.follow()
    shop.service.champion.follow()
    right = LogisticModel.scores
    bad = shop.service.canary.loaded.model

    def raises(self: LogisticModel, x: Any) -> Any:
        if self is bad:
            raise ZeroDivisionError("planted")
        return right(self, x)

    monkeypatch.setattr(LogisticModel, "scores", raises)
    assert set(serve(shop, 10)) == {1}
    assert "guardrail errors 1" in last_reason(shop)
    assert ended_trials(shop.registry, "canary")[-1].before == version


def test_a_canary_that_is_slow_is_judged_a_little_at_a_time(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It scores again what is logged, on the thread that answers: nobody is to wait for all of that."""
    begin(shop, linear((1.01, 0.1)))
    versions = serve(shop, 0)
    for i in range(24):
        shop.clock.advance(10_000)
        versions.append(shop.service.recommend(request(f"r{i}", f"c{i}"))[0].version)
    shop.clock.advance(2_000_000)
    right, calls = LogisticModel.scores, []
    slow = shop.service.canary.loaded.model

    def scores(self: LogisticModel, x: Any) -> Any:
        if self is slow:
            calls.append(len(x))
            time.sleep(0.02)
        return right(self, x)

    monkeypatch.setattr(LogisticModel, "scores", scores)
    before = 0
    while shop.service.referee.step():
        assert len(calls) - before <= 1, "more than one of those calls in a step"
        before = len(calls)
    assert len(calls) == versions.count(2) > 4


def test_a_canary_that_cannot_be_loaded_is_taken_back(shop: Any) -> None:
    version = begin(shop, GOOD)
    folder = shop.registry.get(version).model_folder
    (folder / "weights.npy").write_bytes(b"no weights")
    judge(shop)
    assert "rolled back: it cannot be loaded" in last_reason(shop)
    assert set(serve(shop, 5)) == {1}


def test_a_canary_that_cannot_be_judged_is_taken_back(shop: Any) -> None:
    begin(shop, GOOD)
    serve(shop, 5)
    shop.service.referee.failed(ValueError("no such thing"))
    assert "it cannot be judged: ValueError: no such thing" in last_reason(shop)


def test_what_is_known_of_a_canary_survives_a_restart(
    shop: Any, make_stall: Callable[..., Any]
) -> None:
    begin(shop, linear((1.01, 0.1)))
    serve(shop, 60)
    before = shop.service.referee.evidence
    assert before is not None
    again = make_stall()
    judge(again)
    after = again.service.referee.evidence
    assert after is not None
    # What was not kept is read from the log again.
    assert after.canary_answers + after.champion_answers == 60
    assert after.findings(Guardrails()) == before.findings(Guardrails())
    answers = [ask(again, f"s{i}", f"c{i}")["version"] for i in range(10)]
    assert answers == [ask(shop, f"t{i}", f"c{i}")["version"] for i in range(10)]


def test_a_replay_takes_a_canary_back_at_the_same_answer_every_time(
    make_stall: Callable[..., Any], sale: Callable[..., Any]
) -> None:
    versions = []
    stall = make_stall(replay=True)
    start = stall.clock.now_us()
    rows = [sale(f"{i} {n}", i) for at, i in enumerate(ITEMS) for n in range(2 * at)]
    body = {"stream": "sales", "events": rows, "known_us": start + 1}
    assert stall.post("/v1/events", body).status_code == 200
    stall.promote(GOOD, list(NAMES))
    bad = stall.register(BAD["inverted"][0], list(NAMES))
    for turn in range(2):
        rails = Guardrails(minimum=50)
        # The same trial again: its name is all that could differ.
        trial = begin_trial(stall.registry, "canary", bad, 0.5, "customer", rails, 5)
        taken = [i for i in range(60) if trial.takes(f"c{i}")]
        answers = []
        for at, i in enumerate(taken):
            t = start + 1_000_000 * (turn + 1) + 1_000 * at
            asked = {"request_id": f"{turn} {i}", "keys": {"customer": f"c{i}"}, "t": t}
            answers.append(stall.post("/v1/recommend", asked).json()["version"])
        assert read_trial(stall.registry, "canary") is None
        versions.append(answers.index(1))
    assert versions[0] == versions[1], "how many answers the canary gave"
    assert 5 < versions[0] < 30


def test_another_champion_begins_the_comparison_anew(shop: Any) -> None:
    begin(shop, linear((1.01, 0.1)))
    serve(shop, 60)
    shop.promote(linear((1.0, 0.11)), list(NAMES))
    serve(shop, 30, 100)
    evidence = shop.service.referee.evidence
    assert evidence is not None
    assert (evidence.champion, evidence.since) == (3, 2)
    assert evidence.canary_answers + evidence.champion_answers <= 30


def test_answers_of_other_trials_say_nothing(shop: Any) -> None:
    begin(shop, linear((1.01, 0.1)))
    serve(shop, 30)
    shop.post("/v1/recommend", {"request_id": "x", "keys": {"customer": "ada"}})
    end_trial(shop.registry, "canary", "enough", 5)
    begin(shop, linear((1.02, 0.1)))
    serve(shop, 7, 200)
    evidence = shop.service.referee.evidence
    assert evidence is not None
    assert evidence.canary_answers + evidence.champion_answers == 7


def test_pairs_that_two_models_order_otherwise() -> None:
    assert discordance(np.array([1.0, 1.0]), np.array([1.0, 2.0])) is None
    assert discordance(np.array([3.0, 2.0, 1.0]), np.array([1.0, 2.0, 3.0])) == 1.0
    assert discordance(np.array([3.0]), np.array([1.0])) is None


def test_a_canary_is_begun_looked_at_and_ended_over_the_socket(shop: Any) -> None:
    site, names = shop.app.site, list(NAMES)
    admin = App(site, Guard(Tokens(TOKEN), {"metrics"}), Limits(), ADMIN_ROUTES)
    shop.app, public = admin, shop.app
    version = shop.register(linear((1.01, 0.1)), names)
    assert shop.get("/v1/canary").json()["state"] == "none"
    for body, status in (
        ({"version": version}, 400),
        ({"version": version, "share": 2.0}, 400),
        ({"version": 99, "share": 0.5}, 404),
        ({"version": version, "share": 0.5, "on": "item"}, 400),
        ({"version": version, "share": 0.5, "guardrails": {"mistakes": 1.0}}, 400),
        ({"version": 1, "share": 0.5}, 409),
    ):
        assert shop.post("/v1/canary", body).status_code == status, body
    rails = {"errors": 0.1, "slow": None, "minimum": 30}
    begun = shop.post("/v1/canary", {"version": version, "share": 0.5, "guardrails": rails})
    assert begun.status_code == 200, begun.text
    limits = {rail["name"]: rail["limit"] for rail in begun.json()["guardrails"]}
    assert (limits["errors"], limits["slow"], limits["empty"]) == (0.1, None, 0.05)
    raised = shop.post("/v1/canary", {"version": version, "share": 1.0}).json()
    assert (raised["id"], raised["share"]) == (begun.json()["id"], 1.0)
    assert raised["guardrails"][0]["limit"] == 0.1, "what is not named stands"
    shop.app = public
    assert ask(shop, "r", "ada")["version"] == version
    shop.app = admin
    ended = shop.post("/v1/canary/promote", {"reason": "it is good"}).json()
    assert (ended["state"], ended["last"]["reason"]) == ("none", "promoted: it is good")
    shop.app = public
    assert ask(shop, "s", "ada")["version"] == version
    shop.app = admin
    assert shop.post("/v1/canary/stop", {"reason": "no"}).status_code == 409


def test_a_version_of_other_features_is_no_canary(shop: Any) -> None:
    definition = shop.service.definition
    other = dict.fromkeys(NAMES, "another definition")
    version = shop.register(GOOD, list(NAMES), other)
    with pytest.raises(RegistryError, match="otherwise than it is served"):
        begin_asked(shop.registry, definition, "canary", TrialRequest(version, 0.5), 5)


def test_what_is_too_slow_for_the_time_left_is_left_to_the_champion(shop: Any) -> None:
    """By what was measured of it, not by trying: a canary has no part in the time of the answer."""
    version = begin(shop, linear((1.0, 0.1)), 1.0)
    shop.service.canary.follow()
    for _ in range(4):
        shop.service._answering.pace.learn(f"model {version}", 100, 10_000.0)
    answer = ask(shop, "r", "ada")
    assert (answer["version"], answer["degraded"]) == (1, {"canary": "no time"})
