"""What a stream expects of its rows: refused or told, as it says, by brute force; and checked as a declaration."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import sevenfold as sf
from sevenfold.clock import ManualClock
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.plan import compile_plan
from sevenfold.serving.alerts import read_alerts
from sevenfold.serving.ingest import Ingest
from sevenfold.sources.validate import validate
from sevenfold.stores.memory import MemoryStore
from sevenfold.types import US_PER_S
from tests.e2e.tiny_system import system

NOW_US = 1_700_000_000 * US_PER_S
HOUR_US = 3_600 * US_PER_S
CUSTOMER = sf.Entity("customer")


def stream(*expected: sf.expect.Expectation) -> sf.Stream:
    """Sales of which something is expected."""
    fields = {"price": sf.Number(), "till": sf.Id()}
    return sf.Stream("sales", time="at", id="line", keys=[CUSTOMER], fields=fields, expect=expected)


def row(
    line: str, price: float | None = 1.0, till: str | None = "t1", late_us: int = 0
) -> dict[str, Any]:
    """A sale."""
    return {"line": line, "at": NOW_US - late_us, "customer": "c", "price": price, "till": till}


ROWS = st.lists(
    st.builds(
        row,
        line=st.sampled_from([f"l{i}" for i in range(8)]),
        price=st.none() | st.sampled_from([-1.0, 0.0, 1.0, 5.0, 5.5]),
        till=st.none() | st.sampled_from(["t1", "t2", "t9"]),
        late_us=st.sampled_from([0, HOUR_US, HOUR_US + 1]),
    ),
    max_size=12,
)


def breaching(one: sf.expect.Expectation, rows: Sequence[dict[str, Any]]) -> list[bool]:
    """The rows that are not as expected, one after the other."""
    out = []
    for at, given_row in enumerate(rows):
        value = given_row.get(one.field)
        if one.kind == "lateness":
            out.append(NOW_US - given_row["at"] > HOUR_US)
        elif one.kind == "null_share":
            out.append(value is None)
        elif value is None:
            out.append(False)
        elif one.kind == "range":
            out.append(not (one.low <= value <= one.high))
        elif one.kind == "one_of":
            out.append(value not in one.values)
        else:
            first = next(r for r in rows[: at + 1] if r[one.field] == value)
            out.append(first["line"] != given_row["line"])
    return out


KINDS = [
    lambda breach, share: sf.expect.range("price", 0, 5, breach, share),
    lambda breach, share: sf.expect.one_of("till", ["t1", "t2"], breach, share),
    lambda breach, share: sf.expect.one_of("price", [1, 5], breach, share),
    lambda breach, share: sf.expect.null_share("till", share, breach),
    lambda breach, share: sf.expect.unique("till", breach, share),
    lambda breach, share: sf.expect.lateness("1 h", share, breach),
]


@pytest.mark.parametrize("make", KINDS)
@given(rows=ROWS)
@example(rows=[])
def test_a_dead_letter_takes_exactly_the_rows_that_breach(
    make: Any, rows: list[dict[str, Any]]
) -> None:
    one = make("dead_letter", 0)
    found = validate(stream(one), rows, NOW_US)
    assert found.letter_rows.tolist() == np.flatnonzero(breaching(one, rows)).tolist()
    assert {letter.reason for letter in found.letters} <= {one.name}
    assert list(found.alerts) == []


@pytest.mark.parametrize("make", KINDS)
@given(rows=ROWS, share=st.sampled_from([0.0, 0.25, 0.5]))
def test_an_alert_keeps_every_row_and_counts(
    make: Any, rows: list[dict[str, Any]], share: float
) -> None:
    one = make("alert", share)
    found = validate(stream(one), rows, NOW_US)
    assert len(found.batch) == len(rows)
    count = sum(breaching(one, rows))
    told = [(alert.expectation, alert.rows, alert.of) for alert in found.alerts]
    assert told == ([(one.name, count, len(rows))] if count > share * len(rows) else [])


def test_a_refused_row_is_neither_judged_nor_compared() -> None:
    declared = stream(sf.expect.range("price", 0, 5), sf.expect.unique("till", "dead_letter"))
    found = validate(declared, [row("a", price=-1), row("b"), row("c")], NOW_US)
    assert [letter.reason for letter in found.letters] == [
        "expect_range_price",
        "expect_unique_till",
    ]
    assert found.event_rows.tolist() == [1]
    assert "at most" not in found.letters[0].detail


class Store:
    """A store that takes sales in."""

    def __init__(self, *expected: sf.expect.Expectation) -> None:
        self.store, self.clock = MemoryStore(), ManualClock(NOW_US)
        engine = OnlineEngine(compile_plan([]))
        self.ingest = Ingest(self.store, {"sales": stream(*expected)}, engine, self.clock)
        self.lines = 0

    def put(self, n: int, after_s: int = 0) -> list[str]:
        """The expectations that n events breach that arrive so much later."""
        self.clock.advance(after_s * US_PER_S)
        rows = [{**row(f"l{self.lines + i}"), "at": self.clock.now_us()} for i in range(n)]
        self.lines += n
        return [alert.detail for alert in self.ingest.accept("sales", rows).alerts]


def test_the_volume_of_a_stretch_is_expected() -> None:
    shop = Store(sf.expect.volume(3, 10, per="1 h"))
    start_s = NOW_US // US_PER_S
    assert shop.put(2) == []
    assert shop.put(8, 60) == []
    (much,) = shop.put(1, 60)
    assert "11 events within 1 h, at most 10 are expected" in much
    assert shop.put(5) == []  # told once a stretch
    assert shop.put(1, 3_600 - (start_s + 120) % 3_600) == []
    (few,) = shop.put(4, 3_600)
    assert "1 events within 1 h, at least 3 are expected" in few
    (none,) = shop.put(4, 3 * 3_600)
    assert "4 events within 1 h, and none in the 2 after it" in none
    with shop.store.read() as txn:
        assert read_alerts(txn) == {("sales", "expect_volume"): 3}


def test_every_problem_of_expectations_is_told_at_once() -> None:
    lines = dataclasses.replace(
        system.data[0],
        expect=(
            sf.expect.range("prize", 0, 1),
            sf.expect.range("basket", 0, 1),
            sf.expect.range("price", 2, 1),
            sf.expect.range("quantity"),
            sf.expect.one_of("quantity", ["one"]),
            sf.expect.one_of("item", []),
            sf.expect.null_share("price", 0.5, "dead_letter"),
            sf.expect.volume(),
            sf.expect.range("price", 0, 1, "alert"),
            sf.expect.lateness("an hour"),
        ),
    )
    with pytest.raises(sf.errors.SpecError) as refused:
        dataclasses.replace(system, data=[lines])
    told = [p.path.partition(".expect")[2] for p in refused.value.problems if ".expect" in p.path]
    assert set(told) == {
        "[0].field",
        "[1].field",
        "[2].low",
        "[3]",
        "[4].values",
        "[5].values",
        "[6].share",
        "[7]",
        "[8]",
        "[9].per",
    }


def test_a_breach_of_another_name_is_a_problem() -> None:
    expected = (sf.expect.unique("price", "shout"),)  # type: ignore[arg-type]
    lines = dataclasses.replace(system.data[0], expect=expected)
    with pytest.raises(
        sf.errors.SpecError, match=r"expect\[0\].breach: one of 'dead_letter', 'alert'"
    ):
        dataclasses.replace(system, data=[lines])
