"""`python -m benchmarks.curve REPORT.json > PICTURE.svg` draws what an event costs as a store grows, from `ingest --curve --json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import log10
from pathlib import Path
from typing import Any

__all__ = ["CurveError", "Line", "curve", "lines_of"]

_PANELS = (
    ("by events in the store, of 20,000 users", "grown"),
    ("by users among whom a million events are divided", "keys"),
)
_OURS, _BESIDE, _BARE = (
    "Sevenfold",
    "Sevenfold with 1 M events, in turns",
    "bare LMDB file, same puts",
)
# Okabe and Ito's, told apart by colour-blind readers too.
_COLOURS = {_OURS: "#0072b2", _BESIDE: "#009e73", _BARE: "#d55e00"}
_UNITS = {"k": 1_000, "m": 1_000_000}
_WIDE, _HIGH, _LEFT, _TOP, _GAP = 330, 220, 40, 50, 60
_COST = "cpu_us_an_event_"


class CurveError(Exception):
    """A report that has no curve in it."""


@dataclass(frozen=True, slots=True)
class Line:
    """A named line of a panel: (how many, us of processor an event), fewest first."""

    panel: str
    name: str
    points: Sequence[tuple[int, float]]


def lines_of(results: Mapping[str, Mapping[str, float]]) -> list[Line]:
    """The lines that a report's results hold; CurveError when it was made without `--curve`."""
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for key, figure in results.items():
        place = _place(key.removeprefix(_COST)) if key.startswith(_COST) else None
        if place is not None:
            panel, name, many = place
            found.setdefault((panel, name), []).append((many, float(figure["median"])))
    lines = [Line(panel, name, sorted(points)) for (panel, name), points in found.items()]
    for _, panel in _PANELS:
        if not any(line.panel == panel and len(line.points) > 2 for line in lines):
            raise CurveError(
                "the report has no curve: make it by `benchmarks ingest --curve --json`"
            )
    return lines


def curve(lines: Sequence[Line], about: str) -> str:
    """Both panels as one SVG, the cost from zero, the sizes by their logarithm; `about` says where it was measured."""
    top = max(cost for line in lines for _, cost in line.points) * 1.08
    wide, high = _LEFT + 2 * _WIDE + _GAP + 20, _TOP + _HIGH + 92
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" role="img" font-family="system-ui, sans-serif" font-size="12">',
        "<title>What an event costs as a store grows</title>",
        f'<rect width="{wide}" height="{high}" rx="10" fill="#fff"/>',
    ]
    for at, (word, panel) in enumerate(_PANELS):
        own = [line for line in lines if line.panel == panel]
        parts.append(_panel(own, word, _LEFT + at * (_WIDE + _GAP), top))
    names = [name for name in _COLOURS if any(line.name == name for line in lines)]
    for at, name in enumerate(names):
        x = _LEFT + at * 250
        parts.append(
            f'<rect x="{x}" y="{high - 38}" width="12" height="12" fill="{_COLOURS[name]}"/>'
            f'<text x="{x + 18}" y="{high - 28}">{escape(name)}</text>'
        )
    parts.append(f'<text x="{_LEFT}" y="{high - 8}" fill="#51606f">{escape(about)}</text></svg>\n')
    return "".join(parts)


def _place(name: str) -> tuple[str, str, int] | None:
    """The panel, line and size that a figure's name stands for."""
    match name.split("_"):
        case ["grown", "to", size] | ["at", size]:
            return "grown", _OURS, _number(size)
        case ["at", _, "beside", size]:
            return "grown", _BESIDE, _number(size)
        case ["of", size, "keys"] | [size, "keys"]:
            return "keys", _OURS, _number(size)
        case ["raw", "lmdb", size, "keys"]:
            return "keys", _BARE, _number(size)
    return None


def _number(text: str) -> int:
    unit = _UNITS.get(text[-1], 1)
    return int(text.rstrip("km")) * unit


def _panel(lines: Sequence[Line], word: str, left: int, top: float) -> str:
    sizes = sorted({many for line in lines for many, _ in line.points})
    first, last = log10(sizes[0]), log10(sizes[-1])

    def x(many: int) -> float:
        return left + 12 + (log10(many) - first) / (last - first) * (_WIDE - 24)

    def y(cost: float) -> float:
        return _TOP + (1 - cost / top) * _HIGH

    step = next(step for step in (0.5, 1, 2, 5, 10, 20, 50, 100) if top / step <= 8)
    parts = [
        f'<text x="{left}" y="{_TOP - 30}" font-weight="600">us of processor an event</text>'
        f'<text x="{left}" y="{_TOP - 14}">{word}</text>'
    ]
    for at in range(int(top / step) + 1):
        cost = at * step
        parts.append(
            f'<line x1="{left}" x2="{left + _WIDE}" y1="{y(cost):.1f}" y2="{y(cost):.1f}" stroke="#dde3e8"/>'
            f'<text x="{left - 6}" y="{y(cost) + 4:.1f}" text-anchor="end">{cost:g}</text>'
        )
    parts += [
        f'<text x="{x(many):.1f}" y="{_TOP + _HIGH + 18}" text-anchor="middle">{_short(many)}</text>'
        for many in sizes
    ]
    for line in lines:
        colour = _COLOURS[line.name]
        path = " ".join(f"{x(many):.1f},{y(cost):.1f}" for many, cost in line.points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x(many):.1f}" cy="{y(cost):.1f}" r="3.5" fill="{colour}">'
            f"<title>{escape(line.name)}, {_short(many)}: {cost:.2f} us</title></circle>"
            for many, cost in line.points
        ]
    return "".join(parts)


def _short(many: int) -> str:
    for word, unit in (("M", 1_000_000), ("k", 1_000)):
        if many >= unit:
            return f"{many / unit:g} {word}"
    return str(many)


def main(arguments: Sequence[str]) -> int:
    """Read the report that is named, write the picture to standard output; 1 and a word when there is none."""
    if len(arguments) != 1:
        print("give one file, the report of `benchmarks ingest --curve --json`", file=sys.stderr)
        return 2
    try:
        report = json.loads(Path(arguments[0]).read_bytes())
        lines = lines_of(report["results"])
        sys.stdout.write(curve(lines, _about(report)))
    except OSError as error:
        print(f"{arguments[0]}: {error.strerror}", file=sys.stderr)
        return 1
    except (ValueError, TypeError, KeyError) as error:
        print(f"{arguments[0]} is no report of a benchmark: {error!r}", file=sys.stderr)
        return 1
    except CurveError as error:
        print(f"{arguments[0]}: {error}", file=sys.stderr)
        return 1
    return 0


def _about(report: Mapping[str, Any]) -> str:
    machine, versions = report["machine"], report["versions"]
    n = report["results"][f"{_COST}grown_to_1m"]["n"]
    return (
        f"medians of {n} batches of 10,000 events, durable, 20 windowed features kept; "
        f"{machine['cpu']}, Python {machine['python']}, lmdb {versions['lmdb']}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
