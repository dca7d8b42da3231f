"""The report: every text escaped, every part there, drawn also when there is little to draw."""

import re
from html.parser import HTMLParser

from sevenfold.loop.summary import (
    ComparisonLine,
    DriftLine,
    Figure,
    Gain,
    IngestLine,
    Latency,
    ParityLine,
    PromotionLine,
    RunSummary,
    SliceLine,
    WeekLine,
)
from sevenfold.web.chart import Point, Series, bars, lines
from sevenfold.web.report import render_report

EVIL = '<script>alert("x")</script>&'
FIGURE = Figure(0.3, 0.28, 0.32, 500)
DAY_US = 86_400_000_000


def summary(text: str = "fine") -> RunSummary:
    """A summary with one of everything."""
    weeks = [
        WeekLine(i * 7 * DAY_US, m, "ndcg@20", FIGURE) for i in range(3) for m in ("served", "rule")
    ]
    return RunSummary(
        text, "quick", "r.html", 0, 12.0, 0, 30 * DAY_US, 20 * DAY_US, "ndcg@20", 900, 500,
        IngestLine(10, 7, 1, 2, {text: 2}),
        ParityLine(100, 0, {}),
        {"served": {"ndcg@20": FIGURE}, "rule": {"ndcg@20": FIGURE}},
        {"coverage@20": 0.4},
        [ComparisonLine("served", "rule", "ndcg@20", Figure(0.02, 0.01, 0.03, 500))],
        weeks,
        [SliceLine(text, text, "served", "ndcg@20", 12, None)],
        [Gain(text, 0.5)],
        [DriftLine(DAY_US, text, 0.3, 0.2, "drift")],
        [PromotionLine(DAY_US, text, 2, True, text, [text])],
        {text: Latency(1, 2, 3, 9)},
        [text],
        {text: text},
    )  # fmt: skip


class Tags(HTMLParser):
    """Collects the tags of a page and refuses one that closes another."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag, attrs) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "line", "rect", "circle", "polygon", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        if tag not in ("line", "rect", "circle", "polygon", "polyline"):
            assert self.open.pop() == tag


def test_hostile_names_stay_text() -> None:
    page = render_report(summary(EVIL))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_page_is_well_formed_and_complete() -> None:
    page = render_report(summary())
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert "script" not in tags.seen
    heads = re.findall("<h2>(.*?)</h2>", page)
    assert len(heads) == 9


def test_lines_and_bars_of_nothing_say_so() -> None:
    assert "Nothing to draw" in lines([])
    assert "Nothing to draw" in bars([])


def test_one_point_is_drawn() -> None:
    drawn = lines([Series("one", [Point(0, 0.5, 0.5, 0.5)], "#000")])
    assert "NaN" not in drawn
    assert drawn.count("<circle") == 1
