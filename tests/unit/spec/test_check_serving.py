"""Every rule about the stages of an answer finds its planted fault, and says where."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import sevenfold as sf
from sevenfold.spec.check_serving import SERVING_RULES

Spoiled = Callable[..., list[sf.errors.Problem]]

KEEP = sf.Pipeline.Keep
PIN = sf.Pipeline.Pin(1, KEEP("item__count_1d", low=1))

SLATE = sf.Pipeline.Slate(ttl="30 s")
HOT = sf.Pipeline.Hot

# (path of the change, new value, check, path of the problem, severity)
FAULTS: list[tuple[tuple[str | int, ...], Any, str, str, str]] = [
    (("serving", "fewer"), 1, "C-04", "$.serving.fewer", "error"),
    (("serving", "fewer"), 10_000, "C-04", "$.serving.fewer", "error"),
    (("serving", "fewer"), 30, "C-04", "$.serving.fewer", "warning"),
    (
        ("serving", "filter"),
        [KEEP("nothing", low=1)],
        "C-24",
        "$.serving.filter[0].feature",
        "error",
    ),
    (
        ("serving", "filter"),
        [KEEP("item__count_1d", low=2, high=1)],
        "C-25",
        "$.serving.filter[0].low",
        "error",
    ),
    (
        ("serving", "filter"),
        [KEEP("item__count_1d", nulls=True)],
        "C-25",
        "$.serving.filter[0]",
        "error",
    ),
    (
        ("serving", "filter"),
        [KEEP("item__count_1d", one_of=[1], none_of=[1, 2])],
        "C-25",
        "$.serving.filter[0].none_of",
        "error",
    ),
    (("serving", "filter"), [sf.Popular], "C-00", "$.serving.filter[0]", "error"),
    (
        ("serving", "rerank"),
        [sf.Pipeline.Spread(["item"])],
        "C-24",
        "$.serving.rerank[0].by[0]",
        "error",
    ),
    (("serving", "rerank"), [sf.Pipeline.Spread([])], "C-25", "$.serving.rerank[0].by", "error"),
    (
        ("serving", "rerank"),
        [sf.Pipeline.Cap("kind", most=1)],
        "C-24",
        "$.serving.rerank[0].by",
        "error",
    ),
    (
        ("serving", "rerank"),
        [sf.Pipeline.Fresh("age", "1 d")],
        "C-24",
        "$.serving.rerank[0].age",
        "error",
    ),
    (
        ("serving", "rerank"),
        [sf.Pipeline.Cap("item__count_1d", most=20)],
        "C-25",
        "$.serving.rerank[0].most",
        "warning",
    ),
    (
        ("serving", "rerank"),
        [sf.Pipeline.Cap("item__count_1d", most=1), sf.Pipeline.Spread(["item__count_1d"])],
        "C-25",
        "$.serving.rerank[1]",
        "error",
    ),
    (("serving", "rerank"), [PIN, PIN], "C-25", "$.serving.rerank[1].position", "error"),
    (
        ("serving", "rerank"),
        [replace(PIN, position=99)],
        "C-25",
        "$.serving.rerank[0].position",
        "error",
    ),
    (
        ("serving", "rerank"),
        [replace(PIN, keep=KEEP("no", low=1))],
        "C-24",
        "$.serving.rerank[0].keep.feature",
        "error",
    ),
    (("serving", "timeouts"), {"scores": "1 ms"}, "C-26", "$.serving.timeouts.scores", "error"),
    (("serving", "timeouts"), {"score": "80 ms"}, "C-26", "$.serving.timeouts", "error"),
    (("serving", "timeouts"), {"score": "soon"}, "C-00", "$.serving.timeouts.score", "error"),
    (("serving", "reserve"), "30 ms", "C-26", "$.serving.timeouts", "error"),
    (
        ("serving", "retrieve", 0, "timeout"),
        "21 ms",
        "C-26",
        "$.serving.retrieve[0].timeout",
        "error",
    ),
    (("serving", "degrade"), ["baseline", "cached"], "C-27", "$.serving.degrade", "error"),
    (("serving", "slate"), SLATE, "C-27", "$.serving.slate", "error"),
    (
        ("serving", "slate"),
        replace(SLATE, of=[sf.Entity("item")]),
        "C-27",
        "$.serving.slate.of[0]",
        "error",
    ),
    (("serving", "slate"), replace(SLATE, ttl="0 s"), "C-00", "$.serving.slate.ttl", "error"),
    (("serving", "hot"), HOT([sf.Entity("shelf")]), "C-27", "$.serving.hot.entities[0]", "error"),
    (("serving", "mode"), "batch", "C-28", "$.serving.max_age", "error"),
    (("serving", "mode"), "hybrid", "C-28", "$.serving.max_age", "error"),
    (("serving", "max_age"), "1 h", "C-28", "$.serving.max_age", "error"),
    (("serving", "otherwise"), "popular", "C-28", "$.serving.otherwise", "error"),
    (("serving", "hot"), HOT([]), "C-27", "$.serving.hot.entities", "warning"),
]


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


def test_every_rule_has_a_planted_fault() -> None:
    planted = {check for _, _, check, _, _ in FAULTS}
    for rule in SERVING_RULES:
        assert (rule.__doc__ or "").partition(":")[0] in planted, rule.__name__


def test_an_answer_that_may_wait_for_nobody_is_warned_of(parts: dict[str, Any]) -> None:
    pipeline = parts["serving"]
    hurried = [replace(retriever, timeout="2 ms") for retriever in pipeline.retrieve]
    found = sf.check(sf.System(**{**parts, "serving": replace(pipeline, retrieve=hurried)}))
    assert [(p.check, p.path) for p in found if p.severity == "warning"] == [
        ("C-26", "$.serving.retrieve")
    ]
