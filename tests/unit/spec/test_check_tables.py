"""Every rule about tables finds its planted fault and says where."""

from collections.abc import Callable
from typing import Any

import pytest

import sevenfold as sf
from sevenfold.spec.check_tables import TABLE_RULES

Spoiled = Callable[..., list[sf.errors.Problem]]

customer, item = sf.Entity("customer"), sf.Entity("item")
other = sf.Stream("other", time="t", keys=[item], fields={"x": sf.Number()})


def takes_more(pieces: Any, *more: Any) -> Any:
    """No row-level function: what does it read?"""
    return pieces


# (path of the change, new value, check, path of the problem, severity)
FAULTS: list[tuple[tuple[str | int, ...], Any, str, str, str]] = [
    (("data", 1, "delete"), lambda lst: lst > 0, "C-00", "$.data[1].delete.lst", "error"),
    (("data", 1, "delete"), takes_more, "C-00", "$.data[1].delete", "error"),
    (("data", 1, "delete"), 7, "C-00", "$.data[1].delete", "error"),
    (("data", 1, "fields", "withdrawn"), sf.Text(), "C-00", "$.data[1].delete", "error"),
    (("data", 1, "entity"), "item", "C-00", "$.data[1].entity", "error"),
    (("features", 2, "entities"), (), "C-00", "$.features[2].entities", "error"),
    (
        ("features", 2, "stream"),
        sf.Table("prices", [customer, item], {"list_price": sf.Number()}, time="at"),
        "C-00",
        "$.features[2].entities",
        "error",
    ),
    (
        ("features", 2, "aggregates", 0, "windows", 0),
        "0 s",
        "C-00",
        "$.features[2].aggregates[0].windows[0]",
        "error",
    ),
    (
        ("data", 0, "enrich", "asked", "table"),
        other,
        "C-00",
        "$.data[0].enrich.asked.table",
        "error",
    ),
    (
        ("data", 0, "enrich", "asked", "field"),
        "price",
        "C-00",
        "$.data[0].enrich.asked.field",
        "error",
    ),
    (("data", 0, "enrich", "asked", "ttl"), "0 s", "C-00", "$.data[0].enrich.asked.ttl", "error"),
    (("data", 0, "enrich", "asked"), "list_price", "C-00", "$.data[0].enrich.asked", "error"),
    (("data", 0, "time"), "asked", "C-00", "$.data[0].enrich.asked", "error"),
    (("data", 0, "keys"), [customer], "C-00", "$.data[0].enrich.asked.table", "error"),
    (
        ("data", 0, "key_fields"),
        {"customer": "asked"},
        "C-00",
        "$.data[0].enrich.asked.field",
        "error",
    ),
    (("features", 5, "table", "retention"), "30 d", "C-20", "$.features[5].ttl", "error"),
    (("features", 5, "link"), "suplier", "C-00", "$.features[5].link", "error"),
    (("features", 5, "link"), "list_price", "C-00", "$.features[5].link", "error"),
    (("features", 5, "table"), other, "C-00", "$.features[5].table", "error"),
    (("features", 5, "table"), 7, "C-00", "$.features[5].table", "error"),
    (("features", 5, "entity"), item, "C-00", "$.features[5].entity", "error"),
    (("features", 5, "view", "entities"), (), "C-00", "$.features[5].view", "error"),
    (
        ("features", 5, "view", "entities"),
        [item],
        "C-00",
        "$.features[5].view.entities[0]",
        "error",
    ),
    (("features", 5, "view", "name"), "item", "C-00", "$.features[5].view.name", "error"),
    (("features", 5, "name"), "item", "C-00", "$.features[5].name", "error"),
    (("features", 5, "ttl"), "0 s", "C-00", "$.features[5].ttl", "error"),
    (("task", "query"), (), "C-00", "$.features[1].entities[0]", "error"),
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
    assert all(problem.message and problem.remedy for problem in found if problem.path == where)


def test_a_good_system_breaks_no_rule_of_tables(parts: dict[str, Any]) -> None:
    system = sf.System(**parts)
    assert [problem for rule in TABLE_RULES for problem in rule(system)] == []
