"""`sevenfold run`: a shipped system through the whole loop, with a report at the end."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sevenfold.cli.output import json_option, show, table

if TYPE_CHECKING:
    from sevenfold.loop.run import Progress
    from sevenfold.loop.summary import RunSummary

_PHASES = {
    "history": "history taken in",
    "live": "requests answered",
    "steps": "steps watched and learned from",
}


@click.command("run")
@click.argument("name")
@click.option("--quick", is_flag=True, help="A share of the customers and a later start: minutes.")
@click.option(
    "--home", type=click.Path(path_type=Path), help="Where all is kept. [.sevenfold/NAME-MODE]"
)
@click.option("--fresh", is_flag=True, help="Throw away what the home holds and begin again.")
@click.option(
    "--disturb",
    type=click.FloatRange(0, 0.5),
    default=0.0,
    help="Share of rows that come late, twice and out of order, each.",
)
@json_option
def command(name: str, quick: bool, home: Path | None, fresh: bool, disturb: float) -> None:
    """Take a shipped system (shop) through the whole loop, as if live.

    Real events in order of time: ingest, serve over HTTP, log, label, watch, retrain, promote. Ends with a
    summary and a report. Interrupted, the same command goes on where it was.
    """
    import msgspec

    from sevenfold.cli.load import load_scenario
    from sevenfold.loop.run import Run
    from sevenfold.loop.summarise import summarise
    from sevenfold.web.report import render_report

    scenario = load_scenario(name, quick, disturb)
    mode = "quick" if quick else "full"
    place = home or Path(".sevenfold") / f"{name}-{mode}"
    if fresh and (place / "run.json").exists():
        shutil.rmtree(place)
    with _bars() as progress:
        run = Run(scenario, place, f"{name} {mode} disturb={disturb:g}", progress)
        run.go()
        report = place / "report.html"
        summary = summarise(run, mode, str(report.resolve()))
    report.write_text(render_report(summary), encoding="utf-8")
    (place / "summary.json").write_bytes(msgspec.json.encode(summary))
    show(msgspec.to_builtins(summary), _text(summary))


class _bars:  # noqa: N801  used as a function
    """Progress of all phases on standard error: bars on a terminal, a line now and then elsewhere."""

    def __enter__(self) -> Progress:
        """Begin to show."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description:32}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._terminal = console.is_terminal
        self._bar = Progress(*columns, console=console, disable=not self._terminal)
        self._tasks: dict[str, object] = {}
        self._said: dict[str, int] = {}
        self._bar.start()
        return self._show

    def __exit__(self, *_: object) -> None:
        """Stop showing."""
        self._bar.stop()

    def _show(self, phase: str, done: int, total: int) -> None:
        name = _PHASES.get(phase, phase)
        if self._terminal:
            if phase not in self._tasks:
                self._tasks[phase] = self._bar.add_task(name, total=total)
            self._bar.update(self._tasks[phase], completed=done, total=total)  # type: ignore[arg-type]
        elif done * 10 // max(total, 1) > self._said.get(phase, -1):
            self._said[phase] = done * 10 // max(total, 1)
            click.echo(f"{name}: {done:,} of {total:,}", err=True)


def _text(summary: RunSummary) -> str:
    primary = summary.primary
    models = table(
        ["model", *summary.metrics["served"]],
        [
            [model, *(f"{f.estimate:.4f} [{f.low:.4f}, {f.high:.4f}]" for f in metrics.values())]
            for model, metrics in summary.metrics.items()
        ],
    )
    stages = table(
        ["stage", "p50 ms", "p95 ms", "p99 ms"],
        [[stage, t.p50, t.p95, t.p99] for stage, t in summary.latency_ms.items()],
    )
    ingest, parity = summary.ingest, summary.parity
    promoted = [
        f"  {_day(line.at_us)}  {line.model} v{line.version}: "
        f"{'promoted' if line.promoted else 'not promoted'} ({line.trigger})"
        for line in summary.promotions
    ]
    parts = [
        f"{summary.system}, {summary.mode} run: {summary.requests:,} requests answered in {summary.took_s:.0f} s",
        f"rows in {ingest.rows_in:,} = events {ingest.events:,} + duplicates {ingest.duplicates:,} "
        f"+ dead letters {ingest.dead_letters:,}",
        f"parity: {parity.compared:,} logged vectors compared bit for bit, {parity.mismatched:,} differ",
        f"\nfinal test, {summary.judged:,} baskets ({primary} decides)\n{models}",
        f"\nlatency by stage\n{stages}",
        "\npromotions\n" + "\n".join(promoted),
        "\n" + "\n".join(summary.notes),
        f"\nreport: {summary.report}",
    ]
    return "\n".join(parts)


def _day(at_us: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_us / 1e6, UTC).date().isoformat()
