"""Pictures as inline SVG: lines with bands over time, and bars. No script, no request to anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

__all__ = ["COLOURS", "Point", "Series", "bars", "lines"]

# Okabe and Ito's colours, told apart by colour-blind readers too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a7a7a")
_WIDTH, _HEIGHT = 760, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 34


@dataclass(frozen=True, slots=True)
class Point:
    """A value at an instant, with its interval."""

    t_us: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Series:
    """A named line."""

    name: str
    points: Sequence[Point]
    colour: str


def lines(series: Sequence[Series], marks: Sequence[tuple[int, str]] = ()) -> str:
    """Lines with their intervals as bands; `marks` are instants with a word, drawn as upright lines."""
    points = [point for one in series for point in one.points]
    if not points:
        return '<p class="none">Nothing to draw yet.</p>'
    first, last = min(p.t_us for p in points), max(p.t_us for p in points)
    low, high = _range([p.low for p in points], [p.high for p in points])

    def x(t_us: int) -> float:
        return _LEFT + (t_us - first) / max(last - first, 1) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [_grid(low, high, y), _dates(first, last, x)]
    for t_us, word in marks:
        if first <= t_us <= last:
            parts.append(
                f'<line class="mark" x1="{x(t_us):.1f}" x2="{x(t_us):.1f}" y1="{_TOP}" '
                f'y2="{_HEIGHT - _BOTTOM}"><title>{escape(word)}</title></line>'
            )
    for one in series:
        upper = [f"{x(p.t_us):.1f},{y(p.high):.1f}" for p in one.points]
        lower = [f"{x(p.t_us):.1f},{y(p.low):.1f}" for p in reversed(one.points)]
        path = " ".join(f"{x(p.t_us):.1f},{y(p.value):.1f}" for p in one.points)
        parts.append(
            f'<polygon points="{" ".join(upper + lower)}" fill="{one.colour}" opacity="0.13"/>'
            f'<polyline points="{path}" fill="none" stroke="{one.colour}" stroke-width="2"/>'
        )
        parts += [
            f'<circle cx="{x(p.t_us):.1f}" cy="{y(p.value):.1f}" r="3" fill="{one.colour}">'
            f"<title>{escape(one.name)}, {_day(p.t_us)}: {p.value:.4f} "
            f"[{p.low:.4f}, {p.high:.4f}]</title></circle>"
            for p in one.points
        ]
    return _svg("".join(parts), _HEIGHT) + _legend(series)


def bars(rows: Sequence[tuple[str, float, str]], colour: str = COLOURS[0]) -> str:
    """Bars across, one a row of (name, value, text behind it), the longest full."""
    if not rows:
        return '<p class="none">Nothing to draw yet.</p>'
    most = max(value for _, value, _ in rows) or 1.0
    step, label = 22, 250
    parts = []
    for i, (name, value, text) in enumerate(rows):
        width = max(value, 0) / most * (_WIDTH - label - 110)
        top = i * step + 4
        parts.append(
            f'<text x="{label - 8}" y="{top + 12}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{label}" y="{top}" width="{width:.1f}" height="15" rx="2" fill="{colour}"/>'
            f'<text x="{label + width + 6:.1f}" y="{top + 12}">{escape(text)}</text>'
        )
    return _svg("".join(parts), len(rows) * step + 8)


def _svg(inner: str, height: int) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">{inner}</svg>'


def _range(lows: Sequence[float], highs: Sequence[float]) -> tuple[float, float]:
    low, high = min(lows), max(highs)
    room = (high - low) * 0.06 or 0.01
    return low - room, high + room


def _grid(low: float, high: float, y: Callable[[float], float]) -> str:
    step = 10 ** math.floor(math.log10((high - low) / 3))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= 6)
    parts = []
    value = math.ceil(low / step) * step
    while value <= high:
        at = y(value)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        )
        value += step
    return "".join(parts)


def _dates(first: int, last: int, x: Callable[[int], float]) -> str:
    parts = []
    for i in range(6):
        t_us = first + (last - first) * i // 5
        anchor = "start" if i == 0 else "end" if i == 5 else "middle"
        parts.append(
            f'<text x="{x(t_us):.1f}" y="{_HEIGHT - 12}" text-anchor="{anchor}">{_day(t_us)}</text>'
        )
    return "".join(parts)


def _legend(series: Sequence[Series]) -> str:
    items = "".join(
        f'<li><span style="background:{one.colour}"></span>{escape(one.name)}</li>'
        for one in series
    )
    return f'<ul class="legend">{items}</ul>'


def _day(t_us: int) -> str:
    return datetime.fromtimestamp(t_us / 1e6, UTC).date().isoformat()
