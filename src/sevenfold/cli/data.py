"""`sevenfold data`: what a store holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sevenfold.cli.home import home_of, home_option, store_url
from sevenfold.cli.output import json_option, show, table
from sevenfold.cli.times import written

if TYPE_CHECKING:
    from sevenfold.spec.system import System
    from sevenfold.stores.kv import Transaction


@click.command("data")
@click.argument("system")
@home_option
@click.option(
    "--dead",
    type=click.IntRange(0, 10_000),
    default=0,
    metavar="N",
    help="Show the newest N dead letters too.",
)
@json_option
def command(system: str, home: Path | None, dead: int) -> None:
    """Show what the log holds: events, duplicates, dead letters, times, positions.

    For every stream, rows in = events + duplicates + dead letters.
    """
    from sevenfold.cli.load import load_system
    from sevenfold.serving.alerts import read_alerts
    from sevenfold.serving.prediction_log import count_predictions
    from sevenfold.stores.dead_letters import count_by_reason, exhume
    from sevenfold.stores.log import last_known_us, position
    from sevenfold.stores.open import open_store

    declared = load_system(system)
    store = open_store(store_url(home_of(home, declared.name)), readonly=True)
    try:
        with store.read() as txn:
            end = position(txn)
            result = {
                "system": declared.name,
                "position": end,
                "last_known": written(last_known_us(txn)) if end else None,
                "predictions": count_predictions(txn),
                "streams": _streams(declared, txn),
                "dead_letters_by_reason": count_by_reason(txn),
                "alerts": [
                    {"stream": stream, "expectation": name, "batches": count}
                    for (stream, name), count in read_alerts(txn).items()
                ],
                "dead_letters": [_letter(letter) for letter in exhume(txn, dead)],
            }
    finally:
        store.close()
    show(result, _text(result))


def _streams(declared: System, txn: Transaction) -> list[dict[str, Any]]:
    """Every declared stream: its counts and the times that it spans."""
    from sevenfold.serving.ingest import read_counts
    from sevenfold.stores.log import blocks

    spans: dict[str, tuple[int, int]] = {}
    for _, batch in blocks(txn):
        low, high = spans.get(batch.stream, (1 << 62, -(1 << 62)))
        begin, end = int(batch.event_us.min()), int(batch.event_us.max())
        spans[batch.stream] = min(low, begin), max(high, end)
    rows = []
    for stream in declared.data:
        counts = read_counts(txn, [stream.name])
        span = spans.get(stream.name)
        rows.append(
            {
                "stream": stream.name,
                "rows_in": counts.rows_in,
                "events": counts.events,
                "duplicates": counts.duplicates,
                "dead_letters": counts.dead_letters,
                "first": written(span[0]) if span else None,
                "last": written(span[1]) if span else None,
            }
        )
    return rows


def _letter(letter: Any) -> dict[str, Any]:
    return {name: getattr(letter, name) for name in ("stream", "reason", "detail", "row")}


def _text(result: dict[str, Any]) -> str:
    heads = ["stream", "rows_in", "events", "duplicates", "dead_letters", "first", "last"]
    rows = [
        [row[head] if row[head] is not None else "-" for head in heads] for row in result["streams"]
    ]
    parts = [table([head.replace("_", " ") for head in heads], rows)]
    reasons = sorted(result["dead_letters_by_reason"].items(), key=lambda item: (-item[1], item[0]))
    if reasons:
        parts.append(table(["dead letters", "rows"], reasons))
    if result["alerts"]:
        alerts = [[one["stream"], one["expectation"], one["batches"]] for one in result["alerts"]]
        parts.append(table(["stream", "not as expected", "batches"], alerts))
    parts.append(
        f"log: {result['position']:,} events, the last known at {result['last_known'] or '-'}; "
        f"{result['predictions']:,} predictions"
    )
    parts += [
        f"{letter['stream']}: {letter['detail']}\n  {letter['row']}"
        for letter in result["dead_letters"]
    ]
    return "\n\n".join(parts)
