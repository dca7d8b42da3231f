"""`sevenfold audit`: whether the vectors that were served are those that the log gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sevenfold.cli.home import home_of, home_option, store_url
from sevenfold.cli.output import json_option, progress, show, table

if TYPE_CHECKING:
    from sevenfold.serving.audit import AuditTotals


@click.command("audit")
@click.argument("system")
@home_option
@click.option(
    "--share",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="The share of the logged vectors to compare; which, a stable hash says.",
)
@click.option(
    "--found", "only_found", is_flag=True, help="Only say what the server's own audit has found."
)
@json_option
def command(system: str, home: Path | None, share: float, only_found: bool) -> None:
    """Compute logged vectors again from the log and compare them, bit by bit.

    Works beside a running server. Says how many differ, in which features, with examples, and what the
    server's audit has found by itself. Ends with 1 when a vector differs.
    """
    import sys

    from sevenfold.cli.load import load_system
    from sevenfold.serving.audit import audit_all, read_totals
    from sevenfold.serving.definition import Definition
    from sevenfold.serving.sealed_answers import PREDICTIONS_FOLDER, SealedAnswers
    from sevenfold.stores.open import open_store

    definition = Definition(load_system(system))
    place = home_of(home, definition.system.name)
    sealed = SealedAnswers(place / PREDICTIONS_FOLDER)
    store = open_store(store_url(place), readonly=True)
    try:
        with store.read() as txn, progress("vectors compared") as advance:
            job = totals = read_totals(txn, definition)
            for totals in () if only_found else audit_all(txn, definition, share, sealed=sealed):
                advance(totals.compared)
    finally:
        store.close()
    result = {
        "system": definition.system.name,
        "share": None if only_found else share,
        **_plain(totals, definition.features),
        "server": _plain(job, definition.features),
    }
    show(result, _text(totals, job, definition.features))
    sys.exit(1 if totals.different else 0)


def _plain(totals: AuditTotals, names: tuple[str, ...]) -> dict[str, Any]:
    import msgspec

    return {
        "compared": totals.compared,
        "different": totals.different,
        "skipped": totals.skipped,
        "mismatch_rate": totals.rates(names),
        "examples": msgspec.to_builtins(totals.examples),
    }


def _text(totals: AuditTotals, job: AuditTotals, names: tuple[str, ...]) -> str:
    lines = [f"{totals.compared:,} vectors compared, {totals.different:,} differ"]
    if totals.skipped:
        lines.append(f"{totals.skipped:,} are of other definitions and were not compared")
    rows = [
        [name, totals.by_feature[name], rate] for name, rate in totals.rates(names).items() if rate
    ]
    if rows:
        lines.append(table(["feature", "differ", "rate"], rows))
    lines += [
        f"  {e.feature} of {e.item} in {e.request_id}: logged {e.logged}, the log says {e.recomputed}"
        for e in totals.examples
    ]
    lines.append(f"the server's own audit: {job.compared:,} compared, {job.different:,} differ")
    return "\n".join(lines)
