"""A run as one page: what it reached, what changed when and why, and whether it can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from sevenfold.loop.summary import Figure, PromotionLine, RunSummary
from sevenfold.web.chart import COLOURS, Point, Series, bars, lines

__all__ = ["render_report"]

_NAMES = {
    "served": "served (retrained)",
    "never_retrained": "first model, never retrained",
    "rule": "rule baseline",
    "logistic": "logistic regression",
    "popular": "popular items",
    "bought_together": "bought together",
}
_STYLE = """
:root{--ink:#1c2430;--soft:#5c6878;--line:#dde3ea;--back:#fff;--card:#f6f8fa;--good:#00795a;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e7ebf0;--soft:#9aa7b6;--line:#303a46;--back:#12171d;--card:#1a2129;
--good:#4cc29b;--bad:#ff8a80}}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);font:15px/1.55 system-ui,sans-serif}
main{max-width:860px;margin:0 auto;padding:28px 18px 60px}h1{font-size:26px;margin:0 0 2px}
h2{font-size:18px;margin:38px 0 8px;border-top:1px solid var(--line);padding-top:20px}p{margin:6px 0}
.soft{color:var(--soft)}.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:10px;margin:18px 0}
.card{background:var(--card);border-radius:8px;padding:12px 14px}.card b{display:block;font-size:23px;line-height:1.25}
.card span{color:var(--soft);font-size:13px}.good{color:var(--good)}.bad{color:var(--bad)}
table{border-collapse:collapse;width:100%;font-size:14px}th,td{text-align:right;padding:5px 8px;border-bottom:1px solid
var(--line);font-variant-numeric:tabular-nums}th:first-child,td:first-child{text-align:left}th{color:var(--soft);
font-weight:600}td small{color:var(--soft)}.wide{overflow-x:auto}svg{width:100%;height:auto;display:block;margin:8px 0}
svg text{font:12px system-ui,sans-serif;fill:var(--soft)}.grid{stroke:var(--line)}.mark{stroke:var(--soft);
stroke-dasharray:3 4}.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 18px;padding:0;margin:2px 0 0 52px;
font-size:13px}.legend span{display:inline-block;width:11px;height:11px;border-radius:2px;margin-right:6px}
details{margin:6px 0;padding:8px 12px;background:var(--card);border-radius:8px}summary{cursor:pointer}
details li{margin:3px 0}
"""


def render_report(summary: RunSummary) -> str:
    """The page of a run: one file of HTML, without script and without a request to anywhere."""
    sections = [
        _head(summary),
        _over_time(summary),
        _metrics(summary),
        _promotions(summary),
        _slices(summary),
        _importances(summary),
        _drift(summary),
        _latency(summary),
        _quality(summary),
        _made(summary),
    ]
    title = f"{summary.system}: {summary.mode} run"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def _head(summary: RunSummary) -> str:
    served = summary.metrics["served"][summary.primary]
    rule = next((c for c in summary.comparisons if c.b == "rule"), None)
    parity = summary.parity
    equal = parity.compared and not parity.mismatched
    cards = [
        (f"{served.estimate:.4f}", f"{summary.primary} [{served.low:.4f}, {served.high:.4f}]", ""),
        (
            _signed(rule.difference.estimate) if rule else "-",
            "over the rule "
            + (f"[{rule.difference.low:+.4f}, {rule.difference.high:+.4f}]" if rule else ""),
            "good" if rule and rule.difference.low > 0 else "bad",
        ),
        (
            f"{parity.compared - parity.mismatched:,}",
            f"of {parity.compared:,} logged vectors equal bit for bit",
            "good" if equal else "bad",
        ),
        (f"{summary.requests:,}", f"requests answered, {summary.judged:,} in the final test", ""),
    ]
    drawn = "".join(
        f'<div class="card"><b class="{kind}">{escape(value)}</b><span>{escape(text)}</span></div>'
        for value, text, kind in cards
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in summary.notes)
    span = f"{_day(summary.world_start_us)} to {_day(summary.world_end_us)}"
    return (
        f"<h1>{escape(summary.system)}</h1>"
        f'<p class="soft">{escape(summary.mode)} run, live from {span}, '
        f"judged from {_day(summary.judge_us)}; took {summary.took_s:.0f} s</p>"
        f'<div class="cards">{drawn}</div>{notes}'
    )


def _over_time(summary: RunSummary) -> str:
    shown = [
        n for n in ("served", "never_retrained", "rule") if any(w.model == n for w in summary.weeks)
    ]
    series = [
        Series(
            _NAMES[name],
            [
                Point(w.start_us, w.figure.estimate, w.figure.low, w.figure.high)
                for w in summary.weeks
                if w.model == name
            ],
            COLOURS[i],
        )
        for i, name in enumerate(shown)
    ]
    marks = [
        (p.at_us, f"{p.model} v{p.version} promoted") for p in summary.promotions if p.promoted
    ]
    return (
        f"<h2>{escape(summary.primary)} over time</h2>"
        '<p class="soft">Customers with an earlier basket; bands are 95 % intervals; dashed lines are '
        f"promotions.</p>{lines(series, marks)}"
    )


def _metrics(summary: RunSummary) -> str:
    names = list(summary.metrics["served"])
    rows = [
        [escape(_NAMES.get(model, model)), *(_cell(figures[name]) for name in names)]
        for model, figures in sorted(
            summary.metrics.items(), key=lambda pair: -pair[1][summary.primary].estimate
        )
    ]
    differences = [
        [
            escape(f"served − {_NAMES.get(c.b, c.b)}"),
            _signed(c.difference.estimate),
            f"[{c.difference.low:+.4f}, {c.difference.high:+.4f}]",
        ]
        for c in summary.comparisons
    ]
    coverage = ", ".join(f"{escape(k)} {v:.1%}" for k, v in summary.coverage.items())
    return (
        f'<h2>Models on the final test</h2><p class="soft">{summary.judged:,} baskets, all items ranked, '
        f"95 % bootstrap intervals by customer. {coverage}.</p>"
        + _table(["model", *map(escape, names)], rows)
        + f"<p></p>{_table(['pairwise', escape(summary.primary), 'interval'], differences)}"
    )


def _promotions(summary: RunSummary) -> str:
    return "<h2>What was promoted, when and why</h2>" + "".join(
        _promotion(line) for line in summary.promotions
    )


def _promotion(line: PromotionLine) -> str:
    said = '<b class="good">promoted</b>' if line.promoted else '<b class="bad">not promoted</b>'
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in line.reasons)
    return (
        f"<details><summary>{_day(line.at_us)} &nbsp; {escape(line.model)} v{line.version}: {said} "
        f'<span class="soft">{escape(line.trigger)}</span></summary><ul>{reasons}</ul></details>'
    )


def _slices(summary: RunSummary) -> str:
    models = list(dict.fromkeys(line.model for line in summary.slices))
    wanted = [m for m in ("served", "never_retrained", "rule", "popular") if m in models]
    found = {(s.dimension, s.value, s.model): s for s in summary.slices}
    rows = []
    for dimension, value in dict.fromkeys((s.dimension, s.value) for s in summary.slices):
        own = found[dimension, value, "served"]
        cells = [found.get((dimension, value, model)) for model in wanted]
        rows.append(
            [
                escape(f"{dimension}: {value}"),
                escape(own.metric),
                f"{own.n:,}",
                *(_cell(c.figure) if c and c.figure else "–" for c in cells),
            ]
        )
    heads = ["slice", "metric", "baskets", *(escape(_NAMES.get(m, m)) for m in wanted)]
    return f"<h2>By slice</h2>{_table(heads, rows)}"


def _importances(summary: RunSummary) -> str:
    rows = [(g.feature, g.share, f"{g.share:.1%}") for g in summary.importances[:20]]
    return f"<h2>What the serving model looks at</h2>{bars(rows)}"


def _drift(summary: RunSummary) -> str:
    worst: dict[str, float] = {}
    for line in summary.drift:
        worst[line.feature] = max(worst.get(line.feature, 0.0), line.psi)
    chosen = sorted(worst, key=lambda name: -worst[name])[:5]
    series = [
        Series(
            name,
            [Point(d.at_us, d.psi, d.psi, d.psi) for d in summary.drift if d.feature == name],
            COLOURS[i],
        )
        for i, name in enumerate(chosen)
    ]
    alerts = sum(line.verdict == "drift" for line in summary.drift)
    return (
        "<h2>Drift</h2>"
        f'<p class="soft">Population stability of shown rows against those the model was trained on; '
        f"{alerts:,} of {len(summary.drift):,} looks above their threshold. The five that moved most:</p>"
        + lines(series)
    )


def _latency(summary: RunSummary) -> str:
    rows = [
        [escape(stage), f"{t.p50:.2f}", f"{t.p95:.2f}", f"{t.p99:.2f}", f"{t.n:,}"]
        for stage, t in summary.latency_ms.items()
    ]
    return f"<h2>Latency by stage, ms</h2>{_table(['stage', 'p50', 'p95', 'p99', 'n'], rows)}"


def _quality(summary: RunSummary) -> str:
    ingest = summary.ingest
    rows = [("events", float(ingest.events), f"{ingest.events:,}")]
    rows.append(("duplicates", float(ingest.duplicates), f"{ingest.duplicates:,}"))
    rows += [
        (f"dead letter: {reason}", float(n), f"{n:,}")
        for reason, n in sorted(ingest.by_reason.items(), key=lambda pair: -pair[1])
    ]
    return (
        f"<h2>Data quality</h2><p>{ingest.rows_in:,} rows in = {ingest.events:,} events + "
        f"{ingest.duplicates:,} duplicates + {ingest.dead_letters:,} dead letters.</p>{bars(rows, COLOURS[2])}"
    )


def _made(summary: RunSummary) -> str:
    rows = [[escape(key), escape(value)] for key, value in summary.meta.items()]
    return f"<h2>How this was made</h2>{_table(['what', 'value'], rows)}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are HTML already."""
    head = "".join(f"<th>{cell}</th>" for cell in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _cell(figure: Figure) -> str:
    return f"{figure.estimate:.4f} <small>[{figure.low:.4f}, {figure.high:.4f}]</small>"


def _signed(value: float) -> str:
    return f"{value:+.4f}"


def _day(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).date().isoformat()
